//! Every limit of the server, with the cost of changing it.

use super::{ConfigError, LAMBDA_MB_PER_CORE, filled, lambda_memory_mb};
use crate::batcher::BatchOptions;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

/// Limits of the server, from flags and variables.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Maximum size of a request body in bytes; a larger body is rejected with 413. Every
    /// request in flight may hold this much memory. Lambda's own limit is 6 MB.
    #[arg(
        long,
        env = "COLDREAD_MAX_BODY_BYTES",
        default_value_t = Self::DEFAULT.max_body_bytes,
        value_name = "BYTES"
    )]
    pub max_body_bytes: NonZeroUsize,

    /// Maximum total size of the request bodies in memory. When it is reached, stalled
    /// uploads are cancelled with 408; if there are none, new requests are rejected with 429.
    /// An overloaded server needs up to twice this much memory, because posts are held beside
    /// the bodies that contained them.
    #[arg(
        long,
        env = "COLDREAD_MAX_PENDING_BYTES",
        default_value_t = Self::DEFAULT.max_pending_bytes,
        value_name = "BYTES"
    )]
    pub max_pending_bytes: NonZeroUsize,

    /// Maximum number of posts per request; a larger request is rejected with 413. Workers
    /// take one post of each request in turn, so large requests do not delay small ones.
    #[arg(
        long,
        env = "COLDREAD_MAX_POSTS",
        default_value_t = Self::DEFAULT.max_posts,
        value_name = "N"
    )]
    pub max_posts: NonZeroUsize,

    /// Maximum number of posts in the queue, over all requests; when it is reached, new
    /// requests are rejected with 429. It bounds memory; --max-queue-wait-ms bounds the wait.
    #[arg(
        long,
        env = "COLDREAD_MAX_PENDING_POSTS",
        default_value_t = Self::DEFAULT.max_pending_posts,
        value_name = "N"
    )]
    pub max_pending_posts: NonZeroUsize,

    /// Longest expected wait in the queue, in milliseconds (load shedding). A request that
    /// would wait longer for the posts of other requests is rejected with 429, and Retry-After
    /// says when there will be room. The estimate follows the throughput of recent batches.
    #[arg(
        long,
        env = "COLDREAD_MAX_QUEUE_WAIT_MS",
        default_value_t = Self::DEFAULT.max_queue_wait_ms,
        value_name = "MS"
    )]
    pub max_queue_wait_ms: NonZeroU64,

    /// A batch is full when it has this many tokens. Larger batches increase latency and are
    /// no faster on one thread; with --threads, a batch needs 64 tokens per thread.
    #[arg(
        long,
        env = "COLDREAD_MAX_BATCH_TOKENS",
        default_value_t = Self::DEFAULT.max_batch_tokens,
        value_name = "N"
    )]
    pub max_batch_tokens: NonZeroUsize,

    /// How long a batch that is not full waits for more posts, in microseconds. Any value
    /// above 0 delays every request of an idle server by this much.
    #[arg(
        long,
        env = "COLDREAD_BATCH_WAIT_US",
        default_value_t = Self::DEFAULT.batch_wait_us,
        value_name = "US"
    )]
    pub batch_wait_us: u64,

    /// Worker threads, each of which scores its own batches; they start when needed
    /// [default: cores divided by --threads; on Lambda, one per full 1,769 MB of memory, which
    /// is one core there]. More workers than cores make every request slower.
    #[arg(long, env = "COLDREAD_WORKERS", value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    /// Deadline of a request in milliseconds, counted from its head; then the response is
    /// 504. The header x-request-timeout-ms and Lambda's own deadline can shorten it.
    #[arg(
        long,
        env = "COLDREAD_REQUEST_TIMEOUT_MS",
        default_value_t = Self::DEFAULT.request_timeout_ms,
        value_name = "MS"
    )]
    pub request_timeout_ms: NonZeroU64,

    /// How long a request body may take to arrive, in milliseconds, counted from its head;
    /// then the response is 408. For a stream of rows it is the longest pause. While
    /// --max-pending-bytes is reached, an upload that falls a twentieth of this behind may be
    /// cancelled.
    #[arg(
        long,
        env = "COLDREAD_BODY_TIMEOUT_MS",
        default_value_t = Self::DEFAULT.body_timeout_ms,
        value_name = "MS"
    )]
    pub body_timeout_ms: NonZeroU64,

    /// How long a connection may take to send a request's head, in milliseconds; then it is
    /// closed. This is also the keep-alive timeout, so it should exceed the idle timeout of a
    /// load balancer (often 60 seconds).
    #[arg(
        long,
        env = "COLDREAD_HEAD_TIMEOUT_MS",
        default_value_t = Self::DEFAULT.head_timeout_ms,
        value_name = "MS"
    )]
    pub head_timeout_ms: NonZeroU64,

    /// How long to go on with a request whose client has half-closed the connection, in
    /// milliseconds. The client may be waiting for its response, or be gone: higher values
    /// waste work on clients that are gone; lower values drop slow responses of clients that
    /// half-close after sending. A reset cancels the request immediately.
    #[arg(
        long,
        env = "COLDREAD_HALF_CLOSE_MS",
        default_value_t = Self::DEFAULT.half_close_ms,
        value_name = "MS"
    )]
    pub half_close_ms: NonZeroU64,

    /// Write timeout in milliseconds: a client that reads nothing of its response for this
    /// long is disconnected.
    #[arg(
        long,
        env = "COLDREAD_WRITE_TIMEOUT_MS",
        default_value_t = Self::DEFAULT.write_timeout_ms,
        value_name = "MS"
    )]
    pub write_timeout_ms: NonZeroU64,

    /// Maximum number of connections; further ones wait in the kernel's backlog.
    #[arg(
        long,
        env = "COLDREAD_MAX_CONNECTIONS",
        default_value_t = Self::DEFAULT.max_connections,
        value_name = "N"
    )]
    pub max_connections: NonZeroUsize,

    /// How long a graceful shutdown waits for accepted requests, in milliseconds; then their
    /// connections are closed. It should be less than the platform's time before SIGKILL: 10
    /// seconds on Cloud Run, 30 on Kubernetes.
    #[arg(
        long,
        env = "COLDREAD_DRAIN_GRACE_MS",
        default_value_t = Self::DEFAULT.drain_grace_ms,
        value_name = "MS"
    )]
    pub drain_grace_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        max_body_bytes: NonZeroUsize::new(4 << 20).unwrap(),
        max_pending_bytes: NonZeroUsize::new(64 << 20).unwrap(),
        max_posts: NonZeroUsize::new(1000).unwrap(),
        max_pending_posts: NonZeroUsize::new(4096).unwrap(),
        max_queue_wait_ms: NonZeroU64::new(1000).unwrap(),
        max_batch_tokens: NonZeroUsize::new(256).unwrap(),
        batch_wait_us: 0,
        workers: None,
        request_timeout_ms: NonZeroU64::new(30_000).unwrap(),
        body_timeout_ms: NonZeroU64::new(20_000).unwrap(),
        head_timeout_ms: NonZeroU64::new(75_000).unwrap(),
        half_close_ms: NonZeroU64::new(1000).unwrap(),
        write_timeout_ms: NonZeroU64::new(20_000).unwrap(),
        max_connections: NonZeroUsize::new(4096).unwrap(),
        drain_grace_ms: 8000,
    };

    /// Rejects limits that contradict each other.
    pub(super) fn check(&self, max_post_bytes: NonZeroUsize) -> Result<(), ConfigError> {
        let reject = |message| Err(ConfigError::Limits(message));
        if self.max_posts > self.max_pending_posts {
            return reject(format!(
                "--max-posts ({}) is larger than --max-pending-posts ({}), so one request could \
                 fill the queue several times over; lower the first or raise the second",
                self.max_posts, self.max_pending_posts
            ));
        }
        if max_post_bytes > self.max_body_bytes {
            return reject(format!(
                "--max-post-bytes ({max_post_bytes}) is larger than --max-body-bytes ({}), so no \
                 post could be that long; lower the first or raise the second",
                self.max_body_bytes
            ));
        }
        if self.max_body_bytes > self.max_pending_bytes {
            return reject(format!(
                "--max-body-bytes ({}) is larger than --max-pending-bytes ({}), so the largest \
                 bodies would always be rejected; lower the first or raise the second",
                self.max_body_bytes, self.max_pending_bytes
            ));
        }
        Ok(())
    }

    /// What [`crate::batcher::Batcher::start`] takes.
    ///
    /// `threads` are those of one batch; variables are looked up through `env`.
    pub fn batch_options(
        &self,
        threads: NonZeroUsize,
        env: impl Fn(&str) -> Option<String>,
    ) -> BatchOptions {
        let workers = self.workers.unwrap_or_else(|| {
            let cores = cores(env).get() / threads;
            NonZeroUsize::new(cores).unwrap_or(NonZeroUsize::MIN)
        });
        BatchOptions {
            max_pending_posts: self.max_pending_posts,
            max_queue_wait: Duration::from_millis(self.max_queue_wait_ms.get()),
            max_batch_tokens: self.max_batch_tokens,
            batch_wait: Duration::from_micros(self.batch_wait_us),
            workers,
            in_place: false,
        }
    }
}

