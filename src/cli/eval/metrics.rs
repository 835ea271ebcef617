//! Figures over labelled posts, defined as scikit-learn defines them.

/// How often each true label (row) was predicted as each label (column).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confusion {
    rows: Vec<Vec<u64>>,
}

/// Figures of one class; 0 where there is nothing to divide by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Class {
    pub(super) precision: f64,
    pub(super) recall: f64,
    pub(super) f1: f64,
    /// How many posts truly have the label.
    pub(super) support: u64,
    /// How many posts were given it.
    predicted: u64,
}

/// How often [`Confusion::intervals`] draws.
const RESAMPLES: usize = 1000;

/// The lower and the upper end of each figure's 95% interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Intervals {
    pub(super) accuracy: [f64; 2],
    pub(super) macro_recall: [f64; 2],
    pub(super) macro_f1: [f64; 2],
}

impl Confusion {
    pub(super) fn new(num_labels: usize) -> Self {
        Self {
            rows: vec![vec![0; num_labels]; num_labels],
        }
    }

    pub(super) fn add(&mut self, truth: usize, predicted: usize) {
        self.rows[truth][predicted] += 1;
    }

    /// Rows are true labels, columns predicted ones.
    pub(super) fn rows(&self) -> &[Vec<u64>] {
        &self.rows
    }

    pub(super) fn posts(&self) -> u64 {
        self.rows.iter().flatten().sum()
    }

    pub(super) fn accuracy(&self) -> f64 {
        let correct = (0..self.rows.len()).map(|i| self.rows[i][i]).sum();
        ratio(correct, self.posts())
    }

    pub(super) fn per_class(&self) -> Vec<Class> {
        (0..self.rows.len())
            .map(|i| {
                let correct = self.rows[i][i];
                let support = self.rows[i].iter().sum();
                let predicted = self.rows.iter().map(|row| row[i]).sum();
                Class {
                    precision: ratio(correct, predicted),
                    recall: ratio(correct, support),
                    f1: ratio(2 * correct, support + predicted),
                    support,
                    predicted,
                }
            })
            .collect()
    }

    pub(super) fn macro_recall(&self) -> f64 {
        self.average(|class| class.recall)
    }

    pub(super) fn macro_f1(&self) -> f64 {
        self.average(|class| class.f1)
    }

