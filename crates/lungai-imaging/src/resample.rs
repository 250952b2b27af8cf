//! The same patient on another grid.
//!
//! Where the axes of both grids are parallel (also swapped or mirrored), interpolation is separable: each
//! axis has its own short list of source voxels and weights, and one output slice at a time is blended from
//! source slices, then rows, then columns. Oblique grids first shrink along the source's own axes where the
//! target is coarser, then interpolate point by point.

use crate::spline;
use lungai_ct::{AIR_HU, Geometry, LabelMap, Spacing, Volume, VoxelPoint, WorldPoint};
use lungai_trace::implements;
use ndarray::{Array3, ArrayView3, Zip};
use pulp::Arch;
use rayon::prelude::*;

/// How a value between voxel centres is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest voxel's; halfway the later one's.
    Nearest,
    /// Trilinear.
    Linear,
    /// Cubic B-spline through the voxels (Unser 1999), mirrored at the borders: SciPy's `order=3`, SimpleITK's
    /// `sitkBSpline3`.
    Cubic,
}

/// HU of `volume` on the grid `target`: linear interpolation, antialiased; see [`resample_as`].
pub fn resample(volume: &Volume, target: &Geometry) -> Volume {
    resample_as(volume, target, Interpolation::Linear, true)
}

/// HU of `volume` on the grid `target`: [`AIR_HU`] outside of the source's outer voxel edges, rounded half up.
///
/// With `antialias` the interpolation kernel is widened to the target's spacing along each axis that shrinks (as in Pillow
/// and torch's `antialias=True`), so that thin vessels fade instead of flicker; the nearest voxel has no kernel to widen.
/// Without, the source is read at the target's voxel centres alone, as SimpleITK and SciPy do.
#[implements("FR-002", "SW-201")]
pub fn resample_as(volume: &Volume, target: &Geometry, interpolation: Interpolation, antialias: bool) -> Volume {
    if volume.geometry() == target {
        return volume.clone();
    }
    let hu = match interpolation {
        Interpolation::Cubic => {
            let coefficients = spline::coefficients(volume.hu());
            on_grid(coefficients.view(), volume.geometry(), target, Kernel::Spline, antialias)
        }
        Interpolation::Linear => on_grid(volume.hu(), volume.geometry(), target, Kernel::Triangle, antialias),
        Interpolation::Nearest => nearest(volume.hu(), volume.geometry(), target, AIR_HU),
    };
    Volume::new(hu, target.clone()).expect("the array was made in the target's size")
}

/// What weighs the source's voxels around a point.
#[derive(Clone, Copy)]
enum Kernel {
    /// Linear interpolation of HU.
    Triangle,
    /// Cubic interpolation, of the spline's coefficients.
    Spline,
}

/// Weighted HU or coefficients, rounded.
fn on_grid<S: Copy + Into<f32> + Send + Sync>(
    values: ArrayView3<'_, S>,
    source: &Geometry,
    target: &Geometry,
    kernel: Kernel,
    antialias: bool,
) -> Array3<i16> {
    let round = |v: f32| (v + 0.5).floor().clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16;
    let map = AffineMap::between(target, source);
    if let Some(axes) = map.axes() {
        let values = aligned(values, axes.map(|a| a.source));
        let taps = std::array::from_fn(|i| {
            Taps::new(values.shape()[i], target.size()[i], axes[i].offset, axes[i].step, kernel, antialias)
        });
        return separable(values.view(), &taps, round);
    }
    match coarser(source, target).filter(|_| antialias) {
        Some(grid) => {
            // Shrunk along its own axes the source is smooth at the target's scale: linear interpolation does.
            let shrunk = on_grid(values, source, &grid, kernel, true);
            let map = AffineMap::between(target, &grid);
            oblique(target.size(), &map, AIR_HU, |at| round(interpolated(shrunk.view(), at, Kernel::Triangle)))
        }
        None => oblique(target.size(), &map, AIR_HU, |at| round(interpolated(values, at, kernel))),
    }
}

/// Labels of `map` on the grid `target`: nearest voxel, 0 outside of the source's outer voxel edges.
#[implements("FR-002")]
pub fn resample_labels(map: &LabelMap, target: &Geometry) -> LabelMap {
    if map.geometry() == target {
        return map.clone();
    }
    let labels = nearest(map.labels(), map.geometry(), target, 0);
    LabelMap::new(labels, target.clone()).expect("the array was made in the target's size")
}

