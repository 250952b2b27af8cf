//! 3D convolution with its three gradients: kernel 3 with padding 1, or kernel 1; stride 1 or 2.
use crate::canvas::Canvas;
use crate::simd::{Isa, widest};
use crate::sums;
use crate::taps::{Channels, Finish, Taps, Target, convolve, correlate};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// What is convolved. Weights are `[out_channels, in_channels, kernel, kernel, kernel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Batch items.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Depth, height and width of the input, each at least 1.
    pub size: [usize; 3],
    /// 3 (zero padding of 1) or 1 (no padding).
    pub kernel: usize,
    /// 1 or 2.
    pub stride: usize,
}

impl ConvShape {
    /// Depth, height and width of the output: the input's over the stride, rounded up.
    pub fn out_size(&self) -> [usize; 3] {
        self.size.map(|extent| extent.div_ceil(self.stride))
    }

    fn taps(&self) -> usize {
        self.kernel.pow(3)
    }

    fn check(&self, x: Option<&[f32]>, weight: Option<&[f32]>, out: Option<&[f32]>) {
        assert!(matches!(self.kernel, 1 | 3) && matches!(self.stride, 1 | 2), "{self:?} is not supported");
        assert!(self.size.iter().all(|&extent| extent > 0), "{self:?} has an empty axis");
        let volume = |size: [usize; 3]| size.iter().product::<usize>();
        let lens = [
            (x, self.batch * self.in_channels * volume(self.size), "input"),
            (weight, self.out_channels * self.in_channels * self.taps(), "weight"),
            (out, self.batch * self.out_channels * volume(self.out_size()), "output gradient"),
        ];
        for (slice, len, name) in lens {
            if let Some(slice) = slice {
                assert_eq!(slice.len(), len, "the {name} of {self:?}");
            }
        }
    }

    /// The input laid out for this kernel and stride, and the offsets of the taps in it, in the weights' order.
    fn canvas(&self, x: &[f32]) -> (Canvas, Vec<usize>) {
        let channels = self.batch * self.in_channels;
        let canvas = match (self.kernel, self.stride) {
            (3, 1) => Canvas::padded(x, channels, self.size),
            (3, _) => Canvas::split(x, channels, self.size),
            (_, stride) => Canvas::sampled(x, channels, self.size, stride),
        };
        let offsets = (0..self.taps())
            .map(|t| {
                let k = [t / 9, t / 3 % 3, t % 3];
                match (self.kernel, self.stride) {
                    (3, 1) => k[0] * canvas.slice + k[1] * canvas.row + k[2],
                    (3, _) => {
                        let grid = 4 * (k[0] & 1) + 2 * (k[1] & 1) + (k[2] & 1);
                        grid * (canvas.plane / 8) + (k[0] >> 1) * canvas.slice + (k[1] >> 1) * canvas.row + (k[2] >> 1)
                    }
                    _ => 0,
                }
            })
            .collect();
        (canvas, offsets)
    }
}

/// Convolution (cross-correlation, as in every deep-learning library).
///
/// - x: `[batch, in_channels, d, h, w]`, weight as in [`ConvShape`], bias: `[out_channels]`
/// - relu: negative outputs become 0 before they are put down; its gradient is that of [`crate::add_relu`]
/// - output: `[batch, out_channels, d/s, h/s, w/s]`, rounded up
///
/// # Panics
/// Where a length does not fit the shape, or the shape is none that is supported. So do the gradients below.
pub fn conv3d(shape: &ConvShape, x: &[f32], weight: &[f32], bias: Option<&[f32]>, relu: bool) -> Vec<f32> {
    conv3d_on(Isa::best(), shape, x, weight, Finish { bias, relu })
}

/// Gradient of [`conv3d`] by its input: `[batch, in_channels, d, h, w]`.
///
/// - grad: by the output, in its shape
pub fn conv3d_grad_x(shape: &ConvShape, weight: &[f32], grad: &[f32]) -> Vec<f32> {
    conv3d_grad_x_on(Isa::best(), shape, weight, grad)
}

/// Gradient of [`conv3d`] by its weights, in their shape.
///
/// - x: as in the forward pass; grad: by the output, in its shape
pub fn conv3d_grad_weight(shape: &ConvShape, x: &[f32], grad: &[f32]) -> Vec<f32> {
    conv3d_grad_weight_on(Isa::best(), shape, x, grad)
}

