//! Cores of this machine that a thread or a process is bound to.

use crate::system::MAX_CORES;
use anyhow::{Context, Result, ensure};

/// Parses a list such as `0,2-3`.
pub fn parse(text: &str) -> Result<Vec<usize>> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let [first, last] = [first, last].map(|core| {
            core.trim()
                .parse::<usize>()
                .ok()
                .filter(|core| *core < MAX_CORES)
                .with_context(|| format!("cores `{text}`: not like 0,2-3"))
        });
        cores.extend(first?..=last?);
    }
    ensure!(
        !cores.is_empty(),
        "`{text}` names no cores; expected a list such as 1 or 0,2-3"
    );
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_as_taskset_writes_them() {
        assert_eq!(parse("0,2-4").unwrap(), [0, 2, 3, 4]);
        for text in ["", "a", "3-1", "1,", "99999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
