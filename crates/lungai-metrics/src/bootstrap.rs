//! Intervals by resampling: chance enters once, as how often each scan is drawn; the rest is pure.

use crate::error::{at_least, deviate};
use crate::froc::{CPM_RATES, Froc, Interpolation, mean};
use crate::{Interval, MetricsError, normal_quantile};
use lungai_trace::implements;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

/// Replicates that are drawn, and then computed in parallel, at a time: memory stays that of one block however many
/// replicates there are.
const BLOCK: usize = 256;

/// How often each scan is drawn in each replicate: a recipe that draws the same again whenever it is followed.
///
/// Kept apart from what is computed, so that two systems can be compared on the very same draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draws {
    scheme: Scheme,
    replicates: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    /// Scan by scan, by numpy's generator.
    Scans { scans: usize, seed: u32 },
    /// Cluster by cluster, within strata.
    Clusters { place: Vec<usize>, strata: Vec<Vec<usize>>, seed: u64 },
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
        Ok(Self { scheme: Scheme::Scans { scans, seed }, replicates })
    }

    /// Draws whole clusters (patients): all scans of a drawn patient come along, so that what they share is not
    /// counted as independent. `cluster_of_scan[i]` is any number that names scan `i`'s patient.
    ///
    /// # Errors
    /// No scans or no replicates.
    pub fn of_clusters(cluster_of_scan: &[usize], replicates: usize, seed: u64) -> Result<Self, MetricsError> {
        Self::of_clusters_within(cluster_of_scan, &vec![0; cluster_of_scan.len()], replicates, seed)
    }

    /// Draws whole clusters within strata (centres; patients with and without nodules): every replicate holds as many patients
    /// of each stratum as there are, as where the strata's sizes were fixed by design.
    ///
    /// # Errors
    /// No scans or no replicates, lists of different length, a cluster with scans in two strata.
    #[implements("FR-004")]
    pub fn of_clusters_within(
        cluster_of_scan: &[usize],
        stratum_of_scan: &[usize],
        replicates: usize,
        seed: u64,
    ) -> Result<Self, MetricsError> {
        let (left, right) = (cluster_of_scan.len(), stratum_of_scan.len());
        if left != right {
            return Err(MetricsError::Length { what: "clusters against strata of the scans", left, right });
        }
        at_least("scans to draw from", left, 1)?;
        at_least("bootstrap replicates", replicates, 1)?;
        let names = distinct(cluster_of_scan);
        let place: Vec<usize> = cluster_of_scan.iter().map(|name| names.partition_point(|n| n < name)).collect();
        let mut stratum_of_cluster = vec![None; names.len()];
        for (scan, (cluster, stratum)) in place.iter().zip(stratum_of_scan).enumerate() {
            if stratum_of_cluster[*cluster].replace(stratum).is_some_and(|before| before != stratum) {
                return Err(MetricsError::Contradiction { what: "a patient's stratum", place: scan });
            }
        }
        let members = |stratum: &usize| {
            (0..names.len()).filter(|cluster| stratum_of_cluster[*cluster] == Some(stratum)).collect()
        };
        let strata = distinct(stratum_of_scan).iter().map(members).collect();
        Ok(Self { scheme: Scheme::Clusters { place, strata, seed }, replicates })
    }

    /// How many replicates there are.
    pub fn replicates(&self) -> usize {
        self.replicates
    }

    /// How many scans there are.
    pub fn scans(&self) -> usize {
        match &self.scheme {
            Scheme::Scans { scans, .. } => *scans,
            Scheme::Clusters { place, .. } => place.len(),
        }
    }

    /// How often each scan is drawn, one list for each replicate.
    pub fn iter(&self) -> impl Iterator<Item = Vec<u32>> {
        let mut sequence = self.sequence();
        (0..self.replicates).map(move |_| {
            let mut weights = vec![0; self.scans()];
            sequence.draw(&mut weights);
            weights
        })
    }

    /// What `compute` makes of each replicate's draws, in order, whatever the number of threads.
    pub fn map<T: Send>(&self, compute: impl Fn(&[u32]) -> T + Sync) -> Vec<T> {
        let mut sequence = self.sequence();
        let mut block = vec![vec![0; self.scans()]; BLOCK.min(self.replicates)];
        let mut results = Vec::with_capacity(self.replicates);
        while results.len() < self.replicates {
            let size = block.len().min(self.replicates - results.len());
            block[..size].iter_mut().for_each(|weights| sequence.draw(weights));
            results.par_extend(block[..size].par_iter().map(|weights| compute(weights)));
        }
        results
    }

    /// A figure of each replicate, in order, whatever the number of threads; replicates without a figure are left out.
    pub fn figures(&self, figure: impl Fn(&[u32]) -> Option<f64> + Sync) -> Vec<f64> {
        self.map(figure).into_iter().flatten().collect()
    }

    /// A figure with both intervals. `figure` takes how often each scan counts: once for the estimate itself, as drawn for the
    /// replicates, not at all for the cluster that a jackknife step leaves out: one step for each cluster.
    ///
    /// # Errors
    /// The figure is not defined for the whole or for any replicate, or a level outside `0..1`.
    pub fn bootstrap(
        &self,
        figure: impl Fn(&[u32]) -> Option<f64> + Sync,
        level: f64,
    ) -> Result<Bootstrapped, MetricsError> {
        self.resample(&figure, level, true)
    }

    /// A figure with its percentile interval alone: without the jackknife, which takes a step for each cluster.
    ///
    /// # Errors
    /// As [`Self::bootstrap`].
    pub fn percentile_bootstrap(
        &self,
        figure: impl Fn(&[u32]) -> Option<f64> + Sync,
        level: f64,
    ) -> Result<Bootstrapped, MetricsError> {
        self.resample(&figure, level, false)
    }

    #[implements("FR-004")]
    fn resample(
        &self,
        figure: &(impl Fn(&[u32]) -> Option<f64> + Sync),
        level: f64,
        with_bca: bool,
    ) -> Result<Bootstrapped, MetricsError> {
        let value = figure(&vec![1; self.scans()]);
        let Some(value) = value else {
            return Err(MetricsError::TooFew { what: "cases of a bootstrapped figure", found: 0, needed: 1 });
        };
        let replicates = self.figures(figure);
        at_least("bootstrap replicates with a figure", replicates.len(), 1)?;
        let centre = mean(&replicates);
        let squares: f64 = replicates.iter().map(|v| (v - centre).powi(2)).sum();
        let acceleration = if with_bca { self.acceleration(figure) } else { None };
        Ok(Bootstrapped {
            value,
            standard_error: (squares / (replicates.len().max(2) - 1) as f64).sqrt(),
            bca: acceleration.map(|a| bca_interval(value, &replicates, a, level)).transpose()?.flatten(),
            empty_replicates: self.replicates - replicates.len(),
            percentile: percentile_interval(replicates, level)?,
        })
    }

    /// Efron's acceleration from leaving out each cluster in turn, strata as samples of their own; `None` where a figure
    /// without one of the clusters is not defined or nothing varies.
    fn acceleration(&self, figure: impl Fn(&[u32]) -> Option<f64> + Sync) -> Option<f64> {
        let scans = self.scans();
        let strata: Vec<Vec<usize>> = match &self.scheme {
            Scheme::Scans { scans, .. } => vec![(0..*scans).collect()],
            Scheme::Clusters { strata, .. } => strata.clone(),
        };
        let without = |left_out: usize| -> Option<f64> {
            let weights: Vec<u32> = match &self.scheme {
                Scheme::Scans { .. } => (0..scans).map(|scan| u32::from(scan != left_out)).collect(),
                Scheme::Clusters { place, .. } => place.iter().map(|cluster| u32::from(*cluster != left_out)).collect(),
            };
            figure(&weights)
        };
        let (mut cubes, mut squares) = (0.0, 0.0);
        for members in strata {
            let values = members.par_iter().map(|cluster| without(*cluster)).collect::<Option<Vec<f64>>>()?;
            let (n, centre) = (values.len() as f64, mean(&values));
            for value in &values {
                let influence = (n - 1.0) * (centre - value) / n;
                cubes += influence.powi(3);
                squares += influence.powi(2);
            }
        }
        (squares > 0.0).then(|| cubes / (6.0 * squares.powf(1.5)))
    }

    fn sequence(&self) -> Sequence<'_> {
        match &self.scheme {
            Scheme::Scans { seed, .. } => Sequence::Scans(Box::new(Mt19937::new(*seed))),
            Scheme::Clusters { place, strata, seed } => {
                let clusters = strata.iter().map(Vec::len).sum();
                let generator = Box::new(StdRng::seed_from_u64(*seed));
                Sequence::Clusters { generator, place, strata, drawn: vec![0; clusters] }
            }
        }
    }
}

