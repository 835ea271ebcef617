//! A Hub on the loopback interface that speaks the real one's protocol, CDN included.
//!
//! As the Hub does, it redirects small files to another path of its own and large ones
//! to another host with a signed address, announces hashes and sizes beside the
//! redirect, and takes ranges. As the Hub does on a bad day, it refuses, breaks off in
//! the midst of a file, and sends what was not asked for.

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// A query that only who was redirected knows, as the CDN wants it.
const SIGNATURE: &str = "X-Amz-Signature=5e1f";

/// One model and what goes wrong with it.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) id: String,
    /// Contents by name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What is listed beside them.
    pub(crate) also_listed: Vec<String>,
    /// The token without which nothing is answered.
    pub(crate) token: Option<&'static str>,
    /// Files may be listed but not had.
    pub(crate) gated: bool,
    /// Answers to the next requests to the API, with their headers.
    pub(crate) api_answers: VecDeque<(u16, &'static str)>,
    /// Answers to the next requests to the CDN.
    pub(crate) cdn_answers: VecDeque<Cdn>,
    /// What a commit or a hash is said to be, whatever it is.
    pub(crate) commit: Option<&'static str>,
    pub(crate) etag: Option<&'static str>,
    /// Where small files are said to be, whoever is there.
    pub(crate) location: Option<String>,
}

/// What the CDN does with a request.
pub(crate) enum Cdn {
    /// Sends so many bytes of what it announced, then closes the connection.
    BreaksAfter(usize),
    /// Sends the whole file, whatever range was asked for.
    IgnoresRange,
    /// Sends other bytes, as many.
    SendsOther,
    /// Sends more bytes than the Hub announced.
    SendsMore,
    /// Answers with this status.
    Answers(u16),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) on_cdn: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
}

/// Listens until it is dropped.
pub(crate) struct FakeHub {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    listeners: [String; 2],
}

struct State {
    model: Model,
    requests: Vec<Request>,
    cdn: String,
    is_over: bool,
}

impl Model {
    /// A model with the files of a folder, those that tests read apart.
    pub(crate) fn of(id: &str, folder: &Path) -> Self {
        let files = fs::read_dir(folder).expect("a folder").map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read(entry.path()).expect("a file"))
        });
        Self {
            id: id.to_owned(),
            files: files.filter(|(name, _)| name != "expected.jsonl").collect(),
            ..Self::default()
        }
    }

    fn etag(&self, name: &str) -> String {
        if let Some(etag) = self.etag {
            return etag.to_owned();
        }
        hash_of(name, &self.files[name])
    }
}

/// Large files are stored apart from git.
fn is_large(name: &str) -> bool {
    [".safetensors", ".bin", ".gguf", ".model"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The name that contents have in the cache.
pub(crate) fn hash_of(name: &str, bytes: &[u8]) -> String {
    let header = format!("blob {}\0", bytes.len());
    let hash = if is_large(name) {
        Sha256::digest(bytes).to_vec()
    } else {
        let hash = Sha1::new_with_prefix(header).chain_update(bytes);
        hash.finalize().to_vec()
    };
    hash.iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

impl FakeHub {
    pub(crate) fn start(model: Model) -> Self {
        let [hub, cdn] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
        let listeners = [address(&hub), address(&cdn)];
        let state = Arc::new(Mutex::new(State {
            model,
            requests: Vec::new(),
            cdn: format!("http://{}", listeners[1]),
            is_over: false,
        }));
        for (listener, on_cdn) in [(hub, false), (cdn, true)] {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if state.lock().expect("whole").is_over {
                        return;
                    }
                    let state = Arc::clone(&state);
                    thread::spawn(move || answer(&state, stream.expect("a connection"), on_cdn));
                }
            });
        }
        Self {
            url: format!("http://{}", listeners[0]),
            state,
            listeners,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("whole")
    }

    /// Changes the model or what goes wrong with it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Model)) {
        change(&mut self.state().model);
    }

    /// The CDN's host and port.
    pub(crate) fn cdn(&self) -> &str {
        &self.listeners[1]
    }

    /// What was asked since this was last asked.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    /// Of those, the requests to the CDN.
    pub(crate) fn cdn_requests(&self) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.on_cdn);
        requests
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.state().is_over = true;
        for address in &self.listeners {
            // Wakes the thread that listens there.
            drop(TcpStream::connect(address));
        }
    }
}

/// Answers one request and closes the connection.
fn answer(state: &Mutex<State>, stream: TcpStream, on_cdn: bool) {
    let Some(request) = read(&stream, on_cdn) else {
        return;
    };
    let mut state = state.lock().expect("whole");
    state.requests.push(request.clone());
    let reply = if on_cdn {
        state.on_cdn(&request)
    } else {
        state.on_hub(&request)
    };
    drop(state);
    // Who asked may be gone.
    let _ = reply.write(stream, request.method == "HEAD");
}

fn read(stream: &TcpStream, on_cdn: bool) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect();
    Some(Request {
        on_cdn,
        method,
        path,
        range: headers.get("range").cloned(),
        authorization: headers.get("authorization").cloned(),
    })
}

struct Reply {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    /// How much of the body is sent.
    sent: usize,
}

