//! The two inner products of every convolution, on a [`Canvas`]: outputs from weights, and weights from outputs.
//!
//! `convolve` is an implicit matrix product: a tile of up to eight output channels by a few vectors of positions stays
//! in registers while all inputs and taps pass by. Nothing is copied per tap (no im2col).
use crate::canvas::Canvas;
use crate::simd::Portable;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Isa, Simd, on_isa};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Positions that one task computes: the input window of 64 channels and the outputs then stay in a 1 MiB L2 cache.
const POSITIONS: usize = 480;
/// Input channels that pass by before the outputs are put down.
const INPUTS: usize = 64;
/// Positions that one pass of the weight gradient sums: the gradients of six channels then stay in L1.
const SUMMED: usize = 1024;

/// Where `convolve` writes: `count` positions per axis, `step` values apart, from `origin` on, in channels of `channel`
/// values.
pub(crate) struct Target {
    pub(crate) channel: usize,
    pub(crate) origin: usize,
    pub(crate) step: [usize; 3],
    pub(crate) count: [usize; 3],
}

impl Target {
    /// The whole of a dense volume.
    pub(crate) fn dense([d, h, w]: [usize; 3]) -> Self {
        Self { channel: d * h * w, origin: 0, step: [h * w, w, 1], count: [d, h, w] }
    }
}

/// Output memory that several tasks fill at places which never overlap.
struct Shared {
    start: *mut MaybeUninit<f32>,
    len: usize,
}
// SAFETY: `write` is the only access, and its callers write disjoint places.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// No two threads may write the same place.
    unsafe fn write(&self, at: usize, step: usize, from: &[f32], add: f32, relu: bool) {
        let Some(last) = from.len().checked_sub(1) else { return };
        assert!(at + last * step < self.len, "a convolution's target lies outside its output");
        // What is not a number stays so.
        let value = |sum: f32| if relu && sum + add <= 0.0 { 0.0 } else { sum + add };
        // SAFETY: all places lie below `len` (above); the caller vouches that they are not shared.
        unsafe {
            let to = self.start.add(at);
            if step == 1 {
                for (i, sum) in from.iter().enumerate() {
                    to.add(i).write(MaybeUninit::new(value(*sum)));
                }
            } else {
                for (i, sum) in from.iter().enumerate() {
                    to.add(i * step).write(MaybeUninit::new(value(*sum)));
                }
            }
        }
    }
}

/// The size of a convolution between canvas and target.
#[derive(Clone, Copy)]
pub(crate) struct Channels {
    pub(crate) batch: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

/// A kernel: where each tap reads, counted from the position, and its weight for (output, input, tap).
pub(crate) struct Taps<'a, W: Fn(usize, usize, usize) -> f32> {
    pub(crate) offsets: &'a [usize],
    pub(crate) weight: W,
}

/// What becomes of a sum before it is put down.
#[derive(Clone, Copy, Default)]
pub(crate) struct Finish<'a> {
    /// Added, one value for each output channel.
    pub(crate) bias: Option<&'a [f32]>,
    /// Then not less than zero.
    pub(crate) relu: bool,
}

