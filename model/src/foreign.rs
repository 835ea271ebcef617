//! Files that stand where a model's file should be, recognised by their first bytes.

use crate::error::LoadError;
use std::path::Path;

/// The longest text that is taken for an error message of a web server.
const MAX_MESSAGE: usize = 1 << 10;

/// Rejects, by name, a file that no reader of this crate takes.
pub(crate) fn check(path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Err(LoadError::invalid(
            path,
            "a Git LFS pointer, not the file itself; get the file with: git lfs pull",
        ));
    }
    if is_web_page(bytes) {
        return Err(LoadError::invalid(
            path,
            "an error page of a web server, not the file; download it again",
        ));
    }
    let format = if bytes.starts_with(b"GGUF") {
        "GGUF"
    } else if is_onnx(bytes) {
        "ONNX"
    } else if bytes.starts_with(b"\x89HDF") {
        "TensorFlow (HDF5)"
    } else {
        return Ok(());
    };
    Err(LoadError::unsupported(path, unsupported(format)))
}

/// The reason why weights of another format are rejected.
pub(crate) fn unsupported(format: &str) -> String {
    format!(
        "a model in the format {format}, which is not supported; supported are a Hugging Face \
         folder with safetensors or PyTorch weights and a file of `coldread pack`"
    )
}

fn is_web_page(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    let starts_with = |text: &str| {
        let start = start.get(..text.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
    };
    let is_message = bytes.len() <= MAX_MESSAGE
        && [
            "Access to model",
            "Entry not found",
            "Invalid credentials",
            "Invalid username or password",
            "Repository not found",
        ]
        .into_iter()
        .any(starts_with);
    is_message || starts_with("<!doctype html") || starts_with("<html")
}

/// A protocol buffer that begins with a small version and the producer's name, as ONNX
/// exporters write them.
fn is_onnx(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x08, 1..=31, 0x12, 1..=63, first, second, ..]
            if first.is_ascii_alphanumeric() && second.is_ascii_graphic()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_files_are_named() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0f\nsize 9\n";
        for (bytes, expected) in [
            (&pointer[..], "git lfs pull"),
            (b"\n<!DOCTYPE html><html>", "web server"),
            (b"<HTML lang=en>", "web server"),
            (b"Entry not found", "web server"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"\x08\x08\x12\x07pytorch\x1a", "ONNX"),
            (b"\x89HDF\r\n", "HDF5"),
        ] {
            let error = check(Path::new("a/file"), bytes).unwrap_err().to_string();
            assert!(
                error.starts_with("a/file: ") && error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn files_of_models_pass() {
        for bytes in [
            &b""[..],
            b"{\"model_type\": \"bert\"}",
            b"[PAD]\n[unused0]\n",
            b"#version: 0.2\na b\n",
            b"PK\x03\x04",
            // A safetensors header of the length that an ONNX file might begin with.
            b"\x08\x08\x12\x01\0\0\0\0{\"a\": 1}",
        ] {
            check(Path::new("file"), bytes).expect("nothing foreign");
        }
    }
}
