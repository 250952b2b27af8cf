//! Several readers, several cases: do treatments differ, for readers and cases like these?
//!
//! Obuchowski and Rockette's analysis (Commun Stat Simul Comput 1995;24:285) with Hillis' degrees of freedom (Stat Med
//! 2007;26:596), and Dorfman, Berbaum and Metz' analysis of pseudovalues (Invest Radiol 1992;27:723) in Hillis' form (Acad
//! Radiol 2008;15:647). Both give the same test where readers and cases are random.

use crate::bootstrap::Draws;
use crate::distributions::{chi_squared_upper_tail, f_upper_tail, normal_two_sided_p, t_quantile, t_two_sided_p};
use crate::error::{at_least, deviate};
use crate::reader_study::{Merit, ReaderStudy};
use crate::{Interval, MetricsError, normal_quantile};
use lungai_trace::implements;

/// How the covariances of the figures are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covariance {
    /// By leaving out each case in turn: for every figure of merit.
    Jackknife,
    /// DeLong's: for areas under ROC curves.
    DeLong,
    /// By drawing cases without and with lesions with replacement.
    Bootstrap {
        /// How often.
        replicates: usize,
        /// Where chance starts.
        seed: u64,
    },
}

/// A sum of squares by its degrees of freedom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeanSquare {
    /// Sum of squares.
    pub ss: f64,
    /// Degrees of freedom.
    pub df: f64,
    /// `ss / df`.
    pub ms: f64,
}

/// What varies in Obuchowski and Rockette's model. Estimates may be negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Components {
    /// Between readers; `None` with a single reader.
    pub reader: Option<f64>,
    /// Treatment by reader; `None` with a single reader or treatment.
    pub treatment_reader: Option<f64>,
    /// Covariance under two treatments of one reader.
    pub cov1: f64,
    /// Covariance of two readers under one treatment.
    pub cov2: f64,
    /// Covariance of two readers under two treatments.
    pub cov3: f64,
    /// Variance of one figure.
    pub var: f64,
}

/// A test of equal treatments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The F statistic; for a chi-squared test chi-squared by `df`.
    pub f: f64,
    /// Treatments less one.
    pub df: f64,
    /// Degrees of freedom of the denominator; `None` for a chi-squared test.
    pub ddf: Option<f64>,
    /// Mean square of the denominator.
    pub error: f64,
    /// p-value.
    pub p: f64,
}

/// First treatment minus second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Places of the two treatments.
    pub treatments: [usize; 2],
    /// Mean over readers, or of one reader.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom of t; `None` for a z test.
    pub df: Option<f64>,
    /// `value` by `standard_error`.
    pub statistic: f64,
    /// Two-sided p-value, for this pair alone.
    pub p: f64,
    /// Its interval, for this pair alone.
    pub interval: Interval,
}

/// A treatment's mean over readers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Its standard error, from this treatment's data alone.
    pub standard_error: f64,
    /// Degrees of freedom of t; `None` for z.
    pub df: Option<f64>,
    /// Its interval.
    pub interval: Interval,
}

/// What holds for one choice of what is random.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// All treatments alike? `None` with a single one.
    pub test: Option<Test>,
    /// Every pair of treatments.
    pub differences: Vec<Difference>,
    /// Every treatment.
    pub means: Vec<Mean>,
}

/// Obuchowski and Rockette's analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct ObuchowskiRockette {
    /// `[treatment][reader]`.
    pub figures: Vec<Vec<f64>>,
    /// Treatments, readers, and their interaction.
    pub anova: [MeanSquare; 3],
    /// Components of variance.
    pub components: Components,
    /// For each treatment: mean square of readers, mean variance, covariance of two readers.
    pub by_treatment: Vec<[f64; 3]>,
    /// For each reader: mean square of treatments, mean variance, covariance of two treatments.
    pub by_reader: Vec<[f64; 3]>,
    /// Random readers and cases; `None` with a single reader, or where nothing varies.
    pub rrrc: Option<Inference>,
    /// Fixed readers, random cases; `None` where the treatments are read exactly alike.
    pub frrc: Option<Inference>,
    /// For each reader, all pairs of treatments: of this reader, on cases like these.
    pub readers: Vec<Vec<Difference>>,
    /// Random readers, fixed cases; `None` with a single reader, or where readers differ alike under all treatments.
    pub rrfc: Option<Inference>,
}

