//! What is measured: our side of every workload. The peers' sides are in `peers/workloads.py`.

use crate::agreement::Compare;
use crate::inputs::{NODULE_EDGE, NODULES, PART, PATCH, SIZE, bytes, chest, f32s, i16s, labels, mask, spacing};
use crate::nets;
use crate::results::{Output, Values};
use crate::statistics;
use crate::trace;
use anyhow::bail;
use lungai_ct::{Lung, Spacing, VoxelPoint};
use lungai_dicom::Limits;
use lungai_imaging::augment::{
    AugmentConfig, Augmentation, Contrast, Elastic, Gamma, KernelChange, Noise, NoiseKernel, Profile, Rotation, Scale,
    Thickness, VoxelBox,
};
use lungai_imaging::{
    Connectivity, Interpolation, components, distance, gaussian, morphology, normalise_all, resample_as,
};
use lungai_imaging::{lungs, surface};
use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;
use std::path::Path;

/// Does the work once.
pub type Work = Box<dyn FnMut() -> anyhow::Result<Output>>;

/// One operation on one input.
pub struct Workload {
    pub name: &'static str,
    /// Input and operation.
    pub about: &'static str,
    /// Loads the input from the bench folder.
    pub prepare: fn(&Path) -> anyhow::Result<Work>,
    pub compare: Compare,
    /// Peers whose results are compared otherwise.
    pub unlike: &'static [(&'static str, Compare)],
    /// The ratio to reach, by peer.
    pub bars: &'static [(&'static str, f64)],
}

impl Workload {
    /// The first word of its name: what belongs together.
    pub fn group(&self) -> &'static str {
        self.name.split('-').next().unwrap_or(self.name)
    }
}

/// A rounding apart: one voxel in a thousand may lie on the other side of a half.
const SAME_HU: Compare = Compare::Differ { array: "hu", by: 1.0, share: 1e-3 };
/// Sums of thousands of products in another order.
const SAME_OUTPUT: Compare = Compare::Differ { array: "y", by: 1e-3, share: 0.0 };
const OWN_PAGES: Compare = Compare::Not("each tool makes pages of its own kind from the same items and links");
const SAME_MASK: Compare = Compare::Differ { array: "mask", by: 0.0, share: 0.0 };