/// The nearest voxel's value; halfway between two (within rounding) the later one's.
fn nearest<T: Copy + Send + Sync>(
    values: ArrayView3<'_, T>,
    source: &Geometry,
    target: &Geometry,
    outside: T,
) -> Array3<T> {
    let map = AffineMap::between(target, source);
    let index = |at: f64, len: usize| {
        let i = (at + 0.5 + 1e-9).floor();
        (i >= 0.0 && (i < len as f64 || at <= len as f64 - 0.5 + 1e-9)).then_some((i as usize).min(len - 1))
    };
    let Some(axes) = map.axes() else {
        let size = source.size();
        return oblique(target.size(), &map, outside, |at| {
            let [Some(z), Some(y), Some(x)] = std::array::from_fn(|i| index(at[i], size[i])) else { return outside };
            values[[z, y, x]]
        });
    };
    let values = aligned(values, axes.map(|a| a.source));
    let at: [Vec<Option<usize>>; 3] =
        std::array::from_fn(|i| (0..target.size()[i]).map(|t| index(axes[i].at(t), values.shape()[i])).collect());
    let mut out = Array3::from_elem(target.size(), outside);
    let used = |x: &usize| at[2][*x].is_some();
    let columns = at[2].len();
    let from = (0..columns).find(used).unwrap_or(columns);
    let to = (from..columns).rev().find(used).map_or(from, |last| last + 1);
    let source_x: Vec<usize> = at[2][from..to].iter().flatten().copied().collect();
    each_slice(&mut out, |z, slice| {
        let Some(sz) = at[0][z] else { return };
        for (y, row) in slice.chunks_exact_mut(columns).enumerate() {
            let Some(sy) = at[1][y] else { continue };
            let source_row = values.slice(ndarray::s![sz, sy, ..]);
            match source_row.to_slice() {
                Some(line) => row[from..to].iter_mut().zip(&source_x).for_each(|(voxel, sx)| *voxel = line[*sx]),
                None => row[from..to].iter_mut().zip(&source_x).for_each(|(voxel, sx)| *voxel = source_row[*sx]),
            }
        }
    });
    out
}

/// HU of a box around `centre`: axes along the volume's own, isotropic `spacing_mm`, `size` voxels `[z, y, x]`,
/// `centre` exactly in the middle (at voxel `(size - 1) / 2`), linear with antialiasing, [`AIR_HU`] outside.
///
/// # Panics
/// If `size` has an empty axis or `spacing_mm` is not finite and positive.
#[implements("FR-002")]
pub fn patch(volume: &Volume, centre: WorldPoint, size: [usize; 3], spacing_mm: f64) -> Array3<f32> {
    let grid = patch_geometry(volume.geometry(), centre, size, spacing_mm);
    let map = AffineMap::between(&grid, volume.geometry());
    let axes = map.axes().expect("a patch lies along the volume's own axes");
    let taps = std::array::from_fn(|i| {
        let len = volume.geometry().size()[i];
        Taps::new(len, size[i], axes[i].offset, axes[i].step, Kernel::Triangle, true)
    });
    separable(volume.hu(), &taps, |v| v)
}

/// The grid of [`patch`]: where its voxels are in the patient.
///
/// # Panics
/// If `size` has an empty axis or `spacing_mm` is not finite and positive.
pub fn patch_geometry(source: &Geometry, centre: WorldPoint, size: [usize; 3], spacing_mm: f64) -> Geometry {
    let spacing = Spacing::new([spacing_mm; 3]).expect("a patch has a finite, positive spacing");
    let direction = source.direction();
    let at_centre = Geometry::new(size, spacing, centre, direction).expect("a patch has voxels and a finite centre");
    let first = at_centre.to_world(VoxelPoint(size.map(|n| -0.5 * (n as f64 - 1.0))));
    Geometry::new(size, spacing, first, direction).expect("only the origin moved")
}

/// HU clipped to `window` (low, high) and scaled to `-1..=1`.
pub fn normalise(hu: f32, window: (f32, f32)) -> f32 {
    let (low, high) = window;
    2.0 * (hu.clamp(low, high) - low) / (high - low) - 1.0
}

/// [`normalise`] of every voxel.
pub fn normalise_all(hu: ArrayView3<'_, i16>, window: (f32, f32)) -> Array3<f32> {
    let (low, high) = window;
    let scale = 2.0 / (high - low);
    Zip::from(hu).par_map_collect(|hu| scale * (f32::from(*hu).clamp(low, high) - low) - 1.0)
}

/// Source voxel position of a target voxel: `offset + matrix * index`.
struct AffineMap {
    offset: [f64; 3],
    /// `matrix[source axis][target axis]`.
    matrix: [[f64; 3]; 3],
    target_size: [usize; 3],
}

/// One target axis of a separable map: source position = `offset + step * index` along axis `source`.
#[derive(Clone, Copy)]
struct AxisMap {
    source: usize,
    offset: f64,
    step: f64,
}

impl AxisMap {
    fn at(self, index: usize) -> f64 {
        self.offset + self.step * index as f64
    }
}

