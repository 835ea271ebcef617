//! The container: a header, a table of named sections, the sections.
//!
//! `docs/internals/packed-format.md` is the specification; this is its reader's side that
//! knows bytes, but not models. [`Table::parse`] is the only way to a section's
//! place in the file, and every place that it gives out lies within the file,
//! on a 64-byte boundary.

use std::ops::Range;
use twox_hash::XxHash3_64;

/// The first bytes of every packed model. As in PNG, a byte beyond ASCII and
/// both kinds of line ends show a transfer that took the file for text.
pub(super) const MAGIC: [u8; 8] = *b"\x89CRM\r\n\x1a\n";
/// The version that this release writes, and the only one that it reads.
pub(super) const VERSION: u32 = 1;
/// The tokenizer is the section `unigram`.
pub(super) const FLAG_UNIGRAM: u32 = 1;
/// Reads differently where the byte order differs.
pub(super) const BYTE_ORDER: u32 = 0x0102_0304;
/// Sections, and the slices in them, begin at multiples of this: a cache line,
/// and the widest vector register.
pub(super) const ALIGN: usize = 64;

pub(super) const HEADER_LEN: usize = 64;
pub(super) const ENTRY_LEN: usize = 96;
pub(super) const NAME_LEN: usize = 48;
/// A model with the most layers that `config.json` may have takes fewer.
pub(super) const MAX_SECTIONS: usize = 1 << 14;

/// Where the header's fields begin; those of an entry are in [`Entry::parse`].
pub(super) mod at {
    pub(crate) const BYTE_ORDER: usize = 8;
    pub(crate) const VERSION: usize = 12;
    pub(crate) const FILE_LEN: usize = 16;
    pub(crate) const SECTIONS: usize = 24;
    pub(crate) const FLAGS: usize = 28;
    pub(crate) const CHECKSUM: usize = 32;
    pub(crate) const RESERVED: usize = 40;
}

/// Why a file is rejected, before the file's name is put to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The file is damaged, or no packed model.
    Invalid(String),
    /// The file is for another release or another machine.
    Unsupported(String),
}

pub(super) fn invalid<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(reason.into()))
}

pub(super) fn unsupported<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Unsupported(reason.into()))
}

/// What a section's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes that this table says nothing about.
    Bytes,
    /// An int8 linear layer: panels, scales, column sums, bias.
    Linear,
    /// An int8 embedding table: codes, scales.
    Embedding,
    /// A layer normalisation: weight, bias.
    Norm,
    /// A matrix of f32.
    Matrix,
    /// An f32 linear layer: weight, bias.
    Dense,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Bytes,
        Self::Linear,
        Self::Embedding,
        Self::Norm,
        Self::Matrix,
        Self::Dense,
    ];

    /// The number that stands for it in the file: its place in `ALL`.
    pub(super) fn code(self) -> u32 {
        self as u32
    }

    fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }
}

/// One line of the section table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    /// `None` for a kind that a later release added.
    pub(super) kind: Option<Kind>,
    pub(super) rows: u32,
    pub(super) cols: u32,
    /// The number of the section's [`WeightRange`](crate::layout::WeightRange).
    pub(super) range: u32,
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) checksum: u64,
}

impl<'a> Entry<'a> {
    /// Reads an entry's fields; whether `start` and `len` are within the file is
    /// for [`Table::parse`] to see.
    fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let (name, padding) = match bytes[..NAME_LEN].iter().position(|&b| b == 0) {
            Some(end) => bytes[..NAME_LEN].split_at(end),
            None => (&bytes[..NAME_LEN], &[][..]),
        };
        let name = str::from_utf8(name).ok().filter(|name| !name.is_empty());
        let (Some(name), true) = (name, padding.iter().all(|&b| b == 0)) else {
            return invalid("the section table holds a malformed name");
        };
        let (Ok(start), Ok(len)) = (
            usize::try_from(u64_at(bytes, 64)),
            usize::try_from(u64_at(bytes, 72)),
        ) else {
            return invalid(format!("section {name} lies outside the file"));
        };
        Ok(Self {
            name,
            kind: Kind::from_code(u32_at(bytes, 48)),
            rows: u32_at(bytes, 52),
            cols: u32_at(bytes, 56),
            range: u32_at(bytes, 60),
            start,
            len,
            checksum: u64_at(bytes, 80),
        })
    }

    pub(super) fn place(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// The section's bytes, seen to be those that were packed.
    pub(super) fn checked<'b>(&self, file: &'b [u8]) -> Result<&'b [u8], Refusal> {
        let bytes = &file[self.place()];
        if checksum(bytes) != self.checksum {
            return invalid(format!(
                "section {} is damaged: its checksum does not match; pack the model again",
                self.name
            ));
        }
        Ok(bytes)
    }
}

