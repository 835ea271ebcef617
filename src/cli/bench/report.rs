//! The figures of one run, as JSON and as text.

use super::measure::Measured;
use crate::cli::terminal::thousands;
use serde::Serialize;
use std::io::{self, Write};

/// Everything measured on one instruction set. The field names are the JSON's keys.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) engine: &'static str,
    pub(super) isa: &'static str,
    pub(super) threads: usize,
    /// `None` for an engine without kernels of ours.
    pub(super) peak_gops: Option<f64>,
    pub(super) gemm: Vec<Gemm>,
    pub(super) single: Vec<Single>,
    pub(super) uniform: Vec<Uniform>,
    pub(super) mixed: Mixed,
    pub(super) load_ms: f64,
    pub(super) peak_memory_mb: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Gemm {
    m: usize,
    n: usize,
    k: usize,
    gops: f64,
    spread: f64,
}

impl Gemm {
    pub(super) fn new([m, n, k]: [usize; 3], time: &Measured) -> Self {
        Self {
            m,
            n,
            k,
            gops: 2e-9 * (m * n * k) as f64 / time.seconds,
            spread: time.spread,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Single {
    tokens: usize,
    ms: f64,
    spread: f64,
}

impl Single {
    pub(super) fn new(tokens: usize, time: &Measured) -> Self {
        Self {
            tokens,
            ms: time.seconds * 1e3,
            spread: time.spread,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Uniform {
    batch: usize,
    tokens: usize,
    tokens_per_second: f64,
    spread: f64,
}

impl Uniform {
    pub(super) fn new(batch: usize, tokens: usize, time: &Measured) -> Self {
        Self {
            batch,
            tokens,
            tokens_per_second: (batch * tokens) as f64 / time.seconds,
            spread: time.spread,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Mixed {
    posts: usize,
    tokens: usize,
    posts_per_second: f64,
    tokens_per_second: f64,
    spread: f64,
}

impl Mixed {
    pub(super) fn new(posts: usize, tokens: usize, time: &Measured) -> Self {
        Self {
            posts,
            tokens,
            posts_per_second: posts as f64 / time.seconds,
            tokens_per_second: tokens as f64 / time.seconds,
            spread: time.spread,
        }
    }
}

impl Report {
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let rounded = |x: f64| thousands(x.round() as u64);
        let percent = |x: f64| format!("±{:.0}%", 50.0 * x);
        writeln!(
            out,
            "{} ({}), isa {}, threads {}",
            self.model, self.engine, self.isa, self.threads
        )?;
        if let Some(peak) = self.peak_gops {
            writeln!(
                out,
                "\ngemm       m     n     k    GOP/s  of the peak of {}",
                rounded(peak)
            )?;
            for gemm in &self.gemm {
                writeln!(
                    out,
                    "       {:>5} {:>5} {:>5} {:>8}  {:>4.0}%  {}",
                    gemm.m,
                    gemm.n,
                    gemm.k,
                    rounded(gemm.gops),
                    100.0 * gemm.gops / peak,
                    percent(gemm.spread)
                )?;
            }
        }
        writeln!(out, "\nsingle   tokens        ms  tokens/s")?;
        for single in &self.single {
            let per_second = 1e3 * single.tokens as f64 / single.ms;
            writeln!(
                out,
                "         {:>6}  {:>8.3}  {:>8}  {}",
                single.tokens,
                single.ms,
                rounded(per_second),
                percent(single.spread)
            )?;
        }
        writeln!(out, "\nuniform   batch   posts/s  tokens/s")?;
        for uniform in &self.uniform {
            writeln!(
                out,
                "       {:>8}  {:>8}  {:>8}  {}",
                format!("{}x{}", uniform.batch, uniform.tokens),
                rounded(uniform.tokens_per_second / uniform.tokens as f64),
                rounded(uniform.tokens_per_second),
                percent(uniform.spread)
            )?;
        }
        let mixed = &self.mixed;
        writeln!(
            out,
            "\nmixed     posts   posts/s  tokens/s  (text to scores)"
        )?;
        writeln!(
            out,
            "       {:>8}  {:>8}  {:>8}  {}",
            thousands(mixed.posts as u64),
            rounded(mixed.posts_per_second),
            rounded(mixed.tokens_per_second),
            percent(mixed.spread)
        )?;
        writeln!(out, "\nload     {:.1} ms to the first score", self.load_ms)?;
        match self.peak_memory_mb {
            Some(mb) => writeln!(out, "memory   {mb:.1} MB at the peak\n"),
            None => writeln!(out),
        }
    }
}
