//! Several hypotheses at once.

use crate::MetricsError;
use crate::error::at_least;
use lungai_trace::implements;

/// Holm's adjusted p-values (Scand J Stat 1979;6:65), in the order of `p`: rejecting what is at or below alpha keeps the
/// probability of any false rejection at alpha, however the tests depend on each other.
///
/// # Errors
/// No p-values, or one outside `0..=1`.
#[implements("FR-004")]
pub fn holm(p: &[f64]) -> Result<Vec<f64>, MetricsError> {
    at_least("p-values to adjust", p.len(), 1)?;
    if let Some(value) = p.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(MetricsError::Range { what: "a p-value", value: *value, range: "from 0 to 1" });
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut highest = 0.0f64;
    for (rank, i) in order.into_iter().enumerate() {
        highest = highest.max(p[i] * (p.len() - rank) as f64).min(1.0);
        adjusted[i] = highest;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[verifies("FR-004")]
    #[test]
    fn the_smallest_p_value_pays_for_all_and_none_overtakes_a_smaller_one() {
        // 0.01 * 4, then max(0.04, 0.02 * 3), max(0.06, 0.03 * 2), max(0.06, 0.04 * 1).
        let adjusted = holm(&[0.04, 0.01, 0.03, 0.02]).unwrap();
        for (got, expected) in adjusted.iter().zip([0.06, 0.04, 0.06, 0.06]) {
            assert!((got - expected).abs() < 1e-15);
        }
        assert_eq!(holm(&[0.6, 0.9]).unwrap(), [1.0, 1.0]);
        assert!(holm(&[]).is_err() && holm(&[f64::NAN]).is_err());
    }
}
