//! A model's tensors, by name, with their shape checked.
//!
//! They come from `model.safetensors`, from the several files that its index names,
//! or from `pytorch_model.bin`. The files are mapped and read tensor by tensor, so
//! that importing a model takes no more memory than its largest tensor. Whatever a
//! file holds (f32, f16 or bf16), numbers come out as f32 and finite.

use crate::error::{LoadError, read};
use crate::folder::Weights;
use crate::mapped;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The most files that an index may name.
const MAX_SHARDS: usize = 1 << 10;

/// A model's tensors, open for reading.
#[derive(Default)]
pub struct Tensors {
    files: Vec<(PathBuf, Mmap)>,
    /// By name, with the number of the file.
    places: BTreeMap<String, (usize, Place)>,
    /// What the first file is called, for tensors that are in none.
    path: PathBuf,
}

/// Where a tensor is in its file, and what.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Range<usize>,
}

/// One tensor of a file.
#[derive(Debug)]
pub struct Tensor<'a> {
    path: &'a Path,
    name: &'a str,
    dtype: Float,
    row_len: usize,
    bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
enum Float {
    F32,
    F16,
    Bf16,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Tensors {
    /// Maps the files and checks what they say of themselves.
    pub fn open(weights: &Weights) -> Result<Self, LoadError> {
        let mut tensors = Self {
            path: weights.path().to_owned(),
            ..Self::default()
        };
        for path in weights.files()? {
            match weights {
                Weights::Safetensors(_) | Weights::Sharded(_) => tensors.add(&path, safetensors)?,
                #[cfg(feature = "pytorch")]
                Weights::PyTorch(_) => tensors.add(&path, crate::pytorch::tensors)?,
                #[cfg(not(feature = "pytorch"))]
                Weights::PyTorch(_) => {
                    return Err(LoadError::unsupported(
                        &path,
                        "this build reads safetensors only; build it with --features pytorch",
                    ));
                }
            }
        }
        Ok(tensors)
    }

    fn add(
        &mut self,
        path: &Path,
        read: impl FnOnce(&Path, &[u8]) -> Result<Vec<(String, Place)>, LoadError>,
    ) -> Result<(), LoadError> {
        let map = mapped::map(path)?;
        for (name, place) in read(path, &map)? {
            if self.places.contains_key(&name) {
                let reason = format!("tensor {name} stands there twice");
                return Err(LoadError::invalid(path, reason));
            }
            self.places.insert(name, (self.files.len(), place));
        }
        self.files.push((path.to_owned(), map));
        Ok(())
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Names and shapes of all tensors of a type that [`Tensors::get`] takes.
    pub fn floats(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let places = self.places.iter();
        let floats = places.filter(|(_, (_, place))| Float::of(place.dtype).is_some());
        floats.map(|(name, (_, place))| (&name[..], &place.shape[..]))
    }

    /// The tensor `name`, which must have this shape.
    pub fn get<'a>(&'a self, name: &'a str, shape: &[usize]) -> Result<Tensor<'a>, LoadError> {
        let Some((file, place)) = self.places.get(name) else {
            let reason = format!("tensor {name} is missing");
            return Err(LoadError::invalid(&self.path, reason));
        };
        let (path, map) = &self.files[*file];
        if place.shape != shape {
            return Err(LoadError::invalid(
                path,
                format!(
                    "tensor {name} has shape {:?}; config.json calls for {shape:?}",
                    place.shape
                ),
            ));
        }
        let Some(dtype) = Float::of(place.dtype) else {
            return Err(LoadError::invalid(
                path,
                format!(
                    "tensor {name} has the type {:?}; supported are F32, F16, BF16",
                    place.dtype
                ),
            ));
        };
        Ok(Tensor {
            path,
            name,
            dtype,
            row_len: shape.last().copied().unwrap_or(1),
            bytes: &map[place.bytes.clone()],
        })
    }
}

/// The tensors of a safetensors file.
fn safetensors(path: &Path, file: &[u8]) -> Result<Vec<(String, Place)>, LoadError> {
    let (header, metadata) = SafeTensors::read_metadata(file).map_err(|e| {
        let reason = match e {
            _ if is_cut_off(file) => "the file is truncated; download or copy it again".to_owned(),
            e => format!("not a sound safetensors file: {e}"),
        };
        LoadError::invalid(path, reason)
    })?;
    let data = size_of::<u64>() + header;
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let (start, end) = info.data_offsets;
        let place = Place {
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes: data + start..data + end,
        };
        (name, place)
    });
    Ok(tensors.collect())
}

/// Whether a safetensors file ends within its header or its last tensor.
fn is_cut_off(file: &[u8]) -> bool {
    let Some((len, rest)) = file.split_first_chunk() else {
        return true;
    };
    let Ok(len) = usize::try_from(u64::from_le_bytes(*len)) else {
        return false;
    };
    let Some((header, data)) = rest.split_at_checked(len) else {
        // Any file begins with eight bytes; a header's continue like this.
        return rest.first() == Some(&b'{');
    };
    let tensors = serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(header);
    tensors.is_ok_and(|tensors| {
        let ends = tensors
            .values()
            .filter_map(|it| it["data_offsets"][1].as_u64());
        ends.max().is_some_and(|end| end > data.len() as u64)
    })
}

/// The files that an index names: plain names beside it, whatever else it says.
pub fn shards(index: &Path) -> Result<BTreeSet<String>, LoadError> {
    let invalid = |reason: String| LoadError::invalid(index, reason);
    let parsed: Index =
        serde_json::from_slice(&read(index)?).map_err(|e| invalid(e.to_string()))?;
    let files: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if files.is_empty() || files.len() > MAX_SHARDS {
        return Err(invalid(format!(
            "it names {} files; there must be 1 to {MAX_SHARDS}",
            files.len()
        )));
    }
    let is_plain = |name: &&String| {
        name.ends_with(".safetensors")
            && !name.starts_with('.')
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match files.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(invalid(format!(
            "{name:?} is not the name of a safetensors file beside it"
        ))),
        None => Ok(files),
    }
}

impl Tensor<'_> {
    /// All values, row-major.
    pub fn to_f32(&self) -> Result<Vec<f32>, LoadError> {
        let mut values = Vec::with_capacity(self.bytes.len() / self.dtype.size());
        self.for_each_row(|row| values.extend_from_slice(row))?;
        Ok(values)
    }

    /// Calls `f` with each row (the last dimension) in turn.
    pub fn for_each_row(&self, mut f: impl FnMut(&[f32])) -> Result<(), LoadError> {
        let mut row = Vec::with_capacity(self.row_len);
        for bytes in self
            .bytes
            .chunks_exact((self.row_len * self.dtype.size()).max(1))
        {
            row.clear();
            self.dtype.convert(bytes, &mut row);
            if !row.iter().all(|value| value.is_finite()) {
                return Err(LoadError::invalid(
                    self.path,
                    format!("tensor {} holds a value that is not finite", self.name),
                ));
            }
            f(&row);
        }
        Ok(())
    }
}

impl Float {
    fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Appends the values; bytes may begin anywhere.
    fn convert(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F32 => out.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            Self::F16 => {
                out.extend(
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|&b| f16::from_le_bytes(b).to_f32()),
                );
            }
            Self::Bf16 => {
                out.extend(
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|&b| bf16::from_le_bytes(b).to_f32()),
                );
            }
        }
    }
}
