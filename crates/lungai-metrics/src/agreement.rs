//! Whether readers agree beyond chance.
//!
//! Ratings are numbers: a weighted or ordinal measure uses their distance or order, a nominal one only whether they
//! are equal.

use crate::error::{at_least, deviate, finite};
use crate::{Interval, MetricsError};
use lungai_trace::implements;

/// How far apart two ratings of Cohen's kappa are taken to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Equal or not.
    None,
    /// By their distance.
    Linear,
    /// By their squared distance.
    Quadratic,
}

/// Cohen's kappa with its large-sample standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kappa {
    /// 1 for full agreement, 0 for what chance gives.
    pub value: f64,
    /// Standard error.
    pub standard_error: f64,
    /// `value` -+ z standard errors.
    pub interval: Interval,
    /// Subjects.
    pub subjects: usize,
}

/// Scale of Krippendorff's alpha.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal or not.
    Nominal,
    /// By the number of ratings between two values.
    Ordinal,
    /// By squared distance.
    Interval,
}

/// Cohen's kappa of two raters (Educ Psychol Meas 1960;20:37; weighted: Psychol Bull 1968;70:213), with the standard
/// error of Fleiss, Cohen and Everitt (Psychol Bull 1969;72:323). Weights go by the distance of the values, so a
/// category that nobody used still counts as a step.
///
/// # Errors
/// Lists of different length, no subjects, all ratings equal, a rating that is not finite, a level outside `0..1`.
#[implements("FR-004")]
pub fn cohen(first: &[f64], second: &[f64], weights: Weights, level: f64) -> Result<Kappa, MetricsError> {
    let pairs = RatingPairs::new(first, second)?;
    let table = pairs.table(|_| 1.0);
    let value = table.kappa(weights).ok_or(MetricsError::NoVariation)?;
    let k = table.categories.len();
    let n = first.len() as f64;
    let Margins { rows, columns, expected } = table.margins(weights);
    let cells = || (0..k).flat_map(|i| (0..k).map(move |j| (i, j)));
    let row_mean: Vec<f64> = (0..k).map(|i| (0..k).map(|j| columns[j] * table.weight(weights, i, j)).sum()).collect();
    let column_mean: Vec<f64> = (0..k).map(|j| (0..k).map(|i| rows[i] * table.weight(weights, i, j)).sum()).collect();
    let spread: f64 = cells()
        .map(|(i, j)| {
            let apart = table.weight(weights, i, j) - (row_mean[i] + column_mean[j]) * (1.0 - value);
            table.share[i * k + j] * apart.powi(2)
        })
        .sum();
    let variance = (spread - (value - expected * (1.0 - value)).powi(2)) / (n * (1.0 - expected).powi(2));
    let standard_error = variance.max(0.0).sqrt();
    let half = deviate(level)? * standard_error;
    Ok(Kappa { value, standard_error, interval: [value - half, value + half], subjects: first.len() })
}

/// The ratings of two raters, ordered once: what makes thousands of resamplings cheap.
#[derive(Debug, Clone)]
pub struct RatingPairs {
    categories: Vec<f64>,
    /// Place of each subject's two ratings in the table, first rater's category by category.
    cells: Vec<u32>,
}

/// Shares of subjects by the categories of both raters.
#[derive(Debug, Clone)]
pub struct CrossTable<'a> {
    categories: &'a [f64],
    share: Vec<f64>,
}

struct Margins {
    rows: Vec<f64>,
    columns: Vec<f64>,
    /// Weighted agreement by chance.
    expected: f64,
}

impl RatingPairs {
    /// Orders the categories.
    ///
    /// # Errors
    /// Lists of different length, no subjects, a rating that is not finite.
    pub fn new(first: &[f64], second: &[f64]) -> Result<Self, MetricsError> {
        if first.len() != second.len() {
            return Err(MetricsError::Length { what: "ratings of two raters", left: first.len(), right: second.len() });
        }
        at_least("subjects rated by both", first.len(), 1)?;
        let categories = categories(first.iter().chain(second).copied())?;
        let place = |rating: &f64| categories.partition_point(|c| c < rating);
        let cells = first.iter().zip(second).map(|(a, b)| (place(a) * categories.len() + place(b)) as u32).collect();
        Ok(Self { categories, cells })
    }

    /// The table when subject `i` counts `count(i)` times.
    pub fn table(&self, count: impl Fn(usize) -> f64) -> CrossTable<'_> {
        let mut share = vec![0.0; self.categories.len().pow(2)];
        self.cells.iter().enumerate().for_each(|(subject, cell)| share[*cell as usize] += count(subject));
        let n: f64 = share.iter().sum();
        share.iter_mut().for_each(|share| *share /= n);
        CrossTable { categories: &self.categories, share }
    }
}

