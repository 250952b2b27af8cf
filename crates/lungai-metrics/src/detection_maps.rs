//! Detection scored by lesion and by case, as the PI-CAI challenge ranks: average precision over lesions, area under the ROC
//! curve over cases, and their mean.

use crate::MetricsError;
use crate::error::{at_least, finite};
use crate::roc::Ranked;
use lungai_trace::implements;

/// A lesion that was found or missed, or a candidate that is no lesion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Whether there is a lesion.
    pub lesion: bool,
    /// Confidence, at or above 0; 0 stands for a lesion that was missed.
    pub confidence: f64,
    /// How much it counts, usually 1.
    pub weight: f64,
}

/// A case after matching.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredCase {
    /// Its candidates and missed lesions.
    pub candidates: Vec<Candidate>,
    /// Whether the case is positive.
    pub positive: bool,
    /// Confidence that it is.
    pub confidence: f64,
    /// How much it counts, usually 1.
    pub weight: f64,
}

impl ScoredCase {
    /// A case that is positive if it has a lesion, and as sure as its surest candidate: picai_eval's default. Everything counts
    /// once.
    pub fn from_candidates(candidates: Vec<(bool, f64)>) -> Self {
        let positive = candidates.iter().any(|(lesion, _)| *lesion);
        let confidence = candidates.iter().map(|(_, confidence)| *confidence).fold(0.0, f64::max);
        let candidates =
            candidates.into_iter().map(|(lesion, confidence)| Candidate { lesion, confidence, weight: 1.0 }).collect();
        Self { candidates, positive, confidence, weight: 1.0 }
    }
}

/// The figures of PI-CAI (Saha et al., Lancet Oncol 2024;25:879), by picai_eval's conventions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectionScores {
    /// Average precision over lesions; a missed lesion lowers the recall and adds no precision.
    pub average_precision: f64,
    /// Area under the ROC curve over cases.
    pub auroc: f64,
    /// Mean of both: the ranking score.
    pub score: f64,
}

/// Cases, sorted once and then evaluated for any resampling.
#[derive(Debug, Clone)]
pub struct DetectionMaps {
    lesions: Ranked,
    cases: Ranked,
    /// Of each candidate that `lesions` ranks: its case and its weight.
    candidates: Vec<(usize, f64)>,
    /// Weight of the lesions of each case, also missed ones.
    lesion_weight: Vec<f64>,
    case_weight: Vec<f64>,
    positives: usize,
    lesion_count: usize,
    /// Confidence of each candidate that is no lesion, and of each found lesion, by falling confidence.
    found: Vec<(f64, bool)>,
}

impl DetectionMaps {
    /// Checks and sorts.
    ///
    /// # Errors
    /// No positive or no negative case, no lesion, a confidence or weight that is not finite or is below 0.
    #[implements("FR-004")]
    pub fn new(cases: &[ScoredCase]) -> Result<Self, MetricsError> {
        let sound = |what, value: f64| match finite(what, value)? {
            value if value < 0.0 => Err(MetricsError::Range { what, value, range: "at or above 0" }),
            value => Ok(value),
        };
        let (mut scores, mut truth, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lesion_weight, mut lesion_count) = (Vec::new(), 0);
        for (place, case) in cases.iter().enumerate() {
            sound("a case's confidence", case.confidence)?;
            sound("a case's weight", case.weight)?;
            let mut of_case = 0.0;
            for candidate in &case.candidates {
                let weight = sound("a candidate's weight", candidate.weight)?;
                if candidate.lesion {
                    of_case += weight;
                    lesion_count += 1;
                }
                // At confidence 0 nothing is called: such a candidate adds no precision, whatever it is.
                if sound("a candidate's confidence", candidate.confidence)? > 0.0 {
                    scores.push(candidate.confidence);
                    truth.push(candidate.lesion);
                    candidates.push((place, weight));
                }
            }
            lesion_weight.push(of_case);
        }
        let positive: Vec<bool> = cases.iter().map(|case| case.positive).collect();
        let positives = positive.iter().filter(|p| **p).count();
        at_least("positive cases", positives, 1)?;
        at_least("negative cases", cases.len() - positives, 1)?;
        at_least("lesions of an average precision", lesion_count, 1)?;
        let confidence: Vec<f64> = cases.iter().map(|case| case.confidence).collect();
        let mut found: Vec<(f64, bool)> = scores.iter().copied().zip(truth.iter().copied()).collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(Self {
            lesions: Ranked::new(&scores, &truth)?,
            cases: Ranked::new(&confidence, &positive)?,
            candidates,
            lesion_weight,
            case_weight: cases.iter().map(|case| case.weight).collect(),
            positives,
            lesion_count,
            found,
        })
    }

    /// Cases, positive ones among them, and lesions.
    pub fn counts(&self) -> [usize; 3] {
        [self.case_weight.len(), self.positives, self.lesion_count]
    }