/// Mean squares of the pseudovalues.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PseudovalueAnova {
    /// Treatments.
    pub t: MeanSquare,
    /// Readers.
    pub r: MeanSquare,
    /// Cases.
    pub c: MeanSquare,
    /// Treatments by readers.
    pub tr: MeanSquare,
    /// Treatments by cases.
    pub tc: MeanSquare,
    /// Readers by cases.
    pub rc: MeanSquare,
    /// All three.
    pub trc: MeanSquare,
}

/// Dorfman, Berbaum and Metz' analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct DorfmanBerbaumMetz {
    /// Analysis of variance of the pseudovalues.
    pub anova: PseudovalueAnova,
    /// Variances of reader, case, treatment by reader, treatment by case, reader by case, and the rest; may be negative.
    pub components: [f64; 6],
    /// Random readers and cases; `None` where nothing varies, as in [`ObuchowskiRockette`].
    pub rrrc: Option<Inference>,
    /// Fixed readers, random cases; `None` where nothing varies.
    pub frrc: Option<Inference>,
    /// For each reader, all pairs of treatments.
    pub readers: Vec<Vec<Difference>>,
    /// Random readers, fixed cases; `None` where nothing varies.
    pub rrfc: Option<Inference>,
}

/// Obuchowski and Rockette's analysis of `merit`, with intervals at confidence `level`.
///
/// # Errors
/// Fewer than two cases of a kind that the figure needs; DeLong's covariance for a figure that is no area of case ratings;
/// treatments that are read exactly alike.
#[implements("FR-004")]
pub fn obuchowski_rockette(
    study: &ReaderStudy,
    merit: Merit,
    covariance: Covariance,
    level: f64,
) -> Result<ObuchowskiRockette, MetricsError> {
    deviate(level)?;
    let figures = study.figures(merit)?;
    let covariances = match covariance {
        Covariance::Jackknife => jackknife(study, merit)?,
        Covariance::DeLong => delong(study, merit)?,
        Covariance::Bootstrap { replicates, seed } => bootstrap(study, merit, replicates, seed)?,
    };
    let (i, j) = (study.treatments(), study.readers());
    let (t, r) = (i as f64, j as f64);
    let [of_treatments, of_readers, of_both] = two_way(&figures);
    // Mean over all pairs of figures that are alike in the one way and unlike in the other.
    let mean_over = |wanted: &dyn Fn([usize; 2], [usize; 2]) -> bool| -> f64 {
        let places = || (0..i).flat_map(|a| (0..j).map(move |b| [a, b]));
        let chosen: Vec<f64> = places()
            .flat_map(|a| places().map(move |b| (a, b)))
            .filter(|(a, b)| wanted(*a, *b))
            .map(|(a, b)| covariances[a[0] * j + a[1]][b[0] * j + b[1]])
            .collect();
        if chosen.is_empty() { 0.0 } else { crate::froc::mean(&chosen) }
    };
    let var = mean_over(&|a, b| a == b);
    let cov1 = mean_over(&|a, b| a[0] != b[0] && a[1] == b[1]);
    let cov2 = mean_over(&|a, b| a[0] == b[0] && a[1] != b[1]);
    let cov3 = mean_over(&|a, b| a[0] != b[0] && a[1] != b[1]);
    // Hillis, Stat Med 2007: the excess of Cov2 over Cov3 is never taken as negative.
    let excess = (cov2 - cov3).max(0.0);
    let treatment_reader = (i > 1 && j > 1).then_some(of_both.ms - var + cov1 + excess);
    let reader =
        (j > 1).then(|| (of_readers.ms - treatment_reader.unwrap_or(0.0) - var + cov2 - (t - 1.0) * (cov1 - cov3)) / t);
    let by_treatment: Vec<[f64; 3]> = (0..i)
        .map(|k| {
            let ms = if j > 1 { variance(&figures[k]) } else { 0.0 };
            let own = |a: [usize; 2], b: [usize; 2]| a[0] == k && b[0] == k;
            [ms, mean_over(&|a, b| own(a, b) && a == b), mean_over(&|a, b| own(a, b) && a[1] != b[1])]
        })
        .collect();
    let by_reader: Vec<[f64; 3]> = (0..j)
        .map(|k| {
            let column: Vec<f64> = figures.iter().map(|row| row[k]).collect();
            let ms = if i > 1 { variance(&column) } else { 0.0 };
            let own = |a: [usize; 2], b: [usize; 2]| a[1] == k && b[1] == k;
            [ms, mean_over(&|a, b| own(a, b) && a == b), mean_over(&|a, b| own(a, b) && a[0] != b[0])]
        })
        .collect();

    let means: Vec<f64> = figures.iter().map(|row| crate::froc::mean(row)).collect();
    let infer = |error: f64, ddf: f64, single: &dyn Fn(usize) -> (f64, Option<f64>)| -> Option<Inference> {
        let single: Vec<Mean> = (0..i).map(|k| single_mean(means[k], single(k), level)).collect();
        if i == 1 {
            return Some(Inference { test: None, differences: vec![], means: single });
        }
        (error > 0.0).then(|| Inference {
            test: Some(f_test(of_treatments, error, ddf)),
            differences: differences(&means, (2.0 * error / r).sqrt(), Some(ddf), level),
            means: single,
        })
    };
    let several = |analysis: &dyn Fn() -> Option<Inference>| if j > 1 { analysis() } else { None };
    let rrrc = several(&|| {
        let error = of_both.ms + r * excess;
        let ddf = error.powi(2) / (of_both.ms.powi(2) / ((t - 1.0) * (r - 1.0)));
        infer(error, ddf, &|k| {
            let [ms, _, cov2] = by_treatment[k];
            let error = ms + (r * cov2).max(0.0);
            ((error / r).sqrt(), Some(error.powi(2) / (ms.powi(2) / (r - 1.0))))
        })
    });
    let rrfc =
        several(&|| infer(of_both.ms, (t - 1.0) * (r - 1.0), &|k| ((by_treatment[k][0] / r).sqrt(), Some(r - 1.0))));
    let frrc = {
        let error = var - cov1 + (r - 1.0) * excess;
        let df = t - 1.0;
        let chi2 = df * of_treatments.ms / error;
        let test = Test { f: of_treatments.ms / error, df, ddf: None, error, p: chi_squared_upper_tail(chi2, df) };
        let single = |k: usize| {
            let [_, var, cov2] = by_treatment[k];
            single_mean(means[k], (((var + (r - 1.0) * cov2.max(0.0)) / r).sqrt(), None), level)
        };
        (i == 1 || error > 0.0).then(|| Inference {
            test: (i > 1).then_some(test),
            differences: differences(&means, (2.0 * error / r).sqrt(), None, level),
            means: (0..i).map(single).collect(),
        })
    };
    if rrrc.is_none() && frrc.is_none() {
        return Err(MetricsError::NoVariation);
    }
    let readers = (0..j)
        .map(|k| {
            let column: Vec<f64> = figures.iter().map(|row| row[k]).collect();
            let [_, var, cov1] = by_reader[k];
            differences(&column, (2.0 * (var - cov1)).max(0.0).sqrt(), None, level)
        })
        .collect();
    Ok(ObuchowskiRockette {
        figures,
        anova: [of_treatments, of_readers, of_both],
        components: Components { reader, treatment_reader, cov1, cov2, cov3, var },
        by_treatment,
        by_reader,
        rrrc,
        frrc,
        readers,
        rrfc,
    })
}