impl CrossTable<'_> {
    /// Cohen's kappa; `None` where all ratings are equal.
    pub fn kappa(&self, weights: Weights) -> Option<f64> {
        if self.categories.len() < 2 {
            return None;
        }
        let k = self.categories.len();
        let Margins { expected, .. } = self.margins(weights);
        let cells = (0..k).flat_map(|i| (0..k).map(move |j| (i, j)));
        let observed: f64 = cells.map(|(i, j)| self.weight(weights, i, j) * self.share[i * k + j]).sum();
        let kappa = (observed - expected) / (1.0 - expected);
        kappa.is_finite().then_some(kappa)
    }

    fn margins(&self, weights: Weights) -> Margins {
        let k = self.categories.len();
        let rows: Vec<f64> = self.share.chunks(k).map(|row| row.iter().sum()).collect();
        let columns: Vec<f64> = (0..k).map(|j| (0..k).map(|i| self.share[i * k + j]).sum()).collect();
        let cells = (0..k).flat_map(|i| (0..k).map(move |j| (i, j)));
        let expected = cells.map(|(i, j)| self.weight(weights, i, j) * rows[i] * columns[j]).sum();
        Margins { rows, columns, expected }
    }

    fn weight(&self, weights: Weights, i: usize, j: usize) -> f64 {
        let range = self.categories[self.categories.len() - 1] - self.categories[0];
        let apart = (self.categories[i] - self.categories[j]).abs() / range;
        match weights {
            Weights::None => f64::from(u8::from(i == j)),
            Weights::Linear => 1.0 - apart,
            Weights::Quadratic => 1.0 - apart * apart,
        }
    }
}

/// The ratings of several raters, counted once.
#[derive(Debug, Clone)]
pub struct RatingCounts {
    raters: f64,
    categories: usize,
    /// How many raters chose each category, subject by subject.
    counts: Vec<f64>,
}

impl RatingCounts {
    /// Counts the ratings of each category.
    ///
    /// # Errors
    /// As [`fleiss`], except that all ratings may be equal.
    pub fn new(subjects: &[Vec<f64>]) -> Result<Self, MetricsError> {
        at_least("subjects rated by all", subjects.len(), 1)?;
        let raters = subjects[0].len();
        at_least("ratings of a subject", raters, 2)?;
        if let Some(odd) = subjects.iter().find(|row| row.len() != raters) {
            return Err(MetricsError::Length { what: "ratings of two subjects", left: raters, right: odd.len() });
        }
        let categories = categories(subjects.iter().flatten().copied())?;
        let of_subject = |row: &Vec<f64>| -> Vec<f64> {
            categories.iter().map(|category| row.iter().filter(|rating| *rating == category).count() as f64).collect()
        };
        let counts = subjects.iter().flat_map(of_subject).collect();
        Ok(Self { raters: raters as f64, categories: categories.len(), counts })
    }

    /// Fleiss' kappa when subject `i` counts `count(i)` times; `None` where all ratings are equal.
    pub fn fleiss(&self, count: impl Fn(usize) -> f64) -> Option<f64> {
        let (mut n, mut agreeing) = (0.0, 0.0);
        let mut of_category = vec![0.0; self.categories];
        for (subject, row) in self.counts.chunks(self.categories).enumerate() {
            let times = count(subject);
            n += times;
            for (chosen, sum) in row.iter().zip(&mut of_category) {
                *sum += times * chosen;
                agreeing += times * chosen * (chosen - 1.0);
            }
        }
        let m = self.raters;
        let observed = agreeing / (n * m * (m - 1.0));
        let expected: f64 = of_category.iter().map(|sum| (sum / (n * m)).powi(2)).sum();
        let varied = of_category.iter().filter(|sum| **sum > 0.0).count() > 1;
        varied.then(|| (observed - expected) / (1.0 - expected))
    }
}

/// Fleiss' kappa of several raters (Psychol Bull 1971;76:378): one row of ratings for each subject, all of one length;
/// the raters of two subjects need not be the same.
///
/// # Errors
/// Fewer than two ratings of a subject, rows of different length, all ratings equal, a rating that is not finite.
#[implements("FR-004")]
pub fn fleiss(subjects: &[Vec<f64>]) -> Result<f64, MetricsError> {
    RatingCounts::new(subjects)?.fleiss(|_| 1.0).ok_or(MetricsError::NoVariation)
}

