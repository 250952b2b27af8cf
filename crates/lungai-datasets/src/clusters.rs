//! From several readers' marks to findings.

use std::collections::BTreeSet;

/// Puts `marks` marks together, nearest pairs first; the findings as indices of their marks, in the order of their first. `apart` says
/// how far apart two marks are, or `None` where they are not of one finding. As in complete-linkage clustering every two marks of a
/// finding must be of one: a mark that lies between two nodules does not make them one.
pub(crate) fn clusters(marks: usize, apart: impl Fn(usize, usize) -> Option<f64>) -> Vec<Vec<usize>> {
    let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
    for b in 0..marks {
        pairs.extend((0..b).filter_map(|a| Some((apart(a, b)?, a, b))));
    }
    pairs.sort_by(|one, other| one.0.total_cmp(&other.0).then((one.1, one.2).cmp(&(other.1, other.2))));
    let close: BTreeSet<(usize, usize)> = pairs.iter().map(|(_, a, b)| (*a, *b)).collect();
    let mut groups: Vec<Vec<usize>> = (0..marks).map(|mark| vec![mark]).collect();
    for (_, a, b) in pairs {
        let holding = |mark| groups.iter().position(|group| group.contains(&mark)).expect("each is in a group");
        let (keep, gone) = (holding(a).min(holding(b)), holding(a).max(holding(b)));
        let all_close = |i: &usize| groups[gone].iter().all(|j| close.contains(&(*i.min(j), *i.max(j))));
        if keep != gone && groups[keep].iter().all(all_close) {
            let more = groups.remove(gone);
            groups[keep].extend(more);
            groups[keep].sort_unstable();
        }
    }
    groups
}