/// One replicate after the other.
enum Sequence<'a> {
    Scans(Box<Mt19937>),
    Clusters { generator: Box<StdRng>, place: &'a [usize], strata: &'a [Vec<usize>], drawn: Vec<u32> },
}

impl Sequence<'_> {
    fn draw(&mut self, weights: &mut [u32]) {
        match self {
            Self::Scans(generator) => {
                weights.fill(0);
                (0..weights.len()).for_each(|_| weights[generator.below(weights.len() as u32)] += 1);
            }
            Self::Clusters { generator, place, strata, drawn } => {
                drawn.fill(0);
                for members in *strata {
                    (0..members.len()).for_each(|_| drawn[members[generator.random_range(0..members.len())]] += 1);
                }
                weights.iter_mut().zip(*place).for_each(|(weight, cluster)| *weight = drawn[*cluster]);
            }
        }
    }
}

fn distinct(values: &[usize]) -> Vec<usize> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    values
}

/// A figure with its bootstrap intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrapped {
    /// The figure of the cases as they are.
    pub value: f64,
    /// Standard deviation of the replicates.
    pub standard_error: f64,
    /// Percentile interval, by [`percentile_interval`].
    pub percentile: Interval,
    /// BCa interval, by [`bca_interval`]. `None` where it was not asked for or is not defined: all replicates on one side of the estimate, nothing
    /// that varies, or a figure that hangs on a single cluster.
    pub bca: Option<Interval>,
    /// Replicates for which the figure is not defined and that are left out.
    pub empty_replicates: usize,
}

