//! The engine against a plain f64 reference, across instruction sets, batches,
//! chunks and threads.

mod model;
mod reference;

use super::Int8Engine;
use crate::engine::{EncodedBatch, Engine};
use crate::kernels::{Isa, Kernels};
use coldread_model::Activation;
use coldread_model::layout::{HeadActivation, WeightRange};
use model::{Random, RandomModel, Shape, TINY, VOCAB};
use proptest::prelude::*;
use std::sync::Arc;

fn post(r: &mut Random, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|_| r.below(VOCAB) as u32).collect()
}

fn batch(posts: &[Vec<u32>]) -> EncodedBatch {
    let mut batch = EncodedBatch::default();
    for post in posts {
        batch.push(post);
    }
    batch
}

fn run(engine: &mut dyn Engine, posts: &[Vec<u32>]) -> Vec<f32> {
    let mut logits = Vec::new();
    engine.forward(&batch(posts), &mut logits).expect("forward");
    logits
}

fn engine(model: &Arc<RandomModel>, isa: Isa) -> Int8Engine {
    Int8Engine::new(model.clone(), Kernels::new(isa).expect("available"), 1)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Shapes of which each differs from BERT's in a way that code could forget.
fn shapes() -> Vec<Shape> {
    let gelu = Some(HeadActivation::GeluErf);
    vec![
        TINY,
        Shape {
            hidden: 32,
            heads: 4,
            act: Activation::GeluTanh,
            head: None,
            range: WeightRange::Full,
            ..TINY
        },
        Shape {
            hidden: 64,
            heads: 2,
            embedding: 20,
            head: gelu,
            labels: 1,
            ..TINY
        },
        Shape {
            act: Activation::Relu,
            head: Some(HeadActivation::Relu),
            layers: 1,
            ..TINY
        },
        Shape {
            hidden: 48,
            heads: 1,
            intermediate: 130,
            labels: 28,
            ..TINY
        },
    ]
}

#[test]
fn logits_are_the_reference_s_on_every_isa() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let model = Arc::new(RandomModel::new(seed as u64, shape));
        let r = &mut Random::new(7);
        let posts: Vec<_> = [1, 2, 15, 16, 17, 33, 5, 50].map(|n| post(r, n)).into();
        let expected: Vec<f64> = posts
            .iter()
            .flat_map(|post| reference::logits(&model, post))
            .collect();
        let scalar = run(&mut engine(&model, Isa::Scalar), &posts);
        for (x, y) in scalar.iter().zip(&expected) {
            assert!((f64::from(*x) - y).abs() < 0.03, "{shape:?}: {x} for {y}");
        }
        for isa in Isa::available() {
            let logits = run(&mut engine(&model, isa), &posts);
            assert_eq!(bits(&logits), bits(&scalar), "{isa} {shape:?}");
        }
    }
}

/// Processors that never meet in one machine are compared by what is recorded here.
#[test]
fn logits_have_the_same_bits_on_every_processor() {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for shape in shapes() {
        let model = Arc::new(RandomModel::new(3, shape));
        let r = &mut Random::new(5);
        let posts: Vec<_> = [1, 16, 23, 40].map(|n| post(r, n)).into();
        for byte in bits(&run(&mut engine(&model, Isa::detect()), &posts))
            .into_iter()
            .flat_map(u32::to_le_bytes)
        {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    assert_eq!(hash, 0x1f65_8b60_fd28_eb69, "{hash:#x}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever its batch, its place there, the chunks, the threads, the instruction set.
    #[test]
    fn a_post_s_logits_depend_on_the_post_alone(
        lengths in prop::collection::vec(1usize..60, 1..24),
        shape in prop::sample::select(shapes()),
        isa in prop::sample::select(Isa::available()),
        seed: u64,
        budget in 1usize..200,
        threads in 1usize..5,
    ) {
        let model = Arc::new(RandomModel::new(1, shape));
        let r = &mut Random::new(seed);
        let mut posts: Vec<_> = lengths.into_iter().map(|n| post(r, n)).collect();
        let mut alone = engine(&model, Isa::detect());
        let mut single: Vec<_> =
            posts.iter().map(|post| bits(&run(&mut alone, std::slice::from_ref(post)))).collect();

        let kernels = Kernels::new(isa).expect("available");
        let mut together =
            Int8Engine::new(model.clone(), kernels, threads).with_token_budget(budget);
        prop_assert_eq!(bits(&run(&mut together, &posts)), single.concat());

        // In another order, on an engine whose buffers hold what went before.
        for i in (1..posts.len()).rev() {
            let j = r.below(i + 1);
            posts.swap(i, j);
            single.swap(i, j);
        }
        prop_assert_eq!(bits(&run(&mut together, &posts)), single.concat());
        prop_assert_eq!(bits(&run(&mut *together.fork(), &posts)), single.concat());
    }
}

#[test]
fn logits_are_appended_and_an_empty_batch_adds_none() {
    let model = Arc::new(RandomModel::new(1, TINY));
    let mut engine = engine(&model, Isa::detect());
    let mut logits = vec![42.0];
    engine
        .forward(&EncodedBatch::default(), &mut logits)
        .expect("nothing to do");
    assert_eq!(logits, [42.0]);
    engine
        .forward(&batch(&[vec![1, 2]]), &mut logits)
        .expect("forward");
    assert_eq!(logits.len(), 1 + TINY.labels);
}

#[test]
fn what_the_model_cannot_take_is_an_error() {
    let model = Arc::new(RandomModel::new(1, TINY));
    let mut engine = engine(&model, Isa::detect());
    for bad in [vec![VOCAB as u32], vec![1; TINY.max_tokens + 1]] {
        engine
            .forward(&batch(&[bad]), &mut Vec::new())
            .expect_err("refused");
    }
}
