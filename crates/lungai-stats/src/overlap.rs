//! `overlap`: a mask against a reference, in any research format.

use crate::{Failure, Report};
use lungai_ct::LabelMap;
use lungai_datasets::{align_labels, read_image};
use lungai_metrics::overlap::overlap;
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const TOLERANCE_MM: f64 = 1.0;

/// Both images must lie on one grid, in whatever order of axes; nothing is resampled.
#[derive(clap::Args)]
pub struct Args {
    /// Reference image (.mha, .mhd, .nii, .nii.gz, .nrrd).
    #[arg(long)]
    reference: PathBuf,
    /// Image to judge.
    #[arg(long)]
    mask: PathBuf,
    /// Foreground is this label in both, instead of all above a threshold.
    #[arg(long, conflicts_with_all = ["reference_threshold", "mask_threshold"])]
    label: Option<u8>,
    /// Foreground of the reference is above this.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    reference_threshold: f32,
    /// Foreground of the mask is above this.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    mask_threshold: f32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    let read = |path: &Path, threshold: f32| -> Result<LabelMap, Failure> {
        let image = read_image(path).map_err(|error| Failure { rule: error.rule(), message: error.to_string() })?;
        let foreground =
            image.values.mapv(|v| u8::from(args.label.map_or(v > threshold, |label| v == f32::from(label))));
        Ok(LabelMap::new(foreground, image.geometry).expect("array and grid come from one image"))
    };
    let reference = read(&args.reference, args.reference_threshold)?;
    let mask = read(&args.mask, args.mask_threshold)?;
    let (grid, other) = (reference.geometry(), mask.geometry());
    let mask = align_labels(&mask, grid).ok_or_else(|| Failure {
        rule: "grids-differ".into(),
        message: format!(
            "the images lie on different grids: {:?} voxels of {:?} mm against {:?} voxels of {:?} mm (z, y, x)",
            grid.size(),
            grid.spacing().zyx_mm(),
            other.size(),
            other.spacing().zyx_mm()
        ),
    })?;
    let inside = |map: &LabelMap| map.labels().mapv(|label| label != 0);
    let o = overlap(inside(&reference).view(), inside(&mask).view(), grid.spacing(), TOLERANCE_MM)?;
    let ml = [o.reference_mm3 / 1000.0, o.mask_mm3 / 1000.0];
    let mut out = json!({ "ok": true, "dice": o.dice, "surface_dice_1mm": o.surface_dice, "volume_ml": ml });
    let mut text = String::new();
    let _ = writeln!(text, "Dice                {:.6}", o.dice);
    if let Some(mm) = o.hd95_mm {
        out["hd95_mm"] = json!(mm); // absent where a mask is empty
        let _ = writeln!(text, "HD95                {mm:.3} mm");
    }
    let _ = writeln!(text, "surface Dice (1 mm) {:.6}", o.surface_dice);
    let _ = writeln!(text, "volume              {:.3} ml reference, {:.3} ml mask", ml[0], ml[1]);
    Ok(Report { json: out, table: text })
}
