//! The functions that are measured, and where they come from.

use crate::platform::function::{Program, resolve};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of coldread itself among the functions.
pub const COLDREAD: &str = "coldread";
/// Name of coldread restored from a snapshot.
const RESTORED: &str = "coldread, restored";
/// Name of the hello-world function, the floor of all others.
pub(super) const HELLO: &str = "hello";

/// Which functions are measured.
#[derive(Debug, Clone, Default)]
pub struct Functions {
    /// The coldread binary; else the one beside this program, which is built if need be.
    pub binary: Option<PathBuf>,
    /// Names and commands of further functions.
    pub commands: Vec<(String, String)>,
    /// Whether coldread is measured restored from a snapshot as well.
    pub snapstart: bool,
    /// Names and images, which replace coldread and the hello-world function.
    pub images: Vec<(String, String)>,
    /// Container engine: podman or docker.
    pub engine: String,
    /// What goes between `run` and the image.
    pub engine_args: Vec<String>,
}

/// A function to be measured.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) program: Program,
    /// An executable that can be copied and runs alone; what it has mapped beside itself
    /// is the system's.
    pub(super) single_file: bool,
    /// Its instances are restored from a snapshot, a process that is paused.
    pub(super) restored: bool,
}

impl Candidate {
    /// Where copies of it are made.
    pub(super) fn folder(&self) -> Option<&Path> {
        match &self.program {
            Program::Command(command) if self.single_file => Path::new(command.first()?).parent(),
            _ => None,
        }
    }
}

/// Every function that is asked for.
pub(super) fn find(functions: &Functions) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for (name, image) in &functions.images {
        candidates.push(Candidate {
            name: name.clone(),
            program: Program::Image {
                engine: functions.engine.clone(),
                engine_args: functions.engine_args.clone(),
                image: image.clone(),
                args: Vec::new(),
            },
            single_file: false,
            restored: false,
        });
    }
    if candidates.is_empty() {
        let [coldread, hello] = binaries(functions.binary.as_deref())?;
        candidates.push(single_file(COLDREAD, coldread));
        candidates.push(single_file(HELLO, hello));
        if functions.snapstart {
            candidates.push(Candidate {
                name: RESTORED.to_owned(),
                restored: true,
                ..candidates[0].clone()
            });
        }
    }
    for (name, command) in &functions.commands {
        let words = shell_words::split(command).with_context(|| format!("--vs {name}"))?;
        let program = words.first().with_context(|| format!("--vs {name}"))?;
        ensure!(
            resolve(Path::new(program)).is_some(),
            "--vs {name}: program {program} not found"
        );
        candidates.push(Candidate {
            name: name.clone(),
            program: Program::Command(words.into_iter().map(Into::into).collect()),
            single_file: false,
            restored: false,
        });
    }
    for (i, candidate) in candidates.iter().enumerate() {
        let taken = candidates[..i]
            .iter()
            .any(|other| other.name == candidate.name);
        ensure!(!taken, "two functions are called {}", candidate.name);
    }
    Ok(candidates)
}

fn single_file(name: &str, path: PathBuf) -> Candidate {
    Candidate {
        name: name.to_owned(),
        program: Program::Command(vec![path.into()]),
        single_file: true,
        restored: false,
    }
}

/// coldread and the hello-world function, built where they are missing. Under
/// `cargo run`, cargo looks in any case: the sources may have changed.
fn binaries(binary: Option<&Path>) -> Result<[PathBuf; 2]> {
    let here = std::env::current_exe()?;
    let here = here.parent().context("the harness's folder")?;
    let beside = [COLDREAD, "hello-function"].map(|name| here.join(name));
    let under_cargo = std::env::var_os("CARGO").is_some();
    let mut missing = Vec::new();
    if binary.is_none() && (under_cargo || !beside[0].is_file()) {
        missing.extend(["--package", "coldread", "--bin", "coldread"]);
    }
    if under_cargo || !beside[1].is_file() {
        missing.extend(["--package", "coldread-loadtest", "--bin", "hello-function"]);
    }
    if !missing.is_empty() {
        build(here, &missing)?;
    }
    let [coldread, hello] = beside;
    let coldread = binary.map_or(coldread, Path::to_owned);
    for path in [&coldread, &hello] {
        ensure!(path.is_file(), "{}: no such file", path.display());
    }
    Ok([coldread, hello])
}

/// Has cargo build into the folder `here`, which one of its builds has made.
fn build(here: &Path, what: &[&str]) -> Result<()> {
    let names: Vec<_> = here.iter().rev().take(2).collect();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .arg("build")
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .args(what);
    match names[..] {
        [profile, _] if profile == "debug" => {
            eprintln!("note: this is a debug build; its figures do not apply to a release build");
        }
        [profile, _] if profile == "release" => {
            cargo.arg("--release");
        }
        _ => bail!(
            "{} contains no coldread; name one with --binary",
            here.display()
        ),
    }
    let status = cargo.status().context("running cargo")?;
    ensure!(
        status.success(),
        "the build failed; give a binary with --binary"
    );
    Ok(())
}