/// `out[o, position] = finish(sum over i, t of weight(o, i, t) * canvas[i, position + offsets[t]])`; writes every position
/// of the target.
pub(crate) fn convolve(
    isa: Isa,
    canvas: &Canvas,
    channels: Channels,
    taps: Taps<'_, impl Fn(usize, usize, usize) -> f32>,
    finish: Finish<'_>,
    target: &Target,
    out: &mut [MaybeUninit<f32>],
) {
    let Channels { batch, inputs, outputs } = channels;
    let offsets = taps.offsets;
    let [cz, cy, cx] = target.count;
    if batch * outputs * cz * cy * cx == 0 {
        return;
    }
    let reach = offsets.iter().copied().max().unwrap_or(0);
    let blocks = blocks(isa, outputs);
    let packed = pack(&blocks, channels, &taps);
    let out = Shared { start: out.as_mut_ptr(), len: out.len() };

    // Cut by shape alone: small slices go several to a task, large ones are cut into bands of rows.
    let bands = (cy * canvas.row).div_ceil(POSITIONS);
    let rows = cy.div_ceil(bands);
    let bands = cy.div_ceil(rows);
    let slices = if bands > 1 { 1 } else { (POSITIONS / canvas.slice).clamp(1, cz) };
    let stacks = cz.div_ceil(slices);
    // The output channels are shared out only where the volume alone gives too few tasks.
    let shares = if batch * stacks * bands >= 32 { 1 } else { blocks.len().min(4) };
    let per_share = blocks.len().div_ceil(shares);

    (0..batch * stacks * bands * shares).into_par_iter().for_each_init(Vec::new, |tile: &mut Vec<f32>, task| {
        let (task, share) = (task / shares, task % shares);
        let (task, band) = (task / bands, task % bands);
        let (n, stack) = (task / stacks, task % stacks);
        let blocks = &blocks[(share * per_share).min(blocks.len())..((share + 1) * per_share).min(blocks.len())];
        let Some(first) = blocks.first() else { return };
        let (z0, y0) = (stack * slices, band * rows);
        let (nz, ny) = (slices.min(cz - z0), rows.min(cy - y0));

        let used = (nz - 1) * canvas.slice + (ny - 1) * canvas.row + cx;
        let pitch = used.next_multiple_of(16);
        let start = n * inputs * canvas.plane + z0 * canvas.slice + y0 * canvas.row;
        assert!(start + inputs.saturating_sub(1) * canvas.plane + reach + pitch <= canvas.data().len());
        let total = blocks.iter().map(|block| block.channels).sum::<usize>();
        tile.resize(total * pitch, 0.0);
        if inputs == 0 {
            tile.fill(0.0);
        }
        for i0 in (0..inputs).step_by(INPUTS) {
            let some = INPUTS.min(inputs - i0);
            for block in blocks {
                let weights = &packed[(block.first * inputs + i0 * block.channels) * offsets.len()..]
                    [..some * block.channels * offsets.len()];
                let outputs = &mut tile[(block.first - first.first) * pitch..][..block.channels * pitch];
                let panel = Panel {
                    weights: weights.as_ptr(),
                    from: canvas.data()[start + i0 * canvas.plane..].as_ptr(),
                    inputs: some,
                    plane: canvas.plane,
                    offsets,
                    to: outputs.as_mut_ptr(),
                    pitch,
                    fresh: i0 == 0,
                };
                // SAFETY: the processor has the unit of `isa`. The panel reads `some * channels * taps` weights, which
                // is that slice's length; canvas values below `start + (inputs - 1) * plane + reach + pitch`, asserted
                // above to lie inside; and writes `channels` rows of `pitch`, which is the length of `outputs`.
                unsafe { panel.compute(isa, block.channels) };
            }
        }
        for o in first.first..first.first + total {
            let add = finish.bias.map_or(0.0, |bias| bias[o]);
            let row = &tile[(o - first.first) * pitch..][..pitch];
            for z in 0..nz {
                for y in 0..ny {
                    let at = (n * outputs + o) * target.channel
                        + target.origin
                        + (z0 + z) * target.step[0]
                        + (y0 + y) * target.step[1];
                    let from = &row[z * canvas.slice + y * canvas.row..][..cx];
                    // SAFETY: tasks differ in batch item, slices, rows or channels, so no two write the same place.
                    unsafe { out.write(at, target.step[2], from, add, finish.relu) };
                }
            }
        }
    });
}

/// Output channels that go through the registers together.
struct Block {
    first: usize,
    channels: usize,
}

/// As many full blocks as fit, then the smallest one that holds the rest of 1, 2 or 4 channels, filled up with zeros
/// in none: 13 = 8 + 4 + 1.
fn blocks(isa: Isa, outputs: usize) -> Vec<Block> {
    let full = on_isa!(isa, 4, 4, 8);
    let (mut blocks, mut first, mut channels) = (Vec::new(), 0, full);
    while first < outputs {
        while channels > outputs - first {
            channels /= 2;
        }
        blocks.push(Block { first, channels });
        first += channels;
    }
    blocks
}

/// Weights in the order in which the tiles read them: `[block][input][tap][channel of the block]`.
fn pack(blocks: &[Block], channels: Channels, taps: &Taps<'_, impl Fn(usize, usize, usize) -> f32>) -> Vec<f32> {
    let mut packed = Vec::with_capacity(channels.outputs * channels.inputs * taps.offsets.len());
    for block in blocks {
        for i in 0..channels.inputs {
            for t in 0..taps.offsets.len() {
                packed.extend((block.first..block.first + block.channels).map(|o| (taps.weight)(o, i, t)));
            }
        }
    }
    packed
}

