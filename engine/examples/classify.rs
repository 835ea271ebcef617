//! Scores lines of standard input with a model folder or a packed file, on every core:
//!
//! ```console
//! $ printf 'so good\nnever again\n' | cargo run --release -p coldread-engine --example classify -- model/default
//! ```

use coldread_engine::{Model, PostResult};
use std::error::Error;
use std::io::{Read, stdin};
use std::thread;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: classify MODEL")?;
    let model = Model::open(path)?;
    let mut text = String::new();
    stdin().read_to_string(&mut text)?;
    let posts: Vec<&str> = text.lines().collect();

    // The threads share the model; each has a classifier with scratch memory of its own.
    let threads = thread::available_parallelism()?.get();
    let share = posts.len().div_ceil(threads).max(1);
    let results: Vec<PostResult> = thread::scope(|scope| {
        let run = |part| {
            let model = &model;
            scope.spawn(move || model.classifier().classify(part))
        };
        let threads: Vec<_> = posts.chunks(share).map(run).collect();
        let mut results = Vec::new();
        for thread in threads {
            results.extend(thread.join().expect("no thread panics")?);
        }
        Ok::<_, Box<dyn Error>>(results)
    })?;

    for (post, result) in posts.iter().zip(results) {
        match result {
            Ok(sentiment) => println!("{}\t{:.3}\t{post}", sentiment.label(), sentiment.score()),
            Err(error) => println!("error\t-\t{error}"),
        }
    }
    Ok(())
}
