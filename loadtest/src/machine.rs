//! What the figures were measured on. A figure without these facts says little.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The machine, the moment and the harness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Name of the processor, as the kernel gives it.
    pub cpu: String,
    /// Processors that this process may run on.
    pub cores: usize,
    /// `x86_64`, `aarch64` ...
    pub arch: String,
    /// Operating system and its release.
    pub os: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Main memory in MiB.
    pub memory_mib: u64,
    /// Load average of the last minute when the run began: above the number of
    /// cores, the figures tell of the neighbours as well.
    pub load_average: f64,
    /// When the run began, UTC, RFC 3339.
    pub date: String,
    /// Version of the harness.
    pub harness: String,
}

impl Machine {
    /// Reads the facts of this machine. What it does not tell is `"unknown"` or 0.
    pub fn read() -> Self {
        let system = System::new_with_specifics(
            RefreshKind::nothing()
                .with_cpu(CpuRefreshKind::nothing())
                .with_memory(MemoryRefreshKind::nothing().with_ram()),
        );
        let unknown = || "unknown".to_owned();
        Self {
            cpu: system
                .as_ref()
                .ok()
                .and_then(|system| system.cpus().first())
                .map(|cpu| cpu.brand().trim().to_owned())
                .filter(|brand| !brand.is_empty())
                .unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            arch: std::env::consts::ARCH.to_owned(),
            os: System::long_os_version().unwrap_or_else(|_| unknown()),
            kernel: System::kernel_version().unwrap_or_else(|_| unknown()),
            memory_mib: system.map_or(0, |system| system.total_memory() >> 20),
            load_average: System::load_average().map_or(0.0, |load| load.one),
            date: jiff::Timestamp::now()
                .round(jiff::Unit::Second)
                .unwrap_or_default()
                .to_string(),
            harness: format!("coldread-loadtest {}", env!("CARGO_PKG_VERSION")),
        }
    }

    /// One line for the head of a table.
    pub fn summary(&self) -> String {
        let Self {
            cpu, cores, kernel, ..
        } = self;
        format!(
            "{cpu}, {cores} cores, {:.1} GiB, Linux {kernel}, load {:.2}, {}",
            self.memory_mib as f64 / 1024.0,
            self.load_average,
            self.date
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.memory_mib > 0);
        assert!(machine.date.ends_with('Z'), "{}", machine.date);
        assert!(machine.summary().contains(&machine.cpu));
    }
}
