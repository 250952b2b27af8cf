//! Contrast agent: how bright the blood is.

use lungai_ct::{LabelMap, Lung, Volume};
use ndarray::{Axis, s};
use rayon::prelude::*;

/// Side of the blocks in mm: a vessel holds several, and their means are free of noise.
const BLOCK_MM: f64 = 5.0;
/// Slices are looked at this far apart, mm.
const STEP_MM: f64 = 3.0;
/// Fewer blocks are no heart.
const FEWEST: usize = 50;

/// Upper quartile in HU of heart and great vessels: what lies in the slice between both lungs and before the middle of
/// their depth, fat and air left out. Without contrast agent about 45 HU, in a venous phase 110 to 180, in an arterial
/// one up to 500. `volume` is axial; `None` where it does not show enough of the mediastinum.
///
/// Sternum and spine lie before and behind: the region ends with the lungs in front and half-way to their back.
pub fn blood_hu(volume: &Volume, lungs: &LabelMap) -> Option<f64> {
    let (hu, labels) = (volume.hu(), lungs.labels());
    let [dz, dy, dx] = volume.geometry().spacing().zyx_mm();
    let [by, bx] = [dy, dx].map(|mm| (BLOCK_MM / mm).round().max(1.0) as usize);
    let step = (STEP_MM / dz).round().max(1.0) as usize;
    let mut means: Vec<f64> = (0..hu.shape()[0])
        .into_par_iter()
        .step_by(step)
        .flat_map_iter(|z| {
            let (slice, labels) = (hu.index_axis(Axis(0), z), labels.index_axis(Axis(0), z));
            let gaps: Vec<Option<[usize; 2]>> = labels
                .outer_iter()
                .map(|row| {
                    let right = row.iter().rposition(|l| *l == Lung::Right as u8)?;
                    let left = row.iter().position(|l| *l == Lung::Left as u8)?;
                    (right < left).then_some([right + 1, left])
                })
                .collect();
            let rows = || (0..gaps.len()).filter(|y| labels.row(*y).iter().any(|l| *l > 0));
            let middle = rows().next().zip(rows().next_back()).map_or(0, |(first, last)| (first + last) / 2);
            let mut found = Vec::new();
            for y in (0..middle.saturating_sub(by - 1)).step_by(by) {
                // A block lies between the lungs with every one of its rows.
                let Some(all) = gaps[y..y + by].iter().copied().collect::<Option<Vec<_>>>() else { continue };
                let from = all.iter().map(|[from, _]| *from).max().unwrap_or(0);
                let to = all.iter().map(|[_, to]| *to).min().unwrap_or(0);
                for x in (from..(to + 1).saturating_sub(bx)).step_by(bx) {
                    let block = slice.slice(s![y..y + by, x..x + bx]);
                    found.push(block.iter().map(|v| f64::from(*v)).sum::<f64>() / block.len() as f64);
                }
            }
            found
        })
        .filter(|mean| *mean > -20.0)
        .collect();
    means.sort_by(f64::total_cmp);
    (means.len() >= FEWEST).then(|| means[3 * means.len() / 4])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Ball, Chest, grid};
    use lungai_trace::verifies;

    #[verifies("FR-002")]
    #[test]
    fn blood_is_looked_for_between_the_lungs_and_before_the_spine() {
        let grid = grid([1.5, 1.0, 1.0]);
        let lungs = Chest::plain().lungs(&grid);
        let seen = |balls: Vec<Ball>| blood_hu(&Chest { balls, joined: false }.render(&grid), &lungs).unwrap();
        let plain = seen(vec![]);
        assert!((plain - 30.0).abs() < 6.0, "{plain}"); // the toy's tissue, upper quartile of its noise
        let heart = seen(vec![Ball { centre: [0.0, -20.0, -20.0], radius: 60.0, hu: 180.0 }]);
        assert!((heart - 180.0).abs() < 6.0, "{heart}");
        let spine = seen(vec![Ball { centre: [0.0, 60.0, 0.0], radius: 25.0, hu: 300.0 }]);
        assert!((spine - plain).abs() < 6.0, "{spine}");
    }
}
