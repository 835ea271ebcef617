//! GGUF files, mapped: metadata and tensors of a quantized language model.
//!
//! candle has a reader too. This one copies nothing before it is asked for: strings and arrays
//! stay in the file, where a vocabulary of 262,144 tokens takes no time at all, and an embedding
//! table is read row by row. It believes no number in the file: each is checked against the
//! file's size before it is used.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::{Device, Tensor};
use coldread_model::{LoadError, MappedFile};
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The first bytes of every GGUF file.
const MAGIC: &[u8; 4] = b"GGUF";

/// Limits that no sound file comes near.
const MAX_ENTRIES: u64 = 1 << 16;
const MAX_NAME: usize = 1 << 10;
const MAX_DIMS: u32 = 4;
const MAX_ALIGNMENT: u64 = 1 << 16;

/// What is wrong with a file.
type Reason = String;

/// A mapped file whose header has been checked.
pub(crate) struct Gguf {
    path: PathBuf,
    file: MappedFile,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
}

/// A value of the metadata. Text and arrays are where they are in the file.
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    Array(Array),
}

struct Array {
    kind: u32,
    len: usize,
    bytes: Range<usize>,
}

/// A tensor's type, shape (the longest stride first, as candle has it) and place.
#[derive(Debug, Clone)]
struct TensorInfo {
    dtype: GgmlDType,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let file = MappedFile::open(path)?;
        let (metadata, tensors) = header(&file).map_err(|e| LoadError::invalid(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            metadata,
            tensors,
        })
    }

    pub(crate) fn invalid(&self, reason: impl Into<String>) -> LoadError {
        LoadError::invalid(&self.path, reason)
    }

    pub(crate) fn unsupported(&self, reason: impl Into<String>) -> LoadError {
        LoadError::unsupported(&self.path, reason)
    }

    /// A number that counts something; `None` if there is none under this key.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, LoadError> {
        let count = match self.metadata.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(n)) => usize::try_from(*n).ok(),
            Some(Value::Signed(n)) => usize::try_from(*n).ok(),
            Some(_) => None,
        };
        let count = count.ok_or_else(|| self.invalid(format!("{key} is not a count")))?;
        Ok(Some(count))
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, LoadError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(x)) if x.is_finite() => Ok(Some(*x)),
            Some(_) => Err(self.invalid(format!("{key} is not a finite number"))),
        }
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(_) => Err(self.invalid(format!("{key} is not true or false"))),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        let text = match self.metadata.get(key) {
            None => return Ok(None),
            Some(Value::Text(range)) => std::str::from_utf8(&self.file[range.clone()]).ok(),
            Some(_) => None,
        };
        let text = text.ok_or_else(|| self.invalid(format!("{key} is not text in UTF-8")))?;
        Ok(Some(text))
    }

    /// An array of text, each with its place in the file; see [`Self::text_at`].
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<TextAt>>, LoadError> {
        let Some(array) = self.array(key, |kind| kind == kind::TEXT, "text")? else {
            return Ok(None);
        };
        let mut reader = Reader {
            bytes: &self.file[..array.bytes.end],
            at: array.bytes.start,
        };
        let mut texts = Vec::with_capacity(array.len);
        for _ in 0..array.len {
            let range = reader.text().expect("the header's reader was here");
            texts.push(TextAt {
                start: range.start,
                len: range.len() as u32,
            });
        }
        Ok(Some(texts))
    }

    /// The bytes of a text, which need not be UTF-8.
    pub(crate) fn text_at(&self, at: TextAt) -> &[u8] {
        &self.file[at.start..at.start + at.len as usize]
    }

    pub(crate) fn floats(&self, key: &str) -> Result<Option<Vec<f32>>, LoadError> {
        let array = self.array(key, |kind| kind == kind::F32, "f32")?;
        Ok(array.map(|array| {
            let numbers = self.file[array.bytes.clone()].chunks_exact(4);
            let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("4 bytes"));
            numbers.map(number).collect()
        }))
    }

    /// An array of 32-bit integers, signed or not.
    pub(crate) fn integers(&self, key: &str) -> Result<Option<Vec<i32>>, LoadError> {
        let is_integer = |kind| kind == kind::I32 || kind == kind::U32;
        let array = self.array(key, is_integer, "32-bit integers")?;
        Ok(array.map(|array| {
            let numbers = self.file[array.bytes.clone()].chunks_exact(4);
            let number = |bytes: &[u8]| i32::from_le_bytes(bytes.try_into().expect("4 bytes"));
            numbers.map(number).collect()
        }))
    }

    fn array(
        &self,
        key: &str,
        fits: impl Fn(u32) -> bool,
        what: &str,
    ) -> Result<Option<&Array>, LoadError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) if fits(array.kind) => Ok(Some(array)),
            Some(_) => Err(self.invalid(format!("{key} is not an array of {what}"))),
        }
    }

    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// How many bytes all tensors that `counts` take in f32.
    pub(crate) fn f32_bytes(&self, counts: impl Fn(&str) -> bool) -> usize {
        let counted = self.tensors.iter().filter(|(name, _)| counts(name));
        let sizes = counted.map(|(_, tensor)| {
            let blocks = tensor.bytes.len() / tensor.dtype.type_size();
            blocks.saturating_mul(tensor.dtype.block_size() * size_of::<f32>())
        });
        sizes.fold(0, usize::saturating_add)
    }

    fn info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo, LoadError> {
        let info = self
            .tensors
            .get(name)
            .ok_or_else(|| self.invalid(format!("tensor {name} is missing")))?;
        if info.shape != shape {
            return Err(self.invalid(format!(
                "tensor {name} has the shape {:?}, not {shape:?}",
                info.shape
            )));
        }
        Ok(info)
    }

    /// A tensor of any shape in f32.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let info = self.info(name, shape)?;
        let bytes = &self.file[info.bytes.clone()];
        dequantize(info.dtype, bytes, shape)
            .map_err(|e| self.invalid(format!("tensor {name}: {e}")))
    }

    /// A matrix in f32.
    pub(crate) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Tensor, LoadError> {
        self.tensor(name, &shape)
    }

    /// A vector in f32: a norm's weights or a bias.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Tensor, LoadError> {
        self.tensor(name, &[len])
    }

    /// A matrix that stays in the file.
    pub(crate) fn rows(&self, name: &str, shape: [usize; 2]) -> Result<Rows, LoadError> {
        Ok(Rows {
            info: self.info(name, &shape)?.clone(),
        })
    }
}

