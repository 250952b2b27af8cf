//! From shapes to voxels, one slice after the other: paint with exact-enough edges, blur in the plane, average along the
//! slice profile, add noise.
//!
//! Every value depends on its place alone, never on the slab or thread that computes it.

use crate::body::Body;
use crate::breath::Breath;
use crate::canvas::Canvas;
use crate::exposure::Exposure;
use crate::field::Field;
use crate::grid::{Grid, Slab};
use crate::scanner::{KernelShape, Scanner};
use lungai_ct::Geometry;
use ndarray::Array3;
use rayon::prelude::*;

/// Slices per unit of parallel work.
const SLAB: usize = 12;
/// Slices are painted at most this far apart and then averaged.
const LARGEST_STEP_MM: f64 = 1.3;

/// HU on an axial `geometry`, and the smooth shapes that were sampled for it.
pub fn render(body: &Body, breath: &Breath, scanner: &Scanner, geometry: &Geometry, seed: u64) -> (Array3<i16>, Field) {
    let optics = Optics::new(scanner.kernel.shape(), scanner.slice_thickness_mm, geometry.spacing().zyx_mm(), None);
    let whole = scanner.geometry(&body.scene);
    let exposure = Exposure::new(&body.beam, scanner, geometry, whole.origin().0, seed);
    scan(body, &optics, breath, geometry, Some(&whole), |iz, clean, out| exposure.develop(iz, clean, out))
}

/// As [`render`], but before any blur, noise or shading: every voxel is the mean over itself.
pub fn paint(body: &Body, breath: &Breath, geometry: &Geometry) -> Array3<f32> {
    let spacing = geometry.spacing().zyx_mm();
    let optics = Optics::new(KernelShape::NONE, spacing[0], spacing, None);
    scan(body, &optics, breath, geometry, None, |_, clean, out: &mut [f32]| out.copy_from_slice(clean)).0
}

/// Paints and blurs slab after slab; `develop` turns slice number and HU into what is kept.
fn scan<T: Copy + Default + Send>(
    body: &Body,
    optics: &Optics,
    breath: &Breath,
    geometry: &Geometry,
    whole: Option<&Geometry>,
    develop: impl Fn(usize, &[f32], &mut [T]) + Sync,
) -> (Array3<T>, Field) {
    let [nz, ny, nx] = geometry.size();
    let sz = geometry.spacing().zyx_mm()[0];
    let mut kept = Array3::<T>::from_elem((nz, ny, nx), T::default());
    let margin = optics.margin();
    let own = Grid::of(geometry, whole);
    let grid = own.painted(margin, optics.step_mm);
    let height = |sub_slice: isize| own.z_at(optics.height(sub_slice) / sz);
    // What a span of painted slices can show of the resting patient.
    let reach = |painted: &std::ops::Range<isize>| {
        let breath = breath.reach_mm();
        [height(painted.start) - breath, height(painted.end - 1) + breath]
    };
    let [low, high] = reach(&optics.sub_slices(0, nz.max(1)));
    let field = body.field([grid.x(0), grid.y(0), low], [grid.x(grid.nx - 1), grid.y(grid.ny - 1), high]);
    let area = ny * nx;
    let slabs = kept.as_slice_mut().expect("fresh array").par_chunks_mut(SLAB * area);
    slabs.enumerate().for_each(|(slab, kept)| {
        let first = slab * SLAB;
        let count = kept.len() / area;
        let mut sums = vec![0.0f32; kept.len()];
        let mut canvas = Canvas::new(&grid);
        let painted = optics.sub_slices(first, first + count);
        let near = Slab::of(body, &grid, reach(&painted));
        for sub_slice in painted {
            let (heights, n_heights) = breath.heights(height(sub_slice));
            for height in &heights[..n_heights] {
                canvas.paint(body, &field, &near, &grid, *height);
                optics.blur(&mut canvas.hu, &mut canvas.scratch, canvas.columns);
                for iz in 0..count {
                    let weight = optics.weight(first + iz, sub_slice) / n_heights as f32;
                    if weight == 0.0 {
                        continue;
                    }
                    for iy in 0..ny {
                        let from = &canvas.hu[(iy + margin) * grid.nx + margin..][..nx];
                        let to = &mut sums[iz * area + iy * nx..][..nx];
                        for (to, from) in to.iter_mut().zip(from) {
                            *to += weight * from;
                        }
                    }
                }
            }
        }
        for iz in 0..count {
            develop(first + iz, &sums[iz * area..(iz + 1) * area], &mut kept[iz * area..(iz + 1) * area]);
        }
    });
    (kept, field)
}

/// Blur of kernel and slice profile on a given grid.
pub struct Optics {
    /// Painted slices per slice.
    per_slice: usize,
    step_mm: f64,
    narrow: Vec<f32>,
    /// For edge enhancement.
    wide: Option<(Vec<f32>, f32)>,
    /// Weights of painted slices round a slice's centre, from the lowest.
    profile: Vec<f32>,
}

