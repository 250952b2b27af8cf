//! Lung segmentation by the U-Net.

use crate::tiles::{cut, tiles, tiles_at_once};
use burn::tensor::{Device, Tensor, TensorData};
use lungai_ct::{LabelMap, Lung, Spacing, Volume};
use lungai_imaging::{
    Connectivity, axial, components, lungs::room_air, morphology::fill_holes, resample, resample_labels,
};
use lungai_models::lung::{CHANNELS, CLASSES, LungConfig, LungNet, with_position};
use lungai_models::members::mean;
use lungai_trace::implements;
use ndarray::{Array3, Array4, Zip, s};
use rayon::prelude::*;

/// Left and right lung on the volume's grid.
///
/// The network works on its own coarser grid; its logits, not its labels, are brought back to the volume's grid, so
/// that borders lie between coarse voxels. Each lung is one piece without holes, inside of the body.
#[implements("FR-003")]
pub fn segment(nets: &[&LungNet], config: &LungConfig, volume: &Volume, device: &Device) -> LabelMap {
    segment_by(&|tiles| mean(nets, |net| net.forward(tiles.clone())), config, volume, tiles_at_once(device), device)
}

/// [`segment`] with any engine for the network.
///
/// - `output`: logits `[b, CLASSES, n, n, n]` of tiles `[b, CHANNELS, n, n, n]`
/// - `at_once`: tiles that go through it together, at least one
pub fn segment_by(
    output: &dyn Fn(Tensor<5>) -> Tensor<5>,
    config: &LungConfig,
    volume: &Volume,
    at_once: usize,
    device: &Device,
) -> LabelMap {
    let spacing = Spacing::new([config.spacing_mm; 3]).expect("checked configuration");
    // As the network has learned it: a file may store the patient from the other side.
    let upright = axial(volume);
    let grid = upright.geometry().respaced(spacing);
    let coarse = resample(&upright, &grid);
    let mut logits = tiled_logits(output, config, &coarse, at_once, device);
    // The one thing that is known for certain: no lung lies outside of the body.
    Zip::indexed(&room_air(&coarse)).for_each(|(z, y, x), room| {
        if *room {
            logits[[0, z, y, x]] = 1.0 + logits.slice(s![.., z, y, x]).iter().copied().fold(f32::MIN, f32::max);
        }
    });
    one_piece_each(&mut logits);

    let fine = upright.geometry();
    let size = fine.size();
    // The two grids share their axes: one scale and one shift an axis.
    let at: [Vec<(usize, usize, f32)>; 3] = std::array::from_fn(|axis| {
        let coarse_size = grid.size()[axis];
        let ratio = fine.spacing().zyx_mm()[axis] / config.spacing_mm;
        (0..size[axis])
            .map(|i| {
                let position = ((i as f64 + 0.5) * ratio - 0.5).clamp(0.0, (coarse_size - 1) as f64);
                let low = position.floor() as usize;
                (low, (low + 1).min(coarse_size - 1), (position - low as f64) as f32)
            })
            .collect()
    });
    let best = label_of(&logits);
    let mut labels = vec![0u8; size.iter().product()];
    labels.par_chunks_mut(size[1] * size[2]).enumerate().for_each(|(z, slice)| {
        let (z0, z1, fz) = at[0][z];
        for (y, row) in slice.chunks_mut(size[2]).enumerate() {
            let (y0, y1, fy) = at[1][y];
            for (x, label) in row.iter_mut().enumerate() {
                let (x0, x1, fx) = at[2][x];
                let corners = [
                    ([z0, y0, x0], (1.0 - fz) * (1.0 - fy) * (1.0 - fx)),
                    ([z0, y0, x1], (1.0 - fz) * (1.0 - fy) * fx),
                    ([z0, y1, x0], (1.0 - fz) * fy * (1.0 - fx)),
                    ([z0, y1, x1], (1.0 - fz) * fy * fx),
                    ([z1, y0, x0], fz * (1.0 - fy) * (1.0 - fx)),
                    ([z1, y0, x1], fz * (1.0 - fy) * fx),
                    ([z1, y1, x0], fz * fy * (1.0 - fx)),
                    ([z1, y1, x1], fz * fy * fx),
                ];
                let first = best[corners[0].0];
                // Away from borders all eight corners agree and nothing has to be interpolated.
                *label = if corners.iter().all(|(corner, _)| best[*corner] == first) {
                    first
                } else {
                    let value = |class: usize| -> f32 {
                        corners.iter().map(|([z, y, x], weight)| weight * logits[[class, *z, *y, *x]]).sum()
                    };
                    largest([value(0), value(1), value(2)])
                };
            }
        }
    });
    let labels = Array3::from_shape_vec(size, labels).expect("sized above");
    let labels = LabelMap::new(labels, fine.clone()).expect("the volume's own size");
    // Turned back voxel by voxel: the two grids have the same voxel centres.
    if fine == volume.geometry() { labels } else { resample_labels(&labels, volume.geometry()) }
}

