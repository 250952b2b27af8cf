//! One drawn transform, carried through a patch, its masks, points, radii and boxes alike.
//!
//! Chance enters once, in [`Augmentation::draw`]; the draw can be recorded and replayed, and applying it is pure. Patches
//! are `[z, y, x]` with any spacing; the transformed patch has the same grid. Everything turns about the patch's middle, so
//! that a centred nodule stays centred.
//!
//! An image goes through what a patient and a scanner would do to it, in this order: mirror, magnification, rotation, shift and
//! elastic displacement; the kernel's blur; noise; slice thickness; contrast and brightness; gamma.

mod chance;
mod config;
pub mod elastic;
mod fastmath;
mod filters;
mod motion;
mod noise;
mod sample;

pub use config::{
    AugmentConfig, AugmentError, Brightness, Contrast, Elastic, Flip, Gamma, KernelChange, Noise, NoiseKernel, Profile,
    Rotation, Scale, Shift, Thickness,
};
pub use motion::{Motion, VoxelBox};

use chance::Chance;
use elastic::Deformation;
use lungai_ct::{Lung, Spacing, VoxelPoint};
use lungai_trace::implements;
use ndarray::Array3;
use rayon::prelude::*;
use sample::Voxels;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// One drawn transform. Its record (serde) gives the same bits again, also where a later version draws otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")] // derives the reading, to which the checks are added below
pub struct Augmentation {
    /// Mirrored along `[z, y, x]`?
    flip: [bool; 3],
    /// About the axis along `[z, y, x]`, one after the other.
    rotate_deg: [f64; 3],
    /// Magnification along `[z, y, x]` of the patch before it is turned.
    scale: [f64; 3],
    /// `[z, y, x]`.
    shift_mm: [f64; 3],
    elastic: Option<Deformation>,
    kernel: Option<KernelDraw>,
    noise: Option<NoiseDraw>,
    thickness: Option<ThicknessDraw>,
    /// Factor of HU + 1000.
    contrast: f64,
    offset_hu: f64,
    gamma: Option<GammaDraw>,
}

/// See [`KernelChange`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KernelDraw {
    sigma_mm: f64,
    amount: f64,
}

/// See [`Noise`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoiseDraw {
    kernel: NoiseKernel,
    sd_hu: f64,
    dose: f64,
    slice_mm: f64,
    seed: u64,
}

/// See [`Thickness`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ThicknessDraw {
    mm: f64,
    profile: Profile,
}

/// See [`Gamma`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GammaDraw {
    exponent: f64,
    window_hu: [f64; 2],
}

impl Augmentation {
    /// The transform that changes nothing.
    pub fn identity() -> Self {
        Self::draw(&AugmentConfig::NONE, 0)
    }

    /// Draws within `config`; the same seed gives the same transform. The parts draw apart from each other: switching
    /// one on leaves the others as they were.
    ///
    /// # Panics
    /// If `config` does not pass [`AugmentConfig::check`]. One that was read has passed it.
    #[implements("FR-002")]
    pub fn draw(config: &AugmentConfig, seed: u64) -> Self {
        if let Err(error) = config.check() {
            panic!("an augmentation was configured in code, and wrongly: {error}");
        }
        let chance = |part: u64| Chance::of(seed, part);
        let mut flip = chance(1);
        let flip = config.flip.map_or([false; 3], |c| c.probability.map(|p| flip.happens(p)));
        let mut turn = chance(2);
        let rotation = config.rotation.filter(|c| turn.happens(c.probability));
        let mut grow = chance(3);
        let scale = config.scale.filter(|c| grow.happens(c.probability)).map_or([1.0; 3], |c| {
            let common = grow.between_log(c.range);
            [0; 3].map(|_| common * grow.between_log([c.anisotropy.recip(), c.anisotropy]))
        });
        let mut move_by = chance(4);
        let shift = config.shift.filter(|c| move_by.happens(c.probability));
        let mut bend = chance(5);
        let elastic = config.elastic.filter(|c| bend.happens(c.probability));
        let mut blur = chance(6);
        let kernel = config.kernel.filter(|c| blur.happens(c.probability));
        let mut quanta = chance(7);
        let noise = config.noise.as_ref().filter(|c| quanta.happens(c.probability));
        let mut collimation = chance(8);
        let thickness = config.thickness.filter(|c| collimation.happens(c.probability));
        let mut calibration = chance(9);
        let contrast = config.contrast.filter(|c| calibration.happens(c.probability));
        let mut air = chance(10);
        let brightness = config.brightness.filter(|c| air.happens(c.probability));
        let mut tone = chance(11);
        let gamma = config.gamma.filter(|c| tone.happens(c.probability));
        Self {
            flip,
            rotate_deg: rotation.map_or([0.0; 3], |c| c.max_deg.map(|deg| turn.either_way(deg))),
            scale,
            shift_mm: shift.map_or([0.0; 3], |c| c.max_mm.map(|mm| move_by.either_way(mm))),
            elastic: elastic.map(|c| Deformation::draw(&c, bend.seed())),
            kernel: kernel.map(|c| KernelDraw { sigma_mm: blur.between(c.sigma_mm), amount: blur.between(c.amount) }),
            noise: noise.map(|c| NoiseDraw {
                kernel: c.kernels[quanta.index(c.kernels.len())],
                sd_hu: quanta.between(c.sd_hu),
                dose: quanta.between_log(c.dose),
                slice_mm: c.slice_mm,
                seed: quanta.seed(),
            }),
            thickness: thickness.map(|c| ThicknessDraw { mm: collimation.between(c.range_mm), profile: c.profile }),
            contrast: contrast.map_or(1.0, |c| calibration.between(c.range)),
            offset_hu: brightness.map_or(0.0, |c| air.either_way(c.max_hu)),
            gamma: gamma.map(|c| GammaDraw { exponent: tone.between_log(c.range), window_hu: c.window_hu }),
        }
    }

