//! Writes packed models.

use super::format::{
    ALIGN, BYTE_ORDER, ENTRY_LEN, FLAG_UNIGRAM, HEADER_LEN, Kind, MAGIC, NAME_LEN, VERSION, at,
    checksum, head_checksum,
};
use super::schema::{EMOJI, META, Meta, Spec, UNIGRAM};
use crate::layout::{WeightRange, pack_panels, padded_k, padded_n};
use crate::quantize::{QuantizedLinear, QuantizedRows};

/// Collects sections, then makes the file.
///
/// The table stands before the sections, so that their number must be known
/// first; [`Writer::finish`] sees that it was right.
pub(crate) struct Writer {
    file: Vec<u8>,
    flags: u32,
    sections: usize,
    written: usize,
}

impl Writer {
    /// A file with room for `sections` sections. Meta, tokenizer and, if there is
    /// a profile that names one, the emoji table are written at once; they count.
    /// `tokenizer` is a table where `meta` has the rules for one, else a `tokenizer.json`.
    pub(crate) fn new(meta: &Meta, tokenizer: &[u8], sections: usize) -> Self {
        let mut writer = Self {
            file: vec![0; HEADER_LEN + sections * ENTRY_LEN],
            // Older releases would look for another tokenizer in vain.
            flags: if meta.tokenizer() == UNIGRAM {
                FLAG_UNIGRAM
            } else {
                0
            },
            sections,
            written: 0,
        };
        let json = serde_json::to_vec(meta).expect("plain data has a JSON form");
        writer.bytes(META, &json);
        if let Some(table) = emoji_table(meta) {
            writer.bytes(EMOJI, table);
        }
        writer.bytes(meta.tokenizer(), tokenizer);
        writer
    }

    /// The sections that [`Writer::new`] writes.
    pub(crate) fn small_sections(meta: &Meta) -> usize {
        2 + usize::from(emoji_table(meta).is_some())
    }

    /// Adds a section of plain bytes.
    pub(crate) fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let spec = Spec {
            name: name.to_owned(),
            kind: Kind::Bytes,
            rows: 0,
            cols: 0,
        };
        self.section(&spec, |sink| sink.put(bytes));
    }

    /// Adds a section that `fill` writes.
    pub(crate) fn section<T>(&mut self, spec: &Spec, fill: impl FnOnce(&mut Sink<'_>) -> T) -> T {
        assert!(
            spec.name.len() <= NAME_LEN,
            "section names have at most {NAME_LEN} bytes"
        );
        assert!(
            self.written < self.sections,
            "one section more than was announced"
        );
        let mut sink = Sink(&mut self.file);
        sink.align();
        let start = sink.0.len();
        let result = fill(&mut sink);
        let len = self.file.len() - start;

        let entry = self.entry();
        let sum = checksum(&self.file[start..]);
        let mut set = |at: usize, bytes: &[u8]| {
            self.file[entry + at..entry + at + bytes.len()].copy_from_slice(bytes);
        };
        set(0, spec.name.as_bytes());
        set(48, &spec.kind.code().to_ne_bytes());
        set(52, &(spec.rows as u32).to_ne_bytes());
        set(56, &(spec.cols as u32).to_ne_bytes());
        set(64, &(start as u64).to_ne_bytes());
        set(72, &(len as u64).to_ne_bytes());
        set(80, &sum.to_ne_bytes());
        self.written += 1;
        result
    }

    /// Adds a linear layer.
    pub(crate) fn linear(&mut self, spec: &Spec, linear: &QuantizedLinear) {
        let entry = self.entry();
        let range: u32 = match linear.weight.range {
            WeightRange::Full => 0,
            WeightRange::Narrow => 1,
            WeightRange::Grouped => 3,
        };
        self.section(spec, |sink| sink.linear(linear));
        self.file[entry + 60..entry + 64].copy_from_slice(&range.to_ne_bytes());
    }

    /// Where the next section's line of the table begins.
    fn entry(&self) -> usize {
        HEADER_LEN + self.written * ENTRY_LEN
    }

    /// The file.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        assert_eq!(
            self.written, self.sections,
            "as many sections as were announced"
        );
        Sink(&mut self.file).align();
        let file_len = self.file.len() as u64;
        let mut set = |at: usize, bytes: &[u8]| {
            self.file[at..at + bytes.len()].copy_from_slice(bytes);
        };
        set(0, &MAGIC);
        set(at::BYTE_ORDER, &BYTE_ORDER.to_ne_bytes());
        set(at::VERSION, &VERSION.to_ne_bytes());
        set(at::FILE_LEN, &file_len.to_ne_bytes());
        set(at::SECTIONS, &(self.sections as u32).to_ne_bytes());
        set(at::FLAGS, &self.flags.to_ne_bytes());
        seal(&mut self.file);
        self.file
    }
}

/// Puts the checksum of header and table in its place.
pub(super) fn seal(file: &mut [u8]) {
    let count = u32::from_ne_bytes(
        file[at::SECTIONS..at::FLAGS]
            .try_into()
            .expect("four bytes"),
    );
    let head_len = HEADER_LEN + count as usize * ENTRY_LEN;
    let sum = head_checksum(&file[..head_len]);
    file[at::CHECKSUM..at::RESERVED].copy_from_slice(&sum.to_ne_bytes());
}

fn emoji_table(meta: &Meta) -> Option<&[u8]> {
    let profile = meta.profile.as_ref()?;
    profile.emoji.as_ref().map(|_| &profile.emoji_table[..])
}

/// The end of the file, where a section is being written.
pub(crate) struct Sink<'a>(&'a mut Vec<u8>);

impl Sink<'_> {
    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
    }

    /// Appends numbers, at the next 64-byte boundary if a slice went before.
    pub(crate) fn put<T: bytemuck::NoUninit>(&mut self, values: &[T]) {
        self.align();
        self.0.extend_from_slice(bytemuck::cast_slice(values));
    }

    fn put_padded<T: bytemuck::NoUninit + bytemuck::Zeroable>(&mut self, values: &[T], len: usize) {
        self.put(values);
        let zeros = (len - values.len()) * size_of::<T>();
        self.0.resize(self.0.len() + zeros, 0);
    }

    /// Panels, scales, column sums, bias.
    fn linear(&mut self, linear: &QuantizedLinear) {
        let QuantizedRows {
            codes, scales, k, ..
        } = &linear.weight;
        let n = scales.len();
        let panels = pack_panels(codes, n, *k);
        assert_eq!(panels.len(), padded_n(n) * padded_k(*k));
        self.put(&panels);
        self.put_padded(scales, padded_n(n));
        self.put_padded(&linear.weight.col_sums(), padded_n(n));
        self.put_padded(&linear.bias, padded_n(n));
    }
}
