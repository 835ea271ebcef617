//! Text classification on CPUs, from a post to its scores: normalization, tokenization, and a
//! BERT-family transformer in int8 on SIMD kernels of this crate's own.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use coldread_engine::Model;
//!
//! // A Hugging Face model folder, or one file that `coldread pack` made of it.
//! let model = Model::open("sentiment.coldread")?;
//! let mut classifier = model.classifier();
//!
//! let sentiment = classifier.classify_one("I love this phone")?;
//! println!("{} {:.2}", sentiment.label(), sentiment.score());
//!
//! for result in classifier.classify(&["so good", "", "never again"])? {
//!     match result {
//!         Ok(sentiment) => println!("{:?}", sentiment.score_of("positive")),
//!         Err(error) => println!("{error}"), // the empty post
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//! - **A post's scores depend on the post alone**: they are the same bits whatever the batch,
//!   the post's place in it, the number of threads and the CPU's instruction set.
//! - **A [`Model`] is shared, a [`Classifier`] is not**: cloning a model shares its weights, and
//!   each thread makes a classifier of its own, which holds scratch memory. Once warm, the
//!   forward pass allocates nothing.
//! - **Model files are not trusted**: every size and offset is checked before use, and a broken
//!   file is rejected with its name and the reason.
//! - Nothing here is global, asynchronous, or knows the network.
//!
//! # Where to look
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | [`Model`], [`ModelOptions`] |
//! | [`classifier`] | [`Classifier`], [`Sentiment`]: the way from posts to scores |
//! | [`text`] | normalization and tokenization |
//! | [`engine`] | the interface between text and transformer |
//! | [`encoder`] | the transformer's forward pass in int8 |
//! | [`kernels`] | matrix products and row-wise operations per instruction set |
//! | [`polarity`] | which labels are negative, neutral and positive |
//! | [`error`] | what can go wrong while posts are scored |
//!
//! # Features
//! - `embedded-model`: [`Model::embedded`](model::Model::embedded), a model inside the program.
//! - `tokenizers`: tokenizers other than BERT's `WordPiece` and XLM-RoBERTa's Unigram.
//! - `pytorch`: weights in `pytorch_model.bin`, beside safetensors.
//!
//! # Unsafe code
//! It is confined to [`kernels`] (SIMD intrinsics and the inner loops' pointers) and denied
//! elsewhere.

pub mod classifier;
pub mod encoder;
pub mod engine;
pub mod error;
pub mod kernels;
pub mod model;
pub mod polarity;
pub mod text;

pub use classifier::{Classifier, ClassifyError, LongText, PostResult, Sentiment};
pub use coldread_model::{LoadError, ModelFolder, PackedModel, ProblemType};
pub use error::{EngineError, PostError};
pub use kernels::Isa;
#[cfg(feature = "embedded-model")]
pub use model::embedded_model;
pub use model::{Model, ModelInfo, ModelOptions};

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