impl AffineMap {
    fn between(target: &Geometry, source: &Geometry) -> Self {
        let at = |p: [f64; 3]| source.to_voxel(target.to_world(VoxelPoint(p))).0;
        let offset = at([0.0; 3]);
        let mut matrix = [[0.0; 3]; 3];
        for axis in 0..3 {
            let mut unit = [0.0; 3];
            unit[axis] = 1.0;
            let one = at(unit);
            for (row, (to, from)) in matrix.iter_mut().zip(one.iter().zip(offset)) {
                row[axis] = to - from;
            }
        }
        Self { offset, matrix, target_size: target.size() }
    }

    /// The map axis by axis, if no voxel is off by more than 1/1000 of a source voxel.
    fn axes(&self) -> Option<[AxisMap; 3]> {
        let mut taken = [false; 3];
        let mut axes = [AxisMap { source: 0, offset: 0.0, step: 0.0 }; 3];
        for (target, axis) in axes.iter_mut().enumerate() {
            let strongest =
                (0..3).max_by(|a, b| self.matrix[*a][target].abs().total_cmp(&self.matrix[*b][target].abs()))?;
            if std::mem::replace(&mut taken[strongest], true) {
                return None;
            }
            let drift = (0..3)
                .filter(|source| *source != strongest)
                .map(|source| self.matrix[source][target].abs() * self.target_size[target] as f64)
                .fold(0.0, f64::max);
            if drift > 1e-3 {
                return None;
            }
            *axis = AxisMap { source: strongest, offset: self.offset[strongest], step: self.matrix[strongest][target] };
        }
        Some(axes)
    }
}

/// Per output voxel along one axis: the first source voxel and the weights from there on; none outside.
struct Taps {
    first: Vec<usize>,
    /// `first.len() + 1` positions in `weights`.
    start: Vec<usize>,
    weights: Vec<f32>,
}

impl Taps {
    fn new(source_len: usize, target_len: usize, offset: f64, step: f64, kernel: Kernel, antialias: bool) -> Self {
        let width = if antialias { step.abs().max(1.0) } else { 1.0 };
        let mut taps = Self { first: Vec::with_capacity(target_len), start: vec![0], weights: Vec::new() };
        let last = source_len as f64 - 1.0;
        let mut weights = Vec::new();
        for index in 0..target_len {
            let at = offset + step * index as f64;
            // A hair of tolerance: positions on the outer edge are the rule after `Geometry::respaced`.
            if at < -0.5 - 1e-9 || at > last + 0.5 + 1e-9 {
                taps.first.push(0);
            } else {
                let first = match kernel {
                    Kernel::Triangle => linear_weights(at.clamp(0.0, last), width, last, &mut weights),
                    Kernel::Spline => cubic_weights(at, width, last, &mut weights),
                };
                let skip = weights.iter().take_while(|w| **w == 0.0).count();
                while weights.last() == Some(&0.0) {
                    weights.pop();
                }
                let sum: f64 = weights.iter().sum();
                taps.first.push(first as usize + skip);
                taps.weights.extend(weights[skip..].iter().map(|w| (w / sum) as f32));
            }
            taps.start.push(taps.weights.len());
        }
        taps
    }

    fn at(&self, index: usize) -> (usize, &[f32]) {
        (self.first[index], &self.weights[self.start[index]..self.start[index + 1]])
    }

    /// The source voxels that any output voxel needs.
    fn reach(&self) -> std::ops::Range<usize> {
        let used = || (0..self.first.len()).map(|i| self.at(i)).filter(|(_, w)| !w.is_empty());
        let from = used().map(|(first, _)| first).min().unwrap_or(0);
        let to = used().map(|(first, w)| first + w.len()).max().unwrap_or(0);
        from..to
    }
}

/// A triangle of half width `width`; gives the first voxel.
fn linear_weights(at: f64, width: f64, last: f64, weights: &mut Vec<f64>) -> f64 {
    let from = (at - width).ceil().max(0.0);
    let to = (at + width).floor().min(last);
    weights.clear();
    weights.extend((0..=(to - from) as usize).map(|k| (1.0 - (from + k as f64 - at).abs() / width).max(0.0)));
    from
}

/// A cubic B-spline of half width `2 width`, what reaches beyond the borders mirrored back; gives the first voxel.
fn cubic_weights(at: f64, width: f64, last: f64, weights: &mut Vec<f64>) -> f64 {
    let (from, to) = ((at - 2.0 * width).ceil() as i64, (at + 2.0 * width).floor() as i64);
    let mirrored = |i: i64| spline::mirror(i, last as i64 + 1);
    let reach = || (from..=to).map(mirrored);
    let (low, high) = (reach().min().unwrap_or(0), reach().max().unwrap_or(0));
    weights.clear();
    weights.resize((high - low + 1) as usize, 0.0);
    for i in from..=to {
        weights[(mirrored(i) - low) as usize] += spline::kernel((i as f64 - at) / width);
    }
    low as f64
}

