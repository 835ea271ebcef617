//! What coldread knows about models on disk.
//!
//! A model comes as a Hugging Face folder ([`ModelFolder`]: `config.json`,
//! `tokenizer.json`, `model.safetensors`, and optionally `normalization.json`
//! and `calibration.json`). Everything in a folder is read and checked here,
//! so that the engines start from values that are known to be consistent, and
//! a broken folder is refused at start with the file and the reason.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | `config.json`: architecture, sizes, labels |
//! | [`folder`] | the folder as a whole |
//! | [`layout`] | the memory layout that the int8 kernels read |
//! | [`profile`] | how a model wants its text normalised |
//! | [`error`] | why a model was refused |

pub mod config;
pub mod error;
pub mod folder;
pub mod layout;
pub mod profile;

pub use config::{Activation, Architecture, ModelConfig, ProblemType};
pub use error::LoadError;
pub use folder::ModelFolder;
pub use profile::NormalizationProfile;