/// One block of output channels over one task's positions.
struct Panel<'a> {
    /// `[inputs][taps][channels]`
    weights: *const f32,
    /// First position of the first input channel.
    from: *const f32,
    inputs: usize,
    plane: usize,
    offsets: &'a [usize],
    /// `[channels][pitch]`
    to: *mut f32,
    /// A multiple of 16.
    pitch: usize,
    /// Begin at zero instead of at what `to` holds.
    fresh: bool,
}

impl Panel<'_> {
    /// # Safety
    /// The processor has `isa`; `weights`, `from` at every input and offset for `pitch` values, and `to` are valid.
    unsafe fn compute(&self, isa: Isa, channels: usize) {
        // SAFETY: the caller's promise is passed on.
        unsafe {
            on_isa!(isa, self.portable(channels), self.avx2(channels), self.avx512(channels));
        }
    }

    unsafe fn portable(&self, channels: usize) {
        // SAFETY: the caller's promise is passed on; this unit is always there.
        unsafe {
            match channels {
                4 => self.sweep::<Portable, 4, 2>(),
                2 => self.sweep::<Portable, 2, 4>(),
                1 => self.sweep::<Portable, 1, 6>(),
                _ => unreachable!("blocks hold 1, 2 or 4 channels here"),
            }
        }
    }

    // 16 registers: 4 x 3 sums, 3 inputs and a weight.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(&self, channels: usize) {
        // SAFETY: the caller's promise is passed on; the unit is enabled here.
        unsafe {
            match channels {
                4 => self.sweep::<Avx2, 4, 3>(),
                2 => self.sweep::<Avx2, 2, 5>(),
                1 => self.sweep::<Avx2, 1, 8>(),
                _ => unreachable!("blocks hold 1, 2 or 4 channels here"),
            }
        }
    }

    // 32 registers: 8 x 3 sums, 3 inputs; the weight is broadcast from memory.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512(&self, channels: usize) {
        // SAFETY: the caller's promise is passed on; the unit is enabled here.
        unsafe {
            match channels {
                8 => self.sweep::<Avx512, 8, 3>(),
                4 => self.sweep::<Avx512, 4, 6>(),
                2 => self.sweep::<Avx512, 2, 8>(),
                1 => self.sweep::<Avx512, 1, 8>(),
                _ => unreachable!("blocks hold 1, 2, 4 or 8 channels here"),
            }
        }
    }

    #[inline(always)]
    unsafe fn sweep<S: Simd, const M: usize, const V: usize>(&self) {
        let mut q = 0;
        // SAFETY: `pitch` is a multiple of `LANES`, so tiles end at it at the latest.
        unsafe {
            while q + V * S::LANES <= self.pitch {
                self.tile::<S, M, V>(q);
                q += V * S::LANES;
            }
            while q + 2 * S::LANES <= self.pitch {
                self.tile::<S, M, 2>(q);
                q += 2 * S::LANES;
            }
            if q < self.pitch {
                self.tile::<S, M, 1>(q);
            }
        }
    }

    /// `M` output channels by `V` vectors of positions from `q` on.
    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const V: usize>(&self, q: usize) {
        // SAFETY: every address is one that the caller of `compute` vouched for: `q + V * LANES <= pitch`.
        unsafe {
            let mut sums = [[S::zero(); V]; M];
            if !self.fresh {
                for (m, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = S::load(self.to.add(m * self.pitch + q + v * S::LANES));
                    }
                }
            }
            let mut weights = self.weights;
            for i in 0..self.inputs {
                let channel = self.from.add(i * self.plane + q);
                for &offset in self.offsets {
                    let from = channel.add(offset);
                    let mut inputs = [S::zero(); V];
                    for (v, input) in inputs.iter_mut().enumerate() {
                        *input = S::load(from.add(v * S::LANES));
                    }
                    for (m, sums) in sums.iter_mut().enumerate() {
                        let weight = S::splat(*weights.add(m));
                        for (sum, input) in sums.iter_mut().zip(inputs) {
                            *sum = S::fma(weight, input, *sum);
                        }
                    }
                    weights = weights.add(M);
                }
            }
            for (m, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    S::store(self.to.add(m * self.pitch + q + v * S::LANES), *sum);
                }
            }
        }
    }
}

