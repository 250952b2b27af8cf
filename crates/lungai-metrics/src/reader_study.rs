//! A reader study that is scored already: which lesions were marked, what else was marked, with which rating; and its figures
//! of merit.
//!
//! A case without a mark is rated below every mark; equal ratings count half. Ratings need only an order.

use crate::MetricsError;
use crate::error::{at_least, finite};
use lungai_trace::implements;

/// What one reader under one treatment (modality, software) made of one case.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// Ratings of marks that are on no lesion.
    pub elsewhere: Vec<f64>,
    /// Rating of each lesion's mark, in the order of the truth; `None` where the lesion is not marked.
    pub lesions: Vec<Option<f64>>,
}

/// All readings of a fully crossed study.
#[derive(Debug, Clone, PartialEq)]
pub struct ReaderStudy {
    /// Weights of each case's lesions, that sum to 1; empty for a case without lesions.
    weights: Vec<Vec<f64>>,
    /// `[treatment][reader][case]`.
    readings: Vec<Vec<Vec<Rated>>>,
}

/// A reading with what the figures ask for.
#[derive(Debug, Clone, PartialEq)]
struct Rated {
    /// Highest rating of a mark on no lesion; minus infinity without one.
    elsewhere: f64,
    marks_elsewhere: usize,
    /// Minus infinity where not marked.
    lesions: Vec<f64>,
}

/// Figures of merit (Chakraborty, Observer Performance Methods for Diagnostic Imaging, 2017), with the names of RJafroc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Merit {
    /// Area under the ROC curve of one rating a case.
    Auc,
    /// The same of each case's highest rating.
    HighestRatingAuc,
    /// Lesions against the highest mark of each normal case; every lesion counts alike.
    Afroc,
    /// The same against the highest mark elsewhere of every case, diseased ones too.
    Afroc1,
    /// [`Self::Afroc`] with weighted lesions: every diseased case counts alike.
    WeightedAfroc,
    /// [`Self::Afroc1`] with weighted lesions.
    WeightedAfroc1,
    /// Share of lesions that are marked.
    MarkedLesions,
    /// Marks elsewhere for each normal case; less is better.
    MarksPerNormal,
    /// Share of diseased cases with any mark.
    HighestRatingSensitivity,
    /// Share of normal cases without a mark.
    HighestRatingSpecificity,
}

impl Merit {
    /// Which cases the figure depends on, among those without and with lesions; only these are resampled.
    fn needs(self) -> (bool, bool) {
        match self {
            Self::MarkedLesions | Self::HighestRatingSensitivity => (false, true),
            Self::MarksPerNormal | Self::HighestRatingSpecificity => (true, false),
            _ => (true, true),
        }
    }
}