/// Dorfman, Berbaum and Metz' analysis of `merit`: jackknife pseudovalues, moved so that their mean is the figure.
///
/// # Errors
/// Fewer than two treatments, readers or cases of a kind that the figure needs; treatments that are read exactly alike.
#[implements("FR-004")]
pub fn dorfman_berbaum_metz(study: &ReaderStudy, merit: Merit, level: f64) -> Result<DorfmanBerbaumMetz, MetricsError> {
    deviate(level)?;
    at_least("treatments of an analysis of pseudovalues", study.treatments(), 2)?;
    at_least("readers of an analysis of pseudovalues", study.readers(), 2)?;
    let figures = study.figures(merit)?;
    let left_out = study.left_out(merit)?;
    let (i, j, n) = (study.treatments(), study.readers(), left_out[0][0].len());
    let (t, r, k) = (i as f64, j as f64, n as f64);
    let pseudo: Vec<Vec<Vec<f64>>> = figures
        .iter()
        .zip(&left_out)
        .map(|(figures, left_out)| {
            figures
                .iter()
                .zip(left_out)
                .map(|(figure, left_out)| {
                    let raw: Vec<f64> = left_out.iter().map(|without| k * figure - (k - 1.0) * without).collect();
                    let shift = figure - crate::froc::mean(&raw);
                    raw.iter().map(|value| value + shift).collect()
                })
                .collect()
        })
        .collect();

    let at = |a: usize, b: usize, c: usize| pseudo[a][b][c];
    let over = |values: Vec<f64>| crate::froc::mean(&values);
    let m_tr: Vec<Vec<f64>> = figures.clone();
    let m_tc: Vec<Vec<f64>> =
        (0..i).map(|a| (0..n).map(|c| over((0..j).map(|b| at(a, b, c)).collect())).collect()).collect();
    let m_rc: Vec<Vec<f64>> =
        (0..j).map(|b| (0..n).map(|c| over((0..i).map(|a| at(a, b, c)).collect())).collect()).collect();
    let m_t: Vec<f64> = m_tr.iter().map(|row| crate::froc::mean(row)).collect();
    let m_r: Vec<f64> = (0..j).map(|b| over((0..i).map(|a| m_tr[a][b]).collect())).collect();
    let m_c: Vec<f64> = (0..n).map(|c| over((0..i).map(|a| m_tc[a][c]).collect())).collect();
    let grand = crate::froc::mean(&m_t);
    let square = |ss: f64, df: f64| MeanSquare { ss, df, ms: ss / df };
    let main = |means: &[f64], times: f64| {
        square(times * means.iter().map(|m| (m - grand).powi(2)).sum::<f64>(), means.len() as f64 - 1.0)
    };
    let cross = |both: &[Vec<f64>], rows: &[f64], columns: &[f64], times: f64| {
        let squares = both.iter().zip(rows).flat_map(|(row, own)| {
            row.iter().zip(columns).map(move |(value, column)| (value - own - column + grand).powi(2))
        });
        square(times * squares.sum::<f64>(), (rows.len() as f64 - 1.0) * (columns.len() as f64 - 1.0))
    };
    // Squares summed over a table of two ways.
    let squares = |rows: usize, left: &dyn Fn(usize, usize) -> f64| -> f64 {
        (0..rows).flat_map(|row| (0..n).map(move |c| left(row, c).powi(2))).sum()
    };
    let rest: f64 = (0..i)
        .map(|a| {
            squares(j, &|b, c| at(a, b, c) - m_tr[a][b] - m_tc[a][c] - m_rc[b][c] + m_t[a] + m_r[b] + m_c[c] - grand)
        })
        .sum();
    let anova = PseudovalueAnova {
        t: main(&m_t, r * k),
        r: main(&m_r, t * k),
        c: main(&m_c, t * r),
        tr: cross(&m_tr, &m_t, &m_r, k),
        tc: cross(&m_tc, &m_t, &m_c, r),
        rc: cross(&m_rc, &m_r, &m_c, t),
        trc: square(rest, (t - 1.0) * (r - 1.0) * (k - 1.0)),
    };
    let ms = |m: MeanSquare| m.ms;
    let components = [
        (ms(anova.r) - ms(anova.tr) - ms(anova.rc) + ms(anova.trc)) / (t * k),
        (ms(anova.c) - ms(anova.tc) - ms(anova.rc) + ms(anova.trc)) / (t * r),
        (ms(anova.tr) - ms(anova.trc)) / k,
        (ms(anova.tc) - ms(anova.trc)) / r,
        (ms(anova.rc) - ms(anova.trc)) / t,
        ms(anova.trc),
    ];
    // One treatment alone: readers, cases and their interaction.
    let alone: Vec<[f64; 3]> = (0..i)
        .map(|a| {
            let (readers, cases) = (k * variance(&m_tr[a]), r * variance(&m_tc[a]));
            let rest = squares(j, &|b, c| at(a, b, c) - m_tr[a][b] - m_tc[a][c] + m_t[a]);
            [readers, cases, rest / ((r - 1.0) * (k - 1.0))]
        })
        .collect();
    let infer = |error: f64, ddf: f64, single: &dyn Fn([f64; 3]) -> (f64, f64)| {
        let mean = |a: usize| {
            let (error, df) = single(alone[a]);
            single_mean(m_t[a], ((error / (r * k)).sqrt(), Some(df)), level)
        };
        (error > 0.0).then(|| Inference {
            test: Some(f_test(anova.t, error, ddf)),
            differences: differences(&m_t, (2.0 * error / (r * k)).sqrt(), Some(ddf), level),
            means: (0..i).map(mean).collect(),
        })
    };
    let error = ms(anova.tr) + (ms(anova.tc) - ms(anova.trc)).max(0.0);
    let rrrc = infer(error, error.powi(2) / (ms(anova.tr).powi(2) / anova.tr.df), &|[readers, cases, rest]| {
        let error = readers + (cases - rest).max(0.0);
        (error, error.powi(2) / (readers.powi(2) / (r - 1.0)))
    });
    let frrc = infer(ms(anova.tc), anova.tc.df, &|[_, cases, _]| (cases, k - 1.0));
    let rrfc = infer(ms(anova.tr), anova.tr.df, &|[readers, _, _]| (readers, r - 1.0));
    if rrrc.is_none() && frrc.is_none() {
        return Err(MetricsError::NoVariation);
    }
    let readers = (0..j)
        .map(|b| {
            let column: Vec<f64> = figures.iter().map(|row| row[b]).collect();
            let rest = squares(i, &|a, c| at(a, b, c) - m_tr[a][b] - m_rc[b][c] + m_r[b]);
            let ms = rest / ((t - 1.0) * (k - 1.0));
            // Degrees of freedom as RJafroc's: with more than two treatments fewer than the mean square has, to the safe side.
            differences(&column, (2.0 * ms / k).sqrt(), Some(k - 1.0), level)
        })
        .collect();
    Ok(DorfmanBerbaumMetz { anova, components, rrrc, frrc, readers, rrfc })
}

