//! Files that are not text, recognized by their first bytes, and how to convert them.

/// A kind of file that is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileType {
    name: &'static str,
    conversion: &'static str,
}

impl FileType {
    /// What people call it, with its article.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What to do about it: a command that writes text.
    pub fn conversion(&self) -> &'static str {
        self.conversion
    }
}

const fn file_type(name: &'static str, conversion: &'static str) -> FileType {
    FileType { name, conversion }
}

/// The first bytes of a gzip stream.
pub(super) const GZIP: &[u8] = b"\x1f\x8b";
/// The first bytes of a zstd frame.
pub(super) const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

const SPREADSHEET: &str =
    "save it as CSV, or convert it with `libreoffice --headless --convert-to csv FILE`";
const XLSX: FileType = file_type("an Excel workbook (xlsx)", SPREADSHEET);
const OPEN_DOCUMENT: FileType = file_type("an OpenDocument file", SPREADSHEET);
const WORD: FileType = file_type(
    "a Word document (docx)",
    "convert it with `libreoffice --headless --convert-to txt FILE`",
);
const ZIP: FileType = file_type("a zip archive", "unpack it with `unzip FILE`");
const TAR: FileType = file_type("a tar archive", "unpack it with `tar -xf FILE`");
const WEBP: FileType = file_type("a WebP image", IMAGE);
const AUDIO_OR_VIDEO: FileType = file_type("audio or video", "send text");
const IMAGE: &str = "read its text with `tesseract FILE -`";
const DUCKDB: &str = "convert it with `duckdb -c \"COPY (FROM 'FILE') TO 'FILE.csv'\"`";
const PROGRAM: &str = "send text";

/// First bytes that no text has. Those of letters alone are as long as they can be.
const SIGNATURES: &[(&[u8], FileType)] = &[
    (
        GZIP,
        file_type(
            "gzip",
            "over HTTP say `content-encoding: gzip`, or unpack it with `gzip -dc FILE`",
        ),
    ),
    (
        ZSTD,
        file_type(
            "zstd",
            "over HTTP say `content-encoding: zstd`, or unpack it with `zstd -dc FILE`",
        ),
    ),
    (
        b"\xfd7zXZ\0",
        file_type("xz", "unpack it with `xz -dc FILE`"),
    ),
    (
        b"\x04\x22\x4d\x18",
        file_type("lz4", "unpack it with `lz4 -dc FILE`"),
    ),
    (
        b"\x1f\x9d",
        file_type("a file of compress (.Z)", "unpack it with `gzip -dc FILE`"),
    ),
    (
        b"LZIP\x01",
        file_type("lzip", "unpack it with `lzip -dc FILE`"),
    ),
    (
        b"\xff\x06\0\0sNaPpY",
        file_type("snappy", "unpack it with `snzip -dc FILE`"),
    ),
    (
        b"7z\xbc\xaf\x27\x1c",
        file_type("a 7-Zip archive", "unpack it with `7z x FILE`"),
    ),
    (
        b"Rar!\x1a\x07",
        file_type("a RAR archive", "unpack it with `unrar x FILE`"),
    ),
    (b"PAR1\x15", file_type("Parquet", DUCKDB)),
    (
        b"PARE",
        file_type("encrypted Parquet", "decrypt it and convert it to CSV"),
    ),
    (b"ARROW1\0\0", file_type("Arrow (Feather)", DUCKDB)),
    (b"FEA1\0", file_type("Feather", DUCKDB)),
    (
        b"Obj\x01",
        file_type("Avro", "convert it with `avro-tools tojson FILE`"),
    ),
    (
        b"ORC\x0a",
        file_type("ORC", "convert it with `orc-contents FILE`"),
    ),
    (
        b"ORC\x08",
        file_type("ORC", "convert it with `orc-contents FILE`"),
    ),
    (
        b"SQLite format 3\0",
        file_type(
            "an SQLite database",
            "export it with `sqlite3 -csv -header FILE 'SELECT id, text FROM posts'`",
        ),
    ),
    (
        b"\x89HDF\r\n\x1a\n",
        file_type("HDF5", "convert it to CSV, for instance with pandas"),
    ),
    (
        b"\x93NUMPY",
        file_type(
            "a NumPy array",
            "convert it to CSV, for instance with numpy",
        ),
    ),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        file_type("an old Office file (xls, doc)", SPREADSHEET),
    ),
    (
        b"%PDF-",
        file_type("a PDF", "convert it with `pdftotext FILE -`"),
    ),
    (
        b"{\\rtf",
        file_type(
            "a rich text file (RTF)",
            "convert it with `libreoffice --headless --convert-to txt FILE`",
        ),
    ),
    (b"\x89PNG\r\n\x1a\n", file_type("a PNG image", IMAGE)),
    (b"\xff\xd8\xff", file_type("a JPEG image", IMAGE)),
    (b"GIF87a", file_type("a GIF image", IMAGE)),
    (b"GIF89a", file_type("a GIF image", IMAGE)),
    (b"II*\0", file_type("a TIFF image", IMAGE)),
    (b"MM\0*", file_type("a TIFF image", IMAGE)),
    (b"OggS\0", AUDIO_OR_VIDEO),
    (b"ID3\x03", AUDIO_OR_VIDEO),
    (b"ID3\x04", AUDIO_OR_VIDEO),
    (b"\x1aE\xdf\xa3", AUDIO_OR_VIDEO),
    (b"\x7fELF", file_type("a program", PROGRAM)),
    (b"\0asm", file_type("a program", PROGRAM)),
    (b"\xcf\xfa\xed\xfe", file_type("a program", PROGRAM)),
    (
        b"\x80\x04\x95",
        file_type("a Python pickle", "write it as CSV or JSON lines"),
    ),
    (
        b"\x80\x05\x95",
        file_type("a Python pickle", "write it as CSV or JSON lines"),
    ),
];

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What a file is that begins with `bytes`, if it is none of text.
pub(super) fn find(bytes: &[u8]) -> Option<FileType> {
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return Some(if contains(bytes, b"application/vnd.oasis.opendocument") {
            OPEN_DOCUMENT
        } else if contains(bytes, b"word/") {
            WORD
        } else if contains(bytes, b"xl/") || contains(bytes, b"[Content_Types].xml") {
            XLSX
        } else {
            ZIP
        });
    }
    // Nine levels, and the digits of pi.
    if bytes.starts_with(b"BZh") && bytes.get(4..10) == Some(b"1AY&SY") {
        return Some(file_type("bzip2", "unpack it with `bzip2 -dc FILE`"));
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(TAR);
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some(WEBP);
    }
    if bytes.starts_with(b"\0\0\0") && bytes.get(4..8) == Some(b"ftyp") {
        return Some(AUDIO_OR_VIDEO);
    }
    let known = SIGNATURES
        .iter()
        .find(|(first, _)| bytes.starts_with(first));
    known.map(|&(_, file_type)| file_type)
}
