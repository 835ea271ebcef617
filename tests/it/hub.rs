//! Models of the Hub, as a person at the command line gets them, from a Hub on the
//! loopback interface.

use crate::fake_hub::{COMMIT, Cdn, FakeHub, Model, Request, hash_of};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub(crate) const ID: &str = "acme/mood";
pub(crate) const TOKEN: &str = "hf_dontTellAnybody";
/// The file of `roberta-binary` that goes through the CDN.
const LARGE: &str = "pytorch_model.bin";

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/tiny")
        .join(name)
}

/// A person's machine: a cache of their own, and a Hub.
pub(crate) struct Machine {
    home: TempDir,
    endpoint: String,
}

impl Machine {
    pub(crate) fn new(endpoint: &str) -> Self {
        Self {
            home: tempfile::tempdir().expect("a folder"),
            endpoint: endpoint.to_owned(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coldread"));
        command.args(args);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_ascii_uppercase();
            let is_ours = ["COLDREAD_", "AWS_", "HF_", "HUGGINGFACE_", "XDG_"];
            if is_ours.iter().any(|start| text.starts_with(start))
                || text.ends_with("_PROXY")
                || text == "RUST_LOG"
            {
                command.env_remove(&name);
            }
        }
        command
            .env("HF_ENDPOINT", &self.endpoint)
            .env("HF_HOME", self.home.path())
            .env("HOME", self.home.path());
        command
    }

    /// Packs a model; standard output, or standard error where that fails.
    pub(crate) fn pack_with(&self, args: &[&str], env: &[(&str, &str)]) -> Result<String, String> {
        let packed = self.home.path().join("packed");
        let mut command = self.command(&["pack", "-o", packed.to_str().expect("UTF-8")]);
        let output = command.args(args).envs(env.iter().copied()).output();
        let output = output.expect("the binary starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        match output.status.code() {
            Some(0) => Ok(text(output.stdout)),
            Some(1) => Err(text(output.stderr)),
            _ => panic!("{}", text(output.stderr)),
        }
    }

    fn pack(&self) -> Result<String, String> {
        self.pack_with(&[ID], &[])
    }

    fn repo(&self) -> PathBuf {
        self.home.path().join("hub/models--acme--mood")
    }

    /// Names of the files in a folder of the model's part of the cache.
    fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.repo().join(folder)) else {
            return Vec::new();
        };
        let names = entries.map(|e| {
            e.expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

fn start(folder: &str) -> (FakeHub, Machine) {
    let hub = FakeHub::start(Model::of(ID, &tiny(folder)));
    let machine = Machine::new(&hub.url);
    (hub, machine)
}

/// A model that fails to come, for this reason.
#[track_caller]
pub(crate) fn fails(got: &Result<String, String>, code: &str, parts: &[&str]) {
    let error = got.as_ref().expect_err("it cannot come");
    let start = format!("error: {code}: ");
    assert!(
        error.starts_with(&start) && error.trim_end().lines().count() == 1,
        "{error}"
    );
    for part in parts {
        assert!(error.contains(part), "{part} is not in {error}");
    }
}

fn large_file() -> Vec<u8> {
    fs::read(tiny("roberta-binary").join(LARGE)).expect("a file")
}

#[test]
fn a_model_of_the_hub_scores_as_its_folder_does() {
    for folder in [
        "roberta-binary",
        "bert-stars",
        "xlm-roberta-sentencepiece",
        "modernbert",
    ] {
        let (_hub, machine) = start(folder);
        let score = |model: &str| {
            let args = [
                "--model",
                model,
                "score",
                "good coffee",
                "the train was late",
            ];
            let output = machine.command(&args).output().expect("the binary starts");
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let expected = score(tiny(folder).to_str().expect("UTF-8"));
        assert_eq!(score(ID), expected, "{folder}");
        assert_eq!(expected.lines().count(), 2);
    }
}

#[test]
fn a_language_model_of_the_hub_scores_as_its_file_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf");
    let [file, other] = ["gemma3.gguf", "qwen3.gguf"].map(|name| folder.join(name));
    let mut model = Model {
        id: ID.into(),
        ..Model::default()
    };
    model
        .files
        .insert("mood-Q8_0.gguf".into(), fs::read(&file).expect("a file"));
    let hub = FakeHub::start(model);
    let machine = Machine::new(&hub.url);
    let score = |args: &[&str]| {
        let mut command = machine.command(&[args, &["score", "good coffee"]].concat());
        let output = command.output().expect("the binary starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        match output.status.code() {
            Some(0) => Ok(text(output.stdout)),
            _ => Err(text(output.stderr)),
        }
    };
    let expected = score(&["--model", file.to_str().expect("UTF-8")]).expect("scored");
    assert_eq!(score(&["--model", ID]), Ok(expected.clone()));
    assert_eq!(
        score(&["--model", "acme/mood:q8_0", "--offline"]),
        Ok(expected.clone())
    );
    drop(hub);

    let mut model = Model::of(ID, &tiny("bert-stars"));
    for (name, path) in [("mood-Q8_0.gguf", &file), ("mood-Q4_K_M.gguf", &other)] {
        model
            .files
            .insert(name.into(), fs::read(path).expect("a file"));
    }
    let hub = FakeHub::start(model);
    let machine = Machine::new(&hub.url);
    let id = "acme/mood:Q5_K_M";
    let got = machine.pack_with(&[id], &[]);
    let files = "mood-Q4_K_M.gguf, mood-Q8_0.gguf";
    fails(&got, "hub_unusable_model", &[id, files]);
    assert!(machine.names("snapshots").is_empty());
}

#[test]
fn packing_tells_what_the_model_is() {
    let (_hub, machine) = start("roberta-binary");
    let told = machine.pack().expect("packed");
    for part in [
        "bytes in",
        "acme/mood (roberta), one of NEGATIVE, POSITIVE",
        "not normalized",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let packed = machine.home.path().join("packed");
    let args = ["--model", packed.to_str().expect("UTF-8"), "info"];
    let output = machine.command(&args).output().expect("the binary starts");
    assert!(String::from_utf8_lossy(&output.stdout).contains("acme/mood"));
}

#[test]
fn posts_are_normalised_as_a_known_family_was_trained() {
    let id = "cardiffnlp/twitter-roberta-base-mood";
    let hub = FakeHub::start(Model::of(id, &tiny("roberta-binary")));
    let machine = Machine::new(&hub.url);
    let told = machine.pack_with(&[id], &[]).expect("packed");
    assert!(
        told.contains("@user") && told.contains("\"http\""),
        "{told}"
    );
    let score = |text: &str| {
        let output = machine.command(&["--model", id, "score", text]).output();
        output.expect("the binary starts").stdout
    };
    assert_eq!(
        score("@someone hi https://example.org/x"),
        score("@user hi http")
    );
    assert_ne!(score("@someone hi"), score("someone hi"));
}

#[test]
fn only_what_is_needed_comes_down() {
    let (hub, machine) = start("bert");
    hub.change(|model| {
        for name in [
            "README.md",
            "tf_model.h5",
            "vocab.txt",
            LARGE,
            "onnx/model.safetensors",
        ] {
            model.files.insert(name.to_owned(), b"unwanted".to_vec());
        }
    });
    machine.pack().expect("packed");
    let snapshot = format!("snapshots/{COMMIT}");
    let expected = ["config.json", "model.safetensors", "tokenizer.json"];
    assert_eq!(machine.names(&snapshot), expected);
    let requests = hub.requests();
    let files = requests.iter().filter(|request| request.method == "HEAD");
    for Request { path, .. } in files {
        assert!(expected.iter().any(|name| path.ends_with(name)), "{path}");
    }
}

#[test]
fn the_cache_has_the_layout_that_pythons_programs_share() {
    let (hub, machine) = start("roberta-binary");
    machine.pack().expect("packed");
    let read = |path: &str| fs::read(machine.repo().join(path)).expect("a file");
    assert_eq!(read("refs/main"), COMMIT.as_bytes());
    let snapshot = format!("snapshots/{COMMIT}");
    for name in machine.names(&snapshot) {
        let bytes = fs::read(tiny("roberta-binary").join(&name)).expect("a file");
        let hash = hash_of(&name, &bytes);
        assert_eq!(read(&format!("blobs/{hash}")), bytes);
        let link = machine.repo().join(&snapshot).join(&name);
        assert_eq!(
            fs::read_link(link).expect("a link"),
            Path::new("../../blobs").join(hash)
        );
    }
    assert_eq!(machine.names("blobs").len(), machine.names(&snapshot).len());
    // What is there is not asked for again, but whether the branch has moved.
    hub.requests();
    machine.pack().expect("packed again");
    let requests = hub.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].path.ends_with("/revision/main"));
}

/// Every folder and file below, with the time of its last change.
fn changes(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("it is there");
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            found.push((path, metadata.modified().expect("a time")));
        }
    }
    found.sort();
    found
}

