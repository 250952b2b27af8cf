//! `ct info`, `ct decode`, `ct convert`, `ct lungs`.

use crate::arguments::{Convert, Decode, Info, Lungs};
use crate::failure::Failure;
use crate::{Report, model, series};
use lungai_ct::{Lung, Scan};
use lungai_datasets::{hu_sha256, is_image_name, open, sha256, write_labels, write_nifti2, write_volume};
use lungai_dicom::{SeriesTags, derived_uid, write_series};
use lungai_imaging::quality;
use lungai_pipeline::wire::QualityJson;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Instant;

/// Every series with its geometry, statistics and the verdict of the quality gate.
pub fn info(arguments: &Info) -> Result<Report, Failure> {
    let opened = open(&arguments.path)?;
    let mut text = String::new();
    let mut series = Vec::new();
    for scan in &opened.scans {
        let json = describe(scan);
        write_series_text(&mut text, scan, &json);
        series.push(json);
    }
    for refused in &opened.refused {
        line(&mut text, format!("series {}\n  not read: {}", refused.series_uid, refused.error));
    }
    for aside in &opened.set_aside {
        line(&mut text, format!("set aside {}: {}", aside.file, aside.reason));
    }
    let refused: Vec<Value> = opened
        .refused
        .iter()
        .map(|r| json!({ "series_uid": r.series_uid, "files": r.files, "rule": r.error.rule(), "message": r.error.to_string() }))
        .collect();
    let set_aside: Vec<Value> = opened
        .set_aside
        .iter()
        .map(|a| json!({ "file": a.file, "rule": a.reason.rule(), "reason": a.reason.to_string() }))
        .collect();
    Ok(Report { json: json!({ "series": series, "refused": refused, "set_aside": set_aside }), text })
}

fn describe(scan: &Scan) -> Value {
    let geometry = scan.volume.geometry();
    let hu = scan.volume.as_slice();
    let sum: i64 = hu.iter().map(|v| i64::from(*v)).sum();
    let region = lungai_imaging::lungs::segment(&scan.volume);
    let quality = QualityJson::from(&quality::assess(scan, &region));
    json!({
        "series_uid": scan.series_uid,
        "modality": scan.modality,
        "slices": geometry.size()[0],
        "size_zyx": geometry.size(),
        "spacing_zyx_mm": geometry.spacing().zyx_mm(),
        "origin_lps_mm": geometry.origin().0,
        "direction": geometry.direction().as_flattened(),
        "transfer_syntax": scan.transfer_syntax,
        "slice_thickness_mm": scan.acquisition.slice_thickness_mm,
        "kernel": scan.acquisition.kernel,
        "hu": {
            "min": hu.iter().min(),
            "max": hu.iter().max(),
            "mean": sum as f64 / hu.len() as f64,
        },
        "hu_sha256": hu_sha256(&scan.volume),
        "quality": quality,
    })
}

fn write_series_text(text: &mut String, scan: &Scan, json: &Value) {
    let geometry = scan.volume.geometry();
    let [nz, ny, nx] = geometry.size();
    let [sz, sy, sx] = geometry.spacing().zyx_mm();
    line(text, format!("series {}", scan.series_uid));
    line(text, format!("  {} slices of {ny} x {nx}, {sz:.3} x {sy:.3} x {sx:.3} mm (z, y, x)", nz));
    line(text, format!("  {} {}", scan.modality, scan.transfer_syntax));
    line(
        text,
        format!(
            "  HU {} .. {}, mean {:.1}",
            json["hu"]["min"],
            json["hu"]["max"],
            json["hu"]["mean"].as_f64().unwrap_or(0.0)
        ),
    );
    line(text, format!("  sha256 {}", json["hu_sha256"].as_str().unwrap_or_default()));
    text.push_str(&quality_text(&json["quality"]));
}

/// Verdict and reasons, as `ct info` and `analyze` print them.
pub fn quality_text(quality: &Value) -> String {
    let mut text = format!("  quality: {}\n", quality["verdict"].as_str().unwrap_or_default());
    for finding in quality["findings"].as_array().into_iter().flatten() {
        let word = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| finding[key].as_f64().unwrap_or(f64::NAN);
        line(
            &mut text,
            format!(
                "    {:<7} {:<18} {:.2} {}, {} {:.2}: {}",
                word("verdict"),
                word("rule"),
                number("value"),
                word("unit"),
                if number("value") > number("limit") { "at most" } else { "at least" },
                number("limit"),
                quality::meaning(&word("rule")),
            ),
        );
    }
    text
}

fn line(text: &mut String, words: String) {
    writeln!(text, "{words}").expect("text grows");
}