/// Every workload, in the order of `--list`.
pub const ALL: &[Workload] = &[
    Workload {
        name: "resample-linear",
        about: "300 x 512 x 512 HU at 1.25 x 0.7 x 0.7 mm to 1 mm, linear, read at the voxel centres",
        prepare: |folder| resampled(folder, Interpolation::Linear, false),
        compare: SAME_HU,
        unlike: &[],
        bars: &[("SimpleITK", 2.0)],
    },
    Workload {
        name: "resample-cubic",
        about: "the same with cubic B-splines",
        prepare: |folder| resampled(folder, Interpolation::Cubic, false),
        compare: SAME_HU,
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "resample-nearest",
        about: "the same with the nearest voxel",
        prepare: |folder| resampled(folder, Interpolation::Nearest, false),
        compare: SAME_HU,
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "resample-antialias",
        about: "the same, linear and antialiased",
        prepare: |folder| resampled(folder, Interpolation::Linear, true),
        compare: Compare::Not("the peers smooth by a Gaussian first"),
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "label-6",
        about: "components of the air of 300 x 512 x 512 voxels over faces, with sizes and boxes",
        prepare: |folder| labelled(folder, Connectivity::Faces),
        compare: Compare::Components { array: "labels" },
        unlike: &[],
        bars: &[("cc3d", 1.5)],
    },
    Workload {
        name: "label-26",
        about: "the same over faces, edges and corners",
        prepare: |folder| labelled(folder, Connectivity::Corners),
        compare: Compare::Components { array: "labels" },
        unlike: &[],
        bars: &[("cc3d", 1.5)],
    },
    Workload {
        name: "dilate-box",
        about: "dilation of the air of 128 x 256 x 256 voxels with a cube of 5",
        prepare: |folder| on_part(folder, |mask| morphology::dilate_box(mask, [2; 3])),
        compare: SAME_MASK,
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "close-ball-2",
        about: "closing of the air of 128 x 256 x 256 voxels with a ball of radius 2",
        prepare: |folder| on_part(folder, |mask| morphology::close_mm(mask, unit(), 2.0)),
        compare: SAME_MASK,
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "close-ball-5",
        about: "the same with radius 5",
        prepare: |folder| on_part(folder, |mask| morphology::close_mm(mask, unit(), 5.0)),
        compare: SAME_MASK,
        unlike: &[],
        bars: &[("scipy", 20.0)],
    },
    Workload {
        name: "close-ball-10",
        about: "the same with radius 10",
        prepare: |folder| on_part(folder, |mask| morphology::close_mm(mask, unit(), 10.0)),
        compare: SAME_MASK,
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "fill-holes",
        about: "holes of the tissue of 300 x 512 x 512 voxels",
        prepare: |folder| {
            let tissue = mask(folder, "air.raw", SIZE)?.mapv(|air| !air);
            Ok(Box::new(move || Ok(masked(morphology::fill_holes(tissue.view())))))
        },
        compare: SAME_MASK,
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "distance",
        about: "Euclidean distance to the nearest air on 300 x 512 x 512 voxels of 1.25 x 0.7 x 0.7 mm",
        prepare: |folder| {
            let air = mask(folder, "air.raw", SIZE)?;
            Ok(Box::new(move || {
                let distance = distance::mm(air.view(), spacing());
                Ok(Output::array("mm", Values::F32(distance.into_raw_vec_and_offset().0)))
            }))
        },
        compare: Compare::Differ { array: "mm", by: 1e-3, share: 0.0 },
        unlike: &[],
        bars: &[("edt", 1.2)],
    },
    Workload {
        name: "gaussian",
        about: "300 x 512 x 512 HU blurred by 2 voxels",
        prepare: |folder| {
            let hu = i16s(folder, "chest.raw", SIZE)?;
            Ok(Box::new(move || {
                let out = gaussian(hu.view(), unit(), 2.0);
                Ok(Output::array("hu", Values::F32(out.into_raw_vec_and_offset().0)))
            }))
        },
        compare: Compare::Differ { array: "hu", by: 0.01, share: 0.0 },
        // Its recursive filter approximates.
        unlike: &[("SimpleITK", Compare::Differ { array: "hu", by: 5.0, share: 0.01 })],
        bars: &[],
    },
    Workload {
        name: "normalise",
        about: "300 x 512 x 512 HU clipped to -1000..400 and scaled to -1..1",
        prepare: |folder| {
            let hu = i16s(folder, "chest.raw", SIZE)?;
            Ok(Box::new(move || {
                let out = normalise_all(hu.view(), (-1000.0, 400.0));
                Ok(Output::array("value", Values::F32(out.into_raw_vec_and_offset().0)))
            }))
        },
        compare: Compare::Differ { array: "value", by: 1e-6, share: 0.0 },
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "lungs",
        about: "the lung region of 300 x 512 x 512 HU: body, airways cut, left and right (peers: threshold, body, two components, closing)",
        prepare: |folder| {
            let chest = chest(folder)?;
            Ok(Box::new(move || {
                let lungs = lungs::segment(&chest);
                Ok(Output::array("mask", Values::U8(lungs.into_parts().0.into_raw_vec_and_offset().0)))
            }))
        },
        compare: Compare::Dice { array: "mask", dice: 0.9 },
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "overlap",
        about: "Dice, HD95 and surface Dice of two lung segmentations, left and right (SimpleITK: only Dice is defined alike)",
        prepare: |folder| {
            let (reference, other) = (labels(folder, "lungs.raw")?, labels(folder, "lungs_again.raw")?);
            Ok(Box::new(move || {
                let mut out = Output::default();
                for (name, lung) in [("right", Lung::Right), ("left", Lung::Left)] {
                    let [a, b] = [&reference, &other].map(|l| l.labels().mapv(|label| label == lung as u8));
                    let found = lungai_metrics::overlap::overlap(a.view(), b.view(), spacing(), 1.0)?;
                    out.numbers.insert(format!("{name} dice"), found.dice);
                    out.numbers.insert(format!("{name} hd95"), found.hd95_mm.unwrap_or(f64::NAN));
                    out.numbers.insert(format!("{name} surface dice"), found.surface_dice);
                }
                Ok(out)
            }))
        },
        compare: Compare::Numbers { relative: 1e-3 },
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "shape",
        about: "surface, volume and sphericity of 1,000 nodules of 64 x 64 x 64 voxels",
        prepare: |folder| {
            let all = bytes(folder, "nodules.raw")?;
            let edge = NODULE_EDGE;
            Ok(Box::new(move || {
                let sums = all
                    .par_chunks(edge.pow(3))
                    .map(|mask| {
                        let mask = ArrayView3::from_shape((edge, edge, edge), mask).expect("whole nodules");
                        let shape = surface(mask.mapv(|v| v > 0).view(), unit());
                        [shape.volume_mm3, shape.area_mm2, shape.sphericity().unwrap_or(f64::NAN)]
                    })
                    .collect::<Vec<_>>();
                let mean = |i: usize| sums.iter().map(|s| s[i]).sum::<f64>() / NODULES as f64;
                Ok(Output::numbers([("volume", mean(0)), ("area", mean(1)), ("sphericity", mean(2))]))
            }))
        },
        compare: Compare::Numbers { relative: 1e-3 },
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "augment-affine",
        about: "a patch of 128 x 128 x 128 with mask and 5 boxes (peers: no boxes), turned by 20 degrees about z, magnified by 1.1",
        prepare: |folder| {
            let mut record = serde_json::to_value(Augmentation::identity())?;
            record["rotate_deg"] = serde_json::json!([20.0, 0.0, 0.0]);
            record["scale"] = serde_json::json!([1.1, 1.1, 1.1]);
            let draw: Augmentation = serde_json::from_value(record)?;
            augmented(folder, Box::new(move |_| draw.clone()), true)
        },
        compare: SAME_HU,
        unlike: &[("batchgeneratorsv2", FADING), ("MONAI", FADING), ("scipy", FADING)],
        bars: &[("batchgeneratorsv2", 3.0), ("MONAI", 3.0)],
    },
    Workload {
        name: "augment-elastic",
        about: "the same at random: rotation, scale and an elastic deformation of 7 x 7 x 7 points",
        prepare: |folder| {
            let config = moving();
            augmented(folder, Box::new(move |seed| Augmentation::draw(&config, seed)), false)
        },
        compare: RANDOM,
        unlike: &[],
        bars: &[("batchgeneratorsv2", 3.0), ("MONAI", 3.0)],
    },
    Workload {
        name: "augment-full",
        about: "the same with blur, noise, contrast, thick slices and gamma",
        prepare: |folder| {
            let range = [0.7, 1.5];
            let config = AugmentConfig {
                kernel: Some(KernelChange { probability: 1.0, sigma_mm: [0.5, 1.0], amount: [-1.0, -1.0] }),
                noise: Some(Noise {
                    probability: 1.0,
                    kernels: vec![NoiseKernel::Soft],
                    sd_hu: [10.0, 30.0],
                    dose: [0.5, 1.0],
                    slice_mm: 1.0,
                }),
                contrast: Some(Contrast { probability: 1.0, range: [0.75, 1.25] }),
                thickness: Some(Thickness { probability: 1.0, range_mm: [1.0, 2.0], profile: Profile::Box }),
                gamma: Some(Gamma { probability: 1.0, range, window_hu: [0.0, 1500.0] }),
                ..moving()
            };
            augmented(folder, Box::new(move |seed| Augmentation::draw(&config, seed)), false)
        },
        compare: RANDOM,
        unlike: &[],
        bars: &[("batchgeneratorsv2", 3.0), ("MONAI", 3.0)],
    },
    Workload {
        name: "read-raw",
        about: "a DICOM series of 300 slices of 512 x 512, uncompressed, from folder to HU volume",
        prepare: |folder| series(folder, "raw"),
        compare: SAME_SERIES,
        unlike: &[],
        bars: &[("pydicom", 3.0), ("SimpleITK", 4.0)],
    },
    Workload {
        name: "read-jpegls",
        about: "the same in JPEG-LS lossless",
        prepare: |folder| series(folder, "jpegls"),
        compare: SAME_SERIES,
        unlike: &[],
        bars: &[("SimpleITK", 1.8)],
    },
    Workload {
        name: "read-j2k",
        about: "the same in JPEG 2000 lossless",
        prepare: |folder| series(folder, "j2k"),
        compare: SAME_SERIES,
        unlike: &[],
        bars: &[("SimpleITK", 1.8)],
    },
    Workload {
        name: "read-rle",
        about: "the same in RLE",
        prepare: |folder| series(folder, "rle"),
        compare: SAME_SERIES,
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "froc",
        about: "FROC of 888 scans, 1,186 nodules, 35,192 excluded findings and 46,000 marks by LUNA16's rules, with 1,000 bootstraps (SYNTHETIC)",
        prepare: statistics::froc_work,
        // The script keeps its replicates in single precision.
        compare: Compare::Numbers { relative: 1e-6 },
        unlike: &[],
        bars: &[("LUNA16", 100.0)],
    },
    Workload {
        name: "cpm",
        about: "CPM of the same 888 scans with 10,000 bootstraps, scans with and without nodules drawn apart (SYNTHETIC)",
        prepare: statistics::strata_work,
        compare: Compare::Numbers { relative: 1e-9 },
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "auc",
        about: "AUC and DeLong's variance of 200,000 cases, most scores tied (SYNTHETIC)",
        prepare: statistics::auc_work,
        compare: Compare::Numbers { relative: 1e-9 },
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "kappa",
        about: "Cohen's kappa (plain, linear, quadratic) of three raters and Fleiss' kappa of 3,000 subjects, with 1,000 bootstraps (SYNTHETIC)",
        prepare: statistics::kappa_work,
        compare: Compare::Numbers { relative: 1e-9 },
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "trace-own",
        about: "evidence package of this workspace from the records of its last tests",
        prepare: trace::own,
        compare: Compare::Not("ours alone"),
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "trace-200",
        about: "evidence package of 200 requirements, 2,000 tests and their records (made up)",
        prepare: |folder| trace::made_up(folder, "200"),
        compare: OWN_PAGES,
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "trace-2000",
        about: "evidence package of 2,000 requirements, 20,000 tests and their records (made up)",
        prepare: |folder| trace::made_up(folder, "2000"),
        compare: OWN_PAGES,
        unlike: &[],
        bars: &[],
    },
    Workload {
        name: "nets-lung-forward",
        about: "the lung U-Net of experiments/source-lung.yaml (22.6 million weights) on 2 x 64^3",
        prepare: |folder| nets::prepare(folder, "lung", false),
        compare: SAME_OUTPUT,
        unlike: &[],
        bars: &[("torch", 1.0)],
    },
    Workload {
        name: "nets-lung-step",
        about: "the same in a training step: forward, backward, AdamW",
        prepare: |folder| nets::prepare(folder, "lung", true),
        compare: Compare::Numbers { relative: 1e-3 },
        unlike: &[],
        bars: &[("torch", 0.95)],
    },
    Workload {
        name: "nets-detector-forward",
        about: "the detector of experiments/source-detector.yaml (7.0 million weights) on 64^3",
        prepare: |folder| nets::prepare(folder, "detector", false),
        compare: SAME_OUTPUT,
        unlike: &[],
        bars: &[("torch", 1.0)],
    },
    Workload {
        name: "nets-detector-step",
        about: "the same in a training step: forward, backward, AdamW",
        prepare: |folder| nets::prepare(folder, "detector", true),
        compare: Compare::Numbers { relative: 1e-3 },
        unlike: &[],
        bars: &[("torch", 0.95)],
    },
    Workload {
        name: "nets-classifier-forward",
        about: "the classifier of experiments/source-classifier.yaml (33 million weights) on four of 32^3",
        prepare: |folder| nets::prepare(folder, "classifier", false),
        compare: SAME_OUTPUT,
        unlike: &[],
        bars: &[("torch", 1.0)],
    },
    Workload {
        name: "nets-classifier-step",
        about: "the same in a training step: forward, backward, AdamW",
        prepare: |folder| nets::prepare(folder, "classifier", true),
        compare: Compare::Numbers { relative: 1e-3 },
        unlike: &[],
        bars: &[("torch", 0.95)],
    },
];