#[test]
fn a_cache_that_has_everything_is_not_written_to() {
    let (_hub, machine) = start("roberta-binary");
    machine.pack().expect("packed");
    let cache = machine.home.path().join("hub");
    let before = changes(&cache);
    machine.pack().expect("packed again");
    assert_eq!(changes(&cache), before);
}

#[test]
fn a_revision_that_cannot_be_recorded_is_no_obstacle() {
    let (_hub, machine) = start("roberta-binary");
    machine.pack().expect("packed");
    let refs = machine.repo().join("refs");
    fs::remove_dir_all(&refs).expect("a folder");
    // Where nobody can write a file, not even a superuser.
    fs::write(&refs, "").expect("a file");
    machine.pack().expect("packed all the same");
}

#[test]
fn what_cannot_be_found_gets_a_hint() {
    let (hub, machine) = start("roberta-binary");
    let typo = machine.home.path().join("sentimnet");
    fs::create_dir(machine.home.path().join("sentiment")).expect("a folder");
    for (model, parts) in [
        (
            typo.to_str().expect("UTF-8"),
            &["did you mean", "sentiment"][..],
        ),
        ("./no/such/model.coldread", &["no such folder", "no/such"]),
        ("no_such.coldread", &["no such file or folder"]),
        (
            "bert-base-uncased",
            &["did you mean google-bert/bert-base-uncased?"],
        ),
        (
            "https://huggingface.co/acme/mood/tree/main",
            &["did you mean acme/mood?"],
        ),
        ("acme/mood@", &["revision"]),
    ] {
        let got = machine.pack_with(&[model], &[]);
        fails(&got, "hub_invalid_id", parts);
        fails(
            &got,
            "hub_invalid_id",
            &["neither a file or folder nor a model of the Hub"],
        );
    }
    assert_eq!(hub.requests().len(), 0);
    fails(
        &machine.pack_with(&["acme/mood@v9"], &[]),
        "hub_not_found",
        &["no branch, tag or commit called \"v9\" in acme/mood"],
    );
}