    /// Where points, radii and boxes of patches of `size` voxels `[z, y, x]` go.
    ///
    /// # Panics
    /// If `size` has an empty axis.
    pub fn motion(&self, size: [usize; 3], spacing: Spacing) -> Motion {
        Motion::new(self, size, spacing)
    }

    /// Where points of a patch go; they may leave it.
    ///
    /// # Panics
    /// If `size` has an empty axis.
    #[implements("FR-002")]
    pub fn points(&self, size: [usize; 3], spacing: Spacing, points: &[VoxelPoint]) -> Vec<VoxelPoint> {
        let motion = self.motion(size, spacing);
        points.iter().map(|p| motion.point(*p)).collect()
    }

    /// What boxes of a patch become, see [`Motion::bounds`].
    ///
    /// # Panics
    /// If `size` has an empty axis.
    #[implements("FR-002")]
    pub fn boxes(&self, size: [usize; 3], spacing: Spacing, boxes: &[VoxelBox]) -> Vec<VoxelBox> {
        let motion = self.motion(size, spacing);
        boxes.iter().map(|b| motion.bounds(*b)).collect()
    }

    /// HU after the transform: trilinear, `outside` more than half a voxel beyond the outermost voxel centres.
    ///
    /// # Panics
    /// If `patch` has an empty axis, or 2^31 voxels or more.
    #[implements("FR-002")]
    pub fn image(&self, patch: &Array3<f32>, spacing: Spacing, outside: f32) -> Array3<f32> {
        let size = size_of(patch);
        let values = patch.as_standard_layout();
        let values = values.as_slice().expect("in standard layout");
        let plane = size[1] * size[2];
        let [slice_mm, pixel_mm @ ..] = spacing.zyx_mm();
        let source = self.moves().then(|| self.motion(size, spacing).source());
        let from = Voxels::new(values, size, outside);
        let blur = self.kernel.map(|k| (filters::PlaneFilter::gaussian(k.sigma_mm, pixel_mm), k.amount as f32));
        let noise = self.noise.filter(|n| n.sd_hu > 0.0).map(|n| {
            let sd_hu = n.sd_hu * (n.slice_mm / (n.dose * slice_mm)).sqrt();
            noise::Noise::new(n.kernel, sd_hu, n.seed, [size[1], size[2]], pixel_mm)
        });
        let thick =
            self.thickness.map(|t| filters::thick_slices(size[0], slice_mm, t.mm, t.profile)).unwrap_or_default();
        let tone = Tone::new(self);
        let mut out = vec![0f32; values.len()];
        out.par_chunks_mut(plane).enumerate().for_each_init(Scratch::default, |scratch, (z, slice)| {
            match &source {
                Some(source) => source.slice(z, slice, &mut scratch.sample, |at, row| sample::trilinear(from, at, row)),
                None => slice.copy_from_slice(&values[z * plane..(z + 1) * plane]),
            }
            if let Some((blur, amount)) = &blur {
                scratch.blurred.resize(plane, 0.0);
                blur.apply(slice, size[2], &mut scratch.blurred, &mut scratch.line);
                for (v, blurred) in slice.iter_mut().zip(&scratch.blurred) {
                    *v += amount * (*v - blurred);
                }
            }
            if let Some(noise) = &noise {
                noise.add(z, slice, &mut scratch.noise);
            }
            if thick.is_empty() {
                tone.apply(slice);
            }
        });
        if !thick.is_empty() {
            let thin = out;
            out = vec![0f32; thin.len()];
            out.par_chunks_mut(plane).zip(&thick).for_each(|(slice, (first, weights))| {
                for (weight, from) in weights.iter().zip(thin[first * plane..].chunks_exact(plane)) {
                    slice.iter_mut().zip(from).for_each(|(sum, v)| *sum += weight * v);
                }
                tone.apply(slice);
            });
        }
        Array3::from_shape_vec(patch.raw_dim(), out).expect("as many voxels as the patch")
    }

