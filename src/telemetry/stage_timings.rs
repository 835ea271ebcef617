//! Where the time of a request went.

use std::time::Duration;

/// How long the stages of a request took. Requests share batches: each is told the full
/// time of every batch that held one of its posts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct StageTimings {
    /// From admission until a worker took the first post.
    pub queue: Duration,
    /// Normalization and tokenization.
    pub tokenize: Duration,
    /// The model's forward pass.
    pub inference: Duration,
}

impl StageTimings {
    /// The stages by the names they have in headers, logs and metrics.
    pub fn named(&self) -> [(&'static str, Duration); 3] {
        [
            ("queue", self.queue),
            ("tokenize", self.tokenize),
            ("inference", self.inference),
        ]
    }

    /// Adds the timings of work that came after: queue waits overlap, so the longest
    /// counts; work adds up.
    pub fn add(&mut self, later: &Self) {
        self.queue = self.queue.max(later.queue);
        self.tokenize += later.tokenize;
        self.inference += later.inference;
    }
}