#[test]
fn a_model_of_another_kind_is_rejected_before_its_weights_are_downloaded() {
    let (hub, machine) = start("roberta-binary");
    let config = fs::read_to_string(tiny("roberta-binary").join("config.json")).expect("a file");
    let config = config.replace("ForSequenceClassification", "ForTokenClassification");
    hub.change(|model| {
        model.files.insert("config.json".to_owned(), config.into());
    });
    fails(
        &machine.pack(),
        "hub_unsupported_model",
        &["RobertaForTokenClassification", "token classifier"],
    );
    assert_eq!(hub.cdn_requests().len(), 0);
    hub.change(|model| {
        model.files.remove(LARGE);
        model.files.insert("onnx/model.onnx".to_owned(), Vec::new());
    });
    fails(
        &machine.pack(),
        "hub_unusable_model",
        &[ID, "onnx/model.onnx", "ONNX"],
    );
}

#[test]
fn a_broken_download_goes_on_where_it_was() {
    let (hub, machine) = start("roberta-binary");
    hub.change(|model| {
        model.cdn_answers = [Cdn::BreaksAfter(30_000), Cdn::BreaksAfter(20_000)].into();
    });
    machine.pack().expect("packed");
    let ranges: Vec<_> = hub.cdn_requests().into_iter().map(|r| r.range).collect();
    let from = |start: usize| Some(format!("bytes={start}-"));
    assert_eq!(ranges, [None, from(30_000), from(50_000)]);
}