    /// Labels after the transform: nearest voxel, 0 outside.
    ///
    /// # Panics
    /// If `patch` has an empty axis, or 2^31 voxels or more.
    #[implements("FR-002")]
    pub fn labels(&self, patch: &Array3<u8>, spacing: Spacing) -> Array3<u8> {
        if !self.moves() {
            return patch.clone();
        }
        let size = size_of(patch);
        let values = patch.as_standard_layout();
        let from = Voxels::new(values.as_slice().expect("in standard layout"), size, 0);
        let source = self.motion(size, spacing).source();
        let mut out = vec![0u8; patch.len()];
        let slices = out.par_chunks_mut(size[1] * size[2]).enumerate();
        slices.for_each_init(sample::Scratch::default, |scratch, (z, slice)| {
            source.slice(z, slice, scratch, |at, row| sample::nearest(from, at, row));
        });
        Array3::from_shape_vec(patch.raw_dim(), out).expect("as many voxels as the patch")
    }

    /// [`Augmentation::labels`] for [`Lung`] labels: a mirror along x makes a right lung of a left one.
    ///
    /// # Panics
    /// If `patch` has an empty axis, or 2^31 voxels or more.
    #[implements("FR-003")]
    pub fn lungs(&self, patch: &Array3<u8>, spacing: Spacing) -> Array3<u8> {
        const RIGHT: u8 = Lung::Right as u8;
        const LEFT: u8 = Lung::Left as u8;
        let mut out = self.labels(patch, spacing);
        if self.flip[2] {
            out.mapv_inplace(|label| match label {
                RIGHT => LEFT,
                LEFT => RIGHT,
                other => other,
            });
        }
        out
    }

    fn moves(&self) -> bool {
        self.flip != [false; 3]
            || self.rotate_deg != [0.0; 3]
            || self.scale != [1.0; 3]
            || self.shift_mm != [0.0; 3]
            || self.elastic.is_some()
    }

    /// What no draw exceeds, so that a damaged record is refused and not applied.
    fn check(&self) -> Result<(), AugmentError> {
        config::each("rotate_deg", self.rotate_deg, -180.0, 180.0)?;
        config::each("scale", self.scale, 0.05, 20.0)?;
        config::each("shift_mm", self.shift_mm, -1000.0, 1000.0)?;
        config::within("contrast", self.contrast, 0.1, 10.0)?;
        config::within("offset_hu", self.offset_hu, -1000.0, 1000.0)?;
        if let Some(kernel) = self.kernel {
            config::within("kernel.sigma_mm", kernel.sigma_mm, 0.05, 20.0)?;
            config::within("kernel.amount", kernel.amount, -1.0, 5.0)?;
        }
        if let Some(noise) = self.noise {
            config::within("noise.sd_hu", noise.sd_hu, 0.0, 500.0)?;
            config::within("noise.dose", noise.dose, 0.001, 1000.0)?;
            config::within("noise.slice_mm", noise.slice_mm, 0.05, 50.0)?;
        }
        if let Some(thickness) = self.thickness {
            config::within("thickness.mm", thickness.mm, 0.05, 50.0)?;
        }
        if let Some(gamma) = self.gamma {
            config::within("gamma.exponent", gamma.exponent, 0.1, 10.0)?;
            config::window("gamma.window_hu", gamma.window_hu)?;
        }
        Ok(())
    }
}

impl Serialize for Augmentation {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Augmentation {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = Self::deserialize(from)?;
        read.check().map_err(D::Error::custom)?;
        Ok(read)
    }
}

/// Space for one thread's work.
#[derive(Default)]
struct Scratch {
    sample: sample::Scratch,
    noise: noise::Scratch,
    blurred: Vec<f32>,
    line: Vec<f32>,
}

/// What changes each voxel by itself.
struct Tone {
    gain: f32,
    offset: f32,
    gamma: Option<ToneCurve>,
}

struct ToneCurve {
    exponent: f32,
    low: f32,
    width: f32,
}

impl Tone {
    fn new(draw: &Augmentation) -> Self {
        Self {
            gain: draw.contrast as f32,
            offset: (-1000.0 * (1.0 - draw.contrast) + draw.offset_hu) as f32,
            gamma: draw.gamma.map(|g| ToneCurve {
                exponent: g.exponent as f32,
                low: g.window_hu[0] as f32,
                width: (g.window_hu[1] - g.window_hu[0]) as f32,
            }),
        }
    }

    fn apply(&self, slice: &mut [f32]) {
        let Self { gain, offset, .. } = *self;
        if gain != 1.0 || offset != 0.0 {
            slice.iter_mut().for_each(|v| *v = *v * gain + offset);
        }
        if let Some(ToneCurve { exponent, low, width }) = self.gamma {
            let per_hu = width.recip();
            for v in slice {
                let t = (*v - low) * per_hu;
                // The logarithm needs a positive number; below 1e-30 the power is 0 on any scale of HU.
                let inside = if t > 1e-30 { t } else { 1e-30 };
                let bent = low + width * fastmath::exp2((exponent * fastmath::log2(inside)).clamp(-126.0, 0.0));
                *v = if t > 0.0 && t < 1.0 { bent } else { *v };
            }
        }
    }
}

fn size_of<T>(patch: &Array3<T>) -> [usize; 3] {
    let (z, y, x) = patch.dim();
    [z, y, x]
}

#[cfg(test)]
mod tests;
