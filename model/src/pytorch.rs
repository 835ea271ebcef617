//! Where the tensors of a `pytorch_model.bin` are.
//!
//! The file is a ZIP archive: a pickle that names the tensors, and a file of plain
//! numbers for each storage. Those are stored, not compressed, so that they are
//! read in place like those of a safetensors file.

use crate::error::LoadError;
use crate::pickle::{StoredTensor, state_dict};
use crate::tensors::Place;
use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;
use zip::{CompressionMethod, ZipArchive};

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// Every tensor of the file by name.
pub(crate) fn tensors(path: &Path, file: &[u8]) -> Result<Vec<(String, Place)>, LoadError> {
    read(file).map_err(|reason| LoadError::invalid(path, reason))
}

fn read(file: &[u8]) -> Result<Vec<(String, Place)>, String> {
    let not_sound = |e| {
        format!(
            "not a sound PyTorch file: {e} (files of PyTorch before 1.6 have another form; \
             save them anew)"
        )
    };
    let mut archive = ZipArchive::new(Cursor::new(file)).map_err(not_sound)?;
    let folder = folder(&archive)?;
    let mut find = |name: &str| stored(&mut archive, file.len(), &format!("{folder}{name}"));
    if let Some(order) = find("byteorder")
        && &file[order.clone()] != b"little"
    {
        return Err("its numbers are not little-endian".into());
    }
    let pickle = find("data.pkl").ok_or("its pickle is compressed or cannot be found")?;
    let mut storages = HashMap::new();
    let tensors = state_dict(&file[pickle])?;
    let places = tensors.into_iter().map(|tensor| {
        let storage = storages
            .entry(tensor.storage)
            .or_insert_with(|| find(&format!("data/{}", tensor.storage)));
        place(tensor, storage.clone())
    });
    places.collect()
}

/// The one folder that everything is in, with a slash at its end.
fn folder(archive: &Archive<'_>) -> Result<String, String> {
    let mut pickles = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.strip_suffix("data.pkl")?.to_owned()))
        .filter(|folder| folder.is_empty() || folder.ends_with('/'));
    match (pickles.next(), pickles.next()) {
        (Some(folder), None) => Ok(folder),
        _ => Err("not a sound PyTorch file: it has not one data.pkl".into()),
    }
}

/// Where a file of the archive is, if it is there and stored as it is. The archive has
/// `len` bytes.
fn stored(archive: &mut Archive<'_>, len: usize, name: &str) -> Option<Range<usize>> {
    let index = archive.index_for_name(name)?;
    let entry = archive.by_index_raw(index).ok()?;
    let plain = entry.compression() == CompressionMethod::Stored && !entry.encrypted();
    let start = usize::try_from(entry.data_start()?).ok()?;
    let size = usize::try_from(entry.compressed_size()).ok()?;
    let end = start.checked_add(size)?;
    (plain && end <= len).then_some(start..end)
}

/// Checks that the tensor's elements are in its storage, row by row.
fn place(
    tensor: StoredTensor<'_>,
    storage: Option<Range<usize>>,
) -> Result<(String, Place), String> {
    let StoredTensor {
        name,
        dtype,
        shape,
        offset,
        stride,
        storage: key,
    } = tensor;
    let Some(storage) = storage else {
        return Err(format!("tensor {name}: its storage {key:?} is not there"));
    };
    let outside = || format!("tensor {name} does not fit its storage");
    let size = dtype.bitsize().div_ceil(8);
    let elements = shape
        .iter()
        .try_fold(1_usize, |n, &dim| n.checked_mul(dim))
        .ok_or_else(outside)?;
    if !is_row_major(&shape, &stride) {
        return Err(format!(
            "tensor {name} is not stored row by row; save it as a contiguous one"
        ));
    }
    let start = offset.checked_mul(size).ok_or_else(outside)?;
    let len = elements.checked_mul(size).ok_or_else(outside)?;
    let end = start.checked_add(len).ok_or_else(outside)?;
    if end > storage.len() {
        return Err(outside());
    }
    let bytes = storage.start + start..storage.start + end;
    Ok((
        name.to_owned(),
        Place {
            dtype,
            shape,
            bytes,
        },
    ))
}

/// Neighbours in a dimension are as far apart as the later dimensions are large;
/// where there is just one, it does not matter.
fn is_row_major(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = Some(1_usize);
    shape.len() == stride.len()
        && shape.iter().zip(stride).rev().all(|(&dim, &stride)| {
            let fits = dim <= 1 || expected == Some(stride);
            expected = expected.and_then(|expected| expected.checked_mul(dim));
            fits
        })
}

#[cfg(test)]
mod tests;
