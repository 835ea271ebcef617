//! The WebAssembly half of the npm package `coldread`: one model in one instance.
//!
//! JavaScript (`npm/coldread.js`) writes a packed model or posts into memory that it gets from
//! [`allocate`], calls [`open`] or [`score`], and reads what came of it where [`scores`] and
//! [`report`] point to. An instance is thrown away as a whole, model and all.
//!
//! | export | what it does |
//! |---|---|
//! | `allocate(bytes)` | room for `bytes`, on a 64-byte boundary; 0 if there is none |
//! | `release(pointer, bytes)` | gives room back that was not passed on |
//! | `open(pointer, bytes)` | takes the room with a packed model in it; 1 if it is one |
//! | `score(pointer, bytes, posts, long_text)` | takes the room: `posts` lengths as u32, then their UTF-8; 1 if they were scored |
//! | `scores()` | f32, posts by labels; NaN where a post was not scored |
//! | `report()`, `report_bytes()` | JSON: of `open` the model, of `score` errors and truncated posts, of a failure its message |

use coldread_engine::{Classifier, LongText, Model, PostResult};
use serde_json::{Value, json};
use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;
use std::error::Error;

/// The alignment at which a packed model is used in place.
const ALIGNMENT: usize = 64;

#[derive(Default)]
struct Instance {
    classifier: Option<Classifier>,
    scores: Vec<f32>,
    report: String,
}

thread_local! {
    // WebAssembly without threads has one.
    static INSTANCE: RefCell<Instance> = RefCell::default();
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.max(1), ALIGNMENT).ok()
}

/// Room for `bytes`, which `open` or `score` takes back; null if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn allocate(bytes: usize) -> *mut u8 {
    // SAFETY: the layout is not empty.
    layout(bytes).map_or(std::ptr::null_mut(), |layout| unsafe { alloc(layout) })
}

/// Takes back room that was not passed on.
///
/// # Safety
/// `pointer` must be from `allocate(bytes)`, and nothing may use it afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn release(pointer: *mut u8, bytes: usize) {
    if let Some(layout) = layout(bytes) {
        // SAFETY: `allocate` made it with the same layout.
        unsafe { dealloc(pointer, layout) };
    }
}

/// Loads the packed model in a room.
///
/// # Safety
/// `pointer` must be from `allocate` of at least so many bytes, which are written, and be passed on once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(pointer: *mut u8, bytes: usize) -> u32 {
    // SAFETY: as the caller promises; the room stays for as long as the instance.
    let packed: &'static [u8] = unsafe { std::slice::from_raw_parts(pointer, bytes) };
    respond(|instance| {
        let model = Model::from_bytes(packed).map_err(|error| chain(&error))?;
        let info = model.info();
        instance.report = json!({
            "name": info.name,
            "labels": info.labels,
            "maxTokens": info.max_tokens,
            "instructionSet": coldread_engine::Isa::detect().name(),
        })
        .to_string();
        instance.classifier = Some(model.classifier());
        Ok(())
    })
}

/// Scores the posts in a room.
///
/// # Safety
/// As [`open`]; `long_text` is 0 to truncate, 1 for windows, 2 to reject.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn score(
    pointer: *mut u8,
    bytes: usize,
    posts: usize,
    long_text: u32,
) -> u32 {
    // SAFETY: as the caller promises.
    let room = unsafe { std::slice::from_raw_parts(pointer, bytes) };
    let done = respond(|instance| {
        let posts = split(room, posts)?;
        let classifier = instance.classifier.as_mut().ok_or("no model is open")?;
        let long_text = match long_text {
            1 => LongText::Window,
            2 => LongText::Error,
            _ => LongText::Truncate,
        };
        let results = classifier
            .classify_with(&posts, long_text)
            .map_err(|error| chain(&error))?;
        let labels = classifier.model().labels().len();
        collect(instance, &results, labels);
        Ok(())
    });
    // SAFETY: as the caller promises; nothing refers to it any more.
    unsafe { release(pointer, bytes) };
    done
}

/// Where the scores of the last call stand.
#[unsafe(no_mangle)]
pub extern "C" fn scores() -> *const f32 {
    INSTANCE.with_borrow(|instance| instance.scores.as_ptr())
}

/// Where the report of the last call stands.
#[unsafe(no_mangle)]
pub extern "C" fn report() -> *const u8 {
    INSTANCE.with_borrow(|instance| instance.report.as_ptr())
}

/// The report's length.
#[unsafe(no_mangle)]
pub extern "C" fn report_bytes() -> usize {
    INSTANCE.with_borrow(|instance| instance.report.len())
}

/// Runs a call; a message that it ends with becomes the report.
fn respond(call: impl FnOnce(&mut Instance) -> Result<(), String>) -> u32 {
    INSTANCE.with_borrow_mut(|instance| {
        let done = call(instance);
        if let Err(message) = &done {
            instance.report = json!({ "message": message }).to_string();
        }
        u32::from(done.is_ok())
    })
}

/// The posts of a room: their lengths, then their text.
fn split(room: &[u8], posts: usize) -> Result<Vec<&str>, String> {
    let damaged = || "the lengths do not fit the text".to_owned();
    let (lengths, mut text) = posts
        .checked_mul(4)
        .and_then(|bytes| room.split_at_checked(bytes))
        .ok_or_else(damaged)?;
    let (lengths, _) = lengths.as_chunks::<4>();
    let take = |length: &[u8; 4]| {
        let (post, rest) = text
            .split_at_checked(u32::from_le_bytes(*length) as usize)
            .ok_or_else(damaged)?;
        text = rest;
        std::str::from_utf8(post).map_err(|error| error.to_string())
    };
    lengths.iter().map(take).collect()
}

fn collect(instance: &mut Instance, results: &[PostResult], labels: usize) {
    let (mut errors, mut truncated): (Vec<Value>, Vec<usize>) = Default::default();
    instance.scores.clear();
    for (index, result) in results.iter().enumerate() {
        match result {
            Ok(sentiment) => {
                instance.scores.extend(&sentiment.scores);
                if sentiment.truncated {
                    truncated.push(index);
                }
            }
            Err(error) => {
                instance
                    .scores
                    .extend(std::iter::repeat_n(f32::NAN, labels));
                errors.push(json!({
                    "index": index, "code": error.code(), "message": error.to_string(),
                }));
            }
        }
    }
    instance.report = json!({ "errors": errors, "truncated": truncated }).to_string();
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