/// Logits `[3, z, y, x]` on the coarse grid; where tiles overlap the one whose centre is nearer counts more.
fn tiled_logits(
    output: &dyn Fn(Tensor<5>) -> Tensor<5>,
    config: &LungConfig,
    coarse: &Volume,
    at_once: usize,
    device: &Device,
) -> Array4<f32> {
    let [d, h, w] = coarse.geometry().size();
    let edge = config.tile;
    let weight = |i: usize| 1.0 - ((i as f32 + 0.5) / edge as f32 - 0.5).abs() * 1.8;
    let mut sum = Array4::<f32>::zeros((CLASSES, d, h, w));
    let mut total = Array3::<f32>::zeros((d, h, w));
    for starts in tiles([d, h, w], edge).chunks(at_once) {
        let mut values = Vec::with_capacity(starts.len() * CHANNELS * edge.pow(3));
        for start in starts {
            let mut tile = cut(coarse.hu(), *start, edge, config.window_hu).into_raw_vec_and_offset().0;
            with_position(&mut tile, edge, start[2] as isize, w, config.spacing_mm);
            values.extend(tile);
        }
        let data = TensorData::new(values, [starts.len(), CHANNELS, edge, edge, edge]);
        let out = output(Tensor::from_data(data, device)).into_data().convert::<f32>();
        let out: Vec<f32> = out.try_to_vec().expect("converted");
        for (start, out) in starts.iter().zip(out.chunks(CLASSES * edge.pow(3))) {
            for z in 0..edge.min(d - start[0]) {
                for y in 0..edge.min(h - start[1]) {
                    for x in 0..edge.min(w - start[2]) {
                        let share = weight(z) * weight(y) * weight(x);
                        let to = [start[0] + z, start[1] + y, start[2] + x];
                        total[to] += share;
                        for class in 0..CLASSES {
                            sum[[class, to[0], to[1], to[2]]] +=
                                share * out[((class * edge + z) * edge + y) * edge + x];
                        }
                    }
                }
            }
        }
    }
    for mut class in sum.outer_iter_mut() {
        class /= &total;
    }
    sum
}

/// Keeps the largest piece of each lung and fills its holes, by making the logits say so.
fn one_piece_each(logits: &mut Array4<f32>) {
    let labels = label_of(logits);
    for lung in [Lung::Right as u8, Lung::Left as u8] {
        let mask = labels.mapv(|label| label == lung);
        let pieces = components(mask.view(), Connectivity::Faces);
        let Some(largest) = pieces.largest().map(|region| region.label) else { continue };
        let kept = fill_holes(pieces.mask(|region| region.label == largest).view());
        let class = usize::from(lung);
        Zip::indexed(&kept).and(&mask).for_each(|(z, y, x), &kept, &was| {
            if kept != was {
                let top = logits.slice(s![.., z, y, x]).iter().copied().fold(f32::MIN, f32::max);
                let winner = if kept { class } else { 0 };
                logits[[winner, z, y, x]] = top + 1.0;
            }
        });
    }
}

fn label_of(logits: &Array4<f32>) -> Array3<u8> {
    let (_, d, h, w) = logits.dim();
    Array3::from_shape_fn((d, h, w), |(z, y, x)| largest([0, 1, 2].map(|class| logits[[class, z, y, x]])))
}

/// Index of the largest; background among equals.
fn largest([background, right, left]: [f32; 3]) -> u8 {
    if background >= right && background >= left {
        0
    } else if right >= left {
        Lung::Right as u8
    } else {
        Lung::Left as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn islands_go_and_holes_are_filled() {
        let mut logits = Array4::<f32>::zeros((3, 9, 9, 9));
        logits.slice_mut(s![0, .., .., ..]).fill(1.0);
        logits.slice_mut(s![2, 1..6, 1..6, 1..6]).fill(2.0);
        logits[[2, 3, 3, 3]] = 0.0; // a hole
        logits[[2, 8, 8, 8]] = 2.0; // an island
        one_piece_each(&mut logits);
        let labels = label_of(&logits);
        assert_eq!(labels[[3, 3, 3]], 2);
        assert_eq!(labels[[8, 8, 8]], 0);
        assert_eq!(labels.iter().filter(|l| **l == 2).count(), 125);
    }
}