/// Where a text is in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextAt {
    start: usize,
    len: u32,
}

/// A matrix in the file, of which single rows are read.
#[derive(Debug)]
pub(crate) struct Rows {
    info: TensorInfo,
}

impl Rows {
    fn row_bytes(&self) -> usize {
        self.info.bytes.len() / self.info.shape[0]
    }

    /// The rows of these numbers in f32, `[ids, columns]`.
    pub(crate) fn get(&self, gguf: &Gguf, ids: &[u32]) -> candle_core::Result<Tensor> {
        let (count, columns) = (self.info.shape[0], self.info.shape[1]);
        let matrix = &gguf.file[self.info.bytes.clone()];
        let row_bytes = self.row_bytes();
        let mut rows = Vec::with_capacity(ids.len() * row_bytes);
        for &id in ids {
            let id = id as usize;
            if id >= count {
                candle_core::bail!("token {id} of {count}");
            }
            rows.extend_from_slice(&matrix[id * row_bytes..(id + 1) * row_bytes]);
        }
        dequantize(self.info.dtype, &rows, &[ids.len(), columns])
    }

    /// All rows in f32, up to `rows` at a time.
    pub(crate) fn chunks<'a>(
        &'a self,
        gguf: &'a Gguf,
        rows: usize,
    ) -> impl Iterator<Item = candle_core::Result<Tensor>> + 'a {
        let (row_bytes, columns) = (self.row_bytes(), self.info.shape[1]);
        let chunks = gguf.file[self.info.bytes.clone()].chunks(rows * row_bytes);
        chunks.map(move |chunk| {
            let shape = [chunk.len() / row_bytes, columns];
            dequantize(self.info.dtype, chunk, &shape)
        })
    }
}