/// `weight[o, i, t] = sum over n and positions of grad[n, o, position] * canvas[n, i, position + offsets[t]]`, where
/// `grad` is a canvas with the same pitches and zeros between its rows ([`Canvas::matching`]).
///
/// The positions of all batch items are cut into segments by shape alone; each is summed front to back, then the
/// segments in order.
pub(crate) fn correlate(
    isa: Isa,
    canvas: &Canvas,
    grad: &Canvas,
    channels: Channels,
    positions: usize,
    offsets: &[usize],
) -> Vec<f32> {
    let Channels { batch, inputs, outputs } = channels;
    let columns = inputs * offsets.len();
    let mut weight = vec![0.0; outputs * columns];
    if weight.is_empty() {
        return weight;
    }
    let height = on_isa!(isa, 3, 4, 6);
    let strips = outputs.div_ceil(height);
    let passes = positions.div_ceil(SUMMED);
    let segments = 64_usize.div_ceil(strips).clamp(1, (batch * passes).max(1));
    let per_segment = (batch * passes).div_ceil(segments);
    // Where each column `input * taps + tap` begins, seen from the position.
    let starts: Vec<usize> =
        (0..inputs).flat_map(|i| offsets.iter().map(move |offset| i * canvas.plane + offset)).collect();
    let reach = starts.iter().copied().max().unwrap_or(0);

    let mut partial = vec![0.0; segments * strips * height * columns];
    let tasks = partial.par_chunks_exact_mut(height * columns).enumerate();
    tasks.for_each_init(Vec::new, |lanes: &mut Vec<f32>, (task, sums)| {
        let (segment, strip) = (task / strips, task % strips);
        let first = strip * height;
        let rows = height.min(outputs - first);
        let stretch = |pass: usize| {
            let (n, q) = (pass / passes, pass % passes * SUMMED);
            let len = SUMMED.min(positions - q).next_multiple_of(16);
            let from = n * inputs * canvas.plane + q;
            let at = (n * outputs + first) * grad.plane + q;
            let data = (canvas.data(), grad.data());
            assert!(from + reach + len <= data.0.len() && at + (rows - 1) * grad.plane + len <= data.1.len());
            Stretch { from: data.0[from..].as_ptr(), grad: data.1[at..].as_ptr(), len }
        };
        let stretches =
            (segment * per_segment..((segment + 1) * per_segment).min(batch * passes)).map(stretch).collect();
        lanes.clear();
        lanes.resize((columns + WIDEST) * rows * LANES, 0.0);
        let strip = Strip { stretches, starts: &starts, grad_plane: grad.plane };
        // SAFETY: the processor has the unit of `isa`; all reads were asserted to stay inside just above, for the farthest
        // column and the last row.
        unsafe { strip.compute(isa, rows, lanes, sums) };
    });
    for segment in partial.chunks_exact(strips * height * columns) {
        for (sum, part) in weight.iter_mut().zip(segment) {
            *sum += part;
        }
    }
    weight
}

/// Most columns of a tile, and most lanes of a vector.
const WIDEST: usize = 9;
const LANES: usize = 16;

/// A stretch of positions that are summed front to back.
struct Stretch {
    from: *const f32,
    grad: *const f32,
    /// A multiple of 16.
    len: usize,
}

/// A few output channels, summed over stretches into all columns.
struct Strip<'a> {
    stretches: Vec<Stretch>,
    starts: &'a [usize],
    grad_plane: usize,
}

