//! Long sums of `f32` in one fixed order: sixteen lanes inside a block (so that it vectorises), blocks in `f64`.

/// Values per block: 16 KiB, so that it stays in the L1 cache, and 256 per lane, so that rounding stays small.
pub(crate) const BLOCK: usize = 4096;

/// Sum of `term` over all values.
#[inline(always)]
pub(crate) fn plain(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(BLOCK) {
        let (whole, rest) = block.as_chunks::<16>();
        let mut lanes = [0.0_f32; 16];
        for part in whole {
            for (lane, value) in lanes.iter_mut().zip(part) {
                *lane += term(*value);
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += term(*value);
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

/// Sums of `term` and of `term * factor` over all pairs of values, where `term(a, b)` and `factor(a)`.
#[inline(always)]
pub(crate) fn pairs(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32, factor: impl Fn(f32) -> f32) -> [f64; 2] {
    let mut total = [0.0; 2];
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
        let (mut first, mut second) = ([0.0_f32; 16], [0.0_f32; 16]);
        for (a, b) in a.iter().zip(b) {
            // Two loops, because the compiler vectorises only these.
            let terms: [f32; 16] = std::array::from_fn(|i| term(a[i], b[i]));
            for i in 0..16 {
                first[i] += terms[i];
                second[i] += terms[i] * factor(a[i]);
            }
        }
        for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
            first[i] += term(*a, *b);
            second[i] += term(*a, *b) * factor(*a);
        }
        total[0] += first.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        total[1] += second.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_left_out_or_counted_twice() {
        for len in [0, 1, 15, 16, 17, BLOCK - 1, BLOCK + 1, 3 * BLOCK + 33] {
            let values: Vec<f32> = (0..len).map(|i| (i % 7) as f32).collect();
            let truth: f64 = values.iter().map(|&v| f64::from(v)).sum();
            assert_eq!(plain(&values, |v| v), truth);
            assert_eq!(pairs(&values, &values, |_, b| b, |_| 2.0), [truth, 2.0 * truth]);
        }
    }
}