/// `out = cast(sum of weights * source)`, the axes one after the other; each output slice is a task.
fn separable<S: Copy + Into<f32> + Send + Sync, T: Copy + Send + Sync>(
    source: ArrayView3<'_, S>,
    [tz, ty, tx]: &[Taps; 3],
    cast: impl Fn(f32) -> T + Sync,
) -> Array3<T> {
    let (nz, ny, nx) = (tz.first.len(), ty.first.len(), tx.first.len());
    let mut out = Array3::from_elem((nz, ny, nx), cast(f32::from(AIR_HU)));
    let (rows, columns) = (ty.reach(), tx.reach());
    let width = columns.len();
    if width == 0 || rows.is_empty() {
        return out;
    }
    let along_x = Row::new(tx, columns.start);
    let arch = Arch::new();
    let slices = out.as_slice_mut().expect("made in standard layout").par_chunks_mut(ny * nx).enumerate();
    let scratch = || (vec![0f32; rows.len() * width], vec![0f32; width], vec![0f32; nx]);
    slices.for_each_init(scratch, |(plane, line, row), (z, slice)| {
        let (first_z, weights_z) = tz.at(z);
        if weights_z.is_empty() {
            return;
        }
        arch.dispatch(|| {
            for (k, wz) in weights_z.iter().enumerate() {
                for (sums, y) in plane.chunks_exact_mut(width).zip(rows.clone()) {
                    let source_row = source.slice(ndarray::s![first_z + k, y, columns.clone()]);
                    match source_row.to_slice() {
                        Some(values) if k == 0 => weigh(sums, values, *wz),
                        Some(values) => add_weighed(sums, values, *wz),
                        None => sums.iter_mut().zip(source_row).for_each(|(sum, v)| {
                            *sum = if k == 0 { 0.0 } else { *sum } + wz * (*v).into();
                        }),
                    }
                }
            }
            for (y, out_row) in slice.chunks_exact_mut(nx).enumerate() {
                let (first_y, weights_y) = ty.at(y);
                if weights_y.is_empty() {
                    continue;
                }
                for (k, wy) in weights_y.iter().enumerate() {
                    let at = (first_y + k - rows.start) * width;
                    let values = &plane[at..at + width];
                    if k == 0 { weigh(line, values, *wy) } else { add_weighed(line, values, *wy) }
                }
                let inside = along_x.blend(line, row);
                let blended = &row[inside.clone()];
                out_row[inside].iter_mut().zip(blended).for_each(|(voxel, v)| *voxel = cast(*v));
            }
        });
    });
    out
}

#[inline(always)]
fn weigh<S: Copy + Into<f32>>(sums: &mut [f32], values: &[S], weight: f32) {
    sums.iter_mut().zip(values).for_each(|(sum, v)| *sum = weight * (*v).into());
}

#[inline(always)]
fn add_weighed<S: Copy + Into<f32>>(sums: &mut [f32], values: &[S], weight: f32) {
    sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += weight * (*v).into());
}

/// [`Taps`] along a row: the same number for every voxel, so that the loop over them has no branches.
struct Row {
    /// Output voxels that have a source; outside of it is air.
    inside: std::ops::Range<usize>,
    taps: usize,
    /// First source column of each voxel inside, counted from the first column that is needed.
    first: Vec<u32>,
    /// `taps` weights of each voxel inside, the last ones zero where it needs fewer.
    weights: Vec<f32>,
}

impl Row {
    fn new(taps: &Taps, start: usize) -> Self {
        let used = |i: &usize| !taps.at(*i).1.is_empty();
        let from = (0..taps.first.len()).find(used).unwrap_or(0);
        let to = (0..taps.first.len()).rev().find(used).map_or(from, |last| last + 1);
        let most = (from..to).map(|i| taps.at(i).1.len()).max().unwrap_or(1);
        let width = taps.reach().len();
        let (mut first, mut weights) = (Vec::new(), Vec::new());
        for i in from..to {
            let (at, own) = taps.at(i);
            // Near the end the window starts earlier, with zeros in front.
            let at = at - start;
            let begins = at.min(width.saturating_sub(most));
            first.push(begins as u32);
            let lead = at - begins;
            weights.extend((0..most).map(|k| if k < lead { 0.0 } else { own.get(k - lead).copied().unwrap_or(0.0) }));
        }
        Self { inside: from..to, taps: most, first, weights }
    }

