//! What a stranger would write first: load, share, classify, read labels, handle errors.

use coldread_engine::{LoadError, Model, ModelOptions, PostError};
use std::error::Error;
use std::thread;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: program MODEL")?;
    let model = ModelOptions::new().max_post_bytes(1000).open(&path)?;
    let mut classifier = model.classifier();

    let good = classifier.classify_one("I love this phone 😍")?;
    assert_eq!(good.label(), "positive");
    assert_eq!(good.score_of("positive"), Some(good.score()));
    let sum: f32 = good.labels().map(|(_, score)| score).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");

    let long = "a".repeat(1001);
    let results = classifier.classify(&["worst day ever", " ", &long])?;
    assert_eq!(
        results[0].as_ref().map(|result| result.label()),
        Ok("negative")
    );
    assert_eq!(results[1], Err(PostError::Empty));
    assert!(matches!(
        results[2],
        Err(PostError::TooLong { bytes: 1001, .. })
    ));

    // One model, two threads, the same bits.
    let shared = &model;
    thread::scope(|scope| {
        let run = || shared.classifier().classify_one("I love this phone 😍");
        let threads = [scope.spawn(run), scope.spawn(run)];
        for thread in threads {
            let result = thread.join().expect("no panic").expect("a result");
            assert_eq!(result, good);
        }
    });

    let Err(error) = Model::open("no such file") else {
        return Err("a missing file was opened".into());
    };
    assert!(matches!(error, LoadError::Read { .. }));
    assert!(error.source().is_some());
    println!("{} {:.3}", good.label(), good.score());
    Ok(())
}
