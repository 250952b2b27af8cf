//! Whether two programs computed the same.

use crate::results::{Saved, Values};
use anyhow::bail;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

/// How the results of one workload are compared.
#[derive(Debug, Clone, Copy)]
pub enum Compare {
    /// Share of elements of the array that differ by more than `by`; at most `share`.
    Differ { array: &'static str, by: f64, share: f64 },
    /// Whether the labels stand for the same components, whatever their numbers; at most no voxel differs.
    Components { array: &'static str },
    /// Largest relative difference of the numbers that both state; at most `relative`.
    Numbers { relative: f64 },
    /// Dice of the array's non-zero voxels: at least `dice`. For methods that need not agree voxel by voxel.
    Dice { array: &'static str, dice: f64 },
    /// Not comparable, for this reason.
    Not(&'static str),
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Agreement {
    pub measure: String,
    pub value: f64,
    pub bound: f64,
    /// `None` where the results are not comparable: the measure then says why.
    pub agrees: Option<bool>,
}

impl Agreement {
    pub fn json(&self) -> Value {
        match self.agrees {
            Some(agrees) => {
                json!({ "measure": self.measure, "value": self.value, "bound": self.bound, "agrees": agrees })
            }
            None => json!({ "measure": format!("not compared: {}", self.measure) }),
        }
    }

    pub fn text(&self) -> String {
        let answer = match self.agrees {
            Some(true) => "agrees",
            Some(false) => "DIFFERS",
            None => return format!("not compared: {}", self.measure),
        };
        format!("{answer}: {} = {:.3e} (limit {:.3e})", self.measure, self.value, self.bound)
    }
}

/// Compares two saved results.
pub fn compare(how: Compare, ours: (&Path, &Saved), peer: (&Path, &Saved)) -> anyhow::Result<Agreement> {
    let both = |name: &str| anyhow::Ok((ours.1.load(ours.0, name)?, peer.1.load(peer.0, name)?));
    let at_most = |measure: String, value: f64, bound: f64| {
        let agrees = Some(value <= bound);
        Agreement { measure, value, bound, agrees }
    };
    Ok(match how {
        Compare::Not(why) => Agreement { measure: why.into(), value: f64::NAN, bound: f64::NAN, agrees: None },
        Compare::Differ { array, by, share } => {
            let (a, b) = both(array)?;
            let (a, b) = (numbers(&a), numbers(&b));
            same_length(a.len(), b.len())?;
            let differ = a
                .iter()
                .zip(&b)
                .filter(|(a, b)| (*a - *b).abs().partial_cmp(&by).is_none_or(std::cmp::Ordering::is_gt))
                .count();
            at_most(format!("share of voxels that differ by more than {by}"), differ as f64 / a.len() as f64, share)
        }
        Compare::Components { array } => {
            let (a, b) = both(array)?;
            let (a, b) = (numbers(&a), numbers(&b));
            same_length(a.len(), b.len())?;
            at_most("voxels in another component".into(), other_component(&a, &b) as f64, 0.0)
        }
        Compare::Numbers { relative } => {
            let mut worst = ("nothing".to_owned(), 0.0);
            let mut compared = 0;
            for (name, value) in &ours.1.numbers {
                let Some(other) = peer.1.numbers.get(name) else { continue };
                compared += 1;
                let off = (value - other).abs() / other.abs().max(1e-12);
                if off.is_nan() || off > worst.1 {
                    worst = (name.clone(), off);
                }
            }
            if compared == 0 {
                bail!("the results have no number in common");
            }
            at_most(format!("largest relative difference of {compared} numbers ({})", worst.0), worst.1, relative)
        }
        Compare::Dice { array, dice } => {
            let (a, b) = both(array)?;
            let (a, b) = (numbers(&a), numbers(&b));
            same_length(a.len(), b.len())?;
            let inside = |v: &[f64]| v.iter().filter(|v| **v > 0.0).count();
            let common = a.iter().zip(&b).filter(|(a, b)| **a > 0.0 && **b > 0.0).count();
            let value = 2.0 * common as f64 / (inside(&a) + inside(&b)).max(1) as f64;
            Agreement { measure: "Dice".into(), value, bound: dice, agrees: Some(value >= dice) }
        }
    })
}

fn same_length(a: usize, b: usize) -> anyhow::Result<()> {
    if a == b { Ok(()) } else { bail!("results of {a} and {b} elements") }
}

fn numbers(values: &Values) -> Vec<f64> {
    match values {
        Values::Bool(v) => v.iter().map(|v| f64::from(u8::from(*v))).collect(),
        Values::U8(v) => v.iter().map(|v| f64::from(*v)).collect(),
        Values::I16(v) => v.iter().map(|v| f64::from(*v)).collect(),
        Values::U32(v) => v.iter().map(|v| f64::from(*v)).collect(),
        Values::F32(v) => v.iter().map(|v| f64::from(*v)).collect(),
    }
}

/// Voxels whose label breaks the pairing that the earlier voxels made.
fn other_component(a: &[f64], b: &[f64]) -> usize {
    let (mut there, mut back) = (HashMap::new(), HashMap::new());
    let mut previous = (0u64, 0u64);
    let mut broken = 0;
    for (a, b) in a.iter().zip(b) {
        let pair = (a.to_bits(), b.to_bits());
        if pair == previous && broken == 0 {
            continue; // most neighbours are alike
        }
        previous = pair;
        let same_zero = (*a == 0.0) == (*b == 0.0);
        let paired =
            *there.entry(pair.0).or_insert(pair.1) == pair.1 && *back.entry(pair.1).or_insert(pair.0) == pair.0;
        broken += usize::from(!same_zero || !paired);
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Output;

    fn saved(folder: &Path, name: &'static str, values: Values) -> Saved {
        Output::array(name, values).save(folder).unwrap()
    }

    fn agreement(how: Compare, a: Values, b: Values) -> Agreement {
        let (x, y) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (saved(x.path(), "v", a), saved(y.path(), "v", b));
        compare(how, (x.path(), &a), (y.path(), &b)).unwrap()
    }

    #[test]
    fn components_agree_whatever_their_numbers() {
        let how = Compare::Components { array: "v" };
        let labels = |v: &[u32]| Values::U32(v.to_vec());
        assert!(agreement(how, labels(&[0, 1, 1, 2]), labels(&[0, 7, 7, 3])).agrees.unwrap());
        assert!(!agreement(how, labels(&[0, 1, 1, 2]), labels(&[0, 7, 7, 7])).agrees.unwrap());
        assert!(!agreement(how, labels(&[0, 1, 1, 1]), labels(&[0, 7, 7, 3])).agrees.unwrap());
        assert!(!agreement(how, labels(&[0, 1]), labels(&[1, 1])).agrees.unwrap());
    }

    #[test]
    fn a_tolerated_share_may_differ() {
        let how = Compare::Differ { array: "v", by: 1.0, share: 0.25 };
        let one = agreement(how, Values::I16(vec![0, 5, 9, 9]), Values::I16(vec![1, 5, 9, 11]));
        assert_eq!((one.value, one.agrees), (0.25, Some(true)));
        assert!(!agreement(how, Values::F32(vec![f32::NAN]), Values::F32(vec![0.0])).agrees.unwrap());
    }

    #[test]
    fn numbers_agree_relatively() {
        let (x, y) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let a = Output::numbers([("dice", 0.99), ("only ours", 1.0)]).save(x.path()).unwrap();
        let b = Output::numbers([("dice", 1.0)]).save(y.path()).unwrap();
        let found = compare(Compare::Numbers { relative: 0.02 }, (x.path(), &a), (y.path(), &b)).unwrap();
        assert!(found.agrees.unwrap() && (found.value - 0.01).abs() < 1e-12);
        let none = Output::default().save(y.path()).unwrap();
        assert!(compare(Compare::Numbers { relative: 1.0 }, (x.path(), &a), (y.path(), &none)).is_err());
    }
}