/// Numbers of a file in f32.
fn dequantize(dtype: GgmlDType, bytes: &[u8], shape: &[usize]) -> candle_core::Result<Tensor> {
    qtensor_from_ggml(dtype, bytes, shape.to_vec(), &Device::Cpu)?.dequantize(&Device::Cpu)
}

/// The types of metadata values.
mod kind {
    pub(super) const U8: u32 = 0;
    pub(super) const I8: u32 = 1;
    pub(super) const U16: u32 = 2;
    pub(super) const I16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const TEXT: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const U64: u32 = 10;
    pub(super) const I64: u32 = 11;
    pub(super) const F64: u32 = 12;

    /// How many bytes a value has, if all have the same.
    pub(super) fn size(kind: u32) -> Option<usize> {
        match kind {
            U8 | I8 | BOOL => Some(1),
            U16 | I16 => Some(2),
            U32 | I32 | F32 => Some(4),
            U64 | I64 | F64 => Some(8),
            _ => None,
        }
    }
}

fn dtype(number: u32) -> Result<GgmlDType, Reason> {
    Ok(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => {
            return Err(format!(
                "has the type {number}; supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 \
                 and Q2_K to Q6_K"
            ));
        }
    })
}

type Header = (HashMap<String, Value>, HashMap<String, TensorInfo>);

/// Reads everything before the tensors' numbers.
fn header(file: &[u8]) -> Result<Header, Reason> {
    let mut reader = Reader { bytes: file, at: 0 };
    if reader.take(4).map(|range| &file[range]) != Ok(MAGIC) {
        return Err("not a GGUF file".to_owned());
    }
    match reader.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => {
            return Err("a big-endian GGUF file, which is not supported".to_owned());
        }
        version => return Err(format!("GGUF version {version}; supported are 2 and 3")),
    }
    let num_tensors = reader.u64()?;
    let num_values = reader.u64()?;
    if num_tensors > MAX_ENTRIES || num_values > MAX_ENTRIES {
        return Err(format!(
            "{num_tensors} tensors and {num_values} metadata values; at most {MAX_ENTRIES} are read"
        ));
    }
    let mut metadata = HashMap::new();
    for _ in 0..num_values {
        let key = reader.name()?;
        let kind = reader.u32()?;
        let value = reader
            .value(kind)
            .map_err(|reason| format!("metadata {key}: {reason}"))?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("metadata {key} is there twice"));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Unsigned(n)) if n.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(n) => *n,
        Some(_) => return Err("general.alignment is not a power of two from 8".to_owned()),
    };
    let mut places = Vec::new();
    for _ in 0..num_tensors {
        let name = reader.name()?;
        let place = reader
            .tensor()
            .map_err(|reason| format!("tensor {name} {reason}"))?;
        places.push((name, place));
    }
    let data = (reader.at as u64).next_multiple_of(alignment);
    let mut tensors = HashMap::new();
    let mut total = 0_u64;
    for (name, (dtype, shape, offset)) in places {
        let bytes = tensor_bytes(dtype, &shape)
            .and_then(|len| {
                let start = data.checked_add(offset)?;
                let end = start.checked_add(len)?;
                (offset.is_multiple_of(alignment) && end <= file.len() as u64)
                    .then_some(start as usize..end as usize)
            })
            .ok_or_else(|| {
                format!("tensor {name} of {shape:?} is not within the file; is it complete?")
            })?;
        // Tensors that share bytes would make a small file large in memory.
        total = total.saturating_add(bytes.len() as u64);
        if total > file.len() as u64 {
            return Err("tensors overlap".to_owned());
        }
        let info = TensorInfo {
            dtype,
            shape,
            bytes,
        };
        if tensors.insert(name.clone(), info).is_some() {
            return Err(format!("tensor {name} is there twice"));
        }
    }
    Ok((metadata, tensors))
}

