//! Where the two branches of a residual block meet. What is not a number stays so: `f32::max` would turn it into 0.
use crate::simd::widest;
use rayon::prelude::*;

/// Values per task.
const CHUNK: usize = 1 << 15;

/// `max(a + b, 0)`.
///
/// # Panics
/// Where the lengths differ. So does the gradient.
pub fn add_relu(a: &[f32], b: &[f32]) -> Vec<f32> {
    each(a, b, |a, b| if a + b <= 0.0 { 0.0 } else { a + b })
}

/// Gradient of [`add_relu`], the same by `a` and by `b`.
///
/// - y: the result; grad: by the result
pub fn add_relu_grad(y: &[f32], grad: &[f32]) -> Vec<f32> {
    each(y, grad, |y, grad| if y <= 0.0 { 0.0 } else { grad })
}

fn each(a: &[f32], b: &[f32], value: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "values that are taken together");
    let mut out = Vec::with_capacity(a.len());
    out.spare_capacity_mut()[..a.len()]
        .par_chunks_mut(CHUNK)
        .zip(a.par_chunks(CHUNK))
        .zip(b.par_chunks(CHUNK))
        .for_each(|((out, a), b)| {
            widest(
                #[inline(always)]
                || {
                    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                        out.write(value(*a, *b));
                    }
                },
            );
        });
    // SAFETY: the chunks tile the output and each value of each chunk was written: all three have the same length.
    unsafe { out.set_len(a.len()) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_passes_where_the_sum_is_positive() {
        let y = add_relu(&[1.0, -3.0, 2.0], &[0.5, 1.0, -2.0]);
        assert_eq!(y, [1.5, 0.0, 0.0]);
        assert_eq!(add_relu_grad(&y, &[7.0, 8.0, 9.0]), [7.0, 0.0, 0.0]);
        assert!(add_relu(&[f32::NAN], &[1.0])[0].is_nan());
        let long = add_relu(&vec![1.0; 3 * CHUNK + 5], &vec![2.0; 3 * CHUNK + 5]);
        assert!(long.len() == 3 * CHUNK + 5 && long.iter().all(|&y| y == 3.0));
    }
}