/// Between the last voxel centre and the outside they fade; we and TorchIO repeat the voxel up to its edge.
const FADING: Compare = Compare::Differ { array: "hu", by: 1.0, share: 0.015 };
const RANDOM: Compare = Compare::Not("each program draws at random");
const SAME_SERIES: Compare = Compare::Differ { array: "hu", by: 0.0, share: 0.0 };

/// The workload of that name.
pub fn named(name: &str) -> anyhow::Result<&'static Workload> {
    match ALL.iter().find(|workload| workload.name == name) {
        Some(workload) => Ok(workload),
        None => bail!("no benchmark `{name}`; --list names them"),
    }
}

fn unit() -> Spacing {
    Spacing::new([1.0; 3]).expect("positive")
}

fn resampled(folder: &Path, interpolation: Interpolation, antialias: bool) -> anyhow::Result<Work> {
    let chest = chest(folder)?;
    let mut target = chest.geometry().respaced(unit());
    if interpolation == Interpolation::Nearest {
        // No voxel centre halfway between two others: there programs round as they like.
        let origin = lungai_ct::WorldPoint(target.origin().0.map(|mm| mm + 0.05));
        target = lungai_ct::Geometry::new(target.size(), target.spacing(), origin, target.direction())?;
    }
    Ok(Box::new(move || {
        let out = resample_as(&chest, &target, interpolation, antialias);
        Ok(Output::array("hu", Values::I16(out.into_parts().0.into_raw_vec_and_offset().0)))
    }))
}

