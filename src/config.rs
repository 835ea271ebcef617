//! Everything that can be set, in one place: flags, their `COLDREAD_*` variables
//! and what each limit costs.
//!
//! clap fills the structs. What no single flag can decide alone (limits that
//! contradict each other, and which address a platform asks for) is decided by
//! pure functions here, once, before anything is loaded.

mod access;
mod compat;
mod events;
mod languages;
mod limits;
mod sigv4;

pub use access::{Access, AccessArgs, ApiKeys};
pub use compat::{Compat, CompatArgs, Service};
pub use events::{EventArgs, EventOptions, Pointer, ResultDestination};
pub use languages::LanguageArgs;
pub use limits::Limits;
pub use sigv4::SigV4Keys;

use crate::model::{EngineChoice, ModelSource, Question};
use coldread_engine::Isa;
use coldread_engine::ModelOptions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Where the server listens if nothing says otherwise: reachable from this machine only.
const DEFAULT_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Variables by which platforms name the port, and the interface each of them expects.
const PLATFORM_PORTS: [(&str, Ipv4Addr); 3] = [
    // Azure Functions' host forwards from the same machine.
    ("FUNCTIONS_CUSTOMHANDLER_PORT", Ipv4Addr::LOCALHOST),
    // Vertex AI.
    ("AIP_HTTP_PORT", Ipv4Addr::UNSPECIFIED),
    // Cloud Run, App Runner, Heroku and many others.
    ("PORT", Ipv4Addr::UNSPECIFIED),
];

/// Memory that comes with each core of a Lambda function.
const LAMBDA_MB_PER_CORE: u64 = 1769;

/// Whether one inference is made before the first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WarmUp {
    /// Where it pays off.
    Auto,
    /// Always.
    #[value(aliases = ["1", "true", "yes"])]
    On,
    /// Never.
    #[value(aliases = ["0", "false", "no"])]
    Off,
}

/// How HTTP responses are sent to Lambda.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ResponseMode {
    /// In one piece, at most 6 MB.
    Buffered,
    /// As they are written.
    Streaming,
}

/// Settings that are rejected at start, with what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An invalid address or port.
    #[error("{name} is `{value}`; expected {expected}")]
    Address {
        /// The flag and variable, or the platform's variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// Two limits that contradict each other.
    #[error("{0}")]
    Limits(String),
    /// API keys that cannot be read, or would protect nothing.
    #[error("{0}")]
    ApiKeys(String),
    /// Unknown formats, or invalid paths.
    #[error("{0}")]
    Compat(String),
    /// An origin that no browser would send.
    #[error(
        "--cors-origins (COLDREAD_CORS_ORIGINS) has `{0}`; expected scheme and host, such as \
         https://example.org"
    )]
    Origin(String),
    /// A package that cannot be read, or does not run the model.
    #[error("--web-engine (COLDREAD_WEB_ENGINE): {0}")]
    WebEngine(String),
    /// An invalid sink or pointer.
    #[error("{0}")]
    Events(String),
}

