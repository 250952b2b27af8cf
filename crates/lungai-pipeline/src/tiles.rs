//! Cutting a volume into overlapping cubes.

use burn::tensor::Device;
use lungai_imaging::normalise;
use lungai_models::ops;
use ndarray::{Array5, ArrayView3};

/// Tiles that go through a network together. A GPU is idle between small ones; on the CPU one tile is work enough for all
/// cores, and several take memory and no less time.
pub fn tiles_at_once(device: &Device) -> usize {
    if ops::on_cpu(device) { 1 } else { 4 }
}

/// Starts of tiles of `edge` voxels along an axis of `length`, each overlapping the one before by at least a sixth;
/// the last ends at the axis' end. One tile at 0 where the axis is shorter than a tile.
fn starts(length: usize, edge: usize) -> Vec<usize> {
    if length <= edge {
        return vec![0];
    }
    let gaps = (length - edge).div_ceil(edge - edge / 6);
    (0..=gaps).map(|i| i * (length - edge) / gaps).collect()
}

/// Starts `[z, y, x]` of all tiles of a volume of `size`.
pub(crate) fn tiles(size: [usize; 3], edge: usize) -> Vec<[usize; 3]> {
    let [zs, ys, xs] = size.map(|length| starts(length, edge));
    let mut all = Vec::new();
    for &z in &zs {
        for &y in &ys {
            for &x in &xs {
                all.push([z, y, x]);
            }
        }
    }
    all
}

/// The tile at `start`, HU scaled to `-1..=1`, air outside of the volume: `[1, 1, edge, edge, edge]`.
pub(crate) fn cut(hu: ArrayView3<'_, i16>, start: [usize; 3], edge: usize, window: (f32, f32)) -> Array5<f32> {
    let (d, h, w) = hu.dim();
    Array5::from_shape_fn((1, 1, edge, edge, edge), |(_, _, z, y, x)| {
        let at = [start[0] + z, start[1] + y, start[2] + x];
        let inside = at[0] < d && at[1] < h && at[2] < w;
        normalise(if inside { f32::from(hu[at]) } else { f32::from(lungai_ct::AIR_HU) }, window)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_voxel_and_overlap_by_a_sixth() {
        for length in [1, 31, 32, 33, 56, 57, 100, 333] {
            let starts = starts(length, 32);
            assert_eq!(starts[0], 0);
            assert!(starts.last().unwrap() + 32 >= length);
            assert!(length <= 32 || starts.last().unwrap() + 32 == length);
            assert!(starts.windows(2).all(|pair| pair[1] - pair[0] <= 27), "{starts:?}");
        }
    }

    #[test]
    fn outside_of_the_volume_is_air() {
        let hu = ndarray::Array3::<i16>::zeros((2, 2, 2));
        let tile = cut(hu.view(), [0; 3], 4, (-1024.0, 1024.0));
        assert_eq!(tile[[0, 0, 1, 1, 1]], 0.0);
        assert_eq!(tile[[0, 0, 3, 0, 0]], -1.0);
    }
}
