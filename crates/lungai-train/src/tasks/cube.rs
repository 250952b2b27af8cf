//! Cubes cut from volumes, and the symmetries they are shown in.

use lungai_ct::{AIR_HU, Spacing};
use lungai_imaging::augment::{self, AugmentConfig, Augmentation};
use ndarray::{Array3, ArrayView3};
use rand::{RngExt, rngs::StdRng};

/// One of the 48 symmetries of the cube: every axis may be mirrored, the axes may change places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Symmetry {
    /// Source axis of each axis of the result.
    axes: [usize; 3],
    /// Whether each source axis is mirrored.
    mirrored: [bool; 3],
}

impl Symmetry {
    /// Mirrors along x only: what anatomy looks like from the other side.
    pub fn draw_side(rng: &mut StdRng) -> Self {
        Self { axes: [0, 1, 2], mirrored: [false, false, rng.random()] }
    }

    /// Any of the 48: a nodule has no up or down.
    pub fn draw_any(rng: &mut StdRng) -> Self {
        const AXES: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        Self { axes: AXES[rng.random_range(0..6)], mirrored: rng.random() }
    }

    /// Whether left and right change places.
    pub fn swaps_sides(self) -> bool {
        self.mirrored[2]
    }

    /// Voxel of the source that is shown at `to`.
    fn source(self, to: [usize; 3], edge: usize) -> [usize; 3] {
        let mut from = [0; 3];
        for (axis, source) in self.axes.into_iter().enumerate() {
            from[source] = if self.mirrored[source] { edge - 1 - to[axis] } else { to[axis] };
        }
        from
    }

    /// Where a point of the source, in voxels, is shown.
    pub fn point(self, from: [f64; 3], edge: usize) -> [f64; 3] {
        self.axes.map(|source| if self.mirrored[source] { (edge - 1) as f64 - from[source] } else { from[source] })
    }
}

/// The cube of `edge` voxels at `start` (which may reach outside): `value` of each voxel, or of `None` outside.
pub fn cut<T: Copy, U>(
    from: ArrayView3<'_, T>,
    start: [isize; 3],
    edge: usize,
    symmetry: Symmetry,
    value: impl Fn(Option<T>) -> U,
) -> Array3<U> {
    Array3::from_shape_fn([edge; 3], |(z, y, x)| {
        let at = symmetry.source([z, y, x], edge);
        let index: [usize; 3] = std::array::from_fn(|i| (start[i] + at[i] as isize) as usize);
        // A negative index has become a huge one and is outside as well.
        value(from.get(index).copied())
    })
}

/// How bright and how noisy a cube may be: scanners are not calibrated alike, and unseen ones may have a lower dose.
pub struct Intensity {
    config: AugmentConfig,
    spacing: Spacing,
}

impl Intensity {
    /// White noise of up to `noise_hu`, and an offset of up to `shift_hu`, on cubes of this spacing.
    pub fn new(noise_hu: f64, shift_hu: f32, spacing_mm: f64) -> Self {
        let noise = augment::Noise {
            probability: 1.0,
            kernels: vec![augment::NoiseKernel::White],
            sd_hu: [0.0, noise_hu],
            dose: [1.0, 1.0],
            slice_mm: spacing_mm,
        };
        Self {
            config: AugmentConfig { noise: Some(noise), ..AugmentConfig::random_brightness(1.0, f64::from(shift_hu)) },
            spacing: Spacing::new([spacing_mm; 3]).expect("checked configuration"),
        }
    }

    /// As [`cut`], HU; air outside.
    pub fn cube(
        &self,
        from: ArrayView3<'_, i16>,
        start: [isize; 3],
        edge: usize,
        symmetry: Symmetry,
        rng: &mut StdRng,
    ) -> Array3<f32> {
        let outside = f32::from(AIR_HU);
        let cube = cut(from, start, edge, symmetry, |hu| hu.map_or(outside, f32::from));
        Augmentation::draw(&self.config, rng.random()).image(&cube, self.spacing, outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn points_move_with_the_voxels() {
        let mut volume = Array3::<i16>::zeros((8, 8, 8));
        volume[[1, 2, 5]] = 1000;
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..100 {
            let symmetry = Symmetry::draw_any(&mut rng);
            let cube = cut(volume.view(), [0; 3], 8, symmetry, |hu| hu.unwrap_or(0));
            let [z, y, x] = symmetry.point([1.0, 2.0, 5.0], 8).map(|v| v as usize);
            assert_eq!(cube[[z, y, x]], 1000);
        }
    }

    #[test]
    fn outside_of_the_volume_there_is_air() {
        let volume = Array3::<i16>::zeros((2, 2, 2));
        let symmetry = Symmetry { axes: [0, 1, 2], mirrored: [false; 3] };
        let cube = cut(volume.view(), [-1, 0, 0], 2, symmetry, |hu| hu.unwrap_or(AIR_HU));
        let air = AIR_HU;
        assert_eq!(cube.into_raw_vec_and_offset().0, [air, air, air, air, 0, 0, 0, 0]);
    }
}