impl Strip<'_> {
    /// - `lanes`: zeros, `(columns + WIDEST) * rows * LANES`
    ///
    /// # Safety
    /// The processor has `isa`; in every stretch `from` at every start and `grad` for `rows` planes are valid for `len` values.
    unsafe fn compute(&self, isa: Isa, rows: usize, lanes: &mut [f32], sums: &mut [f32]) {
        assert!(sums.len() >= rows * self.starts.len());
        assert!(lanes.len() >= (self.starts.len() + WIDEST) * rows * LANES);
        // SAFETY: the caller's promise is passed on.
        unsafe {
            on_isa!(
                isa,
                self.portable(rows, lanes, sums),
                self.avx2(rows, lanes, sums),
                self.avx512(rows, lanes, sums)
            );
        }
    }

    unsafe fn portable(&self, rows: usize, lanes: &mut [f32], sums: &mut [f32]) {
        // SAFETY: the caller's promise is passed on; this unit is always there.
        unsafe {
            match rows {
                3 => self.sweep::<Portable, 3, 3>(lanes, sums),
                2 => self.sweep::<Portable, 2, 3>(lanes, sums),
                _ => self.sweep::<Portable, 1, 9>(lanes, sums),
            }
        }
    }

    // 16 registers: 4 x 3 sums, 3 inputs and a gradient.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(&self, rows: usize, lanes: &mut [f32], sums: &mut [f32]) {
        // SAFETY: the caller's promise is passed on; the unit is enabled here.
        unsafe {
            match rows {
                4 => self.sweep::<Avx2, 4, 3>(lanes, sums),
                3 => self.sweep::<Avx2, 3, 3>(lanes, sums),
                2 => self.sweep::<Avx2, 2, 3>(lanes, sums),
                _ => self.sweep::<Avx2, 1, 9>(lanes, sums),
            }
        }
    }

    // 32 registers: 6 x 4 sums, 6 gradients and an input. Gradients lie on whole cache lines and inputs do not, so a tile of
    // many rows and few columns reads fewer lines.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512(&self, rows: usize, lanes: &mut [f32], sums: &mut [f32]) {
        // SAFETY: the caller's promise is passed on; the unit is enabled here.
        unsafe {
            match rows {
                6 => self.sweep::<Avx512, 6, 4>(lanes, sums),
                5 => self.sweep::<Avx512, 5, 5>(lanes, sums),
                4 => self.sweep::<Avx512, 4, 6>(lanes, sums),
                3 => self.sweep::<Avx512, 3, 9>(lanes, sums),
                2 => self.sweep::<Avx512, 2, 9>(lanes, sums),
                _ => self.sweep::<Avx512, 1, 9>(lanes, sums),
            }
        }
    }

    /// All stretches, then the sum of each vector's lanes.
    #[inline(always)]
    unsafe fn sweep<S: Simd, const M: usize, const T: usize>(&self, lanes: &mut [f32], sums: &mut [f32]) {
        let columns = self.starts.len();
        let tile = M * T * S::LANES;
        for stretch in &self.stretches {
            for (group, starts) in self.starts.chunks(T).enumerate() {
                // A short last group repeats its last column; the repeats are dropped.
                let inputs: [usize; T] = std::array::from_fn(|t| starts[t.min(starts.len() - 1)]);
                let kept = &mut lanes[group * tile..][..tile];
                // SAFETY: those are starts, `M` planes of the gradient were vouched for, and `kept` is a tile of vectors.
                unsafe { self.tile::<S, M, T>(stretch, inputs, kept.as_mut_ptr()) };
            }
        }
        for (group, starts) in self.starts.chunks(T).enumerate() {
            for m in 0..M {
                for t in 0..starts.len() {
                    let kept = &lanes[group * tile + (m * T + t) * S::LANES..][..S::LANES];
                    // SAFETY: a slice of as many values as a vector has lanes.
                    sums[m * columns + group * T + t] = unsafe { S::sum(S::load(kept.as_ptr())) };
                }
            }
        }
    }

    /// # Safety
    /// As [`Self::compute`], for these starts; `kept` is valid for `M * T` vectors.
    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const T: usize>(
        &self,
        stretch: &Stretch,
        starts: [usize; T],
        kept: *mut f32,
    ) {
        // SAFETY: every address is one that the caller of `compute` vouched for: `q + LANES <= len`.
        unsafe {
            let from: [*const f32; T] = std::array::from_fn(|t| stretch.from.add(starts[t]));
            let mut sums = [[S::zero(); T]; M];
            for (i, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                *sum = S::load(kept.add(i * S::LANES));
            }
            let mut q = 0;
            while q < stretch.len {
                let mut grads = [S::zero(); M];
                for (m, grad) in grads.iter_mut().enumerate() {
                    *grad = S::load(stretch.grad.add(m * self.grad_plane + q));
                }
                for t in 0..T {
                    let input = S::load(from[t].add(q));
                    for m in 0..M {
                        sums[m][t] = S::fma(grads[m], input, sums[m][t]);
                    }
                }
                q += S::LANES;
            }
            for (i, sum) in sums.as_flattened().iter().enumerate() {
                S::store(kept.add(i * S::LANES), *sum);
            }
        }
    }
}