/// Krippendorff's alpha (Content Analysis, 2004, ch. 11): any number of ratings for each subject; subjects with fewer
/// than two have nothing to compare and are left out.
///
/// # Errors
/// No subject with two ratings, all ratings equal, a rating that is not finite.
#[implements("FR-004")]
pub fn krippendorff(subjects: &[Vec<f64>], scale: Scale) -> Result<f64, MetricsError> {
    let pairable: Vec<&Vec<f64>> = subjects.iter().filter(|row| row.len() >= 2).collect();
    at_least("subjects with two ratings", pairable.len(), 1)?;
    let categories = categories(pairable.iter().flat_map(|row| row.iter().copied()))?;
    let k = categories.len();
    if k < 2 {
        return Err(MetricsError::NoVariation);
    }
    let mut coincidence = vec![vec![0.0; k]; k];
    for row in &pairable {
        let counts: Vec<f64> = categories.iter().map(|c| row.iter().filter(|r| *r == c).count() as f64).collect();
        let pairs_per_rating = (row.len() - 1) as f64;
        for c in 0..k {
            for d in 0..k {
                let own = if c == d { 1.0 } else { 0.0 };
                coincidence[c][d] += counts[c] * (counts[d] - own) / pairs_per_rating;
            }
        }
    }
    let totals: Vec<f64> = coincidence.iter().map(|row| row.iter().sum()).collect();
    let n: f64 = totals.iter().sum();
    let distance = |c: usize, d: usize| match scale {
        Scale::Nominal => f64::from(u8::from(c != d)),
        Scale::Ordinal => {
            let (low, high) = (c.min(d), c.max(d));
            (totals[low..=high].iter().sum::<f64>() - (totals[low] + totals[high]) / 2.0).powi(2)
        }
        Scale::Interval => (categories[c] - categories[d]).powi(2),
    };
    let (mut observed, mut expected) = (0.0, 0.0);
    for c in 0..k {
        for d in (0..k).filter(|d| *d != c) {
            observed += coincidence[c][d] * distance(c, d);
            expected += totals[c] * totals[d] * distance(c, d);
        }
    }
    Ok(1.0 - (n - 1.0) * observed / expected)
}

/// Distinct values, ascending.
/// Different ratings at most: tables have a cell for every two of them, 8 MB here.
const CATEGORIES: usize = 1000;

