//! Measured times out of result files, to price and simulate with.
//!
//! Of a function's times those from AWS (`import-logs`) come before those of the
//! local Lambda (`cold-start`), and these before a warm server's.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::cold_start::{COLDREAD, Cache, Row};
use crate::cost::workload::{AtSize, MB_PER_VCPU, Workload};
use crate::results::Results;
use crate::simulate::sampler::Sampler;

/// What result files say about a function.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Time of a warm request, and the vCPUs it had.
    pub service: Option<(Sampler, f64)>,
    /// Mean times by memory size.
    pub at_size: Vec<AtSize>,
    /// Billed init of a cold start.
    pub init: Option<Sampler>,
    /// Time of an instance's first request, beside that init.
    pub first: Option<Sampler>,
    /// Requests a second a vCPU of a warm server sustains within its latency target.
    pub host_rps_per_vcpu: Option<f64>,
    /// Posts in a request, where a file says so.
    pub posts_per_request: Option<f64>,
    /// Where each came from, in words.
    pub sources: Vec<String>,
}

impl Times {
    /// Reads `files`, for a function of `memory_mb`.
    pub fn read(files: &[PathBuf], memory_mb: u32) -> Result<Self> {
        let mut documents = Vec::new();
        for path in files {
            documents.push(Results::read(path)?);
        }
        let mut times = Self::default();
        for document in &documents {
            times.logs(document)?;
        }
        for document in &documents {
            times.cold_start(document, memory_mb)?;
        }
        for document in &documents {
            times.warm(document);
        }
        ensure!(
            files.is_empty() || !times.sources.is_empty(),
            "the files given with --measured hold no times"
        );
        Ok(times)
    }

    fn logs(&mut self, document: &Results) -> Result<()> {
        let Some(logs) = &document.logs else {
            return Ok(());
        };
        let vcpus = f64::from(logs.memory_mb) / MB_PER_VCPU;
        self.at_size(logs.memory_mb, &logs.warm_samples_ms);
        self.add(
            (&logs.warm_samples_ms, &logs.init_samples_ms, vcpus),
            &format!("{} of AWS, {} MB", logs.file, logs.memory_mb),
        )
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

    fn add(&mut self, (service, init, vcpus): (&[f64], &[f64], f64), source: &str) -> Result<()> {
        if self.service.is_none() && !service.is_empty() {
            self.service = Some((Sampler::measured_ms(service)?, vcpus));
            self.sources.push(format!("service time: {source}"));
        }
        if self.init.is_none() && !init.is_empty() {
            self.init = Some(Sampler::measured_ms(init)?);
            self.sources.push(format!("init: {source}"));
        }
        Ok(())
    }

    /// The service time of the size nearest to one vCPU, the init of the one nearest
    /// to `memory_mb`.
    fn cold_start(&mut self, document: &Results, memory_mb: u32) -> Result<()> {
        let rows = || {
            let rows = document.cold_start.iter().flat_map(|found| &found.rows);
            rows.filter(|row| row.function == COLDREAD && row.cache == Cache::Warm)
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
        let (Some(whole), Some(sized)) = (nearest(MB_PER_VCPU as u32), nearest(memory_mb)) else {
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
        self.add(
            (&warm(whole), &[], whole.vcpus.unwrap_or(1.0)),
            &format!("second event on this machine, {}", size(whole)),
        )?;
        self.add(
            (&[], &init, 1.0),
            &format!("cold starts on this machine, {}", size(sized)),
        )
    }

    fn warm(&mut self, document: &Results) {
        let Some(warm) = &document.warm else {
            return;
        };
        self.posts_per_request = Some(warm.posts_per_request as f64);
        if self.service.is_none() && warm.service_ms > 0.0 {
            self.service = Some((Sampler::constant_ms(warm.service_ms), 1.0));
            self.sources
                .push("service time: a single caller of the warm server".to_owned());
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
        if let Some((service, vcpus)) = &self.service {
            workload.request_ms = 0.0;
            workload.post_ms = service.mean_ms() * vcpus.min(workload.threads)
                / self.posts_per_request.unwrap_or(1.0);
        }
        workload.measured.clone_from(&self.at_size);
        if let Some(init) = &self.init {
            workload.init_ms = init.mean_ms();
        }
        if self.host_rps_per_vcpu.is_some() {
            workload.host_rps_per_vcpu = self.host_rps_per_vcpu;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Logs;

    #[test]
    fn figures_of_aws_come_first_and_are_scaled_to_a_vcpu() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs.json");
        let mut results = Results::new(1);
        results.logs = Some(Logs {
            file: "log.txt".to_owned(),
            memory_mb: 885,
            warm_samples_ms: vec![12.0],
            init_samples_ms: vec![80.0],
            ..Logs::default()
        });
        results.write(&path).unwrap();
        let times = Times::read(&[path], 1_769).unwrap();
        assert_eq!(times.sources.len(), 2);
        let mut workload = Workload::default();
        times.apply(&mut workload);
        // Half a vCPU took 12 ms, so a whole one takes 6.
        assert!((workload.post_ms - 12.0 * 885.0 / 1_769.0).abs() < 1e-9);
        assert!((workload.init_ms - 80.0).abs() < 1e-9);
        assert!(workload.host_rps_per_vcpu.is_none());
    }

    #[test]
    fn files_without_times_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.json");
        Results::new(1).write(&path).unwrap();
        assert!(Times::read(&[path], 512).is_err());
        assert!(Times::read(&[], 512).unwrap().sources.is_empty());
    }
}
