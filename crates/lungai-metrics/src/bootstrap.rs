//! Intervals by resampling: chance enters once, as how often each scan is drawn; the rest is pure.

use crate::error::at_least;
use crate::froc::{CPM_RATES, Froc, Interpolation, mean};
use crate::{Interval, MetricsError};
use lungai_trace::implements;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

/// How often each scan is drawn, for each replicate: `weights[replicate][scan]`.
///
/// Kept apart from what is computed, so that two systems can be compared on the very same draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draws {
    weights: Vec<Vec<u32>>,
}

impl Draws {
    /// The draws of the official LUNA16 script: scans one by one, with replacement, by the generator that
    /// `numpy.random.seed(seed)` sets up. With the script's order of scans this gives the script's digits.
    ///
    /// # Errors
    /// No scans or no replicates.
    pub fn of_scans(scans: usize, replicates: usize, seed: u32) -> Result<Self, MetricsError> {
        at_least("scans to draw from", scans, 1)?;
        at_least("bootstrap replicates", replicates, 1)?;
        let mut generator = Mt19937::new(seed);
        let weights = (0..replicates).map(|_| {
            let mut weights = vec![0; scans];
            (0..scans).for_each(|_| weights[generator.below(scans as u32)] += 1);
            weights
        });
        Ok(Self { weights: weights.collect() })
    }

    /// Draws whole clusters (patients): all scans of a drawn patient come along, so that what they share is not
    /// counted as independent. `cluster_of_scan[i]` is any number that names scan `i`'s patient.
    ///
    /// # Errors
    /// No scans or no replicates.
    #[implements("FR-004")]
    pub fn of_clusters(cluster_of_scan: &[usize], replicates: usize, seed: u64) -> Result<Self, MetricsError> {
        at_least("scans to draw from", cluster_of_scan.len(), 1)?;
        at_least("bootstrap replicates", replicates, 1)?;
        let mut names: Vec<usize> = cluster_of_scan.to_vec();
        names.sort_unstable();
        names.dedup();
        let place: Vec<usize> = cluster_of_scan.iter().map(|name| names.partition_point(|n| n < name)).collect();
        let mut generator = StdRng::seed_from_u64(seed);
        let weights = (0..replicates).map(|_| {
            let mut drawn = vec![0u32; names.len()];
            (0..names.len()).for_each(|_| drawn[generator.random_range(0..names.len())] += 1);
            place.iter().map(|cluster| drawn[*cluster]).collect()
        });
        Ok(Self { weights: weights.collect() })
    }

    /// How often each scan is drawn, one list for each replicate.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.weights.iter().map(Vec::as_slice)
    }

    /// A figure of each replicate, in order, whatever the number of threads; replicates without a figure are left out.
    pub fn figures(&self, figure: impl Fn(&[u32]) -> Option<f64> + Sync) -> Vec<f64> {
        let figures: Vec<Option<f64>> = self.weights.par_iter().map(|weights| figure(weights)).collect();
        figures.into_iter().flatten().collect()
    }
}

/// Intervals of a FROC curve.
#[derive(Debug, Clone, PartialEq)]
pub struct FrocIntervals {
    /// Mean over replicates, at each rate.
    pub mean: Vec<f64>,
    /// Percentile interval, at each rate.
    pub intervals: Vec<Interval>,
    /// Percentile interval of the CPM.
    pub cpm: Interval,
    /// Replicates that held no nodule and are left out.
    pub empty_replicates: usize,
}

/// Percentile intervals of the sensitivity at `rates` and of the CPM.
///
/// # Errors
/// No replicate holds a nodule, or a level outside `0..1`.
///
/// # Panics
/// If the draws are of another number of scans.
#[implements("FR-004")]
pub fn froc_intervals(
    froc: &Froc,
    draws: &Draws,
    rates: &[f64],
    how: Interpolation,
    level: f64,
) -> Result<FrocIntervals, MetricsError> {
    let all: Vec<f64> = rates.iter().chain(&CPM_RATES).copied().collect();
    let replicates: Vec<Vec<f64>> = {
        let each: Vec<_> = draws.weights.par_iter().map(|weights| froc.resampled(weights, &all, how)).collect();
        each.into_iter().flatten().collect()
    };
    at_least("bootstrap replicates that hold a nodule", replicates.len(), 1)?;
    let column = |i: usize| replicates.iter().map(|values| values[i]).collect::<Vec<_>>();
    Ok(FrocIntervals {
        mean: (0..rates.len()).map(|i| mean(&column(i))).collect(),
        intervals: (0..rates.len()).map(|i| percentile_interval(column(i), level)).collect::<Result<_, _>>()?,
        cpm: percentile_interval(replicates.iter().map(|values| mean(&values[rates.len()..])).collect(), level)?,
        empty_replicates: draws.weights.len() - replicates.len(),
    })
}