    /// The figures.
    ///
    /// # Panics
    /// Never: [`Self::new`] has seen both groups and a lesion; zero weights for a whole group give not-a-number.
    pub fn scores(&self) -> DetectionScores {
        let nan = DetectionScores { average_precision: f64::NAN, auroc: f64::NAN, score: f64::NAN };
        self.resampled(&vec![1; self.case_weight.len()]).unwrap_or(nan)
    }

    /// The figures when case `i` is drawn `counts[i]` times; `None` where a group or all lesions are left out.
    ///
    /// # Panics
    /// If the counts are not one for each case.
    pub fn resampled(&self, counts: &[u32]) -> Option<DetectionScores> {
        assert_eq!(counts.len(), self.case_weight.len(), "one count for each case");
        let lesions: f64 = self.lesion_weight.iter().zip(counts).map(|(w, n)| w * f64::from(*n)).sum();
        let average_precision = self.lesions.average_precision(lesions, |candidate| {
            let (case, weight) = self.candidates[candidate];
            weight * f64::from(counts[case])
        })?;
        let auroc = self.cases.auc(|case| self.case_weight[case] * f64::from(counts[case]))?;
        Some(DetectionScores { average_precision, auroc, score: 0.5 * (average_precision + auroc) })
    }

    /// Share of lesions found at the lowest confidence that keeps false candidates at or below `rate` a case, as picai_eval's
    /// `lesion_TPR_at_FPR`: not interpolated, unweighted. And that confidence, infinite where there is none.
    ///
    /// # Errors
    /// A rate below 0 or not finite.
    pub fn sensitivity_at(&self, rate: f64) -> Result<(f64, f64), MetricsError> {
        if finite("a rate of false positives", rate)? < 0.0 {
            return Err(MetricsError::Range { what: "a rate of false positives", value: rate, range: "at or above 0" });
        }
        let (mut hits, mut false_ones) = (0usize, 0usize);
        let mut best = (0.0, f64::INFINITY);
        for tied in self.found.chunk_by(|a, b| a.0 == b.0) {
            let lesions = tied.iter().filter(|(_, lesion)| *lesion).count();
            hits += lesions;
            false_ones += tied.len() - lesions;
            if false_ones as f64 / self.case_weight.len() as f64 > rate {
                break;
            }
            best = (hits as f64 / self.lesion_count as f64, tied[0].0);
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    /// Two positive cases, one with a found (0.9) and a missed lesion, one with a found lesion (0.5); a negative one with a
    /// false candidate (0.7) and one without any.
    fn cases() -> Vec<ScoredCase> {
        [vec![(true, 0.9), (true, 0.0)], vec![(true, 0.5)], vec![(false, 0.7)], vec![]]
            .map(ScoredCase::from_candidates)
            .to_vec()
    }

    #[verifies("FR-004")]
    #[test]
    fn a_missed_lesion_lowers_the_recall_and_adds_nothing() {
        let maps = DetectionMaps::new(&cases()).unwrap();
        let scores = maps.scores();
        // Of three lesions the first is found at precision 1, the second at 2/3.
        assert!((scores.average_precision - (1.0 + 2.0 / 3.0) / 3.0).abs() < 1e-15);
        assert_eq!(scores.auroc, 0.75);
        assert!((scores.score - 0.5 * (scores.average_precision + 0.75)).abs() < 1e-15);
        assert_eq!(maps.counts(), [4, 2, 3]);
        // A quarter of a false candidate a case is allowed by 0.25, none by 0.2.
        assert_eq!(maps.sensitivity_at(0.25).unwrap(), (2.0 / 3.0, 0.5));
        assert_eq!(maps.sensitivity_at(0.2).unwrap(), (1.0 / 3.0, 0.9));
    }

    #[test]
    fn drawing_a_case_twice_is_having_it_twice() {
        let maps = DetectionMaps::new(&cases()).unwrap();
        let mut twice = cases();
        twice.extend([cases()[1].clone(), cases()[2].clone()]);
        let expected = DetectionMaps::new(&twice).unwrap().scores();
        assert_eq!(maps.resampled(&[1, 2, 2, 1]), Some(expected));
        assert_eq!(maps.resampled(&[0, 0, 1, 1]), None);
    }

    #[test]
    fn one_class_or_a_negative_confidence_is_refused() {
        let positive = ScoredCase::from_candidates(vec![(true, 0.5)]);
        assert_eq!(
            DetectionMaps::new(std::slice::from_ref(&positive)).unwrap_err().to_string(),
            "negative cases: 0 found, at least 1 needed"
        );
        let odd = ScoredCase::from_candidates(vec![(false, -0.5)]);
        assert!(DetectionMaps::new(&[positive, odd]).is_err());
    }
}