    /// Blends `line` into the voxels inside of `row`, and says which those are.
    #[inline(always)]
    fn blend(&self, line: &[f32], row: &mut [f32]) -> std::ops::Range<usize> {
        let out = &mut row[self.inside.clone()];
        match self.taps {
            1 => self.blend_of::<1>(line, out),
            2 => self.blend_of::<2>(line, out),
            3 => self.blend_of::<3>(line, out),
            4 => self.blend_of::<4>(line, out),
            taps => {
                for ((voxel, first), weights) in out.iter_mut().zip(&self.first).zip(self.weights.chunks_exact(taps)) {
                    let values = &line[*first as usize..][..taps];
                    *voxel = weights.iter().zip(values).map(|(w, v)| w * v).sum();
                }
            }
        }
        self.inside.clone()
    }

    #[inline(always)]
    fn blend_of<const N: usize>(&self, line: &[f32], out: &mut [f32]) {
        let weights = self.weights.as_chunks::<N>().0;
        for ((voxel, first), weights) in out.iter_mut().zip(&self.first).zip(weights) {
            let values = &line[*first as usize..][..N];
            *voxel = (0..N).map(|k| weights[k] * values[k]).sum();
        }
    }
}

fn each_slice<T: Send>(array: &mut Array3<T>, work: impl Fn(usize, &mut [T]) + Sync) {
    let (_, ny, nx) = array.dim();
    let voxels = array.as_slice_mut().expect("made in standard layout");
    if ny * nx > 0 {
        voxels.par_chunks_mut(ny * nx).enumerate().for_each(|(z, slice)| work(z, slice));
    }
}

fn oblique<T: Clone + Send>(
    size: [usize; 3],
    map: &AffineMap,
    outside: T,
    sample: impl Fn([f64; 3]) -> T + Sync,
) -> Array3<T> {
    let mut out = Array3::from_elem(size, outside);
    each_slice(&mut out, |z, slice| {
        for (y, row) in slice.chunks_exact_mut(size[2]).enumerate() {
            for (x, voxel) in row.iter_mut().enumerate() {
                *voxel = sample(std::array::from_fn(|i| {
                    let [mz, my, mx] = map.matrix[i];
                    map.offset[i] + mz * z as f64 + my * y as f64 + mx * x as f64
                }));
            }
        }
    });
    out
}

/// The value at a point between voxel centres, [`AIR_HU`] beyond the outer voxel edges.
fn interpolated<S: Copy + Into<f32>>(values: ArrayView3<'_, S>, at: [f64; 3], kernel: Kernel) -> f32 {
    let taps: [Option<(usize, [f32; 4], usize)>; 3] = std::array::from_fn(|axis| {
        let (at, len) = (at[axis], values.shape()[axis]);
        let last = len as f64 - 1.0;
        if at < -0.5 || at > last + 0.5 {
            return None;
        }
        Some(match kernel {
            Kernel::Triangle => {
                let inside = at.clamp(0.0, last);
                let part = (inside - inside.floor()) as f32;
                (inside.floor() as usize, [1.0 - part, part, 0.0, 0.0], if part > 0.0 { 2 } else { 1 })
            }
            Kernel::Spline => {
                let first = at.floor() as i64 - 1;
                let inner = (0..4).all(|k| (0..len as i64).contains(&(first + k)));
                let weights = std::array::from_fn(|k| spline::kernel((first + k as i64) as f64 - at) as f32);
                if inner { (first as usize, weights, 4) } else { spline::folded(first, weights, len) }
            }
        })
    });
    let [Some(z), Some(y), Some(x)] = taps else { return f32::from(AIR_HU) };
    let mut sum = 0.0;
    for (k, wz) in z.1[..z.2].iter().enumerate() {
        for (j, wy) in y.1[..y.2].iter().enumerate() {
            for (i, wx) in x.1[..x.2].iter().enumerate() {
                sum += wz * wy * wx * values[[z.0 + k, y.0 + j, x.0 + i]].into();
            }
        }
    }
    sum
}

