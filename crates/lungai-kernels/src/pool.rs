//! Pooling over blocks of 2x2x2 voxels, with gradients. An odd last slice, row or column belongs to no block.
use rayon::prelude::*;

fn halved(size: [usize; 3]) -> [usize; 3] {
    size.map(|extent| extent / 2)
}

fn volume(size: [usize; 3]) -> usize {
    size.iter().product()
}

/// Maximum of each block; not a number where one of its voxels is none.
///
/// - x: `[planes, d, h, w]` with `size` = `[d, h, w]`, each at least 2
/// - output: `[planes, d/2, h/2, w/2]`, rounded down
///
/// # Panics
/// Where a length does not fit the shape. So do the functions below.
pub fn max_pool3d(planes: usize, size: [usize; 3], x: &[f32]) -> Vec<f32> {
    let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    pool(planes, size, x, |[a, b, c, d, e, f, g, h]| {
        larger(larger(larger(a, b), larger(c, d)), larger(larger(e, f), larger(g, h)))
    })
}

/// Gradient of [`max_pool3d`] by its input; of equal maxima the first one gets all.
///
/// - x: as in the forward pass; grad: by the output, in its shape
pub fn max_pool3d_grad(planes: usize, size: [usize; 3], x: &[f32], grad: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), planes * volume(size), "the input of a pooling over {planes} planes of {size:?}");
    spread(planes, size, grad, |plane, corners, grad, out| {
        let x = &x[plane * volume(size)..][..volume(size)];
        let mut best = corners[0];
        for &corner in &corners[1..] {
            if x[corner] > x[best] {
                best = corner;
            }
        }
        out[best] = grad;
    })
}

/// Mean of each block; shapes as in [`max_pool3d`].
pub fn mean_pool3d(planes: usize, size: [usize; 3], x: &[f32]) -> Vec<f32> {
    pool(planes, size, x, |[a, b, c, d, e, f, g, h]| (((a + b) + (c + d)) + ((e + f) + (g + h))) * 0.125)
}

/// Gradient of [`mean_pool3d`] by its input: an eighth to each voxel.
///
/// - grad: by the output, in its shape
pub fn mean_pool3d_grad(planes: usize, size: [usize; 3], grad: &[f32]) -> Vec<f32> {
    spread(planes, size, grad, |_, corners, grad, out| {
        for corner in corners {
            out[corner] = grad * 0.125;
        }
    })
}

fn pool(planes: usize, size: [usize; 3], x: &[f32], reduce: impl Fn([f32; 8]) -> f32 + Sync) -> Vec<f32> {
    let ([_, h, w], [od, oh, ow]) = (size, halved(size));
    assert!(od * oh * ow > 0, "{size:?} holds no block of 2x2x2");
    assert_eq!(x.len(), planes * volume(size), "the input of a pooling over {planes} planes of {size:?}");
    let mut out = vec![0.0; planes * od * oh * ow];
    out.par_chunks_exact_mut(oh * ow).enumerate().for_each(|(slice, out)| {
        let x = &x[slice / od * volume(size) + 2 * (slice % od) * h * w..][..2 * h * w];
        for (y, out) in out.chunks_exact_mut(ow).enumerate() {
            let row = |z: usize, dy: usize| x[(z * h + 2 * y + dy) * w..][..2 * ow].as_chunks::<2>().0;
            let rows = [row(0, 0), row(0, 1), row(1, 0), row(1, 1)];
            for (i, out) in out.iter_mut().enumerate() {
                let [a, b, c, d] = rows.map(|row| row[i]);
                *out = reduce([a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]]);
            }
        }
    });
    out
}

/// Zeros in the input's shape; then `put(plane, the block's eight places in the plane, gradient, plane's values)`.
fn spread(
    planes: usize,
    size: [usize; 3],
    grad: &[f32],
    put: impl Fn(usize, [usize; 8], f32, &mut [f32]) + Sync,
) -> Vec<f32> {
    let ([_, h, w], [od, oh, ow]) = (size, halved(size));
    assert_eq!(grad.len(), planes * od * oh * ow, "the output gradient of a pooling over {planes} planes of {size:?}");
    let mut out = vec![0.0; planes * volume(size)];
    out.par_chunks_exact_mut(volume(size)).zip(grad.par_chunks_exact(od * oh * ow)).enumerate().for_each(
        |(plane, (out, grad))| {
            for (row, grad) in grad.chunks_exact(ow).enumerate() {
                let start = (2 * (row / oh) * h + 2 * (row % oh)) * w;
                for (x, grad) in grad.iter().enumerate() {
                    let at = start + 2 * x;
                    let corners = [0, 1, w, w + 1, h * w, h * w + 1, (h + 1) * w, (h + 1) * w + 1].map(|by| at + by);
                    put(plane, corners, *grad, out);
                }
            }
        },
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_eight_is_kept_and_gets_the_gradient() {
        // two planes of 2x2x3; the third column belongs to no block
        let mut x = vec![0.0; 24];
        x[7] = 5.0; // plane 0, z 1, y 0, x 1
        x[2] = 9.0; // in the odd column
        x[12..].fill(-1.0); // plane 1: all equal
        assert_eq!(max_pool3d(2, [2, 2, 3], &x), [5.0, -1.0]);
        let mut broken = x.clone();
        broken[4] = f32::NAN;
        assert!(max_pool3d(2, [2, 2, 3], &broken)[0].is_nan());
        let mut expected = vec![0.0; 24];
        (expected[7], expected[12]) = (3.0, 4.0);
        assert_eq!(max_pool3d_grad(2, [2, 2, 3], &x, &[3.0, 4.0]), expected);
    }

    #[test]
    fn blocks_lie_where_they_should() {
        // value = 100 z + 10 y + x on 4x6x4: the largest of block (z, y, x) is 100(2z+1) + 10(2y+1) + 2x+1
        let at = |i: usize| (i / 24 * 100 + i / 4 % 6 * 10 + i % 4) as f32;
        let x: Vec<f32> = (0..96).map(at).collect();
        let largest = max_pool3d(1, [4, 6, 4], &x);
        assert_eq!(largest, [111., 113., 131., 133., 151., 153., 311., 313., 331., 333., 351., 353.]);
        let mean: Vec<f32> = largest.iter().map(|v| v - 55.5).collect();
        assert_eq!(mean_pool3d(1, [4, 6, 4], &x), mean);
    }

    #[test]
    fn a_mean_gives_an_eighth_to_each_voxel() {
        let grad = mean_pool3d_grad(1, [3, 2, 2], &[8.0]);
        assert_eq!(grad, [1., 1., 1., 1., 1., 1., 1., 1., 0., 0., 0., 0.]);
    }
}