/// Bias-corrected and accelerated interval (Efron, J Am Stat Assoc 1987;82:171): corrects for replicates that lie to one side of
/// the estimate and for a spread that changes with it. Replicates equal to the estimate count half; quantiles are linear
/// between ranks: scipy's conventions. `None` where all replicates lie on one side.
///
/// # Errors
/// No replicates, or a level outside `0..1`.
pub fn bca_interval(
    value: f64,
    replicates: &[f64],
    acceleration: f64,
    level: f64,
) -> Result<Option<Interval>, MetricsError> {
    at_least("values of a BCa interval", replicates.len(), 1)?;
    let z = deviate(level)?;
    let mut sorted = replicates.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let below = sorted.partition_point(|v| *v < value) + sorted.partition_point(|v| *v <= value);
    let share = below as f64 / (2.0 * n);
    if share <= 0.0 || share >= 1.0 {
        return Ok(None);
    }
    let bias = normal_quantile(share);
    let at = |z: f64| {
        let moved = bias + (bias + z) / (1.0 - acceleration * (bias + z));
        let rank = 0.5 * libm::erfc(-moved / std::f64::consts::SQRT_2) * (n - 1.0);
        let low = rank.floor() as usize;
        let high = (low + 1).min(sorted.len() - 1);
        sorted[low] + rank.fract() * (sorted[high] - sorted[low])
    };
    Ok(Some([at(-z), at(z)]))
}

/// A paired permutation test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Permutation {
    /// Figure of the first system minus that of the second.
    pub difference: f64,
    /// Two-sided p-value; never zero: the arrangement that was seen counts too.
    pub p: f64,
    /// Arrangements that were looked at.
    pub arrangements: usize,
    /// Whether these were all arrangements, so that `p` is exact.
    pub exact: bool,
}