/// Treatments, readers and their interaction.
fn two_way(figures: &[Vec<f64>]) -> [MeanSquare; 3] {
    let (t, r) = (figures.len() as f64, figures[0].len() as f64);
    let rows: Vec<f64> = figures.iter().map(|row| crate::froc::mean(row)).collect();
    let columns: Vec<f64> = (0..figures[0].len()).map(|b| figures.iter().map(|row| row[b]).sum::<f64>() / t).collect();
    let grand = crate::froc::mean(&rows);
    let squares = |means: &[f64]| means.iter().map(|m| (m - grand).powi(2)).sum::<f64>();
    let both: f64 = figures
        .iter()
        .zip(&rows)
        .flat_map(|(row, own)| row.iter().zip(&columns).map(move |(v, column)| (v - own - column + grand).powi(2)))
        .sum();
    let square = |ss: f64, df: f64| MeanSquare { ss, df, ms: if df > 0.0 { ss / df } else { 0.0 } };
    [square(r * squares(&rows), t - 1.0), square(t * squares(&columns), r - 1.0), square(both, (t - 1.0) * (r - 1.0))]
}

fn f_test(treatments: MeanSquare, error: f64, ddf: f64) -> Test {
    let f = treatments.ms / error;
    Test { f, df: treatments.df, ddf: Some(ddf), error, p: f_upper_tail(f, treatments.df, ddf) }
}

