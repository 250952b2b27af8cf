//! Values of a patch at the places that a row of the transformed patch comes from.
//!
//! Along a row the place moves by a constant step, plus the elastic displacement. Rows are worked on in bunches of
//! [`BUNCH`] voxels: where a whole bunch lies inside, nothing is clamped; where it lies outside, it is filled.

use super::elastic::Rows;

/// Voxels worked on together.
const BUNCH: usize = 16;

/// Where each voxel of the transformed patch comes from, in voxels of the patch.
pub(super) struct Source {
    pub size: [usize; 3],
    /// Of voxel `[0, 0, 0]`, without displacement.
    pub first: [f64; 3],
    /// Change per voxel along z, y and x.
    pub steps: [[f64; 3]; 3],
    /// Displacements.
    pub rows: Option<Rows>,
}

/// Space for one thread's work.
#[derive(Default)]
pub(super) struct Scratch {
    slice: Vec<f32>,
    line: Vec<f32>,
    z: Vec<f32>,
    y: Vec<f32>,
    x: Vec<f32>,
}

/// A patch, row after row.
#[derive(Clone, Copy)]
pub(super) struct Voxels<'a, T> {
    values: &'a [T],
    size: [usize; 3],
    outside: T,
}

impl<'a, T: Copy> Voxels<'a, T> {
    /// # Panics
    /// If `values` are not as many as `size` says, or more than 32 bits can count.
    pub fn new(values: &'a [T], size: [usize; 3], outside: T) -> Self {
        assert_eq!(values.len(), size.iter().product::<usize>());
        assert!(values.len() <= i32::MAX as usize, "a patch has at most 2^31 voxels");
        Self { values, size, outside }
    }
}

impl Source {
    /// Fills slice `z` of the transformed patch, `[y, x]`, from `sample(places, row)`.
    pub fn slice<T>(&self, z: usize, out: &mut [T], scratch: &mut Scratch, sample: impl Fn([&[f32]; 3], &mut [T])) {
        let nx = self.size[2];
        let Scratch { slice, line, z: at_z, y: at_y, x: at_x } = scratch;
        if let Some(rows) = &self.rows {
            rows.slice(z, slice);
        }
        for (y, row) in out.chunks_exact_mut(nx).enumerate() {
            for (axis, places) in [&mut *at_z, &mut *at_y, &mut *at_x].into_iter().enumerate() {
                let start = self.first[axis] + self.steps[0][axis] * z as f64 + self.steps[1][axis] * y as f64;
                let (start, step) = (start as f32, self.steps[2][axis] as f32);
                places.clear();
                // Multiplied, not summed up: rounding must not grow along the row.
                places.extend((0..nx as i32).map(|x| start + step * x as f32));
            }
            if let Some(rows) = &self.rows {
                rows.add(slice, y, line, [at_z, at_y, at_x]);
            }
            sample([at_z, at_y, at_x], row);
        }
    }
}

/// Trilinear. Up to half a voxel beyond the outermost voxel centres the border's values hold, then `outside`.
pub(super) fn trilinear(from: Voxels<'_, f32>, places: [&[f32]; 3], out: &mut [f32]) {
    let [_, ny, nx] = from.size;
    let plane = ny * nx;
    let one = |[z, y, x]: [f32; 3]| trilinear_at(from, [z, y, x]);
    bunches(from, places, out, 0.0, 1.0, one, |[z, y, x], out| {
        let (mut at, mut part) = ([0u32; BUNCH], [[0f32; BUNCH]; 3]);
        for k in 0..BUNCH {
            let (iz, iy, ix) = (z[k] as i32, y[k] as i32, x[k] as i32);
            part[0][k] = z[k] - iz as f32;
            part[1][k] = y[k] - iy as f32;
            part[2][k] = x[k] - ix as f32;
            at[k] = iz.wrapping_mul(ny as i32).wrapping_add(iy).wrapping_mul(nx as i32).wrapping_add(ix) as u32;
        }
        let mut corners = [[0f32; BUNCH]; 8];
        for k in 0..BUNCH {
            let cube = &from.values[at[k] as usize..];
            let lower = &cube[..nx + 2];
            let upper = &cube[plane..plane + nx + 2];
            corners[0][k] = lower[0];
            corners[1][k] = lower[1];
            corners[2][k] = lower[nx];
            corners[3][k] = lower[nx + 1];
            corners[4][k] = upper[0];
            corners[5][k] = upper[1];
            corners[6][k] = upper[nx];
            corners[7][k] = upper[nx + 1];
        }
        for k in 0..BUNCH {
            let [tz, ty, tx] = [part[0][k], part[1][k], part[2][k]];
            let row = |i: usize| mix(corners[i][k], corners[i + 1][k], tx);
            out[k] = mix(mix(row(0), row(2), ty), mix(row(4), row(6), ty), tz);
        }
    });
}