/// CPM of one system minus that of another on the same scans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpmDifference {
    /// First minus second.
    pub value: f64,
    /// Percentile interval over the same draws for both.
    pub interval: Interval,
}

/// Compares two systems on the same scans, in the same order.
///
/// # Errors
/// No replicate holds a nodule, or a level outside `0..1`.
///
/// # Panics
/// If one of the curves is of another number of scans than the draws.
pub fn cpm_difference(
    first: &Froc,
    second: &Froc,
    draws: &Draws,
    how: Interpolation,
    level: f64,
) -> Result<CpmDifference, MetricsError> {
    let cpm = |froc: &Froc, weights: &[u32]| froc.resampled(weights, &CPM_RATES, how).map(|values| mean(&values));
    let differences = draws.figures(|weights| Some(cpm(first, weights)? - cpm(second, weights)?));
    at_least("bootstrap replicates that hold a nodule", differences.len(), 1)?;
    Ok(CpmDifference { value: first.cpm(how) - second.cpm(how), interval: percentile_interval(differences, level)? })
}

/// Percentile interval as the LUNA16 script takes it: the sorted values at `floor(alpha/2 n)` and `floor((1 - alpha/2) n)`.
///
/// # Errors
/// No values, or a level outside `0..1`.
pub fn percentile_interval(mut values: Vec<f64>, level: f64) -> Result<Interval, MetricsError> {
    at_least("values of a percentile interval", values.len(), 1)?;
    if !(level > 0.0 && level < 1.0) {
        return Err(MetricsError::Range { what: "confidence level", value: level, range: "between 0 and 1" });
    }
    values.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    let at = |share: f64| values[((share * values.len() as f64) as usize).min(values.len() - 1)];
    Ok([at(tail), at(1.0 - tail)])
}

