//! The server under test: a process of this run, or one that is there already.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Time a server has to say its address.
const START: Duration = Duration::from_mins(1);

/// A server, ended with this value if this run started it.
pub struct Server {
    child: Option<Child>,
    /// `http://address:port`.
    pub url: String,
}

impl Server {
    /// One that runs somewhere.
    pub fn at(url: &str) -> Self {
        Self {
            child: None,
            url: url.to_owned(),
        }
    }

    /// Starts `binary serve` on a free port of loopback, on `cores` only.
    pub fn start(binary: &Path, cores: Option<&[usize]>) -> Result<Self> {
        // It may write a line a request, which belongs in no terminal.
        let log = tempfile::tempfile()?;
        let mut command = Command::new(binary);
        command
            .arg("serve")
            .env("COLDREAD_ADDR", "127.0.0.1:0")
            .env_remove("AWS_LAMBDA_RUNTIME_API")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?);
        let child = spawn_on(&mut command, cores)
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut server = Self {
            child: Some(child),
            url: String::new(),
        };
        server.url = server.address().with_context(|| {
            format!(
                "{} did not say where it listens{}",
                binary.display(),
                said(log)
            )
        })?;
        Ok(server)
    }

    /// Reads `listening on http://...`, and goes on reading so that the server
    /// never waits for a full pipe.
    fn address(&mut self) -> Result<String> {
        let stdout = self
            .child
            .as_mut()
            .and_then(|child| child.stdout.take())
            .context("no standard output")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once("listening on ") {
                    let _ = sender.send(url.trim().to_owned());
                }
            }
        });
        match receiver.recv_timeout(START) {
            Ok(url) => Ok(url),
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("nothing within {START:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("it ended"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The beginning of a log, for an error message.
fn said(mut log: File) -> String {
    let mut text = Vec::new();
    let read = log
        .rewind()
        .and_then(|()| log.take(1_000).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    match read {
        Ok(_) if !text.trim().is_empty() => format!("; it said: {}", text.trim()),
        _ => String::new(),
    }
}

/// A child inherits the cores of the thread that starts it.
fn spawn_on(command: &mut Command, cores: Option<&[usize]>) -> Result<Child> {
    let Some(cores) = cores else {
        return Ok(command.spawn()?);
    };
    let before = sched_getaffinity(None)?;
    sched_setaffinity(None, &set(cores)).context("--server-cores: not cores of this machine")?;
    let child = command.spawn();
    sched_setaffinity(None, &before)?;
    Ok(child?)
}

/// As the kernel wants them.
pub fn set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    set
}

/// Cores out of `0,2-3`.
pub fn cores(text: &str) -> Result<Vec<usize>> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let [first, last] = [first, last].map(|core| {
            core.trim()
                .parse::<usize>()
                .ok()
                .filter(|core| *core < CpuSet::MAX_CPU)
                .with_context(|| format!("cores `{text}`: not like 0,2-3"))
        });
        cores.extend(first?..=last?);
    }
    ensure!(!cores.is_empty(), "cores `{text}`: none");
    Ok(cores)
}

/// `coldread` beside this program, else on the path.
pub fn default_binary() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("coldread")))
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("coldread"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_as_taskset_writes_them() {
        assert_eq!(cores("0,2-4").unwrap(), [0, 2, 3, 4]);
        for text in ["", "a", "3-1", "1,", "99999999"] {
            assert!(cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_program_that_is_no_server_is_named() {
        let error = Server::start(Path::new("/bin/true"), None).err().unwrap();
        assert!(
            format!("{error:#}").contains("/bin/true did not say"),
            "{error:#}"
        );
        assert!(Server::start(Path::new("/no/such"), None).is_err());
    }
}
