//! What a scanner does to an image: the kernel within a slice, the profile across slices.

use super::config::Profile;

/// Taps of a normalised Gaussian of standard deviation `sigma` samples, cut off at three of them.
pub(super) fn gaussian(sigma: f64) -> Vec<f32> {
    let half = (3.0 * sigma).ceil() as i64;
    let taps: Vec<f64> = (-half..=half).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|t| (t / sum) as f32).collect()
}

/// Separable, symmetric filter of slices, the border's values repeated outwards.
pub(super) struct PlaneFilter {
    along_y: Vec<f32>,
    along_x: Vec<f32>,
}

impl PlaneFilter {
    /// Gaussian of standard deviation `sigma_mm` for pixels of `[y, x]` mm.
    pub fn gaussian(sigma_mm: f64, pixel_mm: [f64; 2]) -> Self {
        Self { along_y: gaussian(sigma_mm / pixel_mm[0]), along_x: gaussian(sigma_mm / pixel_mm[1]) }
    }

    /// Rows and columns that one pixel's result reaches for, to each side.
    pub fn reach(&self) -> [usize; 2] {
        [self.along_y.len() / 2, self.along_x.len() / 2]
    }

    /// Sum of products of two filters' taps: what they share of white noise's power.
    pub fn overlap(&self, other: &Self) -> f64 {
        let shared = |a: &[f32], b: &[f32]| -> f64 {
            let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
            let skip = (long.len() - short.len()) / 2;
            short.iter().zip(&long[skip..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        shared(&self.along_y, &other.along_y) * shared(&self.along_x, &other.along_x)
    }

    /// - `from`: `columns` wide
    /// - `to`: as long as `from`
    pub fn apply(&self, from: &[f32], columns: usize, to: &mut [f32], padded: &mut Vec<f32>) {
        let (half_y, half_x) = (self.along_y.len() / 2, self.along_x.len() / 2);
        let rows = from.len() / columns;
        let last = rows - 1;
        padded.clear();
        padded.resize(columns + 2 * half_x, 0.0);
        for y in 0..rows {
            let line = &mut padded[half_x..half_x + columns];
            let row = |at: usize| &from[at * columns..(at + 1) * columns];
            let middle = self.along_y[half_y];
            line.iter_mut().zip(row(y)).for_each(|(sum, v)| *sum = middle * v);
            for k in 1..=half_y {
                let weight = self.along_y[half_y + k];
                let (above, below) = (row(y.saturating_sub(k)), row((y + k).min(last)));
                for ((sum, a), b) in line.iter_mut().zip(above).zip(below) {
                    *sum += weight * (a + b);
                }
            }
            let (first, end) = (padded[half_x], padded[half_x + columns - 1]);
            padded[..half_x].fill(first);
            padded[half_x + columns..].fill(end);
            let out = &mut to[y * columns..(y + 1) * columns];
            let middle = self.along_x[half_x];
            out.iter_mut().zip(&padded[half_x..]).for_each(|(sum, v)| *sum = middle * v);
            for k in 1..=half_x {
                let weight = self.along_x[half_x + k];
                for ((sum, a), b) in out.iter_mut().zip(&padded[half_x - k..]).zip(&padded[half_x + k..]) {
                    *sum += weight * (a + b);
                }
            }
        }
    }
}

/// For each slice of the grid, the first slice that it is made of and the weights from there on: slices of `thickness_mm`,
/// one beside the other with one in the middle of the patch, interpolated linearly. Empty where slices are no thinner.
pub(super) fn thick_slices(n: usize, slice_mm: f64, thickness_mm: f64, profile: Profile) -> Vec<(usize, Vec<f32>)> {
    if thickness_mm <= slice_mm {
        return Vec::new();
    }
    let thickness = thickness_mm / slice_mm;
    let middle = 0.5 * (n as f64 - 1.0);
    // How much a thick slice takes of what lies `offset` slices from its middle.
    let share = |offset: f64| match profile {
        Profile::Box => {
            let overlap = (offset + 0.5).min(0.5 * thickness) - (offset - 0.5).max(-0.5 * thickness);
            overlap.max(0.0)
        }
        // The full width at half maximum is 2.355 standard deviations.
        Profile::Gaussian => (-0.5 * (offset * 2.354_82 / thickness).powi(2)).exp(),
    };
    let reach = (1.5 * thickness).ceil() as i64 + 1;
    let blend = |z: usize| {
        let at = (z as f64 - middle) / thickness;
        let mut weights = vec![0.0; n];
        for (index, part) in [(at.floor(), 1.0 - (at - at.floor())), (at.floor() + 1.0, at - at.floor())] {
            let centre = middle + thickness * index;
            let near = || (centre.round() as i64 - reach)..=(centre.round() as i64 + reach);
            let sum: f64 = near().map(|i| share(i as f64 - centre)).sum();
            for i in near() {
                // The border's slices are repeated outwards.
                weights[i.clamp(0, n as i64 - 1) as usize] += part * share(i as f64 - centre) / sum;
            }
        }
        let first = weights.iter().position(|w| *w > 0.0).expect("the weights sum to 1");
        let end = weights.iter().rposition(|w| *w > 0.0).expect("the weights sum to 1") + 1;
        (first, weights[first..end].iter().map(|w| *w as f32).collect())
    };
    (0..n).map(blend).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn through(taps: &[(usize, Vec<f32>)], line: &[f32]) -> Vec<f32> {
        taps.iter().map(|(first, w)| w.iter().zip(&line[*first..]).map(|(w, v)| w * v).sum()).collect()
    }

    #[verifies("FR-002")]
    #[test]
    fn a_step_in_slices_of_three_voxels() {
        // Thick slices about voxels 1, 4 and 7 hold 0, (0 + 0 + 90) / 3 and 90; between them it is linear.
        let step = [0.0, 0.0, 0.0, 0.0, 0.0, 90.0, 90.0, 90.0, 90.0];
        let found = through(&thick_slices(9, 1.0, 3.0, Profile::Box), &step);
        for (found, want) in found.iter().zip([0.0, 0.0, 10.0, 20.0, 30.0, 50.0, 70.0, 90.0, 90.0]) {
            assert!((found - want).abs() < 1e-4, "{found} {want}");
        }
    }

    #[test]
    fn slices_no_thicker_than_the_grid_change_nothing() {
        assert!(thick_slices(9, 2.0, 2.0, Profile::Box).is_empty());
        for profile in [Profile::Box, Profile::Gaussian] {
            for (_, weights) in thick_slices(12, 0.7, 2.5, profile) {
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_gaussian_slice_is_half_as_sensitive_half_a_thickness_off() {
        // One thick slice in the middle, 41 thin ones in it: voxel 20 is its middle, 30 half a thickness off.
        let (first, weights) = &thick_slices(41, 0.25, 5.0, Profile::Gaussian)[20];
        assert!((weights[30 - first] / weights[20 - first] - 0.5).abs() < 1e-3);
    }

    #[test]
    fn an_impulse_becomes_the_gaussian() {
        let filter = PlaneFilter::gaussian(1.0, [0.5, 1.0]);
        let mut plane = vec![0.0; 31 * 21];
        plane[15 * 21 + 10] = 1.0;
        let mut out = vec![0.0; plane.len()];
        filter.apply(&plane, 21, &mut out, &mut Vec::new());
        assert!((out.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let at = |y: usize, x: usize| out[y * 21 + x] / out[15 * 21 + 10];
        // One standard deviation off is one pixel along x and two along y.
        let want = (-0.5f32).exp();
        assert!((at(15, 11) - want).abs() < 1e-5 && (at(13, 10) - want).abs() < 1e-5, "{} {}", at(15, 11), at(13, 10));
        assert!((at(17, 9) - want * want).abs() < 1e-5);
    }
}
