//! The server under test: a process of this run, or one that is there already.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::system;

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
    pub fn from_url(url: &str) -> Self {
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
    let child = system::on_cores(cores, || command.spawn())
        .context("--server-cores: not cores of this machine")?;
    Ok(child?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