/// The array with its axes in the target's order, in standard layout.
fn aligned<T: Copy>(source: ArrayView3<'_, T>, axes: [usize; 3]) -> ndarray::CowArray<'_, T, ndarray::Ix3> {
    if axes == [0, 1, 2] { source.into() } else { source.permuted_axes(axes).as_standard_layout().into_owned().into() }
}

/// The source's grid with the spacing of an oblique, coarser target along each source axis, if any is coarser.
fn coarser(source: &Geometry, target: &Geometry) -> Option<Geometry> {
    let from = source.spacing().zyx_mm();
    let step = target.spacing().zyx_mm();
    // Directions are listed for the x-, y- and z-index; spacings for z, y, x.
    let mut wanted = from;
    for (i, own) in source.direction().iter().enumerate() {
        for (j, other) in target.direction().iter().enumerate() {
            let cosine: f64 = own.iter().zip(other).map(|(a, b)| a * b).sum();
            wanted[2 - i] = wanted[2 - i].max(cosine.abs() * step[2 - j]);
        }
    }
    let worth = wanted.iter().zip(from).any(|(w, f)| *w > 1.05 * f);
    worth.then(|| source.respaced(Spacing::new(wanted).expect("no smaller than the source's spacing")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::{Limit, measured, verifies};

    fn grid(size: [usize; 3], spacing: [f64; 3], origin: [f64; 3]) -> Geometry {
        Geometry::new(size, Spacing::new(spacing).unwrap(), WorldPoint(origin), Geometry::AXIAL).unwrap()
    }

    /// HU that grows by `slope` per mm along patient x, y, z: linear interpolation is exact for it.
    fn ramp(geometry: &Geometry, slope: [f64; 3]) -> Volume {
        let hu = Array3::from_shape_fn(geometry.size(), |(z, y, x)| {
            let p = geometry.to_world(VoxelPoint([z as f64, y as f64, x as f64])).0;
            (slope[0] * p[0] + slope[1] * p[1] + slope[2] * p[2]).round() as i16
        });
        Volume::new(hu, geometry.clone()).unwrap()
    }

    /// The worst deviation in HU.
    fn check_ramp(out: &Volume, slope: [f64; 3], margin: usize, tolerance: f64) -> f64 {
        let [nz, ny, nx] = out.geometry().size();
        let mut seen = 0;
        let mut worst: f64 = 0.0;
        for ((z, y, x), hu) in out.hu().indexed_iter() {
            let inner = |i: usize, n: usize| i >= margin && i + margin < n;
            if inner(z, nz) && inner(y, ny) && inner(x, nx) {
                let p = out.geometry().to_world(VoxelPoint([z as f64, y as f64, x as f64])).0;
                let want = slope[0] * p[0] + slope[1] * p[1] + slope[2] * p[2];
                assert!((f64::from(*hu) - want).abs() <= tolerance, "{hu} instead of {want} at {z} {y} {x}");
                worst = worst.max((f64::from(*hu) - want).abs());
                seen += 1;
            }
        }
        assert!(seen > 0);
        worst
    }

    #[verifies("FR-002", "SW-201")]
    #[test]
    fn a_ramp_keeps_its_value_in_the_patient_on_any_spacing() {
        let slope = [3.0, -5.0, 7.0];
        let source = ramp(&grid([20, 24, 28], [2.5, 0.7, 0.9], [-11.0, 4.0, 30.0]), slope);
        let mut worst: f64 = 0.0;
        for spacing in [[1.0; 3], [2.0; 3], [3.5, 0.3, 1.1]] {
            let target = source.geometry().respaced(Spacing::new(spacing).unwrap());
            worst = worst.max(check_ramp(&resample(&source, &target), slope, 3, 1.5));
        }
        assert!(measured("resampling.ramp_error_hu", worst, Limit::AtMost(1.5)));
    }

    #[test]
    fn mirrored_and_swapped_axes_are_the_same_patient() {
        let slope = [3.0, -5.0, 7.0];
        let source = ramp(&grid([20, 24, 28], [1.5, 1.0, 2.0], [-11.0, 4.0, 30.0]), slope);
        // x-index runs towards the feet, y-index to the right, z-index forwards: a sagittal-like storage.
        let direction = [[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]];
        let target =
            Geometry::new([9, 15, 12], Spacing::new([2.0; 3]).unwrap(), WorldPoint([30.0, 24.0, 56.0]), direction)
                .unwrap();
        check_ramp(&resample(&source, &target), slope, 1, 1.0);
    }

    #[test]
    fn an_oblique_grid_reads_the_same_patient() {
        let slope = [3.0, -5.0, 7.0];
        let source = ramp(&grid([40, 40, 40], [1.0, 1.0, 1.0], [0.0; 3]), slope);
        let (s, c) = (0.3f64.sin(), 0.3f64.cos());
        let direction = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
        for spacing in [0.8, 1.7] {
            let target =
                Geometry::new([8; 3], Spacing::new([spacing; 3]).unwrap(), WorldPoint([18.0, 12.0, 12.0]), direction)
                    .unwrap();
            check_ramp(&resample(&source, &target), slope, 0, 1.5);
        }
    }

    #[test]
    fn outside_of_the_outer_edges_is_air() {
        let source = Volume::new(Array3::from_elem([2, 2, 2], 40), grid([2, 2, 2], [1.0; 3], [0.0; 3])).unwrap();
        let out = resample(&source, &grid([1, 1, 7], [1.0, 1.0, 0.5], [-0.75, 0.0, 0.0]));
        assert_eq!(out.as_slice(), [AIR_HU, 40, 40, 40, 40, AIR_HU, AIR_HU]);
    }

    #[test]
    fn shrinking_averages_instead_of_skipping() {
        // One bright column in nine: the mean over the row stays, whatever the phase.
        let hu = Array3::from_shape_fn([1, 1, 90], |(_, _, x)| if x % 9 == 4 { 900 } else { 0 });
        let source = Volume::new(hu, grid([1, 1, 90], [1.0; 3], [0.0; 3])).unwrap();
        let out = resample(&source, &source.geometry().respaced(Spacing::new([1.0, 1.0, 9.0]).unwrap()));
        assert_eq!(out.as_slice()[1..9], [100; 8]);
    }

    /// Numbers from SimpleITK 2.5 (`sitk.Resample`, linear and nearest, default -1024 and 0): see `tests/peers/imaging_resample.py`.
    #[verifies("FR-002")]
    #[test]
    fn refining_equals_simpleitk() {
        let source_grid = grid([3, 4, 5], [2.5, 0.7, 0.9], [10.0, -20.0, 30.0]);
        let hu = Array3::from_shape_fn([3, 4, 5], |(z, y, x)| (((z * 4 + y) * 5 + x) * 7919 % 2000) as i16 - 1000);
        let source = Volume::new(hu, source_grid.clone()).unwrap();
        let target = grid([4, 4, 4], [1.1, 0.6, 0.65], [9.71, -19.93, 29.37]);
        let out = resample(&source, &target);
        assert_eq!(out.as_slice(), SITK_LINEAR);
        let labels = Array3::from_shape_fn([3, 4, 5], |(z, y, x)| (((z * 4 + y) * 5 + x) % 7) as u8);
        let labels = resample_labels(&LabelMap::new(labels, source_grid).unwrap(), &target);
        assert_eq!(labels.as_slice(), SITK_NEAREST);
    }

    const SITK_LINEAR: [i16; 64] = [
        -840, -153, 869, 810, 527, 529, 521, 463, 265, 233, 174, 116, -82, -114, -173, -231, -769, -217, 602, 543, 598,
        594, 577, 518, 337, 304, 246, 187, -10, -43, -101, -160, -602, -366, -23, -82, 765, 746, 706, 648, 504, 471,
        413, 354, 157, 124, 66, 7, -448, -481, -539, -598, 802, 770, 711, 653, 646, 613, 555, 496, 324, 292, 233, 175,
    ];
    const SITK_NEAREST: [u8; 64] = [
        0, 0, 1, 2, 5, 5, 6, 0, 3, 3, 4, 5, 1, 1, 2, 3, 0, 0, 1, 2, 5, 5, 6, 0, 3, 3, 4, 5, 1, 1, 2, 3, 6, 6, 0, 1, 4,
        4, 5, 6, 2, 2, 3, 4, 0, 0, 1, 2, 6, 6, 0, 1, 4, 4, 5, 6, 2, 2, 3, 4, 0, 0, 1, 2,
    ];

    /// Numbers from SimpleITK 2.5 (`sitk.sitkBSpline3`), see `tests/peers/imaging_resample.py`: refined, and shrunk without
    /// antialiasing.
    #[verifies("FR-002")]
    #[test]
    fn a_spline_equals_simpleitk() {
        let source_grid = grid([3, 4, 5], [2.5, 0.7, 0.9], [10.0, -20.0, 30.0]);
        let hu = Array3::from_shape_fn([3, 4, 5], |(z, y, x)| (((z * 4 + y) * 5 + x) * 7919 % 2000) as i16 - 1000);
        let source = Volume::new(hu, source_grid).unwrap();
        let check = |size: usize, spacing: [f64; 3], want: &[i16]| {
            let target = grid([size; 3], spacing, [9.71, -19.93, 29.37]);
            let out = resample_as(&source, &target, Interpolation::Cubic, false);
            for (found, want) in out.as_slice().iter().zip(want) {
                assert!((found - want).abs() <= 1, "{:?}", out.as_slice());
            }
            // A turn by 1e-4 makes the same grid oblique: point by point it is the same spline.
            let (s, c) = 1e-4f64.sin_cos();
            let turned = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
            let oblique = Geometry::new([size; 3], target.spacing(), target.origin(), turned).unwrap();
            let out = resample_as(&source, &oblique, Interpolation::Cubic, false);
            for (found, want) in out.as_slice().iter().zip(want) {
                assert!((found - want).abs() <= 3, "{:?}", out.as_slice());
            }
        };
        check(4, [1.1, 0.6, 0.65], &SITK_SPLINE);
        check(2, [2.6, 1.5, 1.7], &[-620, 855, 29, -45, -633, -362, 235, 128]);
    }

    const SITK_SPLINE: [i16; 64] = [
        -620, -477, 829, 705, 646, 645, 623, 562, 386, 373, 232, 177, -155, -159, -214, -272, -616, -464, 923, 796,
        604, 604, 585, 524, 365, 352, 207, 152, -168, -172, -225, -284, -639, -573, 17, -73, 931, 928, 878, 819, 568,
        558, 452, 395, -22, -27, -92, -150, -578, -592, -736, -791, 835, 828, 751, 693, 752, 746, 675, 617, 236, 230,
        154, 96,
    ];

    #[verifies("FR-002")]
    #[test]
    fn without_antialiasing_only_the_nearest_voxels_count() {
        let hu = Array3::from_shape_fn([1, 1, 90], |(_, _, x)| if x % 9 == 4 { 900 } else { 0 });
        let source = Volume::new(hu, grid([1, 1, 90], [1.0; 3], [0.0; 3])).unwrap();
        let target = source.geometry().respaced(Spacing::new([1.0, 1.0, 9.0]).unwrap());
        for interpolation in [Interpolation::Nearest, Interpolation::Linear] {
            assert_eq!(resample_as(&source, &target, interpolation, false).as_slice(), [900; 10]);
        }
        let wide = resample_as(&source, &target, Interpolation::Cubic, true);
        assert!(wide.as_slice()[1..9].iter().all(|hu| (hu - 100).abs() <= 1), "{:?}", wide.as_slice());
    }

    #[test]
    fn half_way_is_the_later_voxel_whatever_the_rounding() {
        let source = Volume::new(
            Array3::from_shape_fn([5, 1, 1], |(z, _, _)| z as i16),
            grid([5, 1, 1], [1.25, 1.0, 1.0], [0.0; 3]),
        );
        // Centres at -0.1, 0.7, 1.5, 2.3, 3.1, 3.9 voxels.
        let target = grid([6, 1, 1], [1.0; 3], [0.0, 0.0, -0.125]);
        let out = resample_as(&source.unwrap(), &target, Interpolation::Nearest, true);
        assert_eq!(out.as_slice(), [0, 1, 2, 2, 3, 4]);
    }

    #[verifies("FR-002")]
    #[test]
    fn a_patch_has_its_centre_in_the_middle() {
        let slope = [3.0, -5.0, 7.0];
        let source = ramp(&grid([30, 40, 50], [2.0, 0.7, 0.7], [-11.0, 4.0, 30.0]), slope);
        let centre = WorldPoint([5.3, 17.1, 61.7]);
        let hu = |p: WorldPoint| (slope[0] * p.0[0] + slope[1] * p.0[1] + slope[2] * p.0[2]) as f32;
        let odd = patch(&source, centre, [5, 7, 9], 1.0);
        assert!((odd[[2, 3, 4]] - hu(centre)).abs() < 1.0);
        let even = patch(&source, centre, [4, 4, 4], 1.0);
        let corners = even.iter().sum::<f32>() / 64.0;
        assert!((corners - hu(centre)).abs() < 1.0);
        let grid = patch_geometry(source.geometry(), centre, [4, 4, 4], 1.0);
        assert!(grid.to_world(VoxelPoint([1.5; 3])).distance_mm(centre) < 1e-9);
    }

    #[test]
    fn a_patch_reaches_out_of_the_volume_into_air() {
        let source = Volume::new(Array3::zeros([4, 4, 4]), grid([4, 4, 4], [1.0; 3], [0.0; 3])).unwrap();
        let at_corner = patch(&source, WorldPoint([0.0; 3]), [5, 5, 5], 1.0);
        assert_eq!(at_corner[[2, 2, 2]], 0.0);
        assert_eq!(at_corner[[1, 2, 2]], -1024.0);
        assert_eq!(at_corner[[4, 4, 4]], 0.0);
    }

    #[test]
    fn patch_equals_resample_on_its_grid() {
        let source = ramp(&grid([12, 14, 16], [2.0, 0.7, 0.8], [0.0; 3]), [11.0, -7.0, 5.0]);
        let centre = WorldPoint([6.1, 5.2, 12.0]);
        let grid = patch_geometry(source.geometry(), centre, [6, 5, 4], 1.3);
        let whole = resample(&source, &grid);
        for (a, b) in patch(&source, centre, [6, 5, 4], 1.3).iter().zip(whole.hu()) {
            assert!((a - f32::from(*b)).abs() <= 0.5 + 1e-3);
        }
    }

    #[test]
    fn a_window_maps_to_plus_minus_one() {
        let window = (-1000.0, 400.0);
        assert_eq!(
            [-2000.0, -1000.0, -300.0, 400.0, 3000.0].map(|hu| normalise(hu, window)),
            [-1.0, -1.0, 0.0, 1.0, 1.0]
        );
    }
}
