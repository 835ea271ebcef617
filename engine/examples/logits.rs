//! Prints the logits of lines of standard input with a packed model, to the bit, on one instruction
//! set or, without its name, on each that this CPU has:
//!
//! ```console
//! $ coldread pack model/default --output default.coldread
//! $ printf 'so good\nnever again\n' | cargo run --release -p coldread-engine --example logits -- default.coldread avx2
//! ```
//!
//! Two machines agree if the output of both is the same.

use coldread_engine::{Isa, LongText, ModelOptions, PackedModel};
use std::error::Error;
use std::io::{Read, stdin};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: logits MODEL [ISA]")?;
    let isas = match args.next() {
        Some(name) => vec![name.parse()?],
        None => Isa::available(),
    };
    let mut text = String::new();
    stdin().read_to_string(&mut text)?;
    for isa in isas {
        let model = PackedModel::map(path.as_ref())?;
        let mut classifier = ModelOptions::new().isa(isa).packed(model)?.classifier();
        let mut encoded = Vec::new();
        for post in text.lines() {
            encoded.push(classifier.push(post, LongText::Truncate)?);
        }
        println!("{isa}: {} tokens", classifier.batch_tokens());
        let mut results = Vec::new();
        classifier.run(&mut encoded, &mut results)?;
        for result in results {
            match result {
                Ok(sentiment) => {
                    let logits = sentiment.logits.iter();
                    let bits: Vec<_> = logits.map(|x| format!("{:08x}", x.to_bits())).collect();
                    println!("{}", bits.join(" "));
                }
                Err(error) => println!("{error}"),
            }
        }
    }
    Ok(())
}
