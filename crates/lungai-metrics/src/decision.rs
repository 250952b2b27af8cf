//! What an interval decides: an acceptance rule is met by the bound, never by the estimate.

use crate::{Interval, MetricsError};
use lungai_trace::implements;

/// A claim about a figure or about a difference of two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Claim {
    /// At least the goal: the lower bound must reach it.
    AtLeast(f64),
    /// Above the goal: the lower bound must lie above it.
    Above(f64),
    /// At most the goal: the upper bound must not exceed it.
    AtMost(f64),
    /// Below the goal: the upper bound must lie below it.
    Below(f64),
    /// New minus old is above minus this margin (above 0): the lower bound must lie above it. For figures where more is better.
    NonInferior(f64),
    /// New minus old is above zero: the lower bound must lie above it.
    Superior,
}

/// Whether an interval supports a claim.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Whether it does.
    pub met: bool,
    /// The bound that decided.
    pub bound: f64,
    /// What it was held against.
    pub limit: f64,
}

/// Decides a claim by the bound of a two-sided interval. A two-sided 95 % interval decides a one-sided claim at alpha 0.025
/// (ICH E9, 5.5).
///
/// # Errors
/// A bound or a goal that is not finite, bounds in the wrong order, a margin that is not above 0.
#[implements("FR-004")]
pub fn decide(interval: Interval, claim: Claim) -> Result<Decision, MetricsError> {
    let [low, high] = interval;
    crate::error::finite("a lower bound", low)?;
    crate::error::finite("an upper bound", high)?;
    if low > high {
        return Err(MetricsError::Range { what: "a lower bound", value: low, range: "at or below the upper one" });
    }
    let margin = |margin: f64| match margin {
        m if m > 0.0 && m.is_finite() => Ok(m),
        value => Err(MetricsError::Range { what: "a margin", value, range: "above 0" }),
    };
    let goal = |goal: f64| crate::error::finite("a goal", goal);
    Ok(match claim {
        Claim::AtLeast(limit) => Decision { met: low >= goal(limit)?, bound: low, limit },
        Claim::Above(limit) => Decision { met: low > goal(limit)?, bound: low, limit },
        Claim::Below(limit) => Decision { met: high < goal(limit)?, bound: high, limit },
        Claim::AtMost(limit) => Decision { met: high <= goal(limit)?, bound: high, limit },
        Claim::NonInferior(m) => Decision { met: low > -margin(m)?, bound: low, limit: -m },
        Claim::Superior => Decision { met: low > 0.0, bound: low, limit: 0.0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[verifies("FR-004")]
    #[test]
    fn the_bound_decides_and_not_the_estimate() {
        // 0.96 estimated, 0.94 to 0.98: a goal of 0.95 is not shown.
        let met = |interval, claim| decide(interval, claim).unwrap().met;
        assert!(!met([0.94, 0.98], Claim::AtLeast(0.95)) && met([0.95, 0.98], Claim::AtLeast(0.95)));
        assert!(!met([0.1, 0.51], Claim::AtMost(0.5)) && met([0.1, 0.5], Claim::AtMost(0.5)));
        assert!(met([0.951, 0.98], Claim::Above(0.95)) && !met([0.95, 0.98], Claim::Above(0.95)));
        assert!(met([0.1, 0.49], Claim::Below(0.5)) && !met([0.1, 0.5], Claim::Below(0.5)));
        // A difference of -0.02 to 0.03: not inferior by 0.05, not superior.
        let difference = [-0.02, 0.03];
        assert!(met(difference, Claim::NonInferior(0.05)) && !met(difference, Claim::NonInferior(0.02)));
        assert!(!met(difference, Claim::Superior) && met([0.001, 0.03], Claim::Superior));
    }

    #[test]
    fn a_margin_below_zero_or_a_bound_that_is_no_number_decides_nothing() {
        assert!(decide([0.0, 1.0], Claim::NonInferior(-0.1)).is_err());
        assert!(decide([f64::NAN, 1.0], Claim::Superior).is_err());
        assert!(decide([1.0, 0.0], Claim::Superior).is_err());
        assert!(decide([0.0, 1.0], Claim::AtLeast(f64::NAN)).is_err());
    }
}
