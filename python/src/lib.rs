//! The native half of the Python package `coldread`.
//!
//! It holds a model and scratch memory for each thread that scores at the same time. Python's
//! global lock is held only while posts are taken from the caller's iterable; what the caller sees
//! (types, defaults, arrays) is in `coldread/__init__.py`.

use coldread_engine::{
    Classifier, EngineError, LongText, ModelOptions, PackedModel, PostError, PostResult,
};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyFloat, PyString};
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Posts taken from the iterable before they are scored: many enough that the lock changes hands
/// seldom, few enough that a progress bar moves and memory stays bounded.
const CHUNK_POSTS: usize = 512;
/// Bytes of posts after which a chunk ends early.
const CHUNK_BYTES: usize = 1 << 20;

create_exception!(
    coldread,
    ColdreadError,
    PyException,
    "Base of all errors of this package."
);
create_exception!(
    coldread,
    LoadError,
    ColdreadError,
    "A model cannot be loaded."
);
create_exception!(
    coldread,
    InferenceError,
    ColdreadError,
    "The engine failed, through no fault of a post."
);

/// A post as Python holds it.
enum Post {
    Shared(PyBackedStr),
    /// A string that UTF-8 cannot hold: each half of a surrogate pair became U+FFFD.
    Replaced(String),
    /// `None` or a float's NaN, which is how data frames say that there is no text.
    Missing,
}

impl Post {
    fn from_object(object: &Bound<'_, PyAny>, index: usize) -> PyResult<Self> {
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(match text.extract::<PyBackedStr>() {
                Ok(text) => Self::Shared(text),
                Err(_) => Self::Replaced(text.to_string_lossy().into_owned()),
            });
        }
        let missing = object.is_none()
            || object
                .cast::<PyFloat>()
                .is_ok_and(|float| float.value().is_nan())
            || matches!(object.get_type().name()?.to_str()?, "NAType" | "NaTType");
        if missing {
            return Ok(Self::Missing);
        }
        let kind = object.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "post {index} is of type {kind}; expected str or None"
        )))
    }
}

impl AsRef<str> for Post {
    fn as_ref(&self) -> &str {
        match self {
            Self::Shared(text) => text,
            Self::Replaced(text) => text,
            Self::Missing => "",
        }
    }
}

/// A loaded model.
#[pyclass(frozen)]
struct Model {
    model: coldread_engine::Model,
    /// Classifiers of calls that have ended, for the calls to come.
    idle: Mutex<Vec<Classifier>>,
}

/// What a call says of many posts: one row of scores a post, in the posts' order.
#[pyclass(frozen, get_all)]
struct Rows {
    /// Scores as 32-bit floats, row by row; NaN where a post has none.
    scores: Py<PyBytes>,
    /// The index of each post's label; -1 where it has none.
    labels: Vec<i32>,
    /// Indices of posts that were truncated.
    truncated: Vec<usize>,
    /// Posts that were not scored: index, code, message.
    errors: Vec<(usize, &'static str, String)>,
}

#[pymethods]
impl Model {
    #[new]
    fn new(py: Python<'_>, path: PathBuf, max_post_bytes: usize) -> PyResult<Self> {
        let options = ModelOptions::new().max_post_bytes(max_post_bytes);
        // A mapped file is shared by processes and read as far as it is needed. Whoever replaces
        // it must not write into it, which neither pip nor `coldread pack` does.
        let load = || match path.is_dir() {
            true => options.open(&path),
            false => options.packed(PackedModel::map(&path)?),
        };
        let model = py.detach(load).map_err(|e| LoadError::new_err(chain(&e)))?;
        Ok(Self {
            model,
            idle: Mutex::default(),
        })
    }

    #[getter]
    fn labels(&self) -> Vec<String> {
        self.model.labels().to_vec()
    }

    #[getter]
    fn name(&self) -> &str {
        &self.model.info().name
    }

    #[getter]
    fn max_tokens(&self) -> usize {
        self.model.info().max_tokens
    }

    fn token_ids(&self, py: Python<'_>, post: &str) -> PyResult<Vec<u32>> {
        py.detach(|| self.model.token_ids(post))
            .map_err(|e| engine_failed(&e))
    }