fn categories(ratings: impl Iterator<Item = f64>) -> Result<Vec<f64>, MetricsError> {
    let mut values = ratings.map(|r| finite("a rating", r)).collect::<Result<Vec<f64>, _>>()?;
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    match values.len() {
        found if found > CATEGORIES => Err(MetricsError::TooManyCategories { found, most: CATEGORIES }),
        _ => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::{Limit, measured, verifies};
    use proptest::prelude::*;

    fn check(got: f64, expected: f64, tolerance: f64) {
        assert!((got - expected).abs() < tolerance, "{got} against {expected}");
    }

    #[verifies("FR-004")]
    #[test]
    fn cohens_kappa_of_a_published_table() {
        // SAS FREQ example (statsmodels' test suite): kappa 0.4842, ASE 0.1380; linear 0.4701, ASE 0.1457.
        let table = [[0, 4, 1], [0, 8, 0], [0, 1, 5]];
        let (mut a, mut b) = (vec![], vec![]);
        for (i, row) in table.iter().enumerate() {
            for (j, count) in row.iter().enumerate() {
                a.extend(std::iter::repeat_n(i as f64, *count));
                b.extend(std::iter::repeat_n(j as f64, *count));
            }
        }
        let plain = cohen(&a, &b, Weights::None, 0.95).unwrap();
        let off = (plain.value - 0.48416289592760187).abs();
        assert!(measured("kappa.difference_from_the_published_one", off, Limit::AtMost(1e-14)));
        check(plain.standard_error, 0.1380135783058146, 1e-14);
        let linear = cohen(&a, &b, Weights::Linear, 0.95).unwrap();
        check(linear.value, 0.4701195219123506, 1e-14);
        check(linear.standard_error, 0.1457, 5e-5);
    }

    #[verifies("FR-004")]
    #[test]
    fn fleiss_kappa_of_a_published_table() {
        // The worked example of the Wikipedia article on Fleiss' kappa: 10 subjects, 14 raters, 0.210.
        let counts = [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ];
        let subjects: Vec<Vec<f64>> =
            counts.iter().map(|row| (0..5).flat_map(|c| std::iter::repeat_n(c as f64, row[c])).collect()).collect();
        check(fleiss(&subjects).unwrap(), 0.210, 5e-4);
    }

    #[verifies("FR-004")]
    #[test]
    fn krippendorffs_alpha_of_his_own_example() {
        // Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: four observers, twelve units,
        // missing values; nominal 0.743, ordinal 0.815, interval 0.849.
        let observers = [
            "1 2 3 3 2 1 4 1 2 . . .",
            "1 2 3 3 2 2 4 1 2 5 . 3",
            ". 3 3 3 2 3 4 2 2 5 1 .",
            "1 2 3 3 2 4 4 1 2 5 1 .",
        ];
        let mut units = vec![vec![]; 12];
        for line in observers {
            for (unit, rating) in units.iter_mut().zip(line.split(' ')) {
                unit.extend(rating.parse::<f64>().ok());
            }
        }
        check(krippendorff(&units, Scale::Nominal).unwrap(), 0.743, 5e-4);
        check(krippendorff(&units, Scale::Ordinal).unwrap(), 0.815, 5e-4);
        check(krippendorff(&units, Scale::Interval).unwrap(), 0.849, 5e-4);
    }

    #[test]
    fn agreement_without_variation_is_an_error_and_not_one() {
        assert_eq!(cohen(&[1.0, 1.0], &[1.0, 1.0], Weights::None, 0.95), Err(MetricsError::NoVariation));
        assert_eq!(fleiss(&[vec![2.0, 2.0], vec![2.0, 2.0]]), Err(MetricsError::NoVariation));
        assert_eq!(krippendorff(&[vec![2.0, 2.0]], Scale::Ordinal), Err(MetricsError::NoVariation));
        assert!(krippendorff(&[vec![2.0], vec![]], Scale::Ordinal).is_err());
        assert!(fleiss(&[vec![1.0, 2.0], vec![1.0]]).is_err());
    }

    #[verifies("FR-004")]
    #[test]
    fn counting_a_subject_twice_is_having_it_twice() {
        let (a, b) = ([1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 1.0]);
        let (twice_a, twice_b) = ([1.0, 2.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 3.0, 1.0]);
        let count = |i: usize| if i == 2 { 2.0 } else { 1.0 };
        for weights in [Weights::None, Weights::Linear, Weights::Quadratic] {
            let counted = RatingPairs::new(&a, &b).unwrap().table(count).kappa(weights).unwrap();
            check(counted, cohen(&twice_a, &twice_b, weights, 0.95).unwrap().value, 1e-15);
        }
        let rows = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| vec![*a, *b]).collect::<Vec<_>>();
        let counted = RatingCounts::new(&rows(&a, &b)).unwrap().fleiss(count).unwrap();
        check(counted, fleiss(&rows(&twice_a, &twice_b)).unwrap(), 1e-15);
        assert_eq!(RatingPairs::new(&a, &b).unwrap().table(|i| f64::from(u8::from(i == 0))).kappa(Weights::None), None);
    }

    #[test]
    fn measurements_are_no_categories() {
        let rows: Vec<Vec<f64>> = (0..1001).map(|i| vec![f64::from(i), f64::from(i)]).collect();
        let column: Vec<f64> = rows.iter().map(|row| row[0]).collect();
        let expected = MetricsError::TooManyCategories { found: 1001, most: 1000 };
        assert_eq!(expected.rule(), "too-many-categories");
        assert_eq!(krippendorff(&rows, Scale::Interval), Err(expected.clone()));
        assert_eq!(fleiss(&rows), Err(expected.clone()));
        assert_eq!(cohen(&column, &column, Weights::None, 0.95).err(), Some(expected));
        assert!(krippendorff(&rows[..1000], Scale::Nominal).is_ok());
    }

    proptest! {
        #[test]
        fn agreement_does_not_depend_on_who_is_first(pairs in prop::collection::vec((0u8..4, 0u8..4), 2..40)) {
            let a: Vec<f64> = pairs.iter().map(|p| f64::from(p.0)).collect();
            let b: Vec<f64> = pairs.iter().map(|p| f64::from(p.1)).collect();
            prop_assume!(a.iter().chain(&b).any(|v| *v != a[0]));
            for weights in [Weights::None, Weights::Linear, Weights::Quadratic] {
                let (x, y) = (cohen(&a, &b, weights, 0.95).unwrap(), cohen(&b, &a, weights, 0.95).unwrap());
                // Variances are compared: near zero the root would turn a rounding of 1e-17 into one of 1e-9.
                let variance = |k: &Kappa| k.standard_error.powi(2);
                prop_assert!((x.value - y.value).abs() < 1e-12 && (variance(&x) - variance(&y)).abs() < 1e-12);
                prop_assert!(x.value <= 1.0 + 1e-12);
            }
            // Two categories have no middle: all weights agree.
            let (two_a, two_b): (Vec<f64>, Vec<f64>) = a.iter().zip(&b).map(|(a, b)| (a % 2.0, b % 2.0)).unzip();
            if let Ok(plain) = cohen(&two_a, &two_b, Weights::None, 0.95) {
                let squared = cohen(&two_a, &two_b, Weights::Quadratic, 0.95).unwrap();
                prop_assert!((plain.value - squared.value).abs() < 1e-12);
            }
        }
    }
}