#[test]
fn a_broken_download_goes_on_in_the_next_run() {
    let (hub, machine) = start("roberta-binary");
    hub.change(|model| {
        let breaks = [Cdn::BreaksAfter(30_000)].into_iter();
        model.cdn_answers = breaks.chain((0..3).map(|_| Cdn::BreaksAfter(0))).collect();
    });
    fails(&machine.pack(), "hub_unreachable", &[&hub.url]);
    assert_eq!(hub.cdn_requests().len(), 4);
    machine.pack().expect("packed");
    let ranges: Vec<_> = hub.cdn_requests().into_iter().map(|r| r.range).collect();
    assert_eq!(ranges, [Some("bytes=30000-".to_owned())]);
    assert!(
        machine
            .names("blobs")
            .iter()
            .all(|name| !name.ends_with(".incomplete"))
    );
}

#[test]
fn a_server_without_ranges_is_asked_for_the_whole() {
    let (hub, machine) = start("roberta-binary");
    hub.change(|model| {
        model.cdn_answers = [Cdn::BreaksAfter(30_000), Cdn::IgnoresRange].into();
    });
    machine.pack().expect("packed");
    assert_eq!(hub.cdn_requests().len(), 2);
}

#[test]
fn what_another_program_left_is_not_trusted() {
    let (hub, machine) = start("roberta-binary");
    let bytes = large_file();
    let blobs = machine.repo().join("blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    let partial = blobs.join(format!("{}.incomplete", hash_of(LARGE, &bytes)));
    for left in [
        vec![b'x'; 1000],
        vec![b'x'; bytes.len()],
        vec![b'x'; bytes.len() + 1],
    ] {
        fs::write(&partial, left).expect("a file");
        machine.pack().expect("packed");
        fs::remove_dir_all(machine.repo().join("snapshots")).expect("a folder");
        fs::remove_dir_all(&blobs).expect("a folder");
        fs::create_dir_all(&blobs).expect("a folder");
    }
    let ranges = hub.cdn_requests().into_iter().filter_map(|r| r.range);
    assert_eq!(ranges.collect::<Vec<_>>(), ["bytes=1000-"]);
}

#[test]
fn what_has_not_its_hash_is_refused_and_not_kept() {
    let (hub, machine) = start("roberta-binary");
    hub.change(|model| model.cdn_answers = [Cdn::SendsOther].into());
    fails(&machine.pack(), "hub_hash_mismatch", &[LARGE]);
    hub.change(|model| model.cdn_answers = [Cdn::SendsMore].into());
    fails(&machine.pack(), "hub_bad_answer", &[LARGE, "more bytes"]);
    let hash = hash_of(LARGE, &large_file());
    assert!(!machine.names("blobs").contains(&hash));
    machine.pack().expect("packed");
    // A small file is held to git's hash of it.
    let (hub, machine) = start("roberta-binary");
    hub.change(|model| model.etag = Some("00112233445566778899aabbccddeeff00112233"));
    fails(&machine.pack(), "hub_hash_mismatch", &["config.json"]);
    assert_eq!(machine.names("blobs"), [""; 0]);
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused() {
    let (hub, machine) = start("bert-stars");
    let evil = "../../../../evil.safetensors";
    hub.change(|model| {
        model.also_listed = vec![
            evil.to_owned(),
            "..\\evil".to_owned(),
            "/etc/evil".to_owned(),
        ];
    });
    machine
        .pack()
        .expect("names that nobody asks for do no harm");
    let index = format!(r#"{{"weight_map": {{"classifier.weight": "{evil}"}}}}"#);
    let name = "model.safetensors.index.json";
    hub.change(|model| {
        model.files.insert(name.to_owned(), index.into());
    });
    let machine = Machine::new(&hub.url);
    hub.requests();
    fails(
        &machine.pack(),
        "hub_unsupported_model",
        &[name, "not the name"],
    );
    assert!(
        hub.requests()
            .iter()
            .all(|request| !request.path.contains("evil"))
    );

    let (hub, machine) = start("roberta-binary");
    for etag in ["../../../evil", "", "0f0f", "/etc/evil"] {
        hub.change(|model| model.etag = Some(etag));
        fails(
            &machine.pack(),
            "hub_bad_answer",
            &["config.json", "not a hash"],
        );
    }
    hub.change(|model| model.commit = Some("../../../evil"));
    fails(&machine.pack(), "hub_bad_answer", &["no commit"]);
    hub.change(|model| model.commit = Some("ffffffffffffffffffffffffffffffffffffffff"));
    fails(&machine.pack(), "hub_not_found", &["config.json"]);
    for id in ["../mood", "acme/..", "acme/mood@../../x"] {
        let error = machine.pack_with(&[id], &[]).expect_err("no model");
        assert!(error.starts_with("error: "), "{error}");
    }
    assert_eq!(machine.names("blobs"), [""; 0]);
}

#[test]
fn refusals_have_their_codes() {
    let (hub, machine) = start("roberta-binary");
    let with_token = [("HF_TOKEN", TOKEN)];
    fails(
        &machine.pack_with(&["acme/other"], &[]),
        "hub_unauthorized",
        &["acme/other", "HF_TOKEN"],
    );
    fails(
        &machine.pack_with(&["acme/other"], &with_token),
        "hub_unauthorized",
        &["rejected the token"],
    );
    fails(
        &machine.pack_with(&["acme/mood@v9"], &[]),
        "hub_not_found",
        &["acme/mood@v9"],
    );
    hub.change(|model| model.api_answers = [(404, "x-error-code: RepoNotFound")].into());
    fails(
        &machine.pack_with(&[ID], &with_token),
        "hub_not_found",
        &[ID],
    );
    hub.change(|model| model.api_answers = [(403, "x-error-code: GatedRepo")].into());
    fails(&machine.pack(), "hub_forbidden", &[ID]);
    hub.change(|model| model.gated = true);
    fails(
        &machine.pack_with(&[ID], &with_token),
        "hub_forbidden",
        &[ID, "terms"],
    );
    hub.change(|model| {
        model.gated = false;
        model.api_answers = [(429, "retry-after: 3600")].into();
    });
    fails(&machine.pack(), "hub_rate_limited", &["3600 s"]);
    hub.change(|model| model.api_answers = [(418, "x-tea: pot")].into());
    fails(&machine.pack(), "hub_bad_answer", &["418"]);
}

#[test]
fn a_hub_that_is_busy_is_asked_again() {
    let (hub, machine) = start("roberta-binary");
    hub.change(|model| {
        model.api_answers = [(429, "retry-after: 0"), (503, "retry-after: 0")].into();
        model.cdn_answers = [Cdn::Answers(500)].into();
    });
    machine.pack().expect("packed");
    let requests = hub.requests();
    assert_eq!(
        requests
            .iter()
            .filter(|r| r.path.starts_with("/api/models"))
            .count(),
        3
    );
}

#[test]
fn without_a_connection_the_cache_serves() {
    // A port that nobody listens on.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", nobody.local_addr().expect("bound"));
    drop(nobody);
    let (hub, mut machine) = start("roberta-binary");
    machine.endpoint.clone_from(&address);
    fails(&machine.pack(), "hub_unreachable", &[&address]);
    machine.endpoint.clone_from(&hub.url);
    machine.pack().expect("packed");
    machine.endpoint = address;
    machine.pack().expect("packed from the cache");
}

#[test]
fn offline_nothing_is_asked() {
    let (hub, machine) = start("roberta-binary");
    let variable = [("HF_HUB_OFFLINE", "1")];
    fails(
        &machine.pack_with(&[ID, "--offline"], &[]),
        "hub_not_cached",
        &[ID],
    );
    fails(
        &machine.pack_with(&[ID], &variable),
        "hub_not_cached",
        &[ID],
    );
    let off = [("HF_HUB_OFFLINE", "0")];
    assert_eq!(hub.requests().len(), 0);
    machine.pack_with(&[ID], &off).expect("packed");
    hub.requests();
    machine.pack_with(&[ID, "--offline"], &[]).expect("packed");
    machine.pack_with(&[ID], &variable).expect("packed");
    fails(
        &machine.pack_with(&["acme/mood@v1", "--offline"], &[]),
        "hub_not_cached",
        &["acme/mood@v1"],
    );
    // A blob that is gone is noticed.
    fs::remove_file(
        machine
            .repo()
            .join("blobs")
            .join(hash_of(LARGE, &large_file())),
    )
    .expect("a file");
    fails(
        &machine.pack_with(&[ID, "--offline"], &[]),
        "hub_not_cached",
        &[ID],
    );
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn a_pinned_revision_needs_no_network_once_it_is_there() {
    let (hub, machine) = start("roberta-binary");
    let pinned = format!("{ID}@{COMMIT}");
    machine.pack_with(&[&pinned], &[]).expect("packed");
    assert!(hub.requests().len() > 1);
    machine
        .pack_with(&[ID, "--revision", COMMIT], &[])
        .expect("packed");
    assert_eq!(hub.requests().len(), 0);
    machine.pack_with(&["acme/mood@v1"], &[]).expect("packed");
    assert_eq!(machine.names("refs"), ["v1"]);
    let local = tiny("bert");
    let local = local.to_str().expect("UTF-8");
    let args = ["--model", local, "--revision", "v1", "info"];
    let output = machine.command(&args).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn the_token_goes_to_the_hub_alone_and_into_no_message() {
    let (hub, machine) = start("roberta-binary");
    hub.change(|model| model.token = Some(TOKEN));
    fails(&machine.pack(), "hub_unauthorized", &[ID]);
    let elsewhere = machine.home.path().join("elsewhere");
    fs::write(&elsewhere, format!("{TOKEN}\n")).expect("a file");
    let variable = [("HF_TOKEN", TOKEN)];
    let file = [("HF_TOKEN_PATH", elsewhere.to_str().expect("UTF-8"))];
    machine.pack_with(&[ID], &variable).expect("packed");
    machine.pack_with(&[ID], &file).expect("packed");
    let home = Machine::new(&hub.url);
    fs::write(home.home.path().join("token"), TOKEN).expect("a file");
    home.pack().expect("packed");
    let disabled = [("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
    fails(&home.pack_with(&[ID], &disabled), "hub_unauthorized", &[ID]);
    let disabled = [("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0")];
    home.pack_with(&[ID], &disabled).expect("packed");
    let on_cdn = hub.cdn_requests();
    assert_eq!(on_cdn.len(), 2);
    assert!(on_cdn.iter().all(|request| request.authorization.is_none()));

    // Whatever goes wrong, at the highest level of the log.
    hub.change(|model| model.cdn_answers = [Cdn::Answers(500), Cdn::SendsOther].into());
    let machine = Machine::new(&hub.url);
    let loud = [("HF_TOKEN", TOKEN), ("RUST_LOG", "trace")];
    let told = machine.pack_with(&[ID], &loud).expect_err("another hash");
    assert!(told.contains("TRACE") && told.contains("hub_hash_mismatch"));
    assert!(!told.contains(TOKEN), "the token is in the log");
    assert!(!told.contains("5e1f"), "a signature is in the log");
    let odd = [("HF_TOKEN", "hf_\u{e4}\n\u{1}x")];
    fails(&machine.pack_with(&[ID], &odd), "hub_invalid_token", &[]);
}

/// What begins with a slash and names a host all the same.
#[test]
fn the_token_goes_to_no_other_host_by_way_of_a_redirect() {
    let (hub, machine) = start("roberta-binary");
    hub.change(|model| model.token = Some(TOKEN));
    for start in ["//", "/\\", "/\t/", "\\\\"] {
        let location = format!("{start}{}/x", hub.cdn());
        hub.change(|model| model.location = Some(location.clone()));
        let got = machine.pack_with(&[ID], &[("HF_TOKEN", TOKEN)]);
        fails(&got, "hub_bad_answer", &["config.json"]);
        assert_eq!(hub.cdn_requests().len(), 0, "{location}");
    }
}

#[test]
fn a_snapshot_without_its_tokenizer_is_not_whole() {
    for (folder, file) in [
        ("roberta-binary", "merges.txt"),
        ("bert", "tokenizer.json"),
        ("xlm-roberta-sentencepiece", "sentencepiece.bpe.model"),
    ] {
        let (_hub, machine) = start(folder);
        let pinned = format!("{ID}@{COMMIT}");
        machine.pack_with(&[&pinned], &[]).expect("packed");
        let snapshot = machine.repo().join("snapshots").join(COMMIT);
        fs::remove_file(snapshot.join(file)).expect("a file");
        let offline = machine.pack_with(&[&pinned, "--offline"], &[]);
        fails(&offline, "hub_not_cached", &[ID]);
        machine.pack_with(&[&pinned], &[]).expect("fetched again");
        let offline = machine.pack_with(&[&pinned, "--offline"], &[]);
        offline.expect("whole again");
    }
}

#[test]
fn a_model_without_a_tokenizer_is_refused_before_its_weights_come_down() {
    let (hub, machine) = start("roberta-binary");
    hub.change(|model| drop(model.files.remove("merges.txt")));
    fails(&machine.pack(), "hub_unusable_model", &[ID, "no tokenizer"]);
    assert_eq!(hub.cdn_requests().len(), 0);
}

#[test]
fn small_files_have_a_limit() {
    let (hub, machine) = start("roberta-binary");
    hub.change(|model| {
        let huge = vec![b' '; (64 << 20) + 1];
        model.files.insert("config.json".to_owned(), huge);
        // Instead of its hash, which takes long to compute.
        model.etag = Some("00112233445566778899aabbccddeeff00112233");
    });
    fails(
        &machine.pack(),
        "hub_unusable_model",
        &["config.json has 67108865 bytes"],
    );
    assert_eq!(machine.names("blobs"), [""; 0]);
}

#[test]
fn processes_that_want_the_same_model_download_it_once() {
    let (hub, machine) = start("roberta-binary");
    let started: Vec<_> = (0..4)
        .map(|_| {
            let args = ["--model", ID, "score", "good"];
            let mut command = machine.command(&args);
            command
                .stdout(Stdio::piped())
                .spawn()
                .expect("the binary starts")
        })
        .collect();
    for process in started {
        let output = process.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(hub.cdn_requests().len(), 1);
}

#[test]
fn what_cannot_run_is_refused_before_its_weights_come_down() {
    let (hub, machine) = start("roberta-binary");
    let config = br#"{"model_type": "gpt2", "n_embd": 32, "vocab_size": 99}"#.to_vec();
    hub.change(|model| {
        model.files.insert("config.json".to_owned(), config);
    });
    fails(
        &machine.pack(),
        "hub_unsupported_model",
        &["config.json", "\"gpt2\" is not supported"],
    );
    assert_eq!(hub.cdn_requests().len(), 0);
    hub.change(|model| drop(model.files.remove(LARGE)));
    fails(
        &machine.pack(),
        "hub_unusable_model",
        &[ID, "model.safetensors", LARGE],
    );
    hub.change(|model| model.files.clear());
    fails(&machine.pack(), "hub_unusable_model", &["no config.json"]);
}

#[test]
fn a_server_serves_a_model_of_the_hub() {
    let (_hub, machine) = start("roberta-binary");
    let mut command = machine.command(&["serve", "--model", ID, "--addr", "127.0.0.1:0"]);
    let mut server = command
        .env("COLDREAD_LOG", "warn")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(server.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("a line");
    let address = line.trim_end().strip_prefix("listening on http://");
    let mut stream = TcpStream::connect(address.expect("an address")).expect("it listens");
    let request = "POST /v1/sentiment HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                   content-type: text/plain\r\ncontent-length: 4\r\n\r\ngood";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    assert!(answer.contains("\"model\":\"acme/mood\""), "{answer}");
    assert!(answer.contains("\"POSITIVE\""), "{answer}");
}