/// The stored values of one file.
pub fn decode(arguments: &Decode) -> Result<Report, Failure> {
    let file = lungai_dicom::decode_file(&arguments.file)?;
    let bytes: Vec<u8> = file.pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
    let json = json!({
        "frames": file.frames,
        "rows": file.rows,
        "columns": file.columns,
        "samples": file.samples,
        "transfer_syntax": file.transfer_syntax,
        "pixel_sha256": sha256(&bytes),
    });
    let text = format!(
        "{} frames of {} x {}, {}\nsha256 {}\n",
        file.frames,
        file.rows,
        file.columns,
        file.transfer_syntax,
        json["pixel_sha256"].as_str().unwrap_or_default()
    );
    Ok(Report { json, text })
}

/// One series in another container.
pub fn convert(arguments: &Convert) -> Result<Report, Failure> {
    let output = &arguments.output;
    let name = output.to_string_lossy().to_ascii_lowercase();
    if arguments.nifti2 && !name.ends_with(".nii") && !name.ends_with(".nii.gz") {
        return Err(Failure::usage("--nifti2 needs an output whose name ends in .nii or .nii.gz"));
    }
    let ends_with_slash = name.ends_with(['/', '\\']);
    // A folder may be named by a UID.
    let suffix = output.extension().is_some_and(|end| end.to_string_lossy().starts_with(char::is_alphabetic));
    if suffix && !ends_with_slash && !is_image_name(output) && !output.is_dir() {
        return Err(Failure::usage(
            "the output's name ends in none of .nii.gz, .nii, .mha, .mhd, .nrrd, .nhdr; for a folder of DICOM files end it with /",
        ));
    }
    let scan = series::choose(&arguments.input, arguments.choice.series.as_deref())?;
    if arguments.nifti2 {
        write_nifti2(output, &scan.volume)?;
    } else if !ends_with_slash && is_image_name(output) {
        write_volume(output, &scan.volume)?;
    } else {
        write_series(&scan.volume, &scan.acquisition, &tags(&scan), output)?;
        eprintln!("note: written as a DICOM series of {} files", scan.volume.geometry().size()[0]);
    }
    let json = json!({ "series_uid": scan.series_uid, "hu_sha256": hu_sha256(&scan.volume) });
    Ok(Report { json, text: format!("{}\n", output.display()) })
}

/// A converted series is a new series of a new study: an archive would find other dates, names and numbers in its own copy of
/// the scanner's study. All converted series of one study share theirs.
fn tags(scan: &Scan) -> SeriesTags {
    let made = |what: &str| derived_uid(&format!("converted/{what}/{}", scan.series_uid));
    let of_study = |uid: &String| derived_uid(&format!("converted/study/{uid}"));
    SeriesTags {
        patient_id: scan.patient_id.clone().unwrap_or_else(|| "UNKNOWN".into()),
        study_uid: scan.study_uid.as_ref().map_or_else(|| made("study"), of_study),
        series_uid: made("series"),
        frame_of_reference_uid: scan.frame_of_reference_uid.clone().unwrap_or_else(|| made("frame")),
        // What the source does not say stays empty.
        body_part: String::new(),
        date: String::new(),
        description: "Converted by LungAI".into(),
        synthetic: false,
    }
}

/// Rules of the quality gate whose rejection means that a lung mask would be made up.
const NO_LUNGS: [&str; 2] = ["not-a-chest", "hu-range"];

/// Left and right lung.
pub fn lungs(arguments: &Lungs) -> Result<Report, Failure> {
    if !is_image_name(&arguments.out) {
        return Err(Failure::usage("--out needs a name that ends in .nii.gz, .nii, .mha, .mhd, .nrrd or .nhdr"));
    }
    let pipeline = arguments.models.as_deref().map(|models| model::open(models, &arguments.engine)).transpose()?;
    let scan = series::choose(&arguments.path, arguments.choice.series.as_deref())?;
    let start = Instant::now();
    let labels = match &pipeline {
        Some(pipeline) => pipeline.segment_lungs(&scan.volume),
        None => lungai_imaging::lungs::segment(&scan.volume),
    };
    let seconds = start.elapsed().as_secs_f64();
    // Thick slices still have lungs; what is no chest, or no HU, has none.
    let quality = QualityJson::from(&quality::assess(&scan, &labels));
    if let Some(finding) = quality.findings.iter().find(|f| f.verdict == "reject" && NO_LUNGS.contains(&&*f.rule)) {
        let message = format!("no lungs to be found, {}: {}", finding.rule, quality::meaning(&finding.rule));
        return Err(Failure::rejected(message, json!({ "quality": quality })));
    }
    if quality.verdict != "accept" {
        eprint!("{}", quality_text(&json!(quality)));
    }
    write_labels(&arguments.out, &labels)?;
    let (left_ml, right_ml) = (labels.volume_ml(Lung::Left as u8), labels.volume_ml(Lung::Right as u8));
    Ok(Report {
        json: json!({
            "series_uid": scan.series_uid,
            "quality": quality.verdict,
            "left_ml": left_ml,
            "right_ml": right_ml,
            "seconds": seconds,
            "method": if pipeline.is_some() { "network" } else { "classical" },
        }),
        text: format!("left {left_ml:.0} ml, right {right_ml:.0} ml, {seconds:.1} s\n"),
    })
}
