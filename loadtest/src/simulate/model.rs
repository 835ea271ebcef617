//! The parameters of the platform.

use super::sampler::Sampler;
use crate::lambda_memory::ONE_VCPU_MB;

/// How the platform behaves and how long things take.
#[derive(Clone, Debug)]
pub struct Model {
    /// Time of a warm request at the function.
    pub service: Sampler,
    /// Time of an instance's first request; that of the others without it.
    pub first: Option<Sampler>,
    /// Latency outside the function, not billed.
    pub overhead: Sampler,
    /// How long an instance is not free after its response.
    pub settle: Sampler,
    /// Delay of a cold start that is not billed: placement, code fetch.
    pub sandbox: Sampler,
    /// Billed delay of a cold start.
    pub init: Sampler,
    /// Time until an idle instance is reclaimed.
    pub idle: Sampler,
    /// Age from which an instance is not used again.
    pub life: Sampler,
    /// Requests that instances which never go away take at once, before any other:
    /// provisioned concurrency.
    pub kept: u32,
    /// Tenants that share no instance, with equal shares of the traffic.
    pub tenants: u32,
    /// Requests an instance takes at once.
    pub concurrency: u32,
    /// vCPUs of an instance: requests beyond them slow each other down.
    pub vcpus: f64,
    /// Requests in flight at most.
    pub limit: u64,
    /// New instances at once, and how many come back in ten seconds.
    pub burst: f64,
    /// Memory of an instance, MB.
    pub memory_mb: u32,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            service: Sampler::constant_ms(10.0),
            first: None,
            overhead: Sampler::constant_ms(0.0),
            settle: Sampler::constant_ms(0.0),
            sandbox: Sampler::constant_ms(0.0),
            init: Sampler::constant_ms(50.0),
            idle: Sampler::Uniform(300_000_000_000, 900_000_000_000),
            life: Sampler::Uniform(4 * 3_600_000_000_000, 8 * 3_600_000_000_000),
            kept: 0,
            tenants: 1,
            concurrency: 1,
            vcpus: 1.0,
            limit: 1_000,
            burst: 1_000.0,
            memory_mb: ONE_VCPU_MB,
        }
    }
}