/// Were the two systems exchangeable, swapping their results for a patient would change nothing: the share of arrangements, each
/// patient swapped or not, with at least the difference that was seen. All arrangements where they are at most
/// `permutations`, else that many at random, the one seen counted once more (Phipson and Smyth, Stat Appl Genet Mol Biol
/// 2010;9:39). `figure` takes how often each case counts, first those of one system, then those of the other.
///
/// # Errors
/// No cases or permutations, or a figure that is not defined for each system.
#[implements("FR-004")]
pub fn paired_permutation(
    cluster_of_case: &[usize],
    permutations: usize,
    seed: u64,
    figure: impl Fn(&[u32]) -> Option<f64> + Sync,
) -> Result<Permutation, MetricsError> {
    at_least("cases of a permutation test", cluster_of_case.len(), 1)?;
    at_least("permutations", permutations, 1)?;
    let names = distinct(cluster_of_case);
    let place: Vec<usize> = cluster_of_case.iter().map(|name| names.partition_point(|n| n < name)).collect();
    let difference = |swapped: &[bool]| -> Option<f64> {
        let side = |second: bool| -> Vec<u32> {
            let chosen = |of_second: bool| {
                place.iter().map(move |cluster| u32::from((swapped[*cluster] != second) == of_second))
            };
            chosen(false).chain(chosen(true)).collect()
        };
        Some(figure(&side(false))? - figure(&side(true))?)
    };
    let Some(seen) = difference(&vec![false; names.len()]) else {
        return Err(MetricsError::TooFew { what: "cases of a compared figure", found: 0, needed: 1 });
    };
    // Sums in another order differ in their last bits; that is no smaller difference.
    let as_large = |swapped: &Vec<bool>| difference(swapped).is_none_or(|d| d.abs() >= seen.abs() - 1e-12);
    let all = u32::try_from(names.len()).ok().and_then(|n| 1usize.checked_shl(n)).filter(|all| *all <= permutations);
    let (count, arrangements, exact) = match all {
        Some(all) => {
            let swapped = |bits: usize| (0..names.len()).map(|i| bits >> i & 1 == 1).collect::<Vec<bool>>();
            ((0..all).into_par_iter().filter(|bits| as_large(&swapped(*bits))).count(), all, true)
        }
        None => {
            let mut generator = StdRng::seed_from_u64(seed);
            let (mut count, mut left) = (1, permutations);
            while left > 0 {
                let block: Vec<Vec<bool>> =
                    (0..BLOCK.min(left)).map(|_| (0..names.len()).map(|_| generator.random()).collect()).collect();
                left -= block.len();
                count += block.par_iter().filter(|swapped| as_large(swapped)).count();
            }
            (count, permutations + 1, false)
        }
    };
    Ok(Permutation { difference: seen, p: count as f64 / arrangements as f64, arrangements, exact })
}

