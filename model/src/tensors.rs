//! Tensors of a `model.safetensors` file, by name, with their shape checked.
//!
//! The file is mapped and read tensor by tensor, so that importing a model takes
//! no more memory than its largest tensor. Whatever the file holds (f32, f16 or
//! bf16), numbers come out as f32 and finite.

use crate::error::LoadError;
use crate::mapped;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};
use std::path::{Path, PathBuf};

/// A safetensors file, open for reading.
pub struct Tensors {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    /// Where the tensors' data begins in the file.
    data: usize,
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

impl Tensors {
    /// Maps the file and checks its header.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let map = mapped::map(path)?;
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|e| LoadError::invalid(path, format!("not a sound safetensors file: {e}")))?;
        Ok(Self {
            path: path.to_owned(),
            map,
            metadata,
            data: size_of::<u64>() + header,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// The tensor `name`, which must have this shape.
    pub fn get<'a>(&'a self, name: &'a str, shape: &[usize]) -> Result<Tensor<'a>, LoadError> {
        let invalid = |reason| Err(LoadError::invalid(&self.path, reason));
        let Some(info) = self.metadata.info(name) else {
            return invalid(format!("tensor {name} is missing"));
        };
        if info.shape != shape {
            return invalid(format!(
                "tensor {name} has shape {:?}; config.json calls for {shape:?}",
                info.shape
            ));
        }
        let dtype = match info.dtype {
            Dtype::F32 => Float::F32,
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::Bf16,
            other => {
                return invalid(format!(
                    "tensor {name} has the type {other:?}; supported are F32, F16, BF16"
                ));
            }
        };
        let (start, end) = info.data_offsets;
        Ok(Tensor {
            path: &self.path,
            name,
            dtype,
            row_len: shape.last().copied().unwrap_or(1),
            bytes: &self.map[self.data + start..self.data + end],
        })
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
