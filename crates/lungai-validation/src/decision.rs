//! From criteria that hold to endpoints that are shown: how several criteria share one probability of error. Pure.

use crate::protocol::{Family, Multiplicity};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};

/// What is made of one criterion, its family considered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether the hierarchy came to it.
    pub tested: bool,
    /// One-sided probability of error at which it was tested last; absent where it was not.
    pub alpha: Option<f64>,
    /// Whether it was tested and held.
    pub shown: bool,
}

const UNTESTED: Decision = Decision { tested: false, alpha: None, shown: false };

/// Decides a family. `holds(i, alpha)` says whether criterion `i` holds on its bound at a one-sided `alpha`; what holds at
/// an alpha must hold at every larger one.
///
/// - `open`: whether the family is tested at all
#[implements("SW-1102")]
pub fn decide(family: &Family, open: bool, holds: impl Fn(usize, f64) -> bool) -> Vec<Decision> {
    let n = family.criteria.len();
    if !open {
        return vec![UNTESTED; n];
    }
    let at = |i: usize, alpha: f64| Decision { tested: true, alpha: Some(alpha), shown: holds(i, alpha) };
    match family.multiplicity {
        Multiplicity::AllMustHold | Multiplicity::Unadjusted => (0..n).map(|i| at(i, family.alpha)).collect(),
        Multiplicity::FixedSequence => {
            let mut open = true;
            let next = |i| {
                let decision = if open { at(i, family.alpha) } else { UNTESTED };
                open = decision.shown;
                decision
            };
            (0..n).map(next).collect()
        }
        Multiplicity::Holm => holm(n, family.alpha, holds),
    }
}

/// The criterion with the smallest p is tested at `alpha / n`, the next at `alpha / (n - 1)`, and so on until one fails.
/// Those after it are not shown at that same alpha. No p is needed: which of `alpha / n, ..., alpha / 1` a criterion holds at says as much of it as the procedure asks.
fn holm(n: usize, alpha: f64, holds: impl Fn(usize, f64) -> bool) -> Vec<Decision> {
    // The largest divisor of alpha at which each criterion holds; 0 where it does at none.
    let strength: Vec<usize> =
        (0..n).map(|i| (1..=n).rev().find(|k| holds(i, alpha / *k as f64)).unwrap_or(0)).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|i| std::cmp::Reverse(strength[*i]));
    let mut decisions = vec![UNTESTED; n];
    let mut alpha_of_step = alpha / n.max(1) as f64;
    let mut going = true;
    for (step, i) in order.into_iter().enumerate() {
        if going {
            alpha_of_step = alpha / (n - step) as f64;
            going = strength[i] >= n - step;
        }
        decisions[i] = Decision { tested: true, alpha: Some(alpha_of_step), shown: going };
    }
    decisions
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn family(multiplicity: Multiplicity, n: usize) -> Family {
        let criterion = crate::results::tests::protocol().endpoints.primary.criteria[0].clone();
        Family { alpha: 0.05, multiplicity, criteria: vec![criterion; n] }
    }

    /// Criteria with these p-values: `+` shown, `-` tested and not shown, `.` not tested.
    fn check_decide(multiplicity: Multiplicity, p: &[f64], expected: &str) {
        let decisions = decide(&family(multiplicity, p.len()), true, |i, alpha| p[i] <= alpha);
        let sign = |d: &Decision| match (d.tested, d.shown) {
            (true, true) => '+',
            (true, false) => '-',
            (false, _) => '.',
        };
        assert_eq!(decisions.iter().map(sign).collect::<String>(), expected, "{multiplicity:?} {p:?}");
    }

    #[verifies("SW-1102")]
    #[test]
    fn holm_tests_the_strongest_first_and_stops_at_the_first_failure() {
        // Sorted 0.005, 0.01, 0.03, 0.04 against 0.05 / 4 = 0.0125, 0.0167, 0.025, 0.05: the third fails.
        check_decide(Multiplicity::Holm, &[0.01, 0.04, 0.03, 0.005], "+--+");
        check_decide(Multiplicity::Holm, &[0.01, 0.04, 0.02, 0.005], "++++");
        check_decide(Multiplicity::Holm, &[0.02, 0.04], "++");
        check_decide(Multiplicity::Holm, &[0.03, 0.04], "--");
        check_decide(Multiplicity::Holm, &[], "");
    }

    #[verifies("SW-1102")]
    #[test]
    fn a_sequence_goes_on_only_while_criteria_are_shown() {
        check_decide(Multiplicity::FixedSequence, &[0.04, 0.06, 0.001], "+-.");
        check_decide(Multiplicity::AllMustHold, &[0.04, 0.06, 0.001], "+-+");
        check_decide(Multiplicity::Unadjusted, &[0.06], "-");
    }

    #[test]
    fn a_family_that_is_not_opened_shows_nothing() {
        let closed = decide(&family(Multiplicity::Holm, 2), false, |_, _| true);
        assert!(closed.iter().all(|d| !d.tested && !d.shown && d.alpha.is_none()));
    }
}
