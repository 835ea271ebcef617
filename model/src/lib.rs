//! What coldread knows about models on disk.
//!
//! A model comes as a Hugging Face folder ([`ModelFolder`]: `config.json`, a
//! tokenizer, weights, and optionally `normalization.json` and `calibration.json`).
//! Everything in a folder is read and checked here, so that the engines start from
//! values that are known to be consistent, and a broken folder is rejected at start
//! with the file and the reason.
//!
//! For the int8 engine a folder is packed into one file ([`pack_to_file`]), which
//! is then mapped and read in place ([`PackedModel`]).
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | `config.json`: architecture, sizes, labels |
//! | [`folder`] | the folder as a whole |
//! | [`profile`] | how a model wants its text normalised |
//! | [`tokenizer`] | the tokenizer's files, as one `tokenizer.json` |
//! | [`tensors`] | the weights' files, tensor by tensor |
//! | [`import`] | from a folder to a packed model |
//! | [`quantize`] | from f32 to int8 |
//! | [`packed`] | the packed model: format, checks, views |
//! | [`layout`] | the memory layout that the int8 kernels read |
//! | [`wordpiece`] | BERT's tokenizer, for use in place |
//! | [`unigram`] | XLM-RoBERTa's tokenizer, for use in place |
//! | [`error`] | why a model was rejected |

mod calibration;
pub mod config;
pub mod error;
pub mod folder;
mod foreign;
pub mod import;
pub mod layout;
mod mapped;
pub mod packed;
#[cfg(feature = "pytorch")]
mod pickle;
pub mod profile;
#[cfg(feature = "pytorch")]
mod pytorch;
pub mod quantize;
pub mod tensors;
pub mod tokenizer;
mod tokens;
mod trie;
pub mod unigram;
pub mod wordpiece;

pub use config::{Activation, Architecture, ModelConfig, ProblemType};
pub use error::LoadError;
pub use folder::{ModelFolder, Weights};
pub use import::{pack, pack_to_file, pack_with};
pub use mapped::MappedFile;
pub use packed::PackedModel;
pub use profile::NormalizationProfile;
pub use tensors::Tensors;
pub use tokens::AddedToken;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
