//! Noise: how much in tissue and in air, and how fine.

use lungai_ct::{LabelMap, Volume};
use ndarray::{ArrayView2, Axis, s};
use rayon::prelude::*;

/// Side of the squares in voxels: small enough to lie between structures, 24 degrees of freedom.
const SIDE: usize = 5;
/// At most about as many slices are looked at.
const SLICES: usize = 24;
/// Fewer squares say nothing.
const FEWEST: usize = 20;

/// What is measured; `None` where the scan shows too little of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Standard deviation in soft tissue such as muscle, heart and aorta, HU.
    pub tissue_hu: Option<f64>,
    /// Standard deviation in air outside of the lungs (trachea and room), HU.
    pub air_hu: Option<f64>,
    /// Mean frequency of the noise in tissue, line pairs per mm: 0.25 / pixel for white noise, less for a soft kernel.
    /// A pixel grid shows nothing beyond 0.5 / pixel.
    pub frequency_per_mm: Option<f64>,
}

/// Mean frequency of white noise on the pixels of an axial `volume`, line pairs per mm: 0.25 / pixel.
pub fn white_per_mm(volume: &Volume) -> f64 {
    let [_, dy, dx] = volume.geometry().spacing().zyx_mm();
    0.25 / (0.5 * (dx + dy))
}

/// One square of the slice.
struct Square {
    sd: f64,
    /// Mean product of neighbours along x and y over the variance.
    correlation: f64,
}

/// Noise of an axial `volume`, within squares of 5 x 5 voxels in the slice. In tissue the lower quartile of their standard
/// deviations counts, since the others hold structure; in air the median.
///
/// Many scanners cut air off at -1024 HU, so only the half above each square's median counts there; squares of one
/// value are filled, not measured.
pub fn noise(volume: &Volume, lungs: &LabelMap) -> Noise {
    let hu = volume.hu();
    let labels = lungs.labels();
    let step = hu.shape()[0].div_ceil(SLICES);
    let [_, dy, dx] = volume.geometry().spacing().zyx_mm();
    let per_slice: Vec<(Vec<Square>, Vec<f64>)> = (0..hu.shape()[0])
        .into_par_iter()
        .step_by(step)
        .map(|z| {
            let (slice, labels) = (hu.index_axis(Axis(0), z), labels.index_axis(Axis(0), z));
            let (ny, nx) = slice.dim();
            let (mut tissue, mut air) = (Vec::new(), Vec::new());
            for y in (0..ny.saturating_sub(SIDE - 1)).step_by(SIDE) {
                for x in (0..nx.saturating_sub(SIDE - 1)).step_by(SIDE) {
                    let window = s![y..y + SIDE, x..x + SIDE];
                    let square = slice.slice(window);
                    let mean = square.iter().map(|v| f64::from(*v)).sum::<f64>() / 25.0;
                    if (-20.0..120.0).contains(&mean) {
                        tissue.push(spread(square, mean));
                    } else if (-1060.0..-930.0).contains(&mean) && labels.slice(window).iter().all(|l| *l == 0) {
                        air.extend(upper_sd(square));
                    }
                }
            }
            (tissue, air)
        })
        .collect();
    let (mut tissue, mut air) = (Vec::new(), Vec::new());
    for (more_tissue, more_air) in per_slice {
        tissue.extend(more_tissue);
        air.extend(more_air);
    }
    air.sort_by(f64::total_cmp);
    let air_hu = (air.len() >= FEWEST).then(|| air[air.len() / 2]);
    if tissue.len() < FEWEST {
        return Noise { tissue_hu: None, air_hu, frequency_per_mm: None };
    }
    tissue.sort_by(|a, b| a.sd.total_cmp(&b.sd));
    let even = &tissue[..=tissue.len() / 4];
    let power: f64 = even.iter().map(|square| square.sd.powi(2)).sum();
    let products: f64 = even.iter().map(|square| square.correlation * square.sd.powi(2)).sum();
    let frequency =
        (power > 0.0).then(|| (products / power).clamp(-1.0, 1.0).acos() / (std::f64::consts::TAU * (0.5 * (dx + dy))));
    Noise { tissue_hu: Some(even[even.len() - 1].sd), air_hu, frequency_per_mm: frequency }
}

fn spread(square: ArrayView2<'_, i16>, mean: f64) -> Square {
    let off = square.mapv(|v| f64::from(v) - mean);
    let variance = off.iter().map(|v| v * v).sum::<f64>() / 24.0;
    let along =
        |a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / 20.0;
    let last = SIDE - 1;
    let x = along(off.slice(s![.., ..last]), off.slice(s![.., 1..]));
    let y = along(off.slice(s![..last, ..]), off.slice(s![1.., ..]));
    // The square's own mean was taken off, which takes a 25th of the variance off every product.
    let product = 0.5 * (x + y) + variance / 25.0;
    Square { sd: variance.sqrt(), correlation: if variance > 0.0 { product / variance } else { 0.0 } }
}

/// Standard deviation from the values above the median, of which no clipping takes anything off. `None` where all are equal.
fn upper_sd(square: ArrayView2<'_, i16>) -> Option<f64> {
    let mut values: Vec<i16> = square.iter().copied().collect();
    values.sort_unstable();
    let median = f64::from(values[12]);
    let upper = &values[13..];
    let square = upper.iter().map(|v| (f64::from(*v) - median).powi(2)).sum::<f64>() / upper.len() as f64;
    (square > 0.0).then(|| square.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Chest, grid};
    use lungai_trace::verifies;
    use ndarray::Array2;

    #[verifies("FR-002")]
    #[test]
    fn noise_is_measured_in_tissue_and_in_air() {
        let grid = grid([1.5, 1.0, 1.0]);
        let found = noise(&Chest::plain().render(&grid), &Chest::plain().lungs(&grid));
        // Uniform on 51 values: sqrt((51^2 - 1) / 12) = 14.7.
        assert!((found.tissue_hu.unwrap() - 14.7).abs() < 3.0, "{found:?}");
        assert!((found.air_hu.unwrap() - 14.7).abs() < 3.0, "{found:?}");
    }

    #[verifies("FR-002")]
    #[test]
    fn clipped_air_shows_its_upper_half() {
        // Thirteen clipped values, then 3 and 4 above them in turn: mean square (9 + 16) / 2.
        let square = Array2::from_shape_fn((5, 5), |(y, x)| match 5 * y + x {
            i if i < 13 => -1024,
            i => -1021 + (i % 2) as i16,
        });
        assert_eq!(upper_sd(square.view()), Some(12.5f64.sqrt()));
        assert_eq!(upper_sd(Array2::from_elem((5, 5), -1024).view()), None);
    }

    #[verifies("FR-002")]
    #[test]
    fn correlation_is_the_mean_product_of_neighbours_along_both_axes() {
        let alternating = Array2::from_shape_fn((5, 5), |(_, x)| [1i16, -1, 1, -1, 0][x]);
        let square = spread(alternating.view(), 0.0);
        // Along x -15 of 20 products, along y +20 of 20 (the last column is 0: +16).
        let variance = 20.0 / 24.0;
        assert!((square.correlation - (0.5 * (-15.0 + 16.0) / 20.0 / variance + 0.04)).abs() < 1e-12);
    }
}