/// Sum of each channel over batch and positions: the gradient of [`conv3d`] by its bias.
///
/// - grad: `[batch, channels, volume]`; output: `[channels]`
pub fn channel_sums(batch: usize, channels: usize, volume: usize, grad: &[f32]) -> Vec<f32> {
    assert_eq!(grad.len(), batch * channels * volume, "{batch} items of {channels} channels of {volume} values");
    let plane = |n: usize, channel: usize| &grad[(n * channels + channel) * volume..][..volume];
    (0..channels)
        .into_par_iter()
        .map(|c| {
            (0..batch)
                .map(|n| {
                    widest(
                        #[inline(always)]
                        || sums::plain(plane(n, c), |value| value),
                    )
                })
                .sum::<f64>() as f32
        })
        .collect()
}

fn conv3d_on(isa: Isa, shape: &ConvShape, x: &[f32], weight: &[f32], finish: Finish<'_>) -> Vec<f32> {
    shape.check(Some(x), Some(weight), None);
    if let Some(bias) = finish.bias {
        assert_eq!(bias.len(), shape.out_channels, "the bias of {shape:?}");
    }
    let (canvas, offsets) = shape.canvas(x);
    let (inputs, taps) = (shape.in_channels, shape.taps());
    let channels = Channels { batch: shape.batch, inputs, outputs: shape.out_channels };
    let size = shape.out_size();
    filled(shape.batch * shape.out_channels * size.iter().product::<usize>(), |out| {
        let weight = |o: usize, i: usize, t: usize| weight[(o * inputs + i) * taps + t];
        convolve(isa, &canvas, channels, Taps { offsets: &offsets, weight }, finish, &Target::dense(size), out);
    })
}

fn conv3d_grad_x_on(isa: Isa, shape: &ConvShape, weight: &[f32], grad: &[f32]) -> Vec<f32> {
    shape.check(None, Some(weight), Some(grad));
    let (outer, inner, taps) = (shape.out_channels, shape.in_channels, shape.taps());
    let [d, h, w] = shape.size;
    let len = shape.batch * inner * d * h * w;
    let channels = Channels { batch: shape.batch, inputs: outer, outputs: inner };
    let grad_channels = shape.batch * outer;
    if shape.kernel == 1 {
        let canvas = Canvas::sampled(grad, grad_channels, shape.out_size(), 1);
        let [sd, sh, sw] = [h * w, w, 1].map(|step| step * shape.stride);
        let target = Target { channel: d * h * w, origin: 0, step: [sd, sh, sw], count: shape.out_size() };
        let weight = |o: usize, i: usize, _: usize| weight[i * inner + o];
        // With stride 2 the voxels between were never read: their gradient is zero.
        let mut out = vec![MaybeUninit::new(0.0); if shape.stride == 1 { 0 } else { len }];
        if shape.stride == 1 {
            return filled(len, |out| {
                convolve(isa, &canvas, channels, Taps { offsets: &[0], weight }, Finish::default(), &target, out)
            });
        }
        convolve(isa, &canvas, channels, Taps { offsets: &[0], weight }, Finish::default(), &target, &mut out);
        // SAFETY: every value was initialised by `vec!` above.
        return out.into_iter().map(|value| unsafe { value.assume_init() }).collect();
    }
    let canvas = Canvas::padded(grad, grad_channels, shape.out_size());
    if shape.stride == 1 {
        // The same convolution with the kernel turned around.
        let offsets: Vec<usize> =
            (0..taps).map(|t| (t / 9) * canvas.slice + (t / 3 % 3) * canvas.row + t % 3).collect();
        let weight = |o: usize, i: usize, t: usize| weight[(i * inner + o) * taps + taps - 1 - t];
        return filled(len, |out| {
            convolve(
                isa,
                &canvas,
                channels,
                Taps { offsets: &offsets, weight },
                Finish::default(),
                &Target::dense(shape.size),
                out,
            );
        });
    }
    // Input 2e was read by tap 1 of output e alone; input 2e+1 by tap 2 of output e and by tap 0 of output e+1. So each
    // parity of the three indices is a small convolution of its own. The canvas holds output e at e+1.
    let along = |parity: usize| -> &[(usize, usize)] { if parity == 0 { &[(1, 1)] } else { &[(2, 1), (0, 2)] } };
    filled(len, |out| {
        for parity in 0..8 {
            let p = [parity >> 2, parity >> 1 & 1, parity & 1];
            let mut offsets = Vec::new();
            let mut kernel = Vec::new();
            for &(kz, z) in along(p[0]) {
                for &(ky, y) in along(p[1]) {
                    for &(kx, x) in along(p[2]) {
                        offsets.push(z * canvas.slice + y * canvas.row + x);
                        kernel.push((kz * 3 + ky) * 3 + kx);
                    }
                }
            }
            let target = Target {
                channel: d * h * w,
                origin: (p[0] * h + p[1]) * w + p[2],
                step: [2 * h * w, 2 * w, 2],
                count: [(d + 1 - p[0]) / 2, (h + 1 - p[1]) / 2, (w + 1 - p[2]) / 2],
            };
            let weight = |o: usize, i: usize, t: usize| weight[(i * inner + o) * taps + kernel[t]];
            convolve(isa, &canvas, channels, Taps { offsets: &offsets, weight }, Finish::default(), &target, out);
        }
    })
}

