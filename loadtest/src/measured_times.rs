//! Measured times as inputs of prices and simulations.
//!
//! What is added first counts, so it is added in this order: what AWS logged, what
//! the local Lambda took, what a warm server took.

use anyhow::Result;

use crate::cold_start::{COLDREAD, Cache, ColdStart, Row};
use crate::cost::workload::{AtSize, Workload};
use crate::lambda_memory::{ONE_VCPU_MB, vcpus};
use crate::logs::{LogError, Logs};
use crate::simulate::sampler::Sampler;
use crate::warm::Warm;

/// Time of a warm request.
#[derive(Clone, Debug)]
pub struct ServiceTime {
    /// The measured times.
    pub time: Sampler,
    /// vCPUs that the function had.
    pub vcpus: f64,
}

/// What was measured of a function.
#[derive(Clone, Debug, Default)]
pub struct MeasuredTimes {
    /// Time of a warm request.
    pub service: Option<ServiceTime>,
    /// Mean times by memory size.
    pub at_size: Vec<AtSize>,
    /// Billed init of a cold start.
    pub init: Option<Sampler>,
    /// Time of a restore, the function's hooks not included.
    pub restore: Option<Sampler>,
    /// Billed time of a restore: the function's hooks.
    pub billed_restore: Option<Sampler>,
    /// A log that has restores and no init.
    pub restored_only: Option<String>,
    /// Time of an instance's first request, beside that init.
    pub first: Option<Sampler>,
    /// Requests a second a vCPU of a warm server sustains within its latency target.
    pub host_rps_per_vcpu: Option<f64>,
    /// Posts in a request, where a file says so.
    pub posts_per_request: Option<f64>,
    /// Where each came from, in words.
    pub sources: Vec<String>,
}

impl MeasuredTimes {
    /// Takes what AWS logged.
    pub fn add_logs(&mut self, logs: &Logs) -> Result<()> {
        self.at_size(logs.memory_mb, &logs.warm_samples_ms);
        let source = format!("{} of AWS, {} MB", logs.file, logs.memory_mb);
        self.set_service(&logs.warm_samples_ms, vcpus(logs.memory_mb), &source)?;
        self.set_init(&logs.init_samples_ms, &source)?;
        self.set_restore(logs, &source)
    }

    fn set_restore(&mut self, logs: &Logs, source: &str) -> Result<()> {
        if self.restore.is_some() || logs.restore_samples_ms.is_empty() {
            return Ok(());
        }
        let pairs = logs
            .restore_samples_ms
            .iter()
            .zip(&logs.billed_restore_samples_ms);
        let platform: Vec<f64> = pairs
            .map(|(whole, hooks)| (whole - hooks).max(0.0))
            .collect();
        self.restore = Some(Sampler::measured_ms(&platform)?);
        self.billed_restore = Some(Sampler::measured_ms(&logs.billed_restore_samples_ms)?);
        self.sources.push(format!("restores: {source}"));
        if logs.init_samples_ms.is_empty() {
            self.restored_only = Some(logs.file.clone());
        }
        Ok(())
    }

    /// Fails where all that is known of cold starts is that snapshots were restored.
    pub fn needs_no_init(&self) -> Result<(), LogError> {
        match (&self.restored_only, &self.init) {
            (Some(file), None) => Err(LogError::RestoreWithoutInit { file: file.clone() }),
            _ => Ok(()),
        }
    }

    fn at_size(&mut self, memory_mb: u32, warm: &[f64]) {
        let known = |known: &AtSize| known.memory_mb == memory_mb;
        if !warm.is_empty() && !self.at_size.iter().any(known) {
            self.at_size.push(AtSize {
                memory_mb,
                posts_per_request: 1.0,
                request_ms: warm.iter().sum::<f64>() / warm.len() as f64,
            });
        }
    }

    fn set_service(&mut self, times_ms: &[f64], vcpus: f64, source: &str) -> Result<()> {
        if self.service.is_none() && !times_ms.is_empty() {
            let time = Sampler::measured_ms(times_ms)?;
            self.service = Some(ServiceTime { time, vcpus });
            self.sources.push(format!("service time: {source}"));
        }
        Ok(())
    }

    fn set_init(&mut self, times_ms: &[f64], source: &str) -> Result<()> {
        if self.init.is_none() && !times_ms.is_empty() {
            self.init = Some(Sampler::measured_ms(times_ms)?);
            self.sources.push(format!("init: {source}"));
        }
        Ok(())
    }