    /// The 95% intervals of accuracy, macro recall and macro F1: percentiles of these
    /// figures over `RESAMPLES` draws of as many posts with replacement (the bootstrap of
    /// Efron 1979). The same matrix gives the same intervals.
    pub(super) fn intervals(&self) -> Intervals {
        let labels = self.rows.len();
        let cells: Vec<usize> = (0..labels * labels)
            .flat_map(|cell| {
                let posts = self.rows[cell / labels][cell % labels];
                std::iter::repeat_n(cell, posts as usize)
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(0);
        let mut figures: [Vec<f64>; 3] = Default::default();
        for _ in 0..RESAMPLES {
            let mut drawn = Self::new(labels);
            for _ in 0..cells.len() {
                let cell = cells[random.usize(..cells.len())];
                drawn.add(cell / labels, cell % labels);
            }
            let of_draw = [drawn.accuracy(), drawn.macro_recall(), drawn.macro_f1()];
            for (figures, figure) in figures.iter_mut().zip(of_draw) {
                figures.push(figure);
            }
        }
        let [accuracy, macro_recall, macro_f1] = figures.map(|mut figures| {
            figures.sort_unstable_by(f64::total_cmp);
            let tail = RESAMPLES / 40;
            [figures[tail], figures[RESAMPLES - 1 - tail]]
        });
        Intervals {
            accuracy,
            macro_recall,
            macro_f1,
        }
    }

    /// The mean over the classes that occur at all, as truth or as prediction: with
    /// `zero_division=0` one that was only predicted counts as 0, and one that the
    /// file knows nothing of does not count.
    fn average(&self, figure: impl Fn(&Class) -> f64) -> f64 {
        let classes = self.per_class();
        let figures: Vec<f64> = classes
            .iter()
            .filter(|class| class.support + class.predicted > 0)
            .map(figure)
            .collect();
        if figures.is_empty() {
            return 0.0;
        }
        figures.iter().sum::<f64>() / figures.len() as f64
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

const BINS: usize = 15;

/// The expected calibration error: by how much confidence and accuracy differ, in
/// bins of equal width, weighted by the posts in them (Guo et al. 2017).
#[derive(Debug, Default)]
pub(super) struct Calibration {
    bins: [Bin; BINS],
}

#[derive(Debug, Default, Clone, Copy)]
struct Bin {
    posts: u64,
    correct: u64,
    confidence: f64,
}

impl Calibration {
    pub(super) fn add(&mut self, confidence: f64, correct: bool) {
        // Bins are open on the left: (0, 1/15], (1/15, 2/15], ...
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let bin = &mut self.bins[bin];
        bin.posts += 1;
        bin.correct += u64::from(correct);
        bin.confidence += confidence;
    }

    pub(super) fn error(&self) -> f64 {
        let posts: u64 = self.bins.iter().map(|bin| bin.posts).sum();
        // A bin's |accuracy - confidence| times its share of the posts.
        let differences = self
            .bins
            .iter()
            .map(|bin| (bin.correct as f64 - bin.confidence).abs());
        if posts == 0 {
            0.0
        } else {
            differences.sum::<f64>() / posts as f64
        }
    }
}

/// The scores that the model would give without its temperature.
///
/// Scores are `softmax(logits / T)`, so `logits / T` is `ln(scores)` up to a constant
/// that softmax does not see, and `softmax(T * ln(scores))` undoes the division.
pub(super) fn at_temperature_one(scores: &[f32], temperature: f32) -> Vec<f64> {
    // Relative to the highest, so that nothing overflows; a score of 0 stays 0.
    let highest = scores.iter().copied().fold(0.0, f32::max);
    let powers = scores
        .iter()
        .map(|&score| (f64::from(score) / f64::from(highest)).powf(f64::from(temperature)));
    let sum: f64 = powers.clone().sum();
    powers.map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion(pairs: &[(usize, usize)]) -> Confusion {
        let mut confusion = Confusion::new(3);
        for &(truth, predicted) in pairs {
            confusion.add(truth, predicted);
        }
        confusion
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn three_classes() {
        // truth 0 0 0 1 1 2, predicted 0 0 1 1 2 2
        let c = confusion(&[(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]);
        assert_eq!(c.rows(), [[2, 1, 0], [0, 1, 1], [0, 0, 1]]);
        assert_eq!(c.posts(), 6);
        close(c.accuracy(), 4.0 / 6.0);
        close(c.macro_recall(), (2.0 / 3.0 + 0.5 + 1.0) / 3.0);
        // precisions 1, 1/2, 1/2
        close(c.macro_f1(), (0.8 + 0.5 + 2.0 / 3.0) / 3.0);
        let classes = c.per_class();
        assert_eq!(
            classes
                .iter()
                .map(|class| class.support)
                .collect::<Vec<_>>(),
            [3, 2, 1]
        );
        close(classes[2].precision, 0.5);
    }

    #[test]
    fn intervals_are_those_of_the_binomial() {
        // 300 of 400 correct: the standard error is sqrt(0.75 * 0.25 / 400) = 0.02165, the
        // normal interval 0.75 -+ 0.0424.
        let mut pairs = [(0, 0), (0, 0), (1, 1), (1, 0)].repeat(100);
        pairs.sort_unstable();
        let intervals = confusion(&pairs).intervals();
        let [low, high] = intervals.accuracy;
        assert!((low - 0.7076).abs() < 0.006, "{low}");
        assert!((high - 0.7924).abs() < 0.006, "{high}");
        // Class 0 is always right, class 1 in half of 200 posts: half of 0.5 -+ 0.0693.
        let [low, high] = intervals.macro_recall;
        assert!((low - 0.7154).abs() < 0.006, "{low}");
        assert!((high - 0.7846).abs() < 0.006, "{high}");
        assert_eq!(intervals, confusion(&pairs).intervals());
    }

    #[test]
    fn without_doubt_there_is_no_width() {
        let ends = confusion(&[(0, 0), (2, 2)]).intervals();
        assert_eq!((ends.accuracy, ends.macro_f1), ([1.0; 2], [1.0; 2]));
    }

    #[test]
    fn a_class_that_is_only_predicted_counts_as_zero() {
        // sklearn: recall_score([0, 0], [0, 1], average="macro", zero_division=0) == 0.25
        let c = confusion(&[(0, 0), (0, 1)]);
        close(c.macro_recall(), 0.25);
        // f1 of class 0: 2 * 1 / (2 + 1); of class 1: 0
        close(c.macro_f1(), (2.0 / 3.0) / 2.0);
    }

    #[test]
    fn a_class_that_does_not_occur_is_left_out() {
        let c = confusion(&[(0, 0), (2, 2), (2, 0)]);
        close(c.macro_recall(), 0.75);
        assert_eq!(c.per_class()[1].recall.to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn nothing_is_zero_and_not_nan() {
        let c = confusion(&[]);
        for figure in [
            c.accuracy(),
            c.macro_recall(),
            c.macro_f1(),
            Calibration::default().error(),
        ] {
            close(figure, 0.0);
        }
    }

    #[test]
    fn calibration_error_by_hand() {
        let mut calibration = Calibration::default();
        // Bin (0.6, 0.667]: confidence 0.65, accuracy 1/2. Bin (0.933, 1]: 0.95, 1.
        for (confidence, correct) in [(0.65, true), (0.65, false), (0.95, true), (0.95, true)] {
            calibration.add(confidence, correct);
        }
        close(calibration.error(), 0.5 * 0.15 + 0.5 * 0.05);
    }

    #[test]
    fn bins_are_closed_on_the_right() {
        let mut calibration = Calibration::default();
        for confidence in [0.0, 1.0 / 15.0, 1.0, 0.34] {
            calibration.add(confidence, true);
        }
        let posts: Vec<u64> = calibration.bins.iter().map(|bin| bin.posts).collect();
        assert_eq!((posts[0], posts[5], posts[14]), (2, 1, 1));
    }

    #[test]
    fn the_temperature_is_undone() {
        let logits = [1.0_f64, -2.0, 3.5];
        let softmax = |t: f64| -> Vec<f64> {
            let exps: Vec<f64> = logits.iter().map(|l| (l / t).exp()).collect();
            let sum: f64 = exps.iter().sum();
            exps.iter().map(|e| e / sum).collect()
        };
        for t in [0.5, 1.0, 1.7] {
            let scores: Vec<f32> = softmax(t).iter().map(|&p| p as f32).collect();
            for (found, expected) in at_temperature_one(&scores, t as f32)
                .iter()
                .zip(softmax(1.0))
            {
                assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
            }
        }
        assert_eq!(at_temperature_one(&[0.0, 1.0], 1.5), [0.0, 1.0]);
    }
}
