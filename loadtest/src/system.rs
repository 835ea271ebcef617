//! What the harness asks of Linux: figures of processes, cores to stay on, pages of files in memory.
//!
//! Other systems have the same functions. Where nothing there answers, they fail with
//! [`ErrorKind::Unsupported`] and say so, or do nothing where a run is as good without.

#[cfg(target_os = "linux")]
pub use linux::*;
#[cfg(not(target_os = "linux"))]
pub use other::*;

#[cfg(doc)]
use std::io::ErrorKind;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Its largest resident set, in KiB.
    pub peak_rss_kib: u64,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
}

#[cfg(target_os = "linux")]
mod linux {
    use super::ProcessFigures;
    use procfs::process::{MMapPath, Process};
    use rustix::fs::{Advice, fadvise, fdatasync};
    use rustix::process::{Signal, set_parent_process_death_signal};
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use std::fs::File;
    use std::io;
    use std::path::PathBuf;

    /// Cores have numbers below this.
    pub const MAX_CORES: usize = CpuSet::MAX_CPU;

    /// Figures of a process; of this one without an id.
    pub fn process_figures(pid: Option<i32>) -> io::Result<ProcessFigures> {
        let process = pid.map_or_else(Process::myself, Process::new);
        let process = process.map_err(io::Error::other)?;
        let stat = process.stat().map_err(io::Error::other)?;
        let status = process.status().map_err(io::Error::other)?;
        Ok(ProcessFigures {
            peak_rss_kib: status.vmhwm.unwrap_or(0),
            minor_faults: stat.minflt,
            major_faults: stat.majflt,
        })
    }

    /// Files that a process has mapped.
    pub fn mapped_files(pid: i32) -> Vec<PathBuf> {
        let maps = Process::new(pid).and_then(|process| process.maps());
        maps.into_iter()
            .flatten()
            .filter_map(|map| match map.pathname {
                MMapPath::Path(path) => Some(path),
                _ => None,
            })
            .collect()
    }

    /// Keeps this thread, and what it starts, on these cores.
    pub fn stay_on(cores: &[usize]) -> io::Result<()> {
        let mut set = CpuSet::new();
        for &core in cores.iter().filter(|&&core| core < MAX_CORES) {
            set.set(core);
        }
        Ok(sched_setaffinity(None, &set)?)
    }

    /// Does something on these cores, and returns to those that this thread was on.
    pub fn on_cores<T>(cores: &[usize], what: impl FnOnce() -> T) -> io::Result<T> {
        let before = sched_getaffinity(None)?;
        stay_on(cores)?;
        let done = what();
        sched_setaffinity(None, &before)?;
        Ok(done)
    }

    /// Has the kernel send this process a signal when its parent ends.
    pub fn die_with_parent(signal: Signal) -> io::Result<()> {
        Ok(set_parent_process_death_signal(Some(signal))?)
    }

    /// Asks the kernel to forget the pages of a file.
    pub fn forget_pages(file: &File) -> io::Result<()> {
        Ok(fadvise(file, 0, None, Advice::DontNeed)?)
    }

    /// Writes what of a file is not on disk yet.
    pub fn write_back(file: &File) -> io::Result<()> {
        Ok(fdatasync(file)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use super::ProcessFigures;
    use rustix::process::Signal;
    use std::fs::File;
    use std::io;
    use std::path::PathBuf;

    /// Cores have numbers below this.
    pub const MAX_CORES: usize = 1024;

    fn unsupported<T>(what: &str) -> io::Result<T> {
        let message = format!("{what} needs Linux");
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    /// Figures of a process; of this one without an id.
    pub fn process_figures(_pid: Option<i32>) -> io::Result<ProcessFigures> {
        unsupported("measuring a process")
    }

    /// Files that a process has mapped.
    pub fn mapped_files(_pid: i32) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Keeps this thread, and what it starts, on these cores.
    pub fn stay_on(_cores: &[usize]) -> io::Result<()> {
        unsupported("staying on cores")
    }

    /// Does something on these cores, and returns to those that this thread was on.
    pub fn on_cores<T>(_cores: &[usize], _what: impl FnOnce() -> T) -> io::Result<T> {
        unsupported("staying on cores")
    }

    /// Has the kernel send this process a signal when its parent ends.
    pub fn die_with_parent(_signal: Signal) -> io::Result<()> {
        unsupported("starting functions")
    }

    /// Asks the kernel to forget the pages of a file.
    pub fn forget_pages(_file: &File) -> io::Result<()> {
        unsupported("evicting a file from memory")
    }

    /// Writes what of a file is not on disk yet.
    pub fn write_back(file: &File) -> io::Result<()> {
        file.sync_data()
    }
}
