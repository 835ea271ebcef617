//! What is deployed: a program or an image, its memory size and its environment.

use crate::lambda_memory::vcpus;
use crate::runtime_api::Identity;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most vCPUs an instance has, however large its memory.
const MAX_VCPUS: f64 = 6.0;

const REGION: &str = "us-east-1";

/// What runs in an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// An executable and its arguments.
    Command(Vec<OsString>),
    /// A container image.
    Image {
        /// `podman` or `docker`.
        engine: String,
        /// What goes between `run` and the image, beside what the platform sets.
        engine_args: Vec<String>,
        /// Name of the image, which must be there already.
        image: String,
        /// Arguments after the image.
        args: Vec<String>,
    },
}

/// SnapStart: instances are restored from a snapshot that was taken after their init. Displayed as
/// what of it is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapStart {
    /// Whether the image's label allows a snapshot of a function that does not ask for its
    /// restore.
    pub labelled: bool,
    /// Shortest and longest time that the platform takes to load a snapshot. It is stated
    /// and not measured: here a snapshot is a process that is paused.
    pub load: (Duration, Duration),
}

impl fmt::Display for SnapStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.load;
        write!(
            f,
            "SnapStart: a snapshot is a paused process; hooks are measured, loading takes an assumed {} to {} ms",
            low.as_millis(),
            high.as_millis()
        )
    }
}

impl Default for SnapStart {
    /// Restores that others have published: 377 ms of a Rust hello-world, up to 693 ms of a
    /// Rust container of 327 MB (read 2026-11, one author each).
    fn default() -> Self {
        Self {
            labelled: false,
            load: (Duration::from_millis(377), Duration::from_millis(693)),
        }
    }
}

/// A function as it is deployed.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// What runs in its instances.
    pub program: Program,
    /// Memory size in MB, which sets its share of the processor as well.
    pub memory_mb: u32,
    /// Longest time an invocation may take.
    pub timeout: Duration,
    /// Invocations that one instance may work on at once; 1 except on Lambda Managed
    /// Instances.
    pub max_concurrency: usize,
    /// Whether its instances are restored from a snapshot.
    pub snapstart: Option<SnapStart>,
    /// Variables beside those that Lambda sets.
    pub env: Vec<(String, String)>,
}

impl Function {
    /// A function of one invocation at a time and no variables of its own.
    pub fn new(name: &str, program: Program, memory_mb: u32) -> Self {
        Self {
            name: name.to_owned(),
            program,
            memory_mb,
            timeout: Duration::from_secs(30),
            max_concurrency: 1,
            snapstart: None,
            env: Vec::new(),
        }
    }

    /// Processors that its memory size comes with.
    pub fn vcpus(&self) -> f64 {
        vcpus(self.memory_mb).min(MAX_VCPUS)
    }

    /// Why its instances are initialised, as `AWS_LAMBDA_INITIALIZATION_TYPE` says it.
    fn initialization_type(&self) -> &'static str {
        match (&self.snapstart, self.max_concurrency) {
            (Some(_), _) => "snap-start",
            (None, 1) => "on-demand",
            (None, _) => "lambda-managed-instances",
        }
    }

    /// As it is told with each event.
    pub fn identity(&self) -> Identity {
        let name = &self.name;
        Identity {
            function_arn: format!("arn:aws:lambda:{REGION}:123456789012:function:{name}"),
        }
    }

    /// The whole environment of an instance: nothing of the harness's own gets in.
    pub fn environment(&self, runtime_api: SocketAddr) -> Vec<(String, String)> {
        let task_root = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let mut env: Vec<(String, String)> = [
            ("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", self.name.clone()),
            (
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                self.memory_mb.to_string(),
            ),
            (
                "AWS_LAMBDA_INITIALIZATION_TYPE",
                self.initialization_type().to_owned(),
            ),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("LAMBDA_TASK_ROOT", task_root.display().to_string()),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
            ("_HANDLER", "bootstrap".to_owned()),
            ("TZ", ":UTC".to_owned()),
            ("LANG", "en_US.UTF-8".to_owned()),
            ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        // Only published versions have snapshots, and which log is theirs they cannot know.
        let version = match self.snapstart {
            Some(_) => "1",
            None => {
                let group = format!("/aws/lambda/{}", self.name);
                env.push(("AWS_LAMBDA_LOG_GROUP_NAME".to_owned(), group));
                let stream = "$LATEST".to_owned();
                env.push(("AWS_LAMBDA_LOG_STREAM_NAME".to_owned(), stream));
                "$LATEST"
            }
        };
        env.push(("AWS_LAMBDA_FUNCTION_VERSION".to_owned(), version.to_owned()));
        if self.max_concurrency > 1 {
            env.push((
                "AWS_LAMBDA_MAX_CONCURRENCY".to_owned(),
                self.max_concurrency.to_string(),
            ));
        }
        env.extend(self.env.iter().cloned());
        env
    }
}

/// Where `program` is, as a shell would find it; the clock must not run while it is
/// searched for.
pub fn resolve(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sets_the_share_of_the_processor() {
        let vcpus = |memory_mb| Function::new("f", Program::Command(Vec::new()), memory_mb).vcpus();
        assert!((vcpus(1769) - 1.0).abs() < 1e-9);
        assert!((vcpus(128) - 0.0724).abs() < 1e-4);
        assert!(vcpus(10_240) < 6.0);
        assert!((vcpus(20_000) - 6.0).abs() < 1e-9);
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(resolve(Path::new("sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(resolve(Path::new("no-such-program")), None);
        assert_eq!(resolve(Path::new("./no-such-program")), None);
    }
}
