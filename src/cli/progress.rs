//! A progress bar on standard error for work that takes longer than a moment.

use super::terminal::thousands;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Work that is done sooner needs no bar.
const SHOWN_AFTER: Duration = Duration::from_millis(700);

/// Counts posts, and shows them where somebody watches.
pub(crate) struct Progress {
    started: Instant,
    posts: u64,
    total_bytes: Option<u64>,
    watched: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `total_bytes` is the input's size where it is known. Nothing is drawn
    /// unless `wanted` and standard error is a terminal.
    pub(crate) fn start(total_bytes: Option<u64>, wanted: bool) -> Self {
        Self {
            started: Instant::now(),
            posts: 0,
            total_bytes,
            watched: wanted && io::stderr().is_terminal(),
            bar: None,
        }
    }

    /// `posts` more are done, and the input is read up to `bytes_read`.
    pub(crate) fn advance(&mut self, posts: usize, bytes_read: u64) {
        self.posts += posts as u64;
        let elapsed = self.started.elapsed();
        if !self.watched || elapsed < SHOWN_AFTER {
            return;
        }
        let total_bytes = self.total_bytes;
        let bar = self
            .bar
            .get_or_insert_with(|| new_bar(total_bytes, elapsed));
        bar.set_position(bytes_read);
        bar.set_message(format!(
            "{} posts, {:.0} posts/s",
            thousands(self.posts),
            self.posts as f64 / elapsed.as_secs_f64()
        ));
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// `1,000 posts in 1.2 s (830 posts/s)`.
    pub(crate) fn summary(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        format!(
            "{} posts in {seconds:.1} s ({:.0} posts/s)",
            thousands(self.posts),
            self.posts as f64 / seconds
        )
    }
}

/// Shows how far the download of a model's files has come, one bar after another.
#[cfg(feature = "hub")]
#[derive(Default)]
pub(crate) struct Downloads {
    bar: Option<(String, ProgressBar)>,
}

#[cfg(feature = "hub")]
impl Downloads {
    /// A file has so many bytes of all it has to have. Nothing is drawn where standard
    /// error is no terminal.
    pub(crate) fn show(&mut self, transfer: coldread::hub::Transfer<'_>) {
        let is_same = |(file, _): &(String, ProgressBar)| file == transfer.file;
        if !self.bar.as_ref().is_some_and(is_same) {
            let target = ProgressDrawTarget::stderr_with_hz(8);
            let template = "{msg}  {wide_bar} {bytes} of {total_bytes}  {eta} left";
            let style = ProgressStyle::with_template(template).expect("the template is sound");
            let bar = ProgressBar::with_draw_target(Some(transfer.total), target).with_style(style);
            bar.set_message(transfer.file.to_owned());
            self.bar = Some((transfer.file.to_owned(), bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(transfer.done);
        }
    }
}

fn new_bar(total_bytes: Option<u64>, elapsed: Duration) -> ProgressBar {
    let template = match total_bytes {
        Some(_) => "{wide_bar} {percent}% of {total_bytes}  {msg}  {eta} left",
        None => "{spinner} {bytes}  {msg}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is sound");
    ProgressBar::with_draw_target(total_bytes, ProgressDrawTarget::stderr_with_hz(8))
        .with_style(style)
        .with_elapsed(elapsed)
}
