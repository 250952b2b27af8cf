//! From logits to probabilities.

use lungai_models::frozen::Calibration;

/// Platt scaling (Platt 1999): slope and intercept that maximise the likelihood, with his smoothed targets, found by
/// Newton's method; and the mean log likelihood that they reach. A slight pull towards slope 1, intercept 0 (one
/// observation's worth) keeps the answer finite where the classes are separable.
pub fn platt(logits: &[f64], positive: &[bool]) -> (Calibration, f64) {
    let n_positive = positive.iter().filter(|p| **p).count() as f64;
    let n_negative = positive.len() as f64 - n_positive;
    let target = |p: &bool| if *p { (n_positive + 1.0) / (n_positive + 2.0) } else { 1.0 / (n_negative + 2.0) };
    let mut c = Calibration::NONE;
    for _ in 0..50 {
        let (mut ga, mut gb) = (1.0 - c.slope, -c.intercept);
        let (mut haa, mut hab, mut hbb) = (1.0, 0.0, 1.0);
        for (x, p) in logits.iter().zip(positive) {
            let q = c.probability(*x);
            let (error, weight) = (target(p) - q, q * (1.0 - q));
            ga += error * x;
            gb += error;
            haa += weight * x * x;
            hab += weight * x;
            hbb += weight;
        }
        let determinant = haa * hbb - hab * hab;
        let (da, db) = ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant);
        // A full Newton step can overshoot where the logits are large; a bounded one cannot run away.
        c.slope += da.clamp(-0.5, 0.5);
        c.intercept += db.clamp(-0.5, 0.5);
        if da.abs().max(db.abs()) < 1e-10 {
            break;
        }
    }
    // A negative slope would turn the ranking round; a network that ranks worse than chance is left uncalibrated.
    if !(c.slope > 0.0 && c.intercept.is_finite()) {
        c = Calibration::NONE;
    }
    let likelihood = |(x, p): (&f64, &bool)| {
        let q = c.probability(*x).clamp(1e-12, 1.0 - 1e-12);
        if *p { q.ln() } else { (1.0 - q).ln() }
    };
    let mean = logits.iter().zip(positive).map(likelihood).sum::<f64>() / logits.len().max(1) as f64;
    (c, mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[verifies("FR-005", "R-003")]
    #[test]
    fn overconfident_logits_are_tamed() {
        // Logits +-4 claim 98 %, yet only 3 of 4 are right: the honest logit is ln 3 = 1.1.
        let logits: Vec<f64> = (0..400).map(|i| if i % 2 == 0 { 4.0 } else { -4.0 }).collect();
        let positive: Vec<bool> = (0..400).map(|i| (i % 2 == 0) == (i % 8 < 6)).collect();
        let (c, _) = platt(&logits, &positive);
        assert!((c.probability(4.0) - 0.75).abs() < 0.02, "{}", c.probability(4.0));
    }

    #[test]
    fn separable_and_one_sided_scores_stay_finite() {
        let (c, _) = platt(&[-3.0, -2.0, 2.0, 3.0], &[false, false, true, true]);
        assert!(c.slope.is_finite() && c.slope > 0.0);
        let (c, _) = platt(&[1.0, 2.0], &[true, true]);
        assert!(c.slope.is_finite() && c.intercept.is_finite());
    }
}
