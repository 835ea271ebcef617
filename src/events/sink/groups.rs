//! Results in groups as large as one call takes.

use super::Outgoing;

/// What one call takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLimits {
    /// Entries.
    pub(super) entries: usize,
    /// Bytes of all entries.
    pub(super) bytes: usize,
    /// Bytes of an entry beside its body.
    pub(super) overhead: usize,
}

impl CallLimits {
    /// The places of results in groups, in order. One that is too large for a call of
    /// its own is in none.
    pub(super) fn group(self, results: &[&Outgoing]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut bytes = self.bytes;
        for (place, result) in results.iter().enumerate() {
            let size = result.body.len() + self.overhead;
            if size > self.bytes {
                continue;
            }
            match groups.last_mut() {
                Some(group) if group.len() < self.entries && bytes + size <= self.bytes => {
                    bytes += size;
                    group.push(place);
                }
                _ => {
                    bytes = size;
                    groups.push(vec![place]);
                }
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(sizes: &[usize]) -> Vec<Vec<usize>> {
        let results: Vec<Outgoing> = sizes
            .iter()
            .map(|&size| Outgoing {
                id: String::new(),
                group: None,
                source: None,
                is_error: false,
                body: "x".repeat(size),
            })
            .collect();
        let limits = CallLimits {
            entries: 3,
            bytes: 100,
            overhead: 10,
        };
        limits.group(&results.iter().collect::<Vec<_>>())
    }

    #[test]
    fn groups_are_as_large_as_they_may_be() {
        assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(groups(&[1; 7]), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        assert_eq!(groups(&[40, 40, 40]), [vec![0, 1], vec![2]]);
        assert_eq!(groups(&[40, 41]), [vec![0], vec![1]]);
        assert_eq!(groups(&[90, 1]), [vec![0], vec![1]]);
    }

    #[test]
    fn what_fits_no_call_is_in_no_group() {
        assert_eq!(groups(&[91, 1, 200, 1]), [vec![1, 3]]);
    }
}
