//! `coldread info`: shows what would run, without running it.

use clap::Args;
use coldread::config::ModelArgs;
use coldread_engine::Isa;
use serde_json::json;
use std::io::{self, Write};

/// Show the model, the engine and the limits.
///
/// Loads the model as every other command does, so it also checks whether a model folder is
/// valid.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &InfoArgs, model: &ModelArgs) -> anyhow::Result<()> {
    let model = super::model_source::open(model)?.load()?;
    let info = model.info();
    let engine = model.engine_info();
    let isas: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    let mut out = io::stdout().lock();
    if args.json {
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": info.name,
            "labels": info.labels,
            "languages": info.languages,
            "engine": engine.engine,
            "isa": engine.isa,
            "available_isas": isas,
            "threads": engine.threads,
            "limits": {
                "max_tokens": info.max_tokens,
                "max_post_bytes": model.max_post_bytes(),
            },
        });
        writeln!(out, "{report:#}")?;
        return Ok(());
    }
    writeln!(out, "version         {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "model           {}", info.name)?;
    writeln!(out, "labels          {}", info.labels.join(", "))?;
    let languages = match &info.languages[..] {
        [] => "unknown".to_owned(),
        languages => languages.join(", "),
    };
    writeln!(out, "languages       {languages}")?;
    writeln!(out, "engine          {}", engine.engine)?;
    writeln!(out, "isa             {}", engine.isa.unwrap_or("-"))?;
    writeln!(out, "available isas  {}", isas.join(", "))?;
    writeln!(out, "threads         {}", engine.threads)?;
    writeln!(
        out,
        "limits          {} tokens per post are scored; {} bytes are accepted",
        info.max_tokens,
        model.max_post_bytes()
    )?;
    Ok(())
}