#[inline(always)]
fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

fn trilinear_at(from: Voxels<'_, f32>, at: [f32; 3]) -> f32 {
    let (mut low, mut high, mut part) = ([0; 3], [0; 3], [0f32; 3]);
    for i in 0..3 {
        let last = from.size[i] - 1;
        if !(at[i] >= -0.5 && at[i] <= last as f32 + 0.5) {
            return from.outside;
        }
        let inside = at[i].clamp(0.0, last as f32);
        low[i] = inside as usize;
        high[i] = (low[i] + 1).min(last);
        part[i] = inside - low[i] as f32;
    }
    let value = |z: usize, y: usize, x: usize| from.values[(z * from.size[1] + y) * from.size[2] + x];
    let row = |z: usize, y: usize| mix(value(z, y, low[2]), value(z, y, high[2]), part[2]);
    let plane = |z: usize| mix(row(z, low[1]), row(z, high[1]), part[1]);
    mix(plane(low[0]), plane(high[0]), part[0])
}

/// Nearest voxel.
pub(super) fn nearest(from: Voxels<'_, u8>, places: [&[f32]; 3], out: &mut [u8]) {
    let [_, ny, nx] = from.size;
    let one = |at: [f32; 3]| {
        let mut index = 0;
        for (n, at) in from.size.into_iter().zip(at) {
            if !(at >= -0.5 && at < n as f32 - 0.5) {
                return from.outside;
            }
            index = index * n + ((at + 0.5) as usize).min(n - 1);
        }
        from.values[index]
    };
    // A little less than half a voxel: the sum `place + 0.5` may round up.
    bunches(from, places, out, -0.5, 0.6, one, |[z, y, x], out| {
        let mut at = [0u32; BUNCH];
        for k in 0..BUNCH {
            let (iz, iy, ix) = ((z[k] + 0.5) as i32, (y[k] + 0.5) as i32, (x[k] + 0.5) as i32);
            at[k] = iz.wrapping_mul(ny as i32).wrapping_add(iy).wrapping_mul(nx as i32).wrapping_add(ix) as u32;
        }
        for k in 0..BUNCH {
            out[k] = from.values[at[k] as usize];
        }
    });
}

/// `inside` for bunches whose places all lie in `least..n - margin` along each axis, `one` for the rest.
#[inline(always)]
fn bunches<T: Copy>(
    from: Voxels<'_, T>,
    [z, y, x]: [&[f32]; 3],
    out: &mut [T],
    least: f32,
    margin: f32,
    one: impl Fn([f32; 3]) -> T,
    inside: impl Fn([&[f32; BUNCH]; 3], &mut [T; BUNCH]),
) {
    let whole = out.len() / BUNCH * BUNCH;
    for start in (0..whole).step_by(BUNCH) {
        let bunch =
            |places: &'_ [f32]| -> [f32; BUNCH] { places[start..start + BUNCH].try_into().expect("a bunch was cut") };
        let places = [bunch(z), bunch(y), bunch(x)];
        let out: &mut [T; BUNCH] = (&mut out[start..start + BUNCH]).try_into().expect("a bunch was cut");
        let (mut within, mut beyond) = (true, false);
        for (places, n) in places.iter().zip(from.size) {
            let (mut low, mut high) = (places[0], places[0]);
            for v in places {
                low = if *v < low { *v } else { low };
                high = if *v > high { *v } else { high };
            }
            within &= low >= least && high < n as f32 - margin;
            beyond |= high < -0.5 || low > n as f32 - 0.5;
        }
        if within {
            inside(places.each_ref(), out);
        } else if beyond {
            out.fill(from.outside);
        } else {
            for k in 0..BUNCH {
                out[k] = one([places[0][k], places[1][k], places[2][k]]);
            }
        }
    }
    for k in whole..out.len() {
        out[k] = one([z[k], y[k], x[k]]);
    }
}