/// Every pair, the first minus the second.
fn differences(means: &[f64], standard_error: f64, df: Option<f64>, level: f64) -> Vec<Difference> {
    let pairs = (0..means.len()).flat_map(|a| (a + 1..means.len()).map(move |b| [a, b]));
    pairs
        .map(|[a, b]| {
            let value = means[a] - means[b];
            // One reader who reads two treatments exactly alike has no difference and no error.
            let statistic = if value == 0.0 { 0.0 } else { value / standard_error };
            let p = df.map_or_else(|| normal_two_sided_p(statistic), |df| t_two_sided_p(statistic, df));
            let half = quantile(level, df) * standard_error;
            let interval = [value - half, value + half];
            Difference { treatments: [a, b], value, standard_error, df, statistic, p, interval }
        })
        .collect()
}

fn single_mean(value: f64, (standard_error, df): (f64, Option<f64>), level: f64) -> Mean {
    let half = quantile(level, df) * standard_error;
    Mean { value, standard_error, df, interval: [value - half, value + half] }
}

fn quantile(level: f64, df: Option<f64>) -> f64 {
    let upper = 0.5 + level / 2.0;
    df.map_or_else(|| normal_quantile(upper), |df| t_quantile(upper, df))
}

fn variance(values: &[f64]) -> f64 {
    let centre = crate::froc::mean(values);
    values.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}

