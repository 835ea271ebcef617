//! The default model against what transformers makes of the same posts.
//!
//! `tests/data/golden.jsonl` comes from `tests/parity/golden.py`: posts written
//! for this project, with the text, the token ids and the f32 logits that
//! transformers gives for `model/default`.

use crate::support;
use coldread_candle::CandleEngine;
use coldread_engine::Sentiment;
use coldread_engine::engine::{EncodedBatch, Engine};
use coldread_engine::text::TextPipeline;
use coldread_model::ModelFolder;
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Golden {
    text: String,
    normalized: String,
    input_ids: Vec<u32>,
    logits: Vec<f32>,
}

fn golden() -> Vec<Golden> {
    include_str!("../data/golden.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a golden post a line"))
        .collect()
}

fn default_folder() -> ModelFolder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/default");
    ModelFolder::open(&path).expect("the default model is sound")
}

#[test]
fn token_ids_are_those_of_transformers() {
    let folder = default_folder();
    let text = TextPipeline::from_folder(&folder).expect("the tokenizer is sound");
    let mut input_ids = Vec::new();
    let golden = golden();
    assert!(golden.len() >= 300, "{} golden posts", golden.len());
    for post in &golden {
        assert_eq!(
            text.normalize(&post.text),
            post.normalized,
            "{:?}",
            post.text
        );
        text.encode(&post.text, folder.config.max_tokens, &mut input_ids)
            .expect("a post can be encoded");
        assert_eq!(input_ids, post.input_ids, "{:?}", post.text);
    }
}

#[test]
fn reference_logits_are_those_of_transformers() {
    let mut reference = CandleEngine::load(&default_folder()).expect("the weights are sound");
    let mut worst = 0.0_f32;
    for post in golden() {
        let mut batch = EncodedBatch::default();
        batch.push(&post.input_ids);
        let mut logits = Vec::new();
        reference
            .forward(&batch, &mut logits)
            .expect("a forward pass");
        assert_eq!(logits.len(), post.logits.len());
        for (ours, theirs) in logits.iter().zip(&post.logits) {
            let difference = (ours - theirs).abs();
            assert!(
                difference <= 1e-3,
                "{:?}: {logits:?}, {:?}",
                post.text,
                post.logits
            );
            worst = worst.max(difference);
        }
    }
    assert!(
        worst > 0.0,
        "two different programs do not agree to the last bit"
    );
}

/// int8 costs some precision; a label may change only where two scores are close.
#[test]
fn int8_labels_are_those_of_transformers() {
    let golden = golden();
    let mut classifier = support::classifier();
    let texts: Vec<&str> = golden.iter().map(|post| post.text.as_str()).collect();
    let results = classifier.classify(&texts).expect("a forward pass");
    let mut changed = 0;
    for (post, result) in golden.iter().zip(results) {
        let mut order: Vec<usize> = (0..post.logits.len()).collect();
        order.sort_by(|&a, &b| post.logits[b].total_cmp(&post.logits[a]));
        let Ok(Sentiment { label_index, .. }) = result else {
            assert!(post.input_ids.len() <= 2, "{:?}: {result:?}", post.text);
            continue;
        };
        if label_index != order[0] {
            changed += 1;
            let gap = post.logits[order[0]] - post.logits[order[1]];
            assert!(
                gap < 0.3,
                "{:?}: label {label_index}, {:?}",
                post.text,
                post.logits
            );
        }
    }
    assert!(
        changed * 100 <= golden.len() * 2,
        "{changed} of {} labels changed",
        golden.len()
    );
}