impl ReaderStudy {
    /// A fully crossed study: `readings[treatment][reader][case]`. Of each case's lesions, `weights` are all zero for equal ones
    /// or sum to 1.
    ///
    /// # Errors
    /// No treatment, reader or case; lists of different length; a weight below 0, weights that do not sum to 1, a rating that is
    /// not finite.
    #[implements("FR-004")]
    pub fn new(weights: Vec<Vec<f64>>, readings: &[Vec<Vec<Reading>>]) -> Result<Self, MetricsError> {
        at_least("cases of a reader study", weights.len(), 1)?;
        at_least("treatments of a reader study", readings.len(), 1)?;
        at_least("readers of a reader study", readings[0].len(), 1)?;
        let weights = weights.into_iter().map(sound_weights).collect::<Result<Vec<_>, _>>()?;
        let rated = |reading: &Reading, weights: &Vec<f64>| -> Result<Rated, MetricsError> {
            let (left, right) = (reading.lesions.len(), weights.len());
            if left != right {
                return Err(MetricsError::Length { what: "ratings against lesions of a case", left, right });
            }
            let mut highest = f64::NEG_INFINITY;
            for rating in &reading.elsewhere {
                highest = highest.max(finite("a rating", *rating)?);
            }
            let lesion =
                |rating: &Option<f64>| rating.map_or(Ok(f64::NEG_INFINITY), |rating| finite("a rating", rating));
            Ok(Rated {
                elsewhere: highest,
                marks_elsewhere: reading.elsewhere.len(),
                lesions: reading.lesions.iter().map(lesion).collect::<Result<_, _>>()?,
            })
        };
        let of_reader = |cases: &Vec<Reading>| -> Result<Vec<Rated>, MetricsError> {
            let (left, right) = (cases.len(), weights.len());
            if left != right {
                return Err(MetricsError::Length { what: "readings against cases", left, right });
            }
            cases.iter().zip(&weights).map(|(reading, weights)| rated(reading, weights)).collect()
        };
        let of_treatment = |readers: &Vec<Vec<Reading>>| -> Result<Vec<Vec<Rated>>, MetricsError> {
            let (left, right) = (readers.len(), readings[0].len());
            if left != right {
                return Err(MetricsError::Length { what: "readers under two treatments", left, right });
            }
            readers.iter().map(of_reader).collect()
        };
        let readings = readings.iter().map(of_treatment).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { weights, readings })
    }

    /// How many treatments there are.
    pub fn treatments(&self) -> usize {
        self.readings.len()
    }

    /// How many readers there are.
    pub fn readers(&self) -> usize {
        self.readings[0].len()
    }

    /// Cases without and with lesions.
    pub fn cases(&self) -> (usize, usize) {
        let diseased = self.weights.iter().filter(|lesions| !lesions.is_empty()).count();
        (self.weights.len() - diseased, diseased)
    }

    /// The figure of each treatment and reader.
    ///
    /// # Errors
    /// No normal or no diseased case where the figure needs them; for [`Merit::Auc`] a case that has not exactly one rating.
    #[implements("FR-004")]
    pub fn figures(&self, merit: Merit) -> Result<Vec<Vec<f64>>, MetricsError> {
        self.check(merit, 1)?;
        let everything = vec![1; self.weights.len()];
        Ok(self.each(|cases| self.figure(cases, merit, &everything)))
    }

    /// The cases that `merit` depends on, in order.
    pub(crate) fn relevant(&self, merit: Merit) -> Vec<usize> {
        let (normal, diseased) = merit.needs();
        let wanted = |lesions: &Vec<f64>| if lesions.is_empty() { normal } else { diseased };
        (0..self.weights.len()).filter(|case| wanted(&self.weights[*case])).collect()
    }

    /// Which cases have lesions.
    pub(crate) fn diseased(&self) -> Vec<bool> {
        self.weights.iter().map(|lesions| !lesions.is_empty()).collect()
    }

    /// The figure with each relevant case left out in turn: `[treatment][reader][case]`.
    pub(crate) fn left_out(&self, merit: Merit) -> Result<Vec<Vec<Vec<f64>>>, MetricsError> {
        self.check(merit, 2)?;
        let relevant = self.relevant(merit);
        Ok(self.each(|cases| {
            let mut counts = vec![1; cases.len()];
            let without = |case: &usize| {
                counts[*case] = 0;
                let figure = self.figure(cases, merit, &counts);
                counts[*case] = 1;
                figure
            };
            relevant.iter().map(without).collect()
        }))
    }

    /// The figure when each case counts so many times.
    pub(crate) fn resampled(&self, merit: Merit, counts: &[u32]) -> Vec<Vec<f64>> {
        self.each(|cases| self.figure(cases, merit, counts))
    }

    /// Each case's highest rating, for DeLong's covariance.
    pub(crate) fn case_ratings(&self) -> Vec<Vec<Vec<f64>>> {
        self.each(|cases| cases.iter().map(highest).collect())
    }

    fn each<T: Send>(&self, compute: impl Fn(&[Rated]) -> T + Sync) -> Vec<Vec<T>> {
        use rayon::prelude::*;
        self.readings.par_iter().map(|readers| readers.par_iter().map(|cases| compute(cases)).collect()).collect()
    }

    pub(crate) fn check(&self, merit: Merit, of_each: usize) -> Result<(), MetricsError> {
        let (needs_normal, needs_diseased) = merit.needs();
        let (normal, diseased) = self.cases();
        at_least("cases without lesions", if needs_normal { normal } else { of_each }, of_each)?;
        at_least("cases with lesions", if needs_diseased { diseased } else { of_each }, of_each)?;
        if merit == Merit::Auc {
            let ratings = |case: &Rated| case.marks_elsewhere + case.lesions.iter().filter(|r| r.is_finite()).count();
            let odd = |cases: &Vec<Rated>| cases.iter().position(|case| ratings(case) != 1);
            if let Some(place) = self.readings.iter().flatten().find_map(odd) {
                return Err(MetricsError::Contradiction { what: "a case with exactly one rating", place });
            }
        }
        Ok(())
    }

    /// The figure of one reader under one treatment; case `k` counts `counts[k]` times.
    fn figure(&self, cases: &[Rated], merit: Merit, counts: &[u32]) -> f64 {
        let each =
            || cases.iter().zip(&self.weights).zip(counts).map(|((case, weights), n)| (case, weights, f64::from(*n)));
        let share = |yes: &dyn Fn(&Rated) -> f64, diseased: bool| {
            let chosen = || each().filter(|(_, weights, _)| weights.is_empty() != diseased);
            chosen().map(|(case, _, n)| n * yes(case)).sum::<f64>() / chosen().map(|(_, _, n)| n).sum::<f64>()
        };
        let marked = |case: &Rated| highest(case) > f64::NEG_INFINITY;
        match merit {
            Merit::Auc | Merit::HighestRatingAuc => area(
                each().filter(|(_, weights, _)| weights.is_empty()).map(|(case, _, n)| (highest(case), n)),
                each().filter(|(_, weights, _)| !weights.is_empty()).map(|(case, _, n)| (highest(case), n)),
            ),
            Merit::Afroc | Merit::Afroc1 | Merit::WeightedAfroc | Merit::WeightedAfroc1 => {
                let all = matches!(merit, Merit::Afroc1 | Merit::WeightedAfroc1);
                let weighted = matches!(merit, Merit::WeightedAfroc | Merit::WeightedAfroc1);
                area(
                    each().filter(|(_, weights, _)| all || weights.is_empty()).map(|(case, _, n)| (case.elsewhere, n)),
                    each().flat_map(|(case, weights, n)| {
                        let weight = move |w: &f64| if weighted { n * w } else { n };
                        case.lesions.iter().zip(weights).map(move |(rating, w)| (*rating, weight(w)))
                    }),
                )
            }
            Merit::MarkedLesions => {
                let lesions = each().map(|(case, _, n)| n * case.lesions.len() as f64).sum::<f64>();
                let found = |case: &Rated| case.lesions.iter().filter(|r| **r > f64::NEG_INFINITY).count() as f64;
                each().map(|(case, _, n)| n * found(case)).sum::<f64>() / lesions
            }
            Merit::MarksPerNormal => share(&|case| case.marks_elsewhere as f64, false),
            Merit::HighestRatingSensitivity => share(&|case| f64::from(u8::from(marked(case))), true),
            Merit::HighestRatingSpecificity => share(&|case| f64::from(u8::from(!marked(case))), false),
        }
    }
}