/// The checked section table of a file.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    /// The checksum of header and table; as the table holds a checksum of each
    /// section, it identifies the whole file.
    pub(super) checksum: u64,
}

impl<'a> Table<'a> {
    /// Checks header and table of a packed model. The time it takes depends on
    /// the number of sections alone.
    pub(super) fn parse(file: &'a [u8]) -> Result<Self, Refusal> {
        let count = check_header(file)?;
        let head_len = HEADER_LEN + count * ENTRY_LEN;
        let Some(head) = file.get(..head_len) else {
            return invalid(format!(
                "the file is cut short: its table of {count} sections is longer than its {} bytes",
                file.len()
            ));
        };
        let checksum = head_checksum(head);
        if checksum != u64_at(file, at::CHECKSUM) {
            return invalid(
                "header or section table is damaged: the checksum does not match; \
                 pack the model again",
            );
        }
        let mut entries = Vec::with_capacity(count);
        // Sections follow each other, each on the next 64-byte boundary, so that
        // none overlaps another and no byte belongs to none.
        let mut end = head_len;
        for bytes in head[HEADER_LEN..].chunks_exact(ENTRY_LEN) {
            let entry = Entry::parse(bytes)?;
            if Some(entry.start) != end.checked_next_multiple_of(ALIGN) {
                return invalid(format!(
                    "section {} does not begin where it must",
                    entry.name
                ));
            }
            end = match entry.start.checked_add(entry.len) {
                Some(end) if end <= file.len() => end,
                _ => return invalid(format!("section {} lies outside the file", entry.name)),
            };
            entries.push(entry);
        }
        if end.checked_next_multiple_of(ALIGN) != Some(file.len()) {
            return invalid("the last section does not end where the file does");
        }
        Ok(Self { entries, checksum })
    }

    /// Reads every byte and compares it with the checksums.
    pub(super) fn verify(&self, file: &[u8]) -> Result<(), Refusal> {
        let mut end = HEADER_LEN + self.entries.len() * ENTRY_LEN;
        for entry in &self.entries {
            is_padding(&file[end..entry.start])?;
            entry.checked(file)?;
            end = entry.place().end;
        }
        is_padding(&file[end..])
    }
}

/// Checks the fixed fields; gives the number of sections.
fn check_header(file: &[u8]) -> Result<usize, Refusal> {
    if file.get(..MAGIC.len()) != Some(&MAGIC[..]) {
        return invalid(
            "this is not a packed model; `coldread pack FOLDER -o FILE` makes one from a \
             Hugging Face folder",
        );
    }
    if file.len() < HEADER_LEN {
        return invalid(format!(
            "the file is cut short: it has {} bytes",
            file.len()
        ));
    }
    let byte_order = u32_at(file, at::BYTE_ORDER);
    if byte_order == BYTE_ORDER.swap_bytes() {
        return unsupported(
            "the file was packed on a machine of the other byte order; pack the model on one \
             like this",
        );
    }
    if byte_order != BYTE_ORDER {
        return invalid("the header is damaged: its byte order mark is unknown");
    }
    let version = u32_at(file, at::VERSION);
    if version != VERSION {
        return unsupported(format!(
            "the file has version {version} of the packed format and this release reads \
             version {VERSION}; pack the model with this release"
        ));
    }
    let flags = u32_at(file, at::FLAGS);
    let unknown = flags & !FLAG_UNIGRAM;
    if unknown != 0 || file[at::RESERVED..HEADER_LEN].iter().any(|&b| b != 0) {
        return unsupported(format!(
            "the file uses features that this release does not know (flags {unknown:#x}); pack \
             the model with this release"
        ));
    }
    let file_len = u64_at(file, at::FILE_LEN);
    if file_len != file.len() as u64 {
        return invalid(format!(
            "the file has {} bytes and should have {file_len}; copy or pack it again",
            file.len()
        ));
    }
    let count = u32_at(file, at::SECTIONS) as usize;
    if count > MAX_SECTIONS {
        return invalid(format!(
            "the header is damaged: it tells of {count} sections"
        ));
    }
    Ok(count)
}

fn is_padding(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.iter().all(|&b| b == 0) {
        Ok(())
    } else {
        invalid("the file is damaged: padding between its sections is not zero")
    }
}

/// The checksum of header and table, the field for the checksum itself left out.
pub(super) fn head_checksum(head: &[u8]) -> u64 {
    let before = checksum(&head[..at::CHECKSUM]);
    XxHash3_64::oneshot_with_seed(before, &head[at::RESERVED..])
}

/// XXH3 sees accidents. It is no proof against intent: who can write the file
/// can write its checksums too.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
