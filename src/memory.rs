//! How much memory this process may use.

use crate::config::lambda_memory_mb;
use std::fs;
use std::path::Path;

/// The least of the Lambda function's memory, the limits of the control groups that the process
/// is in, and the machine's memory; `None` where nothing says. Variables are looked up through
/// `env`.
pub(crate) fn limit(env: impl Fn(&str) -> Option<String>) -> Option<u64> {
    limit_below(Path::new("/"), env)
}

/// The limit with the system's files below `root`.
fn limit_below(root: &Path, env: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let lambda = lambda_memory_mb(env).map(|mb| mb.saturating_mul(1 << 20));
    let limits = [lambda, control_groups(root), machine(root)];
    limits.into_iter().flatten().min()
}

/// The least limit of the process's control group and those above it.
fn control_groups(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        // Version 2 has one hierarchy, version 1 one of each controller.
        let (hierarchy, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return None,
        };
        let hierarchy = root.join(hierarchy);
        // A container may see its group as the root, whatever this path says.
        let groups = Path::new(group.trim_start_matches('/')).ancestors();
        let limit = |group| number(&fs::read_to_string(hierarchy.join(group).join(file)).ok()?);
        groups.filter_map(limit).min()
    });
    limits.min()
}

/// The machine's memory.
fn machine(root: &Path) -> Option<u64> {
    let memory = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kilobytes = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    number(kilobytes.strip_suffix("kB")?)?.checked_mul(1 << 10)
}

/// `None` for `max`, version 2's word for no limit.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], lambda: Option<&str>, expected: Option<u64>) {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        let env = |name: &str| {
            let is_it = name == "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
            lambda.filter(|_| is_it).map(str::to_owned)
        };
        assert_eq!(limit_below(root.path(), env), expected, "{files:?}");
    }

    #[test]
    fn the_least_limit_counts() {
        let machine = ("proc/meminfo", "MemTotal:  1024 kB\nMemFree:  1 kB\n");
        let group = ("proc/self/cgroup", "0::/pod/app\n");
        let limit = |text| ("sys/fs/cgroup/pod/memory.max", text);
        check(&[], None, None);
        check(&[machine], None, Some(1 << 20));
        check(&[machine], Some("512"), Some(1 << 20));
        check(&[], Some("512"), Some(512 << 20));
        check(&[machine, group, limit("4096\n")], None, Some(4096));
        check(&[machine, group, limit("max\n")], None, Some(1 << 20));
        let own = ("sys/fs/cgroup/pod/app/memory.max", "8192\n");
        check(&[group, limit("4096\n"), own], None, Some(4096));
        check(&[group, limit("16384\n"), own], None, Some(8192));
    }

    #[test]
    fn containers_and_version_1() {
        let root = ("proc/self/cgroup", "0::/\n");
        check(
            &[root, ("sys/fs/cgroup/memory.max", "4096\n")],
            None,
            Some(4096),
        );
        let elsewhere = ("proc/self/cgroup", "4:cpu:/\n3:memory:/docker/0f\n0::/\n");
        let limit = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
        check(&[elsewhere, limit], None, Some(4096));
    }
}