    /// Takes the service time at the memory size nearest to one vCPU, and the init at the
    /// one nearest to `memory_mb`.
    pub fn add_cold_start(&mut self, found: &ColdStart, memory_mb: u32) -> Result<()> {
        let rows = || {
            found
                .rows
                .iter()
                .filter(|row| row.function == COLDREAD && row.cache == Cache::Warm)
        };
        let nearest = |wanted: u32| {
            rows().min_by_key(|row| row.memory_mb.unwrap_or(u32::MAX).abs_diff(wanted))
        };
        let warm =
            |row: &Row| -> Vec<f64> { row.samples.iter().map(|run| run.second_event_ms).collect() };
        for row in rows() {
            if let Some(memory_mb) = row.memory_mb {
                self.at_size(memory_mb, &warm(row));
            }
        }
        let (Some(whole), Some(sized)) = (nearest(ONE_VCPU_MB), nearest(memory_mb)) else {
            return Ok(());
        };
        let size = |row: &Row| {
            row.memory_mb
                .map_or_else(|| "no limits".to_owned(), |memory| format!("{memory} MB"))
        };
        let init: Vec<f64> = sized.samples.iter().map(|run| run.first_next_ms).collect();
        let first: Vec<f64> = sized.samples.iter().map(|run| run.first_event_ms).collect();
        if self.init.is_none() && !first.is_empty() {
            self.first = Some(Sampler::measured_ms(&first)?);
        }
        self.set_service(
            &warm(whole),
            whole.vcpus.unwrap_or(1.0),
            &format!("second event on this machine, {}", size(whole)),
        )?;
        self.set_init(
            &init,
            &format!("cold starts on this machine, {}", size(sized)),
        )
    }

    /// Takes what a warm server sustained.
    pub fn add_warm(&mut self, warm: &Warm) {
        self.posts_per_request = Some(warm.posts_per_request as f64);
        if self.service.is_none() && warm.service_ms > 0.0 {
            self.service = Some(ServiceTime {
                time: Sampler::constant_ms(warm.service_ms),
                vcpus: 1.0,
            });
            self.sources
                .push("service time: a single client of the warm server".to_owned());
        }
        if let (None, Some(rate)) = (self.host_rps_per_vcpu, warm.capacity_rps) {
            let cores = warm.server_cores.unwrap_or(1).max(1);
            self.host_rps_per_vcpu = Some(rate / cores as f64);
            self.sources.push(format!(
                "capacity: the warm server on {cores} core(s), p99 within {} ms",
                warm.target_p99_ms
            ));
        }
    }

    /// Lays what was measured over a workload.
    pub fn apply(&self, workload: &mut Workload) {
        if let Some(ServiceTime { time, vcpus }) = &self.service {
            workload.request_ms = 0.0;
            workload.post_ms = time.mean_ms() * vcpus.min(workload.threads)
                / self.posts_per_request.unwrap_or(1.0);
        }
        workload.measured.clone_from(&self.at_size);
        if let Some(init) = &self.init {
            workload.init_ms = init.mean_ms();
        }
        if let Some(hooks) = &self.billed_restore {
            workload.restore_ms = hooks.mean_ms();
        }
        if self.host_rps_per_vcpu.is_some() {
            workload.host_rps_per_vcpu = self.host_rps_per_vcpu;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_restores_alone_says_nothing_of_an_init() {
        let restored = Logs {
            file: "log.txt".to_owned(),
            memory_mb: 512,
            warm_samples_ms: vec![12.0],
            restore_samples_ms: vec![400.0],
            billed_restore_samples_ms: vec![10.0],
            ..Logs::default()
        };
        let mut times = MeasuredTimes::default();
        times.add_logs(&restored).unwrap();
        assert_eq!(times.restore, Some(Sampler::measured_ms(&[390.0]).unwrap()));
        let error = times.needs_no_init().unwrap_err();
        assert!(matches!(&error, LogError::RestoreWithoutInit { file } if file == "log.txt"));
        let cold = Logs {
            init_samples_ms: vec![80.0],
            ..Logs::default()
        };
        times.add_logs(&cold).unwrap();
        assert!(times.needs_no_init().is_ok());
        let mut workload = Workload::default();
        times.apply(&mut workload);
        assert!((workload.restore_ms - 10.0).abs() < 1e-9);
    }

    #[test]
    fn figures_of_aws_come_first_and_are_scaled_to_a_vcpu() {
        let logs = Logs {
            file: "log.txt".to_owned(),
            memory_mb: 885,
            warm_samples_ms: vec![12.0],
            init_samples_ms: vec![80.0],
            ..Logs::default()
        };
        let mut times = MeasuredTimes::default();
        times.add_logs(&logs).unwrap();
        assert_eq!(times.sources.len(), 2);
        let mut workload = Workload::default();
        times.apply(&mut workload);
        // Half a vCPU took 12 ms, so a whole one takes 6.
        assert!((workload.post_ms - 12.0 * 885.0 / f64::from(ONE_VCPU_MB)).abs() < 1e-9);
        assert!((workload.init_ms - 80.0).abs() < 1e-9);
        assert!(workload.host_rps_per_vcpu.is_none());
    }
}