/// Mersenne Twister (Matsumoto and Nishimura, ACM TOMACS 1998;8:3), seeded and read as `numpy.random.seed` and
/// `numpy.random.randint` do it: only to reproduce published digits, never for anything secret.
struct Mt19937 {
    state: [u32; 624],
    next: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [0; 624];
        state[0] = seed;
        for i in 1..624 {
            let before: u32 = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: 624 }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == 624 {
            for i in 0..624 {
                let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
                let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ (joined >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform below `n` by masking and rejection.
    fn below(&mut self, n: u32) -> usize {
        let mask = (n - 1).checked_ilog2().map_or(0, |bits| u32::MAX >> (31 - bits));
        if mask == 0 {
            return 0; // numpy draws nothing where there is no choice
        }
        loop {
            let value = self.next_u32() & mask;
            if value < n {
                return value as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::{Lesion, Mark, MatchRule};
    use lungai_ct::WorldPoint;
    use lungai_trace::verifies;
    use proptest::prelude::*;

    #[test]
    fn the_generator_is_numpys() {
        // np.random.seed(0); np.random.randint(0, 100, 10)
        let mut generator = Mt19937::new(0);
        let drawn: Vec<_> = (0..10).map(|_| generator.below(100)).collect();
        assert_eq!(drawn, [44, 47, 64, 67, 67, 9, 83, 21, 36, 87]);
        // The reference implementation with init_genrand(5489): the 10000th output (C++ standard, [rand.predef]).
        let mut generator = Mt19937::new(5489);
        (0..9999).for_each(|_| _ = generator.next_u32());
        assert_eq!(generator.next_u32(), 4_123_659_995);
        assert_eq!(Mt19937::new(1).below(1), 0);
    }

    #[test]
    fn percentiles_are_those_of_the_script() {
        let values: Vec<f64> = (0..1000).rev().map(f64::from).collect();
        assert_eq!(percentile_interval(values, 0.95).unwrap(), [25.0, 975.0]);
        assert_eq!(percentile_interval(vec![3.0], 0.95).unwrap(), [3.0, 3.0]);
        assert!(percentile_interval(vec![], 0.95).is_err());
    }

    fn at(x: f64) -> WorldPoint {
        WorldPoint([x, 0.0, 0.0])
    }

    /// `n` scans with one nodule each; the first `found` of them found, each scan with one weaker false positive.
    fn cohort(n: usize, found: usize) -> Froc {
        let scans: Vec<_> = (0..n)
            .map(|i| {
                let mut marks = vec![Mark { position: at(-100.0), score: 0.1 }];
                if i < found {
                    marks.push(Mark { position: at(0.0), score: 0.9 });
                }
                (marks, vec![Lesion { position: at(0.0), diameter_mm: 10.0, excluded: false }])
            })
            .collect();
        crate::froc::froc(&scans, &MatchRule::LUNA16).unwrap()
    }

    #[verifies("FR-004")]
    #[test]
    fn a_bootstrapped_proportion_has_the_binomial_interval() {
        // 80 of 100 nodules found, one in each scan: sqrt(0.8 * 0.2 / 100) = 0.04, so about 0.72 to 0.88.
        let draws = Draws::of_scans(100, 4000, 7).unwrap();
        let i = froc_intervals(&cohort(100, 80), &draws, &[1.0], Interpolation::Linear, 0.95).unwrap();
        assert!((i.intervals[0][0] - 0.72).abs() <= 0.011 && (i.intervals[0][1] - 0.875).abs() <= 0.011, "{i:?}");
        assert!((i.mean[0] - 0.8).abs() < 0.003);
    }

    #[verifies("FR-004")]
    #[test]
    fn scans_of_one_patient_do_not_count_as_independent() {
        // The same 100 scans as 20 patients with 5 alike: the standard error is that of 20, 0.089.
        let patients: Vec<usize> = (0..100).map(|i| i / 5).collect();
        let draws = Draws::of_clusters(&patients, 4000, 7).unwrap();
        let i = froc_intervals(&cohort(100, 80), &draws, &[1.0], Interpolation::Linear, 0.95).unwrap();
        let width = i.intervals[0][1] - i.intervals[0][0];
        assert!((width - 2.0 * 1.96 * 0.0894).abs() < 0.06, "{width}");
    }

    #[test]
    fn two_systems_are_compared_on_the_same_draws() {
        let draws = Draws::of_scans(50, 500, 1).unwrap();
        let d = cpm_difference(&cohort(50, 40), &cohort(50, 30), &draws, Interpolation::Linear, 0.95).unwrap();
        assert!((d.value - 0.2).abs() < 1e-12);
        assert!(d.interval[0] > 0.05 && d.interval[1] < 0.35); // paired: only ten scans differ
        let same = cpm_difference(&cohort(50, 40), &cohort(50, 40), &draws, Interpolation::Linear, 0.95).unwrap();
        assert_eq!(same.interval, [0.0, 0.0]);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let draws = Draws::of_scans(30, 200, 3).unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| froc_intervals(&cohort(30, 20), &draws, &CPM_RATES, Interpolation::Linear, 0.95).unwrap())
        };
        assert_eq!(run(1), run(4));
    }

    proptest! {
        #[test]
        fn each_replicate_draws_as_many_patients_as_there_are(patients in prop::collection::vec(0usize..6, 1..20)) {
            let mut distinct = patients.clone();
            distinct.sort_unstable();
            distinct.dedup();
            for weights in Draws::of_clusters(&patients, 20, 5).unwrap().iter() {
                let of = |p: &usize| patients.iter().zip(weights).filter(|(q, _)| *q == p).map(|(_, w)| *w).collect::<Vec<_>>();
                let drawn: u32 = distinct.iter().map(|p| of(p)[0]).sum();
                prop_assert_eq!(drawn as usize, distinct.len());
                prop_assert!(distinct.iter().all(|p| of(p).iter().all(|w| *w == of(p)[0])));
            }
        }
    }
}