/// The cores that this process may use.
fn cores(env: impl Fn(&str) -> Option<String>) -> NonZeroUsize {
    // A small function sees two cores and is given a fraction of one. Managed
    // Instances, which set the second variable, have cores of their own.
    match lambda_memory_mb(&env) {
        Some(mb) if filled(env("AWS_LAMBDA_MAX_CONCURRENCY")).is_none() => {
            let cores = usize::try_from(mb / LAMBDA_MB_PER_CORE).unwrap_or(usize::MAX);
            NonZeroUsize::new(cores).unwrap_or(NonZeroUsize::MIN)
        }
        _ => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        limits: Limits,
    }

    #[test]
    fn no_flags_mean_the_defaults() {
        let [flags, defaults] = [limits(&[]), Limits::default()].map(|it| format!("{it:?}"));
        assert_eq!(flags, defaults);
    }

    fn limits(args: &[&str]) -> Limits {
        let args = ["coldread"].iter().chain(args);
        Cli::try_parse_from(args)
            .expect("the arguments parse")
            .limits
    }

    const ONE: NonZeroUsize = NonZeroUsize::MIN;

    #[test]
    fn limits_that_contradict_each_other_are_rejected() {
        let check = |args: &[&str]| limits(args).check(65_536.try_into().expect("more than 0"));
        check(&[]).expect("the defaults agree");
        let message = |args: &[&str]| check(args).expect_err("rejected").to_string();
        assert!(message(&["--max-posts", "5000"]).contains("--max-pending-posts (4096)"));
        assert!(message(&["--max-body-bytes", "1000"]).contains("--max-post-bytes (65536)"));
        assert!(message(&["--max-pending-bytes", "1000"]).contains("--max-body-bytes (4194304)"));
    }

    #[test]
    fn workers_follow_the_memory_of_a_lambda_function() {
        let workers = |mb: &'static str, threads: usize| {
            let threads = threads.try_into().expect("more than 0");
            let env = |name: &str| (name == "AWS_LAMBDA_FUNCTION_MEMORY_SIZE").then(|| mb.into());
            limits(&[]).batch_options(threads, env).workers.get()
        };
        assert_eq!(workers("128", 1), 1);
        assert_eq!(workers("1769", 1), 1);
        assert_eq!(workers(" 3600 ", 1), 2);
        assert_eq!(workers("3600MB", 1), 2);
        assert_eq!(workers("3600.5", 1), 2);
        assert_eq!(workers("0", 1), 1);
        assert_eq!(workers("10240", 1), 5);
        assert_eq!(workers("10240", 2), 2);
        assert_eq!(workers("10240", 8), 1);
    }

    #[test]
    fn workers_that_were_asked_for_are_taken() {
        let options = limits(&["--workers", "7"]).batch_options(ONE, |_| None);
        assert_eq!(options.workers.get(), 7);
        let managed = |name: &str| {
            [
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                "AWS_LAMBDA_MAX_CONCURRENCY",
            ]
            .contains(&name)
            .then(|| "64".to_owned())
        };
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let options = limits(&[]).batch_options(ONE, managed);
        assert_eq!(options.workers.get(), cores);
    }
}
