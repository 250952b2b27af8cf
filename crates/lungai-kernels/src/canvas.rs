//! Where a convolution reads from: the volume laid out so that every tap of the kernel is a constant shift.
//!
//! With stride 1 the volume gets one zero column before each row, one zero row before each slice and one zero slice
//! before each channel; what lies behind a row, slice or channel is the zero before the next one. With stride 2 the
//! padded volume is split by the parity of its three indices into eight such grids. In both cases
//! `out[q] = sum over taps of weight[tap] * canvas[q + offset(tap)]` for the flat position
//! `q = z * slice + y * row + x`; positions between rows are computed in passing and thrown away.
use rayon::prelude::*;

/// Longest vector plus the longest tile remainder, in values.
const OVERREAD: usize = 128;

/// A cache line: values begin on one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

pub(crate) struct Canvas {
    /// `channels * plane` values and a tail of zeros, so that every read of a tile stays inside.
    lines: Vec<Line>,
    /// Distance of two channels.
    pub(crate) plane: usize,
    /// Distance of two slices.
    pub(crate) slice: usize,
    /// Distance of two rows.
    pub(crate) row: usize,
}

impl Canvas {
    /// One zero on each side (kernel 3, stride 1).
    pub(crate) fn padded(x: &[f32], channels: usize, [d, h, w]: [usize; 3]) -> Self {
        let row = w + 1;
        let slice = (h + 1) * row;
        let mut canvas = Self::zeros(channels, (d + 1) * slice, slice, row);
        canvas.fill(x, [d, h, w], |plane, z, y, line| {
            plane[(z + 1) * slice + (y + 1) * row + 1..][..w].copy_from_slice(line);
        });
        canvas
    }

    /// One zero on each side, then split by parity (kernel 3, stride 2). Grid `4*pz + 2*py + px` starts at that
    /// multiple of `plane / 8`.
    pub(crate) fn split(x: &[f32], channels: usize, [d, h, w]: [usize; 3]) -> Self {
        let [od, oh, ow] = [d.div_ceil(2), h.div_ceil(2), w.div_ceil(2)];
        let row = ow + 1;
        let slice = (oh + 1) * row;
        let grid = (od + 1) * slice;
        let mut canvas = Self::zeros(channels, 8 * grid, slice, row);
        canvas.fill(x, [d, h, w], |plane, z, y, line| {
            let (z, y) = (z + 1, y + 1);
            let start = (4 * (z & 1) + 2 * (y & 1)) * grid + (z >> 1) * slice + (y >> 1) * row;
            // line[0] has the padded index 1, hence odd parity
            for (to, from) in plane[start + grid..].iter_mut().zip(line.iter().step_by(2)) {
                *to = *from;
            }
            for (to, from) in plane[start + 1..].iter_mut().zip(line.iter().skip(1).step_by(2)) {
                *to = *from;
            }
        });
        canvas
    }

    /// Every `stride`-th voxel, no padding (kernel 1).
    pub(crate) fn sampled(x: &[f32], channels: usize, [d, h, w]: [usize; 3], stride: usize) -> Self {
        let [od, oh, ow] = [d.div_ceil(stride), h.div_ceil(stride), w.div_ceil(stride)];
        // An odd number of cache lines: with 32^3 voxels all channels would fall into the same few cache sets.
        let plane = ((od * oh * ow).div_ceil(16) | 1) * 16;
        let mut canvas = Self::zeros(channels, plane, oh * ow, ow);
        canvas.fill(x, [d, h, w], |plane, z, y, line| {
            if z % stride == 0 && y % stride == 0 {
                let to = &mut plane[(z / stride * oh + y / stride) * ow..][..ow];
                if stride == 1 {
                    to.copy_from_slice(line);
                } else {
                    to.iter_mut().zip(line.iter().step_by(stride)).for_each(|(to, from)| *to = *from);
                }
            }
        });
        canvas
    }

    /// The volume at position 0 of the pitches of `like`, zeros between the rows: what the weight gradient multiplies
    /// with that canvas.
    pub(crate) fn matching(like: &Canvas, x: &[f32], channels: usize, [d, h, w]: [usize; 3]) -> Self {
        let (slice, row) = (like.slice, like.row);
        let mut canvas = Self::zeros(channels, (d * slice).next_multiple_of(16), slice, row);
        canvas.fill(x, [d, h, w], |plane, z, y, line| {
            plane[z * slice + y * row..][..w].copy_from_slice(line);
        });
        canvas
    }

    fn zeros(channels: usize, plane: usize, slice: usize, row: usize) -> Self {
        // A tap reaches at most two slices, two rows and two columns ahead, of which the plane holds one slice.
        let values = channels * plane + 2 * slice + 2 * row + OVERREAD;
        Self { lines: vec![Line([0.0; 16]); values.div_ceil(16)], plane, slice, row }
    }

    pub(crate) fn data(&self) -> &[f32] {
        // SAFETY: a `Line` is sixteen values and nothing else, and stricter aligned than they need.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), 16 * self.lines.len()) }
    }

    fn data_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above; the slice borrows `self` mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), 16 * self.lines.len()) }
    }

    fn fill(&mut self, x: &[f32], [d, h, w]: [usize; 3], put: impl Fn(&mut [f32], usize, usize, &[f32]) + Sync) {
        let plane = self.plane;
        let used = x.len() / (d * h * w) * plane;
        self.data_mut()[..used].par_chunks_exact_mut(plane).zip(x.par_chunks_exact(d * h * w)).for_each(
            |(plane, x)| {
                for (i, line) in x.chunks_exact(w).enumerate() {
                    put(plane, i / h, i % h, line);
                }
            },
        );
    }
}