/// Which model runs, and on what; the same for every subcommand.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Model to run: a Hugging Face model folder, a packed model file, a language model in
    /// GGUF, or a model of the Hugging Face Hub as OWNER/NAME or OWNER/NAME@REVISION [default:
    /// the model in the binary]. An existing path takes precedence over a model of the Hub.
    #[arg(long, env = "COLDREAD_MODEL", value_name = "PATH|HUB_ID")]
    pub model: Option<PathBuf>,

    /// Branch, tag or commit of a model of the Hub [default: main]. A commit always names
    /// the same model, and needs no network once it is cached.
    #[cfg(feature = "hub")]
    #[arg(long, env = "COLDREAD_MODEL_REVISION", value_name = "REVISION")]
    pub revision: Option<String>,

    /// Take models of the Hub from the cache only, without network access.
    #[cfg(feature = "hub")]
    #[arg(long, env = "HF_HUB_OFFLINE")]
    pub offline: bool,

    /// Labels of a language model, such as "refund request,praise,other" [default:
    /// negative,neutral,positive].
    #[arg(
        long,
        env = "COLDREAD_LABELS",
        value_delimiter = ',',
        value_name = "LABELS"
    )]
    pub labels: Vec<String>,

    /// Prompt of a language model: a JSON file with its template, label words and examples
    /// [default: a prompt for sentiment, or for --labels].
    #[arg(long, env = "COLDREAD_PROMPT", value_name = "FILE")]
    pub prompt: Option<PathBuf>,

    /// Engine that runs the model. `int8` is fast and rejects architectures that it does not
    /// support; `candle` computes in f32 and is slow; `auto` is `int8` if the architecture is
    /// supported, else `candle`.
    #[arg(
        long,
        env = "COLDREAD_ENGINE",
        default_value = "auto",
        value_parser = engine_parser(),
        value_name = "ENGINE"
    )]
    pub engine: EngineChoice,

    /// Instruction set of the int8 kernels [default: the best that this CPU supports]. An
    /// instruction set that the CPU lacks is an error.
    #[arg(long, env = "COLDREAD_ISA", value_parser = parse_isa, value_name = "ISA")]
    pub isa: Option<Isa>,

    /// Threads per batch. More threads than the cores of the machine or container make
    /// everything slower.
    #[arg(long, env = "COLDREAD_THREADS", default_value = "1", value_name = "N")]
    pub threads: NonZeroUsize,

    /// Maximum size of a post in bytes of UTF-8. A longer post is rejected with
    /// `text_too_long`. Time and memory for normalizing and tokenizing grow with the size.
    #[arg(
        long,
        env = "COLDREAD_MAX_POST_BYTES",
        default_value = "65536",
        value_name = "BYTES"
    )]
    pub max_post_bytes: NonZeroUsize,
}

impl ModelArgs {
    /// The model that these arguments name.
    pub fn source(&self) -> ModelSource {
        ModelSource {
            path: self.model.clone(),
            engine: self.engine,
            options: ModelOptions::new()
                .isa(self.isa)
                .threads(self.threads)
                .max_post_bytes(self.max_post_bytes.get()),
            question: Question {
                labels: self.labels.iter().map(|it| it.trim().to_owned()).collect(),
                prompt: self.prompt.clone(),
            },
            workers: None,
        }
    }
}

/// Settings of the server.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct Config {
    /// Address to listen on, as IP:PORT; port 0 takes any free port [default: the port in
    /// FUNCTIONS_CUSTOMHANDLER_PORT on 127.0.0.1, in AIP_HTTP_PORT or in PORT on 0.0.0.0, else
    /// 127.0.0.1:8080]. Ignored on Lambda.
    #[expect(clippy::doc_markdown, reason = "clap prints the text as it stands")]
    #[arg(long, env = "COLDREAD_ADDR", value_name = "IP:PORT")]
    pub addr: Option<String>,

    /// Write CloudWatch metrics in the Embedded Metric Format to standard output, under
    /// this namespace. On Lambda, CloudWatch extracts them from the log and charges for them.
    #[arg(long, env = "COLDREAD_EMF_NAMESPACE", value_name = "NAMESPACE")]
    pub emf_namespace: Option<String>,

    /// Whether to run one inference before the first request, so that the first request
    /// does not have to load the weights into memory. `auto` does so over TCP; on Lambda, if
    /// environments are initialized ahead of requests (provisioned concurrency, SnapStart,
    /// Managed Instances), and below 1,769 MB, where the CPU is throttled after the init phase.
    #[arg(
        long,
        env = "COLDREAD_WARM_UP",
        default_value = "auto",
        value_name = "WHEN"
    )]
    pub warm_up: WarmUp,

    /// How HTTP responses are sent to Lambda: `buffered`, at most 6 MB, or `streaming`, as they
    /// are written, up to 200 MB. `streaming` needs a Function URL whose invoke mode is
    /// `RESPONSE_STREAM`, or a REST API whose response transfer mode is `STREAM`; with any
    /// other setting, clients would receive the raw bytes of the protocol.
    #[arg(
        long,
        env = "COLDREAD_LAMBDA_RESPONSE_MODE",
        default_value = "buffered",
        value_name = "MODE"
    )]
    pub lambda_response_mode: ResponseMode,

    /// Folder of the npm package `coldread`, with which the page at / can also score in the
    /// browser: it gets the package and the model from this server. The model needs a key if API
    /// keys are configured, the package does not. Ignored on Lambda, whose responses are too small.
    #[arg(long, env = "COLDREAD_WEB_ENGINE", value_name = "FOLDER")]
    pub web_engine: Option<PathBuf>,

    /// Limits of the server.
    #[command(flatten)]
    pub limits: Limits,

    /// Who may send requests.
    #[command(flatten)]
    pub access: AccessArgs,

    /// Which other services' clients are served.
    #[command(flatten)]
    pub compat: CompatArgs,

    /// How events other than requests are handled.
    #[command(flatten)]
    pub events: EventArgs,

    /// What the languages of posts decide.
    #[command(flatten)]
    pub languages: LanguageArgs,

    /// Which model runs, and on what.
    #[command(flatten)]
    pub model: ModelArgs,
}

