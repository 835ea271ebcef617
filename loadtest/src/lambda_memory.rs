//! A Lambda function's memory size sets its share of the processor.

/// Memory size that comes with one vCPU, MB.
pub const ONE_VCPU_MB: u32 = 1_769;

/// vCPUs that come with `memory_mb`, in proportion and without an upper limit.
pub fn vcpus(memory_mb: u32) -> f64 {
    f64::from(memory_mb) / f64::from(ONE_VCPU_MB)
}
