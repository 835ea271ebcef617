//! Where a model's labels stand between negative and positive.
//!
//! Other services' formats know negative, neutral and positive only; models name and
//! number their labels as they like. This is the one rule for all of them, and it never
//! guesses: labels that it does not know have no polarity.
//!
//! | labels | negative | neutral | positive |
//! |---|---|---|---|
//! | names | `negative`, `neg`, `very negative` | `neutral`, `neu` | `positive`, `pos`, `very positive` |
//! | five ratings, `1 star` ... `5 stars` | 1, 2 | 3 | 4, 5 |
//! | three without names, `LABEL_0` ... `LABEL_2` | 0 | 1 | 2 |
//! | two without names, `LABEL_0` and `LABEL_1` | 0 | | 1 |
//!
//! Case does not count, nor whether words are joined by a space, `_` or `-`. The scores of
//! labels on the same side are added up. A model without a neutral label gives neutral 0.

use crate::classifier::Sentiment;
use crate::model::ModelInfo;
use coldread_model::ProblemType;

/// The side that a label is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polarity {
    /// Against.
    Negative,
    /// Neither.
    Neutral,
    /// In favour.
    Positive,
}

/// The side of each of a model's labels, in the model's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polarities(Vec<Polarity>);

/// A post's scores by side; they sum to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolarityScores {
    /// What the negative labels have together.
    pub negative: f32,
    /// What the neutral label has, or 0 without one.
    pub neutral: f32,
    /// What the positive labels have together.
    pub positive: f32,
}

impl Polarities {
    /// The sides of a model's labels; `None` if it tells something else than sentiment.
    pub fn from_model(model: &ModelInfo) -> Option<Self> {
        match model.problem_type {
            ProblemType::SingleLabel => Self::from_labels(&model.labels),
            // Each label holds or does not, so that their scores are no distribution.
            ProblemType::MultiLabel => None,
        }
    }

    /// The sides of labels of which one holds, by the rule of this module.
    pub fn from_labels(labels: &[String]) -> Option<Self> {
        let labels: Vec<String> = labels
            .iter()
            .map(|label| label.trim().to_lowercase().replace(['_', '-'], " "))
            .collect();
        let by = |rule: &dyn Fn(&str) -> Option<Polarity>| -> Option<Vec<Polarity>> {
            labels.iter().map(|label| rule(label)).collect()
        };
        let count = labels.len();
        let sides = by(&named)
            .or_else(|| by(&rated).filter(|_| count == 5))
            .or_else(|| by(&|label| numbered(label, count)))?;
        let is_distinct = (1..count).all(|i| !labels[..i].contains(&labels[i]));
        let has = |side| sides.contains(&side);
        (is_distinct && has(Polarity::Negative) && has(Polarity::Positive)).then_some(Self(sides))
    }

    /// A post's scores by side. Where each side has one label they are its scores.
    pub fn scores(&self, sentiment: &Sentiment) -> PolarityScores {
        let of = |side| {
            let scores = self.0.iter().zip(&sentiment.scores);
            let own = scores.filter(|(its, _)| **its == side);
            // A sum of nothing would be -0.
            own.fold(0.0, |sum, (_, score)| sum + score)
        };
        PolarityScores {
            negative: of(Polarity::Negative),
            neutral: of(Polarity::Neutral),
            positive: of(Polarity::Positive),
        }
    }
}

impl PolarityScores {
    /// The side with the highest score.
    pub fn polarity(&self) -> Polarity {
        let mut best = (Polarity::Negative, self.negative);
        for other in [
            (Polarity::Neutral, self.neutral),
            (Polarity::Positive, self.positive),
        ] {
            if other.1 > best.1 {
                best = other;
            }
        }
        best.0
    }
}

fn named(label: &str) -> Option<Polarity> {
    match label {
        "negative" | "neg" | "very negative" => Some(Polarity::Negative),
        "neutral" | "neu" => Some(Polarity::Neutral),
        "positive" | "pos" | "very positive" => Some(Polarity::Positive),
        _ => None,
    }
}

fn rated(label: &str) -> Option<Polarity> {
    match label {
        "1 star" | "2 stars" => Some(Polarity::Negative),
        "3 stars" => Some(Polarity::Neutral),
        "4 stars" | "5 stars" => Some(Polarity::Positive),
        _ => None,
    }
}

fn numbered(label: &str, count: usize) -> Option<Polarity> {
    match (label, count) {
        ("label 0", 2 | 3) => Some(Polarity::Negative),
        ("label 1", 3) => Some(Polarity::Neutral),
        ("label 1", 2) | ("label 2", 3) => Some(Polarity::Positive),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-`, `0` and `+` for the sides of the labels, or nothing.
    fn check(labels: &[&str], expected: &str) {
        let owned: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        let sides = Polarities::from_labels(&owned).map_or(String::new(), |Polarities(sides)| {
            let sign = |side| match side {
                Polarity::Negative => '-',
                Polarity::Neutral => '0',
                Polarity::Positive => '+',
            };
            sides.into_iter().map(sign).collect()
        });
        assert_eq!(sides, expected, "{labels:?}");
    }

    #[test]
    fn labels_have_sides() {
        check(&["negative", "neutral", "positive"], "-0+");
        check(&["POSITIVE", "NEGATIVE"], "+-");
        check(&["NEG", "NEU", "POS"], "-0+");
        check(
            &[
                "Very Negative",
                "negative",
                "Neutral",
                "positive",
                "very_positive",
            ],
            "--0++",
        );
        check(
            &["1 star", "2 stars", "3 stars", "4 stars", "5 stars"],
            "--0++",
        );
        check(&["LABEL_0", "LABEL_1", "LABEL_2"], "-0+");
        check(&["LABEL_0", "LABEL_1"], "-+");
    }

    #[test]
    fn other_labels_have_none() {
        for labels in [
            &[][..],
            &["joy", "anger"],
            &["negative", "neutral"],
            &["negative", "positive", "sarcasm"],
            &["positive"],
            &["negative", "positive", "positive"],
            &["1 star", "3 stars", "5 stars"],
            &["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"],
            &["LABEL_0", "LABEL_2"],
            &["LABEL_0"],
        ] {
            check(labels, "");
        }
    }

    fn scores(labels: &[&str], scores: &[f32]) -> PolarityScores {
        let owned: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        let sides = Polarities::from_labels(&owned).expect("known labels");
        sides.scores(&Sentiment::from_scores(labels, scores))
    }

    #[test]
    fn scores_of_a_side_are_added_up() {
        let stars = ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"];
        let by_side = scores(&stars, &[0.25, 0.25, 0.0, 0.125, 0.375]);
        let expected = PolarityScores {
            negative: 0.5,
            neutral: 0.0,
            positive: 0.5,
        };
        assert_eq!(by_side, expected);
        assert_eq!(
            by_side.polarity(),
            Polarity::Negative,
            "the first of equals"
        );
        let binary = scores(&["positive", "negative"], &[0.9, 0.1]);
        assert_eq!((binary.positive, binary.neutral), (0.9, 0.0));
        assert_eq!(binary.polarity(), Polarity::Positive);
    }
}