impl Config {
    /// Rejects limits that contradict each other, keys that protect nothing, invalid routes
    /// and sinks that this build lacks.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.limits.check(self.model.max_post_bytes)?;
        self.compat.resolve(|name| std::env::var(name).ok())?;
        self.events.resolve()?;
        self.access.resolve().map(drop)
    }

    /// Whether to make an inference before the first request, given what the
    /// environment holds.
    pub fn warms_up(&self, env: impl Fn(&str) -> Option<String>) -> bool {
        let is_lambda = filled(env("AWS_LAMBDA_RUNTIME_API")).is_some();
        match self.warm_up {
            WarmUp::On => true,
            WarmUp::Off => false,
            WarmUp::Auto if !is_lambda => true,
            WarmUp::Auto => {
                let kind = env("AWS_LAMBDA_INITIALIZATION_TYPE");
                // Initialized ahead of the first request, whose time is what counts.
                kind.is_some_and(|kind| kind != "on-demand")
                    || lambda_memory_mb(&env).is_some_and(|mb| mb < LAMBDA_MB_PER_CORE)
            }
        }
    }

    /// Where to listen, given what the environment holds.
    ///
    /// The variables are looked up through `env`, so that it can be tested without
    /// changing the process's own environment. A blank value counts as none.
    pub fn resolve_addr(
        &self,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<SocketAddr, ConfigError> {
        if let Some(addr) = filled(self.addr.clone()) {
            return addr.trim().parse().map_err(|_| ConfigError::Address {
                name: "--addr (COLDREAD_ADDR)",
                value: addr,
                expected: "IP:PORT, such as 127.0.0.1:8080 or 0.0.0.0:8080",
            });
        }
        for (name, interface) in PLATFORM_PORTS {
            if let Some(port) = filled(env(name)) {
                let number = port.trim().parse().map_err(|_| ConfigError::Address {
                    name,
                    value: port,
                    expected: "a port from 0 to 65535",
                })?;
                return Ok(SocketAddr::new(interface.into(), number));
            }
        }
        Ok(DEFAULT_ADDR)
    }
}

/// The memory of a Lambda function, as far as its variable begins with a number.
pub(crate) fn lambda_memory_mb(env: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let size = env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")?;
    let size = size.trim();
    let digits = size.bytes().take_while(u8::is_ascii_digit).count();
    size[..digits].parse().ok()
}

/// A value that is more than white space.
fn filled(value: Option<String>) -> Option<String> {
    value.filter(|v| !v.trim().is_empty())
}

fn engine_parser() -> impl clap::builder::TypedValueParser<Value = EngineChoice> {
    use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
    let engines = [
        PossibleValue::new("auto"),
        PossibleValue::new("int8"),
        PossibleValue::new("candle").alias("reference"),
    ];
    PossibleValuesParser::new(engines).map(|name| match name.as_str() {
        "int8" => EngineChoice::Int8,
        "candle" | "reference" => EngineChoice::Candle,
        _ => EngineChoice::Auto,
    })
}