    /// Scores every post of an iterable.
    fn score(
        &self,
        posts: &Bound<'_, PyAny>,
        long_text: &str,
        threads: NonZeroUsize,
    ) -> PyResult<Rows> {
        let py = posts.py();
        let long_text: LongText = long_text
            .parse()
            .map_err(|e| PyValueError::new_err(format!("long_text: {e}")))?;
        let mut workers = self.workers(threads.get());
        let mut rows = Collected::new(self.model.labels().len());
        let mut iterator = posts.try_iter()?;
        loop {
            let chunk = next_chunk(&mut iterator, rows.labels.len(), threads.get())?;
            if chunk.is_empty() {
                break;
            }
            let results = py
                .detach(|| classify(&mut workers, &chunk, long_text))
                .map_err(|e| engine_failed(&e))?;
            for (post, result) in chunk.iter().zip(results) {
                rows.push(post, result);
            }
            py.check_signals()?;
        }
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(&mut workers);
        Ok(Rows {
            scores: PyBytes::new(py, &rows.scores).unbind(),
            labels: rows.labels,
            truncated: rows.truncated,
            errors: rows.errors,
        })
    }
}

impl Model {
    /// As many classifiers as threads, idle ones first.
    fn workers(&self, threads: usize) -> Vec<Classifier> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.len().saturating_sub(threads);
        let mut workers = idle.split_off(kept);
        drop(idle);
        workers.resize_with(threads, || self.model.classifier());
        workers
    }
}

fn next_chunk(
    iterator: &mut Bound<'_, pyo3::types::PyIterator>,
    first: usize,
    threads: usize,
) -> PyResult<Vec<Post>> {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    while chunk.len() < CHUNK_POSTS * threads && bytes < CHUNK_BYTES * threads {
        let Some(object) = iterator.next() else { break };
        let post = Post::from_object(&object?, first + chunk.len())?;
        bytes += post.as_ref().len();
        chunk.push(post);
    }
    Ok(chunk)
}

/// The posts' results in their order, each worker on a stretch of them.
fn classify(
    workers: &mut [Classifier],
    posts: &[Post],
    long_text: LongText,
) -> Result<Vec<PostResult>, EngineError> {
    let [worker] = workers else {
        let stretch = posts.len().div_ceil(workers.len());
        return thread::scope(|scope| {
            let running: Vec<_> = workers
                .iter_mut()
                .zip(posts.chunks(stretch))
                .map(|(worker, posts)| scope.spawn(move || worker.classify_with(posts, long_text)))
                .collect();
            let mut results = Vec::with_capacity(posts.len());
            for thread in running {
                results.extend(thread.join().expect("classifying does not panic")?);
            }
            Ok(results)
        });
    };
    worker.classify_with(posts, long_text)
}

struct Collected {
    width: usize,
    scores: Vec<u8>,
    labels: Vec<i32>,
    truncated: Vec<usize>,
    errors: Vec<(usize, &'static str, String)>,
}

impl Collected {
    fn new(width: usize) -> Self {
        Self {
            width,
            scores: Vec::new(),
            labels: Vec::new(),
            truncated: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn push(&mut self, post: &Post, result: PostResult) {
        let index = self.labels.len();
        match result {
            Ok(sentiment) => {
                self.scores.extend(
                    sentiment
                        .scores
                        .iter()
                        .flat_map(|score| score.to_ne_bytes()),
                );
                self.labels
                    .push(i32::try_from(sentiment.label_index).unwrap_or(-1));
                if sentiment.truncated {
                    self.truncated.push(index);
                }
            }
            Err(error) => {
                self.scores
                    .extend(f32::NAN.to_ne_bytes().repeat(self.width));
                self.labels.push(-1);
                self.errors.push(described(index, post, &error));
            }
        }
    }
}

fn described(index: usize, post: &Post, error: &PostError) -> (usize, &'static str, String) {
    match post {
        Post::Missing => (index, "missing_text", "there is no text".to_owned()),
        _ => (index, error.code(), error.to_string()),
    }
}

fn engine_failed(error: &EngineError) -> PyErr {
    InferenceError::new_err(chain(error))
}

/// An error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<Model>()?;
    module.add_class::<Rows>()?;
    module.add("ColdreadError", py.get_type::<ColdreadError>())?;
    module.add("LoadError", py.get_type::<LoadError>())?;
    module.add("InferenceError", py.get_type::<InferenceError>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