impl Optics {
    /// - `painted`: variance in mm2 of the blur that painting did along each axis; `None` where it averaged over voxels
    pub fn new(shape: KernelShape, thickness_mm: f64, [sz, _, sx]: [f64; 3], painted: Option<f64>) -> Self {
        // Only the rest of the variance is blurred.
        let in_plane = painted.unwrap_or(sx * sx / 12.0);
        let sigma = |fwhm: f64| ((fwhm / 2.355).powi(2) - in_plane).max(0.0).sqrt() / sx;
        let wide = (shape.enhancement > 0.0).then(|| (gaussian(sigma(2.2 * shape.fwhm_mm)), shape.enhancement as f32));
        let largest = if painted.is_some() { 0.5 * LARGEST_STEP_MM } else { LARGEST_STEP_MM };
        let per_slice = (sz / largest).ceil().max(1.0) as usize;
        let step = sz / per_slice as f64;
        // How much of each painted slice lies within the slab; an even number of them has the slice's centre between two.
        let half = (0.5 * thickness_mm / step).max(0.5);
        let beyond = if per_slice % 2 == 1 { half - 0.5 } else { half };
        let count = 2 * (beyond - 1e-9).ceil().max(0.0) as usize + per_slice % 2;
        let centre = 0.5 * (count as f64 - 1.0);
        let weights: Vec<f64> = (0..count).map(|i| (half + 0.5 - (i as f64 - centre).abs()).clamp(0.0, 1.0)).collect();
        let sum: f64 = weights.iter().sum();
        let profile = weights.into_iter().map(|w| (w / sum) as f32).collect();
        Self { per_slice, step_mm: step, narrow: gaussian(sigma(shape.fwhm_mm)), wide, profile }
    }

    pub fn margin(&self) -> usize {
        self.wide.as_ref().map_or(0, |(taps, _)| taps.len() / 2).max(self.narrow.len() / 2)
    }

    /// Lowest painted slice that slice `iz` needs.
    fn lowest(&self, iz: usize) -> isize {
        // Twice the positions, so that halves are whole.
        let centre2 = 2 * (iz * self.per_slice) as isize + self.per_slice as isize - 1;
        (centre2 - (self.profile.len() as isize - 1)) / 2
    }

    pub fn sub_slices(&self, from: usize, to: usize) -> std::ops::Range<isize> {
        self.lowest(from)..self.lowest(to - 1) + self.profile.len() as isize
    }

    /// Height of a painted slice over the centre of slice 0 in mm.
    pub fn height(&self, sub_slice: isize) -> f64 {
        (sub_slice as f64 - 0.5 * (self.per_slice as f64 - 1.0)) * self.step_mm
    }

    pub fn weight(&self, iz: usize, sub_slice: isize) -> f32 {
        let i = sub_slice - self.lowest(iz);
        if i < 0 { 0.0 } else { self.profile.get(i as usize).copied().unwrap_or(0.0) }
    }

    pub fn blur(&self, image: &mut [f32], scratch: &mut [f32], columns: usize) {
        if let Some((taps, amount)) = &self.wide {
            let mut soft = image.to_vec();
            blur(&mut soft, scratch, columns, taps);
            blur(image, scratch, columns, &self.narrow);
            for (value, soft) in image.iter_mut().zip(&soft) {
                *value += amount * (*value - soft);
            }
        } else {
            blur(image, scratch, columns, &self.narrow);
        }
    }
}

/// Taps of a normalised Gaussian; `[1]` where it would be narrower than can be sampled.
pub fn gaussian(sigma: f64) -> Vec<f32> {
    if sigma < 0.15 {
        return vec![1.0];
    }
    let reach = (3.0 * sigma).ceil() as i32;
    let taps: Vec<f64> = (-reach..=reach).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = taps.iter().sum();
    taps.into_iter().map(|t| (t / sum) as f32).collect()
}

/// Convolves rows, then columns. Within half the taps of the border the values are not valid.
pub fn blur(image: &mut [f32], scratch: &mut [f32], columns: usize, taps: &[f32]) {
    if taps.len() == 1 {
        return;
    }
    let half = taps.len() / 2;
    let rows = image.len() / columns;
    if columns < taps.len() || rows < taps.len() {
        return;
    }
    for (line, out) in image.chunks(columns).zip(scratch.chunks_mut(columns)) {
        let inner = columns - 2 * half;
        out[..half].copy_from_slice(&line[..half]);
        out[columns - half..].copy_from_slice(&line[columns - half..]);
        let out = &mut out[half..half + inner];
        out.fill(0.0);
        for (i, tap) in taps.iter().enumerate() {
            for (out, value) in out.iter_mut().zip(&line[i..i + inner]) {
                *out += tap * value;
            }
        }
    }
    for row in half..rows - half {
        let out = &mut image[row * columns..][..columns];
        out.fill(0.0);
        for (i, tap) in taps.iter().enumerate() {
            for (out, value) in out.iter_mut().zip(&scratch[(row + i - half) * columns..][..columns]) {
                *out += tap * value;
            }
        }
    }
}