fn parse_isa(name: &str) -> Result<Isa, String> {
    name.parse::<Isa>().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    fn config(args: &[&str]) -> Config {
        let args = ["coldread"].iter().chain(args);
        Cli::try_parse_from(args)
            .expect("the arguments parse")
            .config
    }

    fn check_addr(args: &[&str], env: &[(&str, &str)], expected: Result<&str, &str>) {
        let env = |name: &str| {
            let found = env.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let got = config(args).resolve_addr(env);
        let got = got.map(|a| a.to_string()).map_err(|e| e.to_string());
        let got = got.as_ref().map(String::as_str).map_err(String::as_str);
        assert_eq!(got, expected, "{args:?}");
    }

    #[test]
    fn the_flag_wins_over_the_platform_and_the_platform_over_the_default() {
        let all = [
            ("PORT", "3"),
            ("AIP_HTTP_PORT", "2"),
            ("FUNCTIONS_CUSTOMHANDLER_PORT", "1"),
        ];
        check_addr(&["--addr", "[::1]:9000"], &all, Ok("[::1]:9000"));
        check_addr(&[], &all, Ok("127.0.0.1:1"));
        check_addr(&[], &all[..2], Ok("0.0.0.0:2"));
        check_addr(&[], &all[..1], Ok("0.0.0.0:3"));
        check_addr(&[], &[], Ok("127.0.0.1:8080"));
    }

    #[test]
    fn a_blank_value_counts_as_none() {
        let env = [("FUNCTIONS_CUSTOMHANDLER_PORT", ""), ("PORT", " 8081 ")];
        check_addr(&["--addr", " "], &env, Ok("0.0.0.0:8081"));
    }

    #[test]
    fn an_inference_is_made_first_where_it_pays() {
        let check = |args: &[&str], env: &[(&str, &str)], expected: bool| {
            let env = |name: &str| {
                let found = env.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(config(args).warms_up(env), expected, "{args:?}");
        };
        let lambda = ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001");
        let memory = |mb| ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", mb);
        let kind = |kind| ("AWS_LAMBDA_INITIALIZATION_TYPE", kind);
        check(&[], &[], true);
        check(&["--warm-up", "off"], &[], false);
        check(&[], &[lambda, memory("1769")], false);
        check(&["--warm-up", "on"], &[lambda, memory("1769")], true);
        check(&[], &[lambda, memory("128")], true);
        check(&[], &[lambda, memory("128 MB")], true);
        check(&[], &[lambda, memory("")], false);
        check(&[], &[lambda, memory("much")], false);
        check(&["--warm-up", "0"], &[lambda, memory("128")], false);
        for ahead in [
            "provisioned-concurrency",
            "snap-start",
            "lambda-managed-instances",
        ] {
            check(&[], &[lambda, memory("3008"), kind(ahead)], true);
        }
        check(&[], &[lambda, memory("3008"), kind("on-demand")], false);
        check(&[], &[lambda], false);
    }

    #[test]
    fn an_invalid_address_is_rejected_by_name() {
        check_addr(
            &["--addr", "localhost:8080"],
            &[("PORT", "80")],
            Err(
                "--addr (COLDREAD_ADDR) is `localhost:8080`; expected IP:PORT, such as \
                 127.0.0.1:8080 or 0.0.0.0:8080",
            ),
        );
        for port in ["http", "-1", "65536", "80.0"] {
            let message = format!("PORT is `{port}`; expected a port from 0 to 65535");
            check_addr(&[], &[("PORT", port)], Err(&message));
        }
    }

    #[test]
    fn model_flags_become_a_model_source() {
        for engine in ["candle", "reference"] {
            let args = ["--model", "m", "--engine", engine, "--threads", "2"];
            let source = config(&args).model.source();
            assert_eq!(source.path, Some(PathBuf::from("m")));
            assert_eq!(source.engine, EngineChoice::Candle);
            let two = NonZeroUsize::new(2).expect("not zero");
            assert_eq!(source.options, ModelOptions::new().threads(two));
        }
    }

    #[test]
    fn invalid_values_are_rejected() {
        for args in [
            ["--engine", "fast"],
            ["--isa", "mmx"],
            ["--threads", "0"],
            ["--max-posts", "0"],
            ["--max-body-bytes", "4MB"],
        ] {
            let parsed = Cli::try_parse_from(["coldread"].iter().chain(&args));
            assert!(parsed.is_err(), "{args:?}");
        }
    }
}
