//! Eight channels for one, at half the size, and back. Each is the other's inverse and gradient.
use rayon::prelude::*;

/// - x: `[planes, d, h, w]` with `size` = `[d, h, w]`, all even
/// - output: `[planes, 8, d/2, h/2, w/2]`; sub-channel `4 dz + 2 dy + dx` holds voxel `(2z + dz, 2y + dy, 2x + dx)`
///
/// # Panics
/// Where a length does not fit the shape. So does the inverse.
pub fn space_to_depth(planes: usize, size: [usize; 3], x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    check(planes, size, x);
    let plane = size.iter().product::<usize>();
    out.par_chunks_exact_mut(plane.max(1)).zip(x.par_chunks_exact(plane.max(1))).for_each(|(deep, x)| {
        rows(size, |start, sub| {
            let w = size[2];
            let (even, odd) = deep[sub..].split_at_mut(plane / 8);
            for (i, pair) in x[start..start + w].as_chunks::<2>().0.iter().enumerate() {
                (even[i], odd[i]) = (pair[0], pair[1]);
            }
        });
    });
    out
}

/// - x: `[planes, 8, d/2, h/2, w/2]`, where `size` = `[d, h, w]` is that of the output, all even
/// - output: `[planes, d, h, w]`, the inverse of [`space_to_depth`]
pub fn depth_to_space(planes: usize, size: [usize; 3], x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    check(planes, size, x);
    let plane = size.iter().product::<usize>();
    out.par_chunks_exact_mut(plane.max(1)).zip(x.par_chunks_exact(plane.max(1))).for_each(|(out, deep)| {
        rows(size, |start, sub| {
            let w = size[2];
            let (even, odd) = deep[sub..].split_at(plane / 8);
            for (i, pair) in out[start..start + w].as_chunks_mut::<2>().0.iter_mut().enumerate() {
                *pair = [even[i], odd[i]];
            }
        });
    });
    out
}

fn check(planes: usize, size: [usize; 3], x: &[f32]) {
    assert!(size.iter().all(|extent| extent.is_multiple_of(2)), "{size:?} is not even");
    assert_eq!(x.len(), planes * size.iter().product::<usize>(), "a shuffle of {planes} planes of {size:?}");
}

/// Calls `visit(start of a row of the large volume, start of its even half in the eight small ones)`.
fn rows([d, h, w]: [usize; 3], mut visit: impl FnMut(usize, usize)) {
    let small = d * h * w / 8;
    for z in 0..d {
        for y in 0..h {
            let sub = (4 * (z % 2) + 2 * (y % 2)) * small + (z / 2 * (h / 2) + y / 2) * (w / 2);
            visit((z * h + y) * w, sub);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_voxel_goes_to_the_sub_channel_of_its_parity_and_back() {
        let size = [4, 2, 6];
        let x: Vec<f32> = (0..96).map(|i| i as f32).collect(); // two planes
        let deep = space_to_depth(2, size, &x);
        for plane in 0..2 {
            for (z, y, x_) in (0..4).flat_map(|z| (0..2).flat_map(move |y| (0..6).map(move |x| (z, y, x)))) {
                let sub = 4 * (z % 2) + 2 * (y % 2) + x_ % 2;
                let to = ((plane * 8 + sub) * 2 + z / 2) * 3 + x_ / 2; // small volumes are 2 x 1 x 3
                assert_eq!(deep[to], x[((plane * 4 + z) * 2 + y) * 6 + x_]);
            }
        }
        assert_eq!(depth_to_space(2, size, &deep), x);
    }
}