/// `factor` times the sample covariance of every two rows; a row for each treatment and reader, readers running fastest.
fn covariance_of(rows: &[&Vec<f64>], factor: f64) -> Vec<Vec<f64>> {
    let n = rows[0].len() as f64;
    let centred: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| {
            let centre = crate::froc::mean(row);
            row.iter().map(|v| v - centre).collect()
        })
        .collect();
    let product = |a: &Vec<f64>, b: &Vec<f64>| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    centred.iter().map(|a| centred.iter().map(|b| factor * product(a, b) / (n - 1.0)).collect()).collect()
}

/// Efron and Stein's inflation: the figures without one case vary that much less.
fn jackknife(study: &ReaderStudy, merit: Merit) -> Result<Vec<Vec<f64>>, MetricsError> {
    let left_out = study.left_out(merit)?;
    let rows: Vec<&Vec<f64>> = left_out.iter().flatten().collect();
    let k = rows[0].len() as f64;
    Ok(covariance_of(&rows, (k - 1.0).powi(2) / k))
}

fn delong(study: &ReaderStudy, merit: Merit) -> Result<Vec<Vec<f64>>, MetricsError> {
    if !matches!(merit, Merit::Auc | Merit::HighestRatingAuc) {
        return Err(MetricsError::Unsuited {
            what: "DeLong's covariance",
            of: "a figure that is no area of case ratings",
        });
    }
    study.check(merit, 2)?;
    let diseased = study.diseased();
    let ratings = study.case_ratings();
    let placements: Vec<[Vec<f64>; 2]> =
        ratings.iter().flatten().map(|ratings| crate::roc::placements(ratings, &diseased)).collect();
    let part = |which: usize| {
        let rows: Vec<&Vec<f64>> = placements.iter().map(|p| &p[which]).collect();
        covariance_of(&rows, 1.0 / rows[0].len() as f64)
    };
    let (positives, negatives) = (part(0), part(1));
    Ok(positives.iter().zip(&negatives).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect())
}