/// Permutation test of the CPM of two systems on the same scans, in the same order; whole patients are swapped. Scores are
/// compared by the false positives per scan that each stands for in its own system, so that their scales do not matter.
///
/// # Errors
/// As [`paired_permutation`]; systems with other scans or other nodules.
#[implements("FR-004")]
pub fn cpm_permutation(
    first: &Froc,
    second: &Froc,
    cluster_of_scan: &[usize],
    how: Interpolation,
    permutations: usize,
    seed: u64,
) -> Result<Permutation, MetricsError> {
    let scans = [first.counts().scans, second.counts().scans, cluster_of_scan.len()];
    if scans.iter().any(|n| *n != scans[0]) {
        let right = if scans[1] == scans[0] { scans[2] } else { scans[1] };
        return Err(MetricsError::Length { what: "scans of two systems", left: scans[0], right });
    }
    if let Some(place) = first.nodules_in_scan().iter().zip(second.nodules_in_scan()).position(|(a, b)| a != b) {
        return Err(MetricsError::Contradiction { what: "a scan's nodules", place });
    }
    let both = Froc::joined(first, second);
    paired_permutation(cluster_of_scan, permutations, seed, |weights| {
        both.resampled(weights, &CPM_RATES, how).map(|values| mean(&values))
    })
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
    let replicates: Vec<Vec<f64>> =
        draws.map(|weights| froc.resampled(weights, &all, how)).into_iter().flatten().collect();
    at_least("bootstrap replicates that hold a nodule", replicates.len(), 1)?;
    let column = |i: usize| replicates.iter().map(|values| values[i]).collect::<Vec<_>>();
    Ok(FrocIntervals {
        mean: (0..rates.len()).map(|i| mean(&column(i))).collect(),
        intervals: (0..rates.len()).map(|i| percentile_interval(column(i), level)).collect::<Result<_, _>>()?,
        cpm: percentile_interval(replicates.iter().map(|values| mean(&values[rates.len()..])).collect(), level)?,
        empty_replicates: draws.replicates() - replicates.len(),
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
    deviate(level)?;
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
    use crate::froc::froc;
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

    #[verifies("FR-004")]
    #[test]
    fn strata_keep_their_sizes() {
        // Patients 0 to 9 at one centre, 10 to 14 at another: each replicate draws ten and five.
        let patients: Vec<usize> = (0..15).collect();
        let centres: Vec<usize> = patients.iter().map(|p| usize::from(*p >= 10)).collect();
        let draws = Draws::of_clusters_within(&patients, &centres, 50, 3).unwrap();
        for weights in draws.iter() {
            assert_eq!((weights[..10].iter().sum::<u32>(), weights[10..].iter().sum::<u32>()), (10, 5));
        }
        let error = Draws::of_clusters_within(&[1, 1], &[0, 1], 5, 0).unwrap_err();
        assert_eq!(error, MetricsError::Contradiction { what: "a patient's stratum", place: 1 });
    }

    #[verifies("FR-004")]
    #[test]
    fn a_bca_interval_is_scipys() {
        // scipy 1.17: stats.bootstrap(..., method="BCa") takes these steps; here on 200 given replicates, with
        // scipy.stats.norm and numpy.percentile.
        let replicates: Vec<f64> = (0..200).map(|i| (f64::from(i) / 199.0).powi(2) + 0.5).collect();
        let [low, high] = bca_interval(0.7, &replicates, 0.05, 0.95).unwrap().unwrap();
        assert!((low - 0.5004360311022826).abs() < 1e-12 && (high - 1.4389116638130421).abs() < 1e-12, "{low} {high}");
        assert_eq!(bca_interval(0.1, &replicates, 0.05, 0.95), Ok(None));
    }

    #[test]
    fn the_mean_of_a_sample_has_its_known_standard_error_and_acceleration() {
        // Ten values: SE of the mean sqrt(sum of squares) / 10; acceleration sum of cubes / (6 (sum of squares)^1.5).
        let values = [0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0];
        let figure = |weights: &[u32]| {
            let n: u32 = weights.iter().sum();
            Some(values.iter().zip(weights).map(|(v, w)| v * f64::from(*w)).sum::<f64>() / f64::from(n))
        };
        let clusters: Vec<usize> = (0..10).collect();
        let draws = Draws::of_clusters(&clusters, 5000, 11).unwrap();
        let b = draws.bootstrap(figure, 0.95).unwrap();
        let (squares, cubes): (f64, f64) =
            values.iter().map(|v| v - 3.0).fold((0.0, 0.0), |(s, c), d| (s + d * d, c + d * d * d));
        assert!((b.standard_error - squares.sqrt() / 10.0).abs() < 0.02, "{b:?}");
        assert!((draws.acceleration(figure).unwrap() - cubes / (6.0 * squares.powf(1.5))).abs() < 1e-12);
        // A skewed sample: the BCa interval lies further to the right.
        let bca = b.bca.unwrap();
        assert!(bca[0] > b.percentile[0] && bca[1] > b.percentile[1], "{b:?}");
        assert!(draws.bootstrap(|_| None, 0.95).is_err());
    }

    #[verifies("FR-004")]
    #[test]
    fn a_small_permutation_test_is_exact() {
        // Three cases, the first system better by 1, 2 and 3: of the eight arrangements only two reach a mean of 2.
        let better = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0];
        let figure =
            |weights: &[u32]| Some(better.iter().zip(weights).map(|(v, w)| v * f64::from(*w)).sum::<f64>() / 3.0);
        let test = paired_permutation(&[0, 1, 2], 1000, 0, figure).unwrap();
        assert_eq!((test.difference, test.p, test.arrangements, test.exact), (2.0, 0.25, 8, true));
        // As two patients, one with two cases: of four arrangements two.
        assert_eq!(paired_permutation(&[0, 0, 1], 1000, 0, figure).unwrap().p, 0.5);
        // At random: seven drawn and the one seen.
        let drawn = paired_permutation(&[0, 1, 2], 7, 0, figure).unwrap();
        assert!(!drawn.exact && drawn.arrangements == 8 && drawn.p >= 0.125);
    }

    #[verifies("FR-004")]
    #[test]
    fn systems_that_find_the_same_do_not_differ_and_others_do() {
        let patients: Vec<usize> = (0..50).collect();
        let test = |a: &Froc, b: &Froc| cpm_permutation(a, b, &patients, Interpolation::Linear, 999, 1).unwrap();
        assert_eq!(test(&cohort(50, 40), &cohort(50, 40)).p, 1.0);
        let differ = test(&cohort(50, 40), &cohort(50, 30));
        // Ten scans differ, all one way: 2 of 1024 arrangements, about 2 of 1000.
        assert!((differ.difference - 0.2).abs() < 1e-12 && differ.p < 0.01, "{differ:?}");
        assert!(cpm_permutation(&cohort(50, 40), &cohort(40, 30), &patients, Interpolation::Linear, 9, 1).is_err());
    }

    /// Scans of a nodule each, found or not with a score, and false positives.
    type Drawn = Vec<(Option<u8>, Vec<u8>)>;

    fn drawn(scans: &Drawn, score: impl Fn(u8) -> f64) -> Froc {
        let scan = |(hit, wrong): &(Option<u8>, Vec<u8>)| {
            let hit = hit.iter().map(|s| Mark { position: at(0.0), score: score(*s) });
            let wrong = wrong.iter().map(|s| Mark { position: at(50.0), score: score(*s) });
            (hit.chain(wrong).collect(), vec![Lesion { position: at(0.0), diameter_mm: 10.0, excluded: false }])
        };
        froc(&scans.iter().map(scan).collect::<Vec<(Vec<Mark>, Vec<Lesion>)>>(), &MatchRule::LUNA16).unwrap()
    }

    proptest! {
        #[verifies("FR-004")]
        #[test]
        fn a_monotone_change_of_one_systems_scores_changes_no_permutation_test(
            scans in prop::collection::vec(
                ((prop::option::of(0u8..9), prop::collection::vec(0u8..9, 0..4)),
                 (prop::option::of(0u8..9), prop::collection::vec(0u8..9, 0..4))),
                2..9,
            ),
        ) {
            let (first, second): (Drawn, Drawn) = scans.into_iter().unzip();
            let patients: Vec<usize> = (0..first.len()).collect();
            for how in [Interpolation::Linear, Interpolation::FirstAtOrAbove] {
                let a = drawn(&first, |s| f64::from(s) / 10.0);
                let test = |b: &Froc| cpm_permutation(&a, b, &patients, how, 999, 1).unwrap();
                let plain = drawn(&second, |s| f64::from(s) / 10.0);
                // Negative scores, and others far above those of the first system.
                let logits = drawn(&second, |s| f64::from(s) - 20.0);
                let large = drawn(&second, |s| 1000.0 + f64::from(s).exp());
                prop_assert_eq!(test(&plain), test(&logits));
                prop_assert_eq!(test(&plain), test(&large));
                prop_assert!((test(&plain).difference - (a.cpm(how) - plain.cpm(how))).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (patients, centres): (Vec<usize>, Vec<usize>) = (0..30).map(|i| (i / 2, i / 10)).unzip();
        let within = Draws::of_clusters_within(&patients, &centres, 600, 3).unwrap();
        for draws in [Draws::of_scans(30, 600, 3).unwrap(), within] {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let how = Interpolation::Linear;
                pool.install(|| froc_intervals(&cohort(30, 20), &draws, &CPM_RATES, how, 0.95)).unwrap()
            };
            assert_eq!(run(1), run(4));
        }
    }

    proptest! {
        #[test]
        fn each_replicate_draws_as_many_patients_as_there_are(patients in prop::collection::vec(0usize..6, 1..20)) {
            let mut distinct = patients.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let draws = Draws::of_clusters(&patients, 20, 5).unwrap();
            for weights in draws.iter() {
                let of = |p: &usize| patients.iter().zip(&weights).filter(|(q, _)| *q == p).map(|(_, w)| *w).collect::<Vec<_>>();
                let drawn: u32 = distinct.iter().map(|p| of(p)[0]).sum();
                prop_assert_eq!(drawn as usize, distinct.len());
                prop_assert!(distinct.iter().all(|p| of(p).iter().all(|w| *w == of(p)[0])));
            }
        }
    }
}