fn labelled(folder: &Path, connectivity: Connectivity) -> anyhow::Result<Work> {
    let air = mask(folder, "air.raw", SIZE)?;
    Ok(Box::new(move || {
        let found = components(air.view(), connectivity);
        let regions = found.regions.len() as f64;
        let mut out = Output::array("labels", Values::U32(found.labels.into_raw_vec_and_offset().0));
        out.numbers.insert("components".into(), regions);
        Ok(out)
    }))
}

/// Random rotation, scale and elastic deformation.
fn moving() -> AugmentConfig {
    let elastic = Elastic { probability: 1.0, control: [7; 3], spacing_mm: [21.0; 3], amplitude_mm: 5.0 };
    AugmentConfig {
        rotation: Some(Rotation { probability: 1.0, max_deg: [30.0; 3] }),
        scale: Some(Scale { probability: 1.0, range: [0.7, 1.4], anisotropy: 1.0 }),
        elastic: Some(elastic),
        ..AugmentConfig::NONE
    }
}

/// Each run its own draw, numbered from 0.
fn augmented(folder: &Path, draw: Box<dyn Fn(u64) -> Augmentation>, keep: bool) -> anyhow::Result<Work> {
    let size = [PATCH; 3];
    let patch = f32s(folder, "patch.raw", size)?;
    let mask = Array3::from_shape_vec(size, bytes(folder, "patch_mask.raw")?)?;
    let corner = |at: f64| VoxelPoint([at; 3]);
    let boxes: Vec<VoxelBox> = (1..6)
        .map(|i| 20.0 * f64::from(i))
        .map(|at| VoxelBox { low: corner(at - 6.0), high: corner(at + 6.0) })
        .collect();
    let mut seed = 0;
    Ok(Box::new(move || {
        let draw = draw(seed);
        seed += 1;
        let image = draw.image(&patch, unit(), 0.0);
        let labels = draw.labels(&mask, unit());
        let moved = draw.boxes(size, unit(), &boxes);
        let voxels = (image.len() + labels.len()) as f64;
        let mut out = Output::numbers([("voxels", voxels), ("boxes", moved.len() as f64)]);
        if keep {
            out.arrays.insert("hu", Values::F32(image.into_raw_vec_and_offset().0));
        }
        Ok(out)
    }))
}

fn on_part(folder: &Path, work: fn(ArrayView3<'_, bool>) -> Array3<bool>) -> anyhow::Result<Work> {
    let air = i16s(folder, "part.raw", PART)?.mapv(|hu| hu < -410);
    Ok(Box::new(move || Ok(masked(work(air.view())))))
}

fn masked(mask: Array3<bool>) -> Output {
    Output::array("mask", Values::Bool(mask.into_raw_vec_and_offset().0))
}

fn series(folder: &Path, kind: &str) -> anyhow::Result<Work> {
    let path = folder.join("data/series").join(kind);
    Ok(Box::new(move || {
        let limits = Limits { workers: rayon::current_num_threads(), ..Limits::default() };
        let scan = lungai_dicom::read_within(&path, &limits)?.scans.remove(0);
        Ok(Output::array("hu", Values::I16(scan.volume.into_parts().0.into_raw_vec_and_offset().0)))
    }))
}
