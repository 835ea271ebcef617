//! The int8 engine's forward pass asks for no memory once its buffers have grown.
//!
//! Allocations are counted a thread at a time, so that the other tests of this binary do
//! not count.

use crate::support;
use crate::tiny_models;
use coldread_engine::encoder::Int8Engine;
use coldread_engine::engine::{EncodedBatch, Engine};
use coldread_engine::kernels::{Isa, Kernels};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts what a thread asks of it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

#[allow(unsafe_code, reason = "the trait of allocators is unsafe")]
// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing,
// for the counter is a plain number that needs no initialisation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(old, layout, new_size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(old, layout) }
    }
}

fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
}

/// One long post, many short ones, and a mixture of more than one chunk.
fn batches(longest: usize) -> Vec<EncodedBatch> {
    let lengths = [
        vec![longest],
        vec![3; 20],
        (0..12).map(|i| 1 + i * 7 % longest).collect(),
        vec![5],
    ];
    lengths
        .iter()
        .map(|lengths| {
            let mut batch = EncodedBatch::default();
            for &tokens in lengths {
                batch.push(&(0..tokens as u32).map(|i| i % 90).collect::<Vec<_>>());
            }
            batch
        })
        .collect()
}

fn check(name: &str, engine: &mut dyn Engine, longest: usize) {
    let batches = batches(longest);
    let mut logits = Vec::new();
    let mut run = |batch: &EncodedBatch| {
        logits.clear();
        engine.forward(batch, &mut logits).expect("a forward pass");
    };
    let warming_up = allocations(|| batches.iter().for_each(&mut run));
    assert!(warming_up > 0, "{name}: nothing was counted");
    for batch in batches.iter().rev() {
        let allocated = allocations(|| run(batch));
        assert_eq!(allocated, 0, "{name}: a batch of {} posts", batch.len());
    }
}

#[test]
fn a_warm_forward_pass_allocates_nothing() {
    for name in tiny_models::INT8 {
        let model = tiny_models::packed(name);
        for isa in Isa::available() {
            let kernels = Kernels::new(isa).expect("available");
            let mut engine = Int8Engine::new(model.clone(), kernels, 1);
            check(&format!("{name} on {isa}"), &mut engine, 40);
        }
    }
    check("default", support::classifier().engine_mut(), 24);
}
