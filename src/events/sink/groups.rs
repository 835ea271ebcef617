//! Splits results into groups that fit into one API call.

use super::Outgoing;

/// The limits of one API call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLimits {
    /// The number of entries.
    pub(super) entries: usize,
    /// The size of all entries, in bytes.
    pub(super) bytes: usize,
    /// The size of an entry in addition to its body, in bytes.
    pub(super) overhead: usize,
}

impl CallLimits {
    /// The indexes of results in groups, in order. A result that is too large for any call is in
    /// no group.
    pub(super) fn group(self, results: &[&Outgoing]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut bytes = self.bytes;
        for (index, result) in results.iter().enumerate() {
            let size = result.body.len() + self.overhead;
            if size > self.bytes {
                continue;
            }
            match groups.last_mut() {
                Some(group) if group.len() < self.entries && bytes + size <= self.bytes => {
                    bytes += size;
                    group.push(index);
                }
                _ => {
                    bytes = size;
                    groups.push(vec![index]);
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
    fn groups_are_as_large_as_allowed() {
        assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(groups(&[1; 7]), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        assert_eq!(groups(&[40, 40, 40]), [vec![0, 1], vec![2]]);
        assert_eq!(groups(&[40, 41]), [vec![0], vec![1]]);
        assert_eq!(groups(&[90, 1]), [vec![0], vec![1]]);
    }

    #[test]
    fn a_result_too_large_for_any_call_is_in_no_group() {
        assert_eq!(groups(&[91, 1, 200, 1]), [vec![1, 3]]);
    }
}
