//! Whether sensitivity, specificity and the rest can come from one table of whole numbers.

use super::{Checked, Kind, Printed, Statement};
use std::collections::BTreeMap;

const RULE: &str = "no-two-by-two-table";
/// Above this many cases nearly every combination of rounded figures has a table, and looking for it takes seconds.
const MOST_CASES: u64 = 5_000;

/// Figures of a two-by-two table by the names that the field has for them; others are not looked at.
#[derive(Default, Clone, Copy)]
struct Figures {
    sensitivity: Option<Printed>,
    specificity: Option<Printed>,
    ppv: Option<Printed>,
    npv: Option<Printed>,
    accuracy: Option<Printed>,
}

/// Of each population of known size with two or more such figures that have no `n` of their own.
pub fn tables(statements: &[Statement], checked: &mut Checked) {
    let mut found: BTreeMap<(&str, &str), Figures> = BTreeMap::new();
    for s in statements.iter().filter(|s| s.kind == Kind::Proportion && s.n.is_none() && s.x.is_none()) {
        let Some(value) = s.value else { continue };
        let figures = found.entry((&s.table, &s.population)).or_default();
        let place = match s.figure.to_lowercase().as_str() {
            "sensitivity" | "recall" => &mut figures.sensitivity,
            "specificity" => &mut figures.specificity,
            "ppv" | "precision" => &mut figures.ppv,
            "npv" => &mut figures.npv,
            "accuracy" => &mut figures.accuracy,
            _ => continue,
        };
        *place = Some(value);
    }
    for ((table, population), figures) in found {
        let Figures { sensitivity, specificity, ppv, npv, accuracy } = figures;
        let named = [
            ("sensitivity", sensitivity),
            ("specificity", specificity),
            ("PPV", ppv),
            ("NPV", npv),
            ("accuracy", accuracy),
        ];
        let given: Vec<String> = named.iter().filter_map(|(name, v)| Some(format!("{name} {}", (*v)?))).collect();
        let size = statements.iter().filter(|s| s.population == population).find_map(Statement::size);
        // Without sensitivity and specificity there are four free numbers, and little that they could contradict.
        let (Some(n), Some(sensitivity), Some(specificity)) = (size, sensitivity, specificity) else { continue };
        if given.len() < 3 || n > MOST_CASES {
            continue;
        }
        checked.rule(RULE, exists(n, sensitivity, specificity, &figures), || {
            format!("no whole numbers of {n} `{population}` give {} in `{table}`", given.join(", "))
        });
    }
}

/// Tries every number of positives.
fn exists(n: u64, sensitivity: Printed, specificity: Printed, figures: &Figures) -> bool {
    let whole = |share: Printed, of: u64| {
        let [low, high] = share.range();
        let (low, high) = ((low * of as f64).ceil().max(0.0) as u64, (high * of as f64).floor().min(of as f64));
        low..(high.max(-1.0) + 1.0) as u64
    };
    let is = |wanted: Option<Printed>, part: u64, all: u64| match wanted {
        Some(printed) => {
            let [low, high] = printed.range();
            all > 0 && (low..=high).contains(&(part as f64 / all as f64))
        }
        None => true,
    };
    (1..n).any(|positives| {
        let negatives = n - positives;
        whole(sensitivity, positives).any(|tp| {
            whole(specificity, negatives).any(|tn| {
                let (fp, missed) = (negatives - tn, positives - tp);
                is(figures.ppv, tp, tp + fp) && is(figures.npv, tn, tn + missed) && is(figures.accuracy, tp + tn, n)
            })
        })
    })
}
