//! Behavioural checks (Ribeiro et al. 2020): what a model must do with posts whatever its
//! accuracy is, such as give a post with a typo the same label.

use super::index_of;
use coldread_engine::{ModelInfo, Sentiment};
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// What one line of the file asks of the results for its posts.
pub(super) struct Check {
    /// Checks of one name are counted together.
    name: String,
    expected: Expected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Both posts get the same label, whichever it is.
    Same,
    Label(usize),
    NotLabel(usize),
}

impl Check {
    /// Splits `check<TAB>expected<TAB>post[<TAB>changed post]` into a check and its posts; the
    /// error says what was expected.
    pub(super) fn parse(text: &str, labels: &[String]) -> Result<(Self, Vec<String>), String> {
        let columns: Vec<&str> = text.split('\t').collect();
        let &[name, expected, ref posts @ ..] = columns.as_slice() else {
            return Err("expected check<TAB>expected<TAB>post, found too few tabs".to_owned());
        };
        let index_of = |label: &str| {
            index_of(label, labels).ok_or_else(|| {
                let names = labels.join(", ");
                format!("unknown expectation; expected `same`, `LABEL` or `not LABEL`, where LABEL is one of {names}")
            })
        };
        let expected = expected.trim();
        let (expected, number_of_posts) = if expected == "same" {
            (Expected::Same, 2)
        } else if let Some(label) = expected.strip_prefix("not ") {
            (Expected::NotLabel(index_of(label.trim())?), 1)
        } else {
            (Expected::Label(index_of(expected)?), 1)
        };
        if posts.len() != number_of_posts {
            let found = posts.len();
            return Err(format!(
                "this expectation takes {number_of_posts} post(s), found {found}"
            ));
        }
        let check = Self {
            name: name.trim().to_owned(),
            expected,
        };
        Ok((check, posts.iter().copied().map(str::to_owned).collect()))
    }

    fn passes(&self, results: &[Sentiment]) -> bool {
        match self.expected {
            Expected::Same => results[0].label_index == results[1].label_index,
            Expected::Label(label) => results[0].label_index == label,
            Expected::NotLabel(label) => results[0].label_index != label,
        }
    }
}

/// How many checks of each name there were, in the order of the file, and which lines failed.
#[derive(Default)]
pub(super) struct Tally {
    names: Vec<(String, Counts)>,
}

#[derive(Default)]
struct Counts {
    checks: u64,
    failed_lines: Vec<u64>,
}

impl Counts {
    fn failure_rate(&self) -> f64 {
        self.failed_lines.len() as f64 / self.checks as f64
    }
}

impl Tally {
    pub(super) fn add(&mut self, check: Check, line: u64, results: &[Sentiment]) {
        let passes = check.passes(results);
        let at = self.names.iter().position(|(name, _)| *name == check.name);
        let at = at.unwrap_or_else(|| {
            self.names.push((check.name, Counts::default()));
            self.names.len() - 1
        });
        let counts = &mut self.names[at].1;
        counts.checks += 1;
        counts.failed_lines.extend((!passes).then_some(line));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn report(&self, info: &ModelInfo, engine: &str) -> Value {
        let checks: Map<String, Value> = self
            .names
            .iter()
            .map(|(name, counts)| {
                let figures = json!({
                    "checks": counts.checks,
                    "failed": counts.failed_lines.len(),
                    "failure_rate": counts.failure_rate(),
                    "failed_lines": counts.failed_lines,
                });
                (name.clone(), figures)
            })
            .collect();
        json!({ "model": info.name, "engine": engine, "checks": checks })
    }

    pub(super) fn print(&self, out: &mut impl Write, info: &ModelInfo) -> io::Result<()> {
        let widths = self.names.iter().map(|(name, _)| name.chars().count());
        let width = widths.max().unwrap_or(0).max(5);
        writeln!(out, "model  {}\n", info.name)?;
        writeln!(out, "{:width$}  checks  failed   rate", "check")?;
        for (name, counts) in &self.names {
            writeln!(
                out,
                "{name:width$}  {:>6}  {:>6}  {:>4.1}%",
                counts.checks,
                counts.failed_lines.len(),
                100.0 * counts.failure_rate(),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        ["negative", "neutral", "positive"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn a_line_is_a_check() {
        for (line, expected, posts) in [
            ("typo\tsame\ta b\ta  c", Expected::Same, vec!["a b", "a  c"]),
            (
                "plain\tPositive\tso good",
                Expected::Label(2),
                vec!["so good"],
            ),
            (
                "negation\tnot positive\tnot good",
                Expected::NotLabel(2),
                vec!["not good"],
            ),
        ] {
            let (check, found) = Check::parse(line, &labels()).unwrap();
            assert_eq!(check.expected, expected, "{line:?}");
            assert_eq!(found, posts, "{line:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_check_is_an_error() {
        for (line, part) in [
            ("typo", "too few tabs"),
            ("typo\tsame", "takes 2 post(s), found 0"),
            ("typo\tsame\ta", "takes 2 post(s), found 1"),
            ("plain\tpositive\ta\tb", "takes 1 post(s), found 2"),
            ("plain\tangry\ta", "unknown expectation"),
            ("plain\tnot angry\ta", "one of negative, neutral, positive"),
            ("", "too few tabs"),
        ] {
            let Err(error) = Check::parse(line, &labels()) else {
                panic!("{line:?} was read")
            };
            assert!(error.contains(part), "{line:?}: {error}");
        }
    }
}