fn bootstrap(study: &ReaderStudy, merit: Merit, replicates: usize, seed: u64) -> Result<Vec<Vec<f64>>, MetricsError> {
    study.check(merit, 2)?;
    at_least("bootstrap replicates", replicates, 2)?;
    let strata: Vec<usize> = study.diseased().iter().map(|diseased| usize::from(*diseased)).collect();
    let cases: Vec<usize> = (0..strata.len()).collect();
    let draws = Draws::of_clusters_within(&cases, &strata, replicates, seed)?;
    let drawn: Vec<Vec<f64>> = draws.map(|counts| study.resampled(merit, counts).into_iter().flatten().collect());
    let rows: Vec<Vec<f64>> =
        (0..drawn[0].len()).map(|figure| drawn.iter().map(|values| values[figure]).collect()).collect();
    Ok(covariance_of(&rows.iter().collect::<Vec<_>>(), 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader_study::Reading;
    use lungai_trace::verifies;
    use proptest::prelude::*;

    /// One rating a case, `[treatment][reader]`; the last `diseased` cases have a lesion.
    fn rated(ratings: &[Vec<Vec<f64>>], diseased: usize) -> ReaderStudy {
        let cases = ratings[0][0].len();
        let weights = (0..cases).map(|k| if k + diseased >= cases { vec![1.0] } else { vec![] }).collect();
        let reading = |k: usize, rating: f64| match k + diseased >= cases {
            true => Reading { elsewhere: vec![], lesions: vec![Some(rating)] },
            false => Reading { elsewhere: vec![rating], lesions: vec![] },
        };
        let readings: Vec<Vec<Vec<Reading>>> = ratings
            .iter()
            .map(|readers| {
                readers.iter().map(|r| r.iter().enumerate().map(|(k, r)| reading(k, *r)).collect()).collect()
            })
            .collect();
        ReaderStudy::new(weights, &readings).unwrap()
    }

    #[verifies("FR-004")]
    #[test]
    fn fixed_cases_are_a_paired_t_test_of_the_readers() {
        // Areas by hand, four pairs each: reader 1 has 1 and 0.5, reader 2 has 0.75 and 0.5. Differences 0.5 and 0.25: mean 0.375,
        // standard error 0.125, t = 3 on one degree of freedom.
        let study = rated(
            &[
                vec![vec![1.0, 2.0, 3.0, 4.0], vec![1.0, 3.0, 2.0, 4.0]],
                vec![vec![1.0, 4.0, 2.0, 3.0], vec![2.0, 3.0, 1.0, 4.0]],
            ],
            2,
        );
        let or = obuchowski_rockette(&study, Merit::Auc, Covariance::Jackknife, 0.95).unwrap();
        assert_eq!(or.figures, [[1.0, 0.75], [0.5, 0.5]]);
        let rrfc = or.rrfc.unwrap();
        let (test, difference) = (rrfc.test.unwrap(), rrfc.differences[0]);
        assert!((test.f - 9.0).abs() < 1e-12 && test.ddf == Some(1.0), "{test:?}");
        assert!((difference.statistic - 3.0).abs() < 1e-12 && (difference.standard_error - 0.125).abs() < 1e-12);
        assert!((test.p - 2.0 / std::f64::consts::PI * (1.0f64 / 3.0).atan()).abs() < 1e-12); // t with one degree is Cauchy
    }

    #[test]
    fn a_single_reader_or_treatment_gets_what_can_be_said() {
        let reader = |shift: f64| vec![1.0, 2.0, 3.0 + shift, 2.5, 4.0, 1.5 + shift];
        let one_reader = rated(&[vec![reader(0.0)], vec![reader(2.0)]], 3);
        let or = obuchowski_rockette(&one_reader, Merit::Auc, Covariance::Jackknife, 0.95).unwrap();
        assert!(or.rrrc.is_none() && or.rrfc.is_none());
        // Then it is the test of the difference itself: variance of both less twice their covariance.
        let frrc = or.frrc.unwrap();
        let own = or.readers[0][0];
        assert!((frrc.differences[0].statistic - own.statistic).abs() < 1e-12);
        let one_treatment = rated(&[vec![reader(0.0), reader(1.0)]], 3);
        let or = obuchowski_rockette(&one_treatment, Merit::Auc, Covariance::Jackknife, 0.95).unwrap();
        assert!(or.rrrc.as_ref().unwrap().test.is_none() && or.rrrc.unwrap().means.len() == 1);
        assert!(dorfman_berbaum_metz(&one_treatment, Merit::Auc, 0.95).is_err());
        let alike = rated(&[vec![reader(0.0), reader(1.0)], vec![reader(0.0), reader(1.0)]], 3);
        let error = obuchowski_rockette(&alike, Merit::Auc, Covariance::Jackknife, 0.95).unwrap_err();
        assert_eq!(error, MetricsError::NoVariation);
        let refused = obuchowski_rockette(&alike, Merit::Afroc, Covariance::DeLong, 0.95).unwrap_err();
        assert_eq!(refused.rule(), "unsuited-method");
    }

    #[verifies("FR-004")]
    #[test]
    fn treatments_that_are_read_exactly_alike_have_no_test_in_either_analysis() {
        let one = vec![vec![3.0, 4.0, 1.0, 2.0], vec![4.0, 3.0, 2.0, 1.0]];
        let same: Vec<Vec<Vec<f64>>> = vec![one.clone(), one];
        let study = rated(&same, 2);
        assert_eq!(dorfman_berbaum_metz(&study, Merit::Auc, 0.95).err(), Some(MetricsError::NoVariation));
        let or = obuchowski_rockette(&study, Merit::Auc, Covariance::Jackknife, 0.95);
        assert_eq!(or.err(), Some(MetricsError::NoVariation));
    }

    proptest! {
        #[test]
        fn both_methods_are_one_test_where_readers_and_cases_are_random(
            ratings in prop::collection::vec(0u8..5, 2 * 3 * 10),
        ) {
            let ratings: Vec<f64> = ratings.iter().map(|r| f64::from(*r)).collect();
            let study = rated(
                &ratings.chunks(30).map(|t| t.chunks(10).map(<[f64]>::to_vec).collect()).collect::<Vec<_>>(), 4,
            );
            let or = obuchowski_rockette(&study, Merit::Auc, Covariance::Jackknife, 0.95);
            prop_assume!(or.is_ok());
            let or = or.unwrap();
            let dbm = dorfman_berbaum_metz(&study, Merit::Auc, 0.95).unwrap();
            if let Some(rrrc) = or.rrrc {
                let (a, b) = (rrrc.test.unwrap(), dbm.rrrc.unwrap().test.unwrap());
                prop_assert!((a.f - b.f).abs() < 1e-8 * (1.0 + a.f));
                let both = (a.ddf.unwrap(), b.ddf.unwrap());
                prop_assert!(both.0.is_infinite() || (both.0 / both.1 - 1.0).abs() < 1e-8, "{:?}", both);
                prop_assert!((a.p - b.p).abs() < 1e-8);
            }
            // Pairs of components by Hillis: the variances of readers agree.
            prop_assert!((or.components.var - (dbm.components[1] + dbm.components[3] + dbm.components[4] + dbm.components[5]) / 10.0).abs() < 1e-10);
        }

        #[test]
        fn drawn_covariances_approach_those_left_out(seed in 0u64..3) {
            let reader = |shift: usize| (0..40).map(|k| ((k * 7 + shift * 11) % 13) as f64 + if k >= 20 { 4.0 } else { 0.0 }).collect();
            let study = rated(&[vec![reader(0), reader(1)], vec![reader(2), reader(3)]], 20);
            let var = |covariance| obuchowski_rockette(&study, Merit::Auc, covariance, 0.95).unwrap().components.var;
            let (left_out, drawn) = (var(Covariance::Jackknife), var(Covariance::Bootstrap { replicates: 2000, seed }));
            prop_assert!((drawn / left_out - 1.0).abs() < 0.15, "{} {}", drawn, left_out);
            prop_assert!((var(Covariance::DeLong) / left_out - 1.0).abs() < 0.1);
        }
    }
}