fn conv3d_grad_weight_on(isa: Isa, shape: &ConvShape, x: &[f32], grad: &[f32]) -> Vec<f32> {
    shape.check(Some(x), None, Some(grad));
    let (canvas, offsets) = shape.canvas(x);
    let size = shape.out_size();
    let grad = Canvas::matching(&canvas, grad, shape.batch * shape.out_channels, size);
    let channels = Channels { batch: shape.batch, inputs: shape.in_channels, outputs: shape.out_channels };
    correlate(isa, &canvas, &grad, channels, size[0] * canvas.slice, &offsets)
}

/// A vector of `len` values that `fill` writes, every one of them; saves a pass of zeroing.
fn filled(len: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut out = Vec::with_capacity(len);
    fill(&mut out.spare_capacity_mut()[..len]);
    // SAFETY: `convolve` writes every position of its targets, and the targets of each caller tile the whole output.
    unsafe { out.set_len(len) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, test_runner::RngSeed};

    /// The definition, in `f64`: calls `visit(x index, weight index, out index)` for every product.
    fn products(s: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
        let (k, p) = (s.kernel, s.kernel / 2);
        let ([d, h, w], [od, oh, ow]) = (s.size, s.out_size());
        for n in 0..s.batch {
            for o in 0..s.out_channels {
                for i in 0..s.in_channels {
                    for at in 0..od * oh * ow {
                        let [z, y, x] = [at / (oh * ow), at / ow % oh, at % ow].map(|q| q * s.stride);
                        for t in 0..k * k * k {
                            let [z, y, x] = [z + t / (k * k), y + t / k % k, x + t % k];
                            if z < p || y < p || x < p || z - p >= d || y - p >= h || x - p >= w {
                                continue;
                            }
                            visit(
                                (((n * s.in_channels + i) * d + z - p) * h + y - p) * w + x - p,
                                (o * s.in_channels + i) * k * k * k + t,
                                (n * s.out_channels + o) * od * oh * ow + at,
                            );
                        }
                    }
                }
            }
        }
    }

    fn noise(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn check_close(name: &str, ours: &[f32], truth: &[f64]) {
        let scale = truth.iter().fold(1e-3_f64, |a, b| a.max(b.abs()));
        assert_eq!(ours.len(), truth.len(), "{name}");
        for (i, (a, b)) in ours.iter().zip(truth).enumerate() {
            assert!((f64::from(*a) - b).abs() <= 1e-5 * scale, "{name}[{i}]: {a} instead of {b}");
        }
    }

    /// All four functions on every vector unit against the definition, and with one thread against two and five.
    fn check(s: ConvShape, seed: u32) {
        let volume = |size: [usize; 3]| size.iter().product::<usize>();
        let x = noise(s.batch * s.in_channels * volume(s.size), seed);
        let weight = noise(s.out_channels * s.in_channels * s.taps(), seed + 1);
        let bias = noise(s.out_channels, seed + 2);
        let grad = noise(s.batch * s.out_channels * volume(s.out_size()), seed + 3);
        let per_channel = volume(s.out_size());
        let mut y: Vec<f64> = (0..grad.len()).map(|at| f64::from(bias[at / per_channel % s.out_channels])).collect();
        let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; weight.len()], vec![0.0; bias.len()]);
        products(&s, |xi, wi, yi| {
            y[yi] += f64::from(x[xi]) * f64::from(weight[wi]);
            dx[xi] += f64::from(grad[yi]) * f64::from(weight[wi]);
            dw[wi] += f64::from(x[xi]) * f64::from(grad[yi]);
        });
        for (at, value) in grad.iter().enumerate() {
            db[at / per_channel % s.out_channels] += f64::from(*value);
        }
        for isa in Isa::available() {
            let all = || {
                [
                    conv3d_on(isa, &s, &x, &weight, Finish { bias: Some(&bias), relu: false }),
                    conv3d_grad_x_on(isa, &s, &weight, &grad),
                    conv3d_grad_weight_on(isa, &s, &x, &grad),
                    channel_sums(s.batch, s.out_channels, per_channel, &grad),
                ]
            };
            let ours = all();
            for ((name, ours), truth) in ["y", "dx", "dw", "db"].iter().zip(&ours).zip([&y, &dx, &dw, &db]) {
                check_close(&format!("{isa:?} {s:?} {name}"), ours, truth);
            }
            for threads in [1, 2, 5] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let again = pool.install(all);
                for (a, b) in ours.iter().flatten().zip(again.iter().flatten()) {
                    assert_eq!(a.to_bits(), b.to_bits(), "{isa:?} {s:?} with {threads} threads");
                }
            }
        }
    }

    #[test]
    fn a_kernel_of_ones_counts_the_neighbours() {
        let shape = ConvShape { batch: 1, in_channels: 1, out_channels: 1, size: [3; 3], kernel: 3, stride: 1 };
        let y = conv3d(&shape, &[1.0; 27], &[1.0; 27], Some(&[0.5]), false);
        assert_eq!([y[0], y[1], y[4], y[13]], [8.5, 12.5, 18.5, 27.5]); // corner, edge, face, centre
        let halved = conv3d(&ConvShape { stride: 2, ..shape }, &[1.0; 27], &[1.0; 27], None, false);
        assert_eq!(halved, [8.0; 8]);
        // Less 15: only the faces (18) and the centre (27) have something left.
        let cut = conv3d(&shape, &[1.0; 27], &[1.0; 27], Some(&[-15.0]), true);
        assert_eq!([cut[0], cut[1], cut[4], cut[13]], [0.0, 0.0, 3.0, 12.0]);
        assert!(conv3d(&shape, &[f32::NAN; 27], &[1.0; 27], None, true)[0].is_nan());
    }

    #[test]
    fn every_path_agrees_with_the_definition_on_awkward_shapes() {
        let shapes = [
            (1, 1, 8, [9, 7, 5], 3, 1),  // one channel in
            (2, 3, 13, [4, 4, 4], 3, 1), // blocks of 8, 4 and 1; small volume
            (2, 5, 7, [3, 2, 33], 3, 2), // odd and even extents, stride 2
            (1, 70, 2, [3, 3, 3], 3, 1), // more than one round of inputs
            (1, 2, 3, [1, 1, 1], 3, 1),
            (1, 2, 3, [1, 1, 1], 3, 2),
            (1, 4, 9, [2, 30, 30], 3, 1),   // bands of rows
            (1, 2, 16, [19, 17, 16], 3, 1), // several passes of the weight gradient
            (3, 20, 11, [5, 3, 2], 1, 1),
            (1, 3, 5, [5, 4, 3], 1, 2),
            (2, 8, 1, [6, 5, 8], 3, 1),
        ];
        for (seed, (batch, in_channels, out_channels, size, kernel, stride)) in shapes.into_iter().enumerate() {
            check(ConvShape { batch, in_channels, out_channels, size, kernel, stride }, seed as u32);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]
        #[test]
        fn every_path_agrees_with_the_definition(
            batch in 1..3_usize, in_channels in 1..10_usize, out_channels in 1..18_usize,
            size in [1..12_usize, 1..12_usize, 1..20_usize], kernel in prop::sample::select(vec![1_usize, 3]),
            stride in 1..3_usize, seed in 0..1000_u32,
        ) {
            check(ConvShape { batch, in_channels, out_channels, size, kernel, stride }, seed);
        }
    }

    #[test]
    #[should_panic(expected = "the weight of")]
    fn a_wrong_length_is_refused_at_the_door() {
        let shape = ConvShape { batch: 1, in_channels: 1, out_channels: 1, size: [2; 3], kernel: 3, stride: 1 };
        conv3d(&shape, &[0.0; 8], &[0.0; 26], None, false);
    }
}