/// The size of a tensor; `None` if there is no such tensor.
fn tensor_bytes(dtype: GgmlDType, shape: &[usize]) -> Option<u64> {
    let columns = *shape.last()?;
    if shape.contains(&0) || !columns.is_multiple_of(dtype.block_size()) {
        return None;
    }
    let row = (columns / dtype.block_size()).checked_mul(dtype.type_size())?;
    let mut rows = shape[..shape.len() - 1].iter();
    let bytes = rows.try_fold(row, |bytes, &n| bytes.checked_mul(n))?;
    Some(bytes as u64)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Result<Range<usize>, Reason> {
        let range = self
            .at
            .checked_add(len)
            .filter(|&end| end <= self.bytes.len())
            .map(|end| self.at..end)
            .ok_or("the file ends too soon; is it complete?")?;
        self.at = range.end;
        Ok(range)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let range = self.take(N)?;
        Ok(self.bytes[range].try_into().expect("N bytes"))
    }

    fn u32(&mut self) -> Result<u32, Reason> {
        self.fixed().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Reason> {
        self.fixed().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<Range<usize>, Reason> {
        let len = u32::try_from(self.u64()?).map_err(|_| "a text of more than 4 GB")?;
        self.take(len as usize)
    }

    /// A key or a tensor's name.
    fn name(&mut self) -> Result<String, Reason> {
        let range = self.text()?;
        if range.len() > MAX_NAME {
            return Err(format!("a name of {} bytes", range.len()));
        }
        let name = std::str::from_utf8(&self.bytes[range]).map_err(|_| "a name is not UTF-8")?;
        Ok(name.to_owned())
    }

    fn value(&mut self, kind: u32) -> Result<Value, Reason> {
        Ok(match kind {
            kind::U8 => Value::Unsigned(u8::from_le_bytes(self.fixed()?).into()),
            kind::I8 => Value::Signed(i8::from_le_bytes(self.fixed()?).into()),
            kind::U16 => Value::Unsigned(u16::from_le_bytes(self.fixed()?).into()),
            kind::I16 => Value::Signed(i16::from_le_bytes(self.fixed()?).into()),
            kind::U32 => Value::Unsigned(self.u32()?.into()),
            kind::I32 => Value::Signed(i32::from_le_bytes(self.fixed()?).into()),
            kind::F32 => Value::Float(f32::from_le_bytes(self.fixed()?).into()),
            kind::BOOL => match self.fixed()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [byte] => return Err(format!("the truth value {byte}")),
            },
            kind::TEXT => Value::Text(self.text()?),
            kind::U64 => Value::Unsigned(self.u64()?),
            kind::I64 => Value::Signed(i64::from_le_bytes(self.fixed()?)),
            kind::F64 => Value::Float(f64::from_le_bytes(self.fixed()?)),
            kind::ARRAY => Value::Array(self.array()?),
            _ => return Err(format!("the unknown type {kind}")),
        })
    }

    fn array(&mut self) -> Result<Array, Reason> {
        let kind = self.u32()?;
        let len = usize::try_from(self.u64()?).map_err(|_| "an array without end")?;
        let start = self.at;
        if let Some(size) = kind::size(kind) {
            self.take(len.checked_mul(size).ok_or("an array without end")?)?;
        } else if kind == kind::TEXT {
            for _ in 0..len {
                self.text()?;
            }
        } else {
            return Err(format!("an array of the type {kind}"));
        }
        Ok(Array {
            kind,
            len,
            bytes: start..self.at,
        })
    }

    fn tensor(&mut self) -> Result<(GgmlDType, Vec<usize>, u64), Reason> {
        let dims = self.u32()?;
        if dims > MAX_DIMS {
            return Err(format!("has {dims} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            let n = usize::try_from(self.u64()?).map_err(|_| "is too large")?;
            shape.push(n);
        }
        // The file has the shortest stride first.
        shape.reverse();
        Ok((dtype(self.u32()?)?, shape, self.u64()?))
    }
}
