//! Arbitrary bytes as a packed model: an error, or views that stay within it, a tokenizer
//! that gives ids and a forward pass that ends.
//!
//! The first byte says what is put right before opening, because nothing else
//! gets past the checksums: bit 0 the magic, byte order, version and length, bit
//! 1 the checksums of the sections, bit 2 that of header and table.

#![no_main]

use coldread_engine::encoder::Int8Engine;
use coldread_engine::engine::{EncodedBatch, Engine};
use coldread_engine::kernels::{Isa, Kernels};
use coldread_engine::text::Tokenizer;
use coldread_model::PackedModel;
use libfuzzer_sys::fuzz_target;
use std::hint::black_box;
use std::sync::Arc;
use twox_hash::XxHash3_64;

const HEADER: usize = 64;
const ENTRY: usize = 96;

fuzz_target!(|data: &[u8]| {
    let Some((&repair, bytes)) = data.split_first() else {
        return;
    };
    let mut file = bytes.to_vec();
    if file.len() >= HEADER {
        mend(&mut file, repair);
    }
    let Ok(model) = PackedModel::from_bytes(file) else {
        return;
    };
    black_box(read_all(&model));
    let _ = black_box(model.verify());
    tokenize(&model);
    score(&model);
});

/// Words in several scripts, and what tokenizers treat in a way of their own.
const TEXT: &str = "The caf\u{e9} is [SEP] go\u{308}od</s> \u{fb01}\u{4eca}\u{65e5} \
                    \u{645}\u{631} \u{915}\u{94d}\u{937} \u{1f468}\u{200d}\u{1f469}\0\r\n\u{2581}x";

/// A text through the tokenizer, if this build has it. An id beyond the vocabulary is an error.
fn tokenize(model: &PackedModel) {
    let Ok(tokenizer) = Tokenizer::from_packed(model) else {
        return;
    };
    let mut ids = Vec::new();
    for tokens in [3, 100] {
        let max_tokens = tokenizer.num_special_tokens() + tokens;
        let _ = black_box(tokenizer.encode(TEXT, max_tokens, &mut ids));
    }
}

/// Two posts through the forward pass, on each instruction set. What comes out means
/// nothing (a scale may be NaN), but it must come out. Memory needs no limit of its
/// own: the buffers are few times the weights, and those are in the file.
fn score(model: &PackedModel) {
    let config = model.config();
    let mut batch = EncodedBatch::default();
    for tokens in [3, 17] {
        let ids = (0..tokens.min(config.max_tokens)).map(|i| (i * 31 % config.vocab_size) as u32);
        batch.push(&ids.collect::<Vec<_>>());
    }
    for isa in Isa::available() {
        let kernels = Kernels::new(isa).expect("available");
        let mut engine = Int8Engine::new(Arc::new(model.clone()), kernels, 1);
        let mut logits = Vec::new();
        engine.forward(&batch, &mut logits).expect("ids and lengths are within the model's");
        assert_eq!(logits.len(), 2 * config.labels.len());
        black_box(logits);
    }
}

fn mend(file: &mut [u8], repair: u8) {
    if repair & 1 != 0 {
        let len = file.len() as u64;
        put(file, 0, b"\x89CRM\r\n\x1a\n");
        put(file, 8, &0x0102_0304_u32.to_le_bytes());
        put(file, 12, &1_u32.to_le_bytes());
        put(file, 16, &len.to_le_bytes());
        put(file, 28, &[0; 4]);
        put(file, 40, &[0; 24]);
    }
    let count = u32::from_le_bytes(file[24..28].try_into().expect("four bytes")) as usize;
    let end = (HEADER + count * ENTRY).min(file.len());
    if repair & 2 != 0 {
        for entry in (HEADER..end.saturating_sub(ENTRY - 1)).step_by(ENTRY) {
            let (start, len) = (place(file, entry + 64), place(file, entry + 72));
            if let Some(section) = start.checked_add(len).and_then(|end| file.get(start..end)) {
                let sum = XxHash3_64::oneshot(section);
                put(file, entry + 80, &sum.to_le_bytes());
            }
        }
    }
    if repair & 4 != 0 {
        let seed = XxHash3_64::oneshot(&file[..32]);
        let sum = XxHash3_64::oneshot_with_seed(seed, &file[40..end]);
        put(file, 32, &sum.to_le_bytes());
    }
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn place(file: &[u8], at: usize) -> usize {
    u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes")) as usize
}

/// Reads every slice of every view, so that the address sanitizer sees them.
fn read_all(model: &PackedModel) -> u64 {
    let f32s = |values: &[f32]| values.iter().map(|v| u64::from(v.to_bits())).sum::<u64>();
    let i8s = |values: &[i8]| values.iter().map(|v| u64::from(v.unsigned_abs())).sum::<u64>();
    let i32s = |values: &[i32]| values.iter().map(|v| u64::from(v.unsigned_abs())).sum::<u64>();

    let embeddings = model.embeddings();
    let mut sum = i8s(embeddings.word.codes)
        + f32s(embeddings.word.scales)
        + f32s(embeddings.position)
        + f32s(embeddings.norm.weight)
        + f32s(embeddings.norm.bias);
    let layers = (0..model.config().num_hidden_layers).map(|i| model.layer(i));
    let mut linears: Vec<_> = embeddings.projection.into_iter().collect();
    for layer in layers {
        linears.extend([layer.qkv, layer.attention_output, layer.intermediate, layer.output]);
        for norm in [layer.attention_norm, layer.output_norm] {
            sum += f32s(norm.weight) + f32s(norm.bias);
        }
    }
    for linear in linears {
        sum += i8s(linear.panels) + f32s(linear.scales) + i32s(linear.col_sums) + f32s(linear.bias);
    }
    for dense in [model.head().dense, Some(model.head().classifier)].into_iter().flatten() {
        sum += f32s(dense.weight) + f32s(dense.bias);
    }
    for section in model.sections() {
        let bytes = model.section(&section.name).expect("a section of the table");
        sum += bytes.iter().map(|&b| u64::from(b)).sum::<u64>();
    }
    sum
}