/// A case's highest rating.
fn highest(case: &Rated) -> f64 {
    case.lesions.iter().copied().fold(case.elsewhere, f64::max)
}

/// Probability that a signal is rated above a noise, equal ratings counting half; both with weights.
fn area(noise: impl Iterator<Item = (f64, f64)>, signals: impl Iterator<Item = (f64, f64)>) -> f64 {
    let mut noise: Vec<(f64, f64)> = noise.collect();
    noise.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Weight of the noise before each place.
    let mut before = Vec::with_capacity(noise.len() + 1);
    before.push(0.0);
    for (_, weight) in &noise {
        before.push(before[before.len() - 1] + weight);
    }
    let (mut won, mut all) = (0.0, 0.0);
    for (rating, weight) in signals {
        let below = before[noise.partition_point(|n| n.0 < rating)];
        let up_to = before[noise.partition_point(|n| n.0 <= rating)];
        won += weight * 0.5 * (below + up_to);
        all += weight;
    }
    won / (all * before[noise.len()])
}

/// Equal weights for all zeros; else they must sum to 1, to the six digits that files carry.
fn sound_weights(weights: Vec<f64>) -> Result<Vec<f64>, MetricsError> {
    for weight in &weights {
        if finite("a lesion's weight", *weight)? < 0.0 {
            return Err(MetricsError::Range { what: "a lesion's weight", value: *weight, range: "at or above 0" });
        }
    }
    let sum: f64 = weights.iter().sum();
    if weights.is_empty() || (sum - 1.0).abs() < 1e-6 {
        Ok(weights)
    } else if sum == 0.0 {
        let equal = 1.0 / weights.len() as f64;
        Ok(vec![equal; weights.len()])
    } else {
        Err(MetricsError::Range { what: "the sum of a case's lesion weights", value: sum, range: "at 1" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn marks(elsewhere: &[f64], lesions: &[Option<f64>]) -> Reading {
        Reading { elsewhere: elsewhere.to_vec(), lesions: lesions.to_vec() }
    }

    /// Two normal cases, one with marks at 1 and 2; two diseased ones, with two lesions of unequal weight and with one.
    fn study() -> ReaderStudy {
        let readings =
            [marks(&[1.0, 2.0], &[]), marks(&[], &[]), marks(&[4.0], &[Some(3.0), None]), marks(&[], &[Some(2.0)])];
        let weights = vec![vec![], vec![], vec![0.75, 0.25], vec![1.0]];
        ReaderStudy::new(weights, &[vec![readings.to_vec()]]).unwrap()
    }

    #[verifies("FR-004")]
    #[test]
    fn figures_of_four_cases_are_what_one_counts_by_hand() {
        let of = |merit| study().figures(merit).unwrap()[0][0];
        // Normal cases at 2 and nothing. Lesions: 3 wins both; the unmarked one ties with nothing and loses to 2; 2 ties and wins.
        assert_eq!(of(Merit::Afroc), (2.0 + 0.5 + 1.5) / 6.0);
        assert_eq!(of(Merit::WeightedAfroc), (0.75 * 2.0 + 0.25 * 0.5 + 1.5) / 4.0);
        // Among all four cases two more, at 4 and at nothing: 3 wins one of them, the unmarked lesion ties one, 2 wins one.
        assert_eq!(of(Merit::Afroc1), (3.0 + 1.0 + 2.5) / 12.0);
        assert_eq!(of(Merit::WeightedAfroc1), (0.75 * 3.0 + 0.25 * 1.0 + 2.5) / 8.0);
        // Highest ratings: normal 2 and nothing, diseased 4 and 2.
        assert_eq!(of(Merit::HighestRatingAuc), 3.5 / 4.0);
        assert_eq!(of(Merit::MarkedLesions), 2.0 / 3.0);
        assert_eq!(of(Merit::MarksPerNormal), 1.0);
        assert_eq!((of(Merit::HighestRatingSensitivity), of(Merit::HighestRatingSpecificity)), (1.0, 0.5));
    }

    #[test]
    fn one_rating_a_case_is_what_a_roc_curve_needs() {
        let error = study().figures(Merit::Auc).unwrap_err();
        assert_eq!(error, MetricsError::Contradiction { what: "a case with exactly one rating", place: 0 });
    }

    #[test]
    fn weights_are_equal_where_none_are_given_and_refused_where_they_do_not_add_up() {
        let study = |weights: Vec<f64>| {
            let readings = [marks(&[1.0], &[]), marks(&[], &[Some(2.0), None])];
            ReaderStudy::new(vec![vec![], weights], &[vec![readings.to_vec()]])
        };
        let figure = |weights| study(weights).unwrap().figures(Merit::WeightedAfroc).unwrap()[0][0];
        assert_eq!(figure(vec![0.0, 0.0]), figure(vec![0.5, 0.5]));
        assert!(study(vec![0.5, 0.4]).is_err() && study(vec![1.5, -0.5]).is_err());
        assert!(study(vec![1.0]).is_err());
        assert!(ReaderStudy::new(vec![vec![]], &[vec![vec![marks(&[f64::NAN], &[])]]]).is_err());
    }

    #[verifies("FR-004")]
    #[test]
    fn only_cases_that_matter_are_left_out() {
        let study = study();
        assert_eq!(study.relevant(Merit::MarkedLesions), [2, 3]);
        assert_eq!(study.relevant(Merit::HighestRatingSpecificity), [0, 1]);
        // Without the first diseased case one of one lesion is marked, without the second one of two.
        assert_eq!(study.left_out(Merit::MarkedLesions).unwrap()[0][0], [1.0, 0.5]);
    }
}