impl Reply {
    fn new(status: u16, headers: &[String], body: Vec<u8>) -> Self {
        let sent = body.len();
        Self {
            status,
            headers: headers.to_vec(),
            body,
            sent,
        }
    }

    fn write(self, mut stream: TcpStream, is_head: bool) -> std::io::Result<()> {
        write!(
            stream,
            "HTTP/1.1 {} X\r\nconnection: close\r\n",
            self.status
        )?;
        write!(stream, "content-length: {}\r\n", self.body.len())?;
        for header in &self.headers {
            write!(stream, "{header}\r\n")?;
        }
        stream.write_all(b"\r\n")?;
        if !is_head {
            stream.write_all(&self.body[..self.sent])?;
        }
        stream.flush()
    }
}

impl State {
    fn on_hub(&mut self, request: &Request) -> Reply {
        let error = |status, code: &str| {
            let headers = [format!("x-error-code: {code}")];
            Reply::new(status, &headers, json!({"error": code}).to_string().into())
        };
        let is_api = request.path.starts_with("/api/models/");
        if is_api && let Some((status, header)) = self.model.api_answers.pop_front() {
            return Reply::new(status, &[header.to_owned()], Vec::new());
        }
        let token = self.model.token.map(|token| format!("Bearer {token}"));
        if token.is_some() && token != request.authorization {
            return error(401, "RepoNotFound");
        }
        let id = self.model.id.clone();
        if let Some(rest) = request.path.strip_prefix("/api/models/") {
            let revision = rest.strip_prefix(&format!("{id}/revision/"));
            return match revision {
                Some("main" | "v1" | COMMIT) => self.list(),
                Some(_) => error(404, "RevisionNotFound"),
                None => error(401, "RepoNotFound"),
            };
        }
        let path = request.path.strip_prefix("/api/resolve-cache");
        let is_second = path.is_some();
        let path = path.unwrap_or(&request.path);
        let file = path.strip_prefix(&format!("/{id}/resolve/{COMMIT}/"));
        let Some(name) = file.filter(|name| self.model.files.contains_key(*name)) else {
            return error(404, "EntryNotFound");
        };
        if self.model.gated {
            return error(403, "GatedRepo");
        }
        self.file(name, is_second, path)
    }

    fn list(&self) -> Reply {
        let model = &self.model;
        let names = model.files.keys().chain(&model.also_listed);
        let siblings: Vec<_> = names.map(|name| json!({"rfilename": name})).collect();
        let info = json!({
            "_id": "1", "id": model.id, "private": false, "tags": [],
            "sha": model.commit.unwrap_or(COMMIT), "siblings": siblings,
        });
        let headers = ["content-type: application/json".to_owned()];
        Reply::new(200, &headers, info.to_string().into())
    }

    fn file(&self, name: &str, is_second: bool, path: &str) -> Reply {
        let bytes = &self.model.files[name];
        let etag = self.model.etag(name);
        let commit = self.model.commit.unwrap_or(COMMIT);
        let mut headers = vec![format!("x-repo-commit: {commit}")];
        if is_large(name) {
            headers.extend([
                format!("location: {}/{name}?{SIGNATURE}", self.cdn),
                format!("x-linked-etag: \"{etag}\""),
                format!("x-linked-size: {}", bytes.len()),
                // That of the redirect itself.
                "etag: \"not-of-the-file\"".to_owned(),
            ]);
            return Reply::new(302, &headers, Vec::new());
        }
        if !is_second {
            let own = || format!("/api/resolve-cache{path}");
            let location = self.model.location.clone().unwrap_or_else(own);
            headers.push(format!("location: {location}"));
            return Reply::new(307, &headers, Vec::new());
        }
        headers.push(format!("etag: W/\"{etag}\""));
        Reply::new(200, &headers, bytes.clone())
    }

    fn on_cdn(&mut self, request: &Request) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let bytes = self.model.files.get(path.trim_start_matches('/'));
        let (Some(bytes), SIGNATURE) = (bytes, query) else {
            return Reply::new(403, &[], Vec::new());
        };
        let answer = self.model.cdn_answers.pop_front();
        let range = request.range.as_deref();
        let start = range.and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        });
        let start: usize = start.unwrap_or(0);
        let mut headers = vec!["etag: \"0f0f-7\"".to_owned()];
        let mut reply = match (range, &answer) {
            (None, _) | (_, Some(Cdn::IgnoresRange)) => Reply::new(200, &headers, bytes.clone()),
            (Some(_), _) if start >= bytes.len() => Reply::new(416, &headers, Vec::new()),
            (Some(_), _) => {
                let end = bytes.len();
                headers.push(format!("content-range: bytes {start}-{}/{end}", end - 1));
                Reply::new(206, &headers, bytes[start..].to_vec())
            }
        };
        match answer {
            Some(Cdn::BreaksAfter(sent)) => reply.sent = sent.min(reply.body.len()),
            Some(Cdn::SendsOther) => reply.body.fill(b'x'),
            Some(Cdn::SendsMore) => {
                reply.body.extend_from_slice(b"more");
                reply.sent += 4;
            }
            Some(Cdn::Answers(status)) => return Reply::new(status, &[], Vec::new()),
            Some(Cdn::IgnoresRange) | None => {}
        }
        reply
    }
}
