//! Streams of random numbers.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

// Arrivals draw from the first two streams. With one stream for all, gaps and service
// times would be the same draws.
pub(super) const PLATFORM: u64 = 2;
pub(super) const BASELINE: u64 = 3;
pub(super) const TENANTS: u64 = 4;

/// A stream of the generator that `seed` sets.
pub(super) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}
