//! `analyze`: a scan through the frozen model, results into a folder.

use crate::arguments::Analyze;
use crate::ct::quality_text;
use crate::failure::{Failure, io};
use crate::{Report, model, overview, series, with_ok};
use lungai_datasets::write_labels;
use lungai_pipeline::wire::AnalysisJson;
use lungai_pipeline::{OperatingPoint, PipelineError, Stage};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

/// Runs the pipeline and writes `findings.json`, `lungs.nii.gz` and `overview.png`.
pub fn analyze(arguments: &Analyze) -> Result<Report, Failure> {
    let total = Instant::now();
    let point: OperatingPoint = match arguments.operating_point.parse() {
        Ok(point) => point,
        Err(never) => match never {},
    };
    let pipeline = model::open(&arguments.models, &arguments.engine)?;
    let scan = series::choose(&arguments.path, arguments.choice.series.as_deref())?;
    let out = &arguments.out;
    std::fs::create_dir_all(out).map_err(io(out))?;

    let mut times = Times { began: total, stage: "load", seconds: Map::new() };
    let analysis = pipeline.run(&scan, &point, &mut |stage| times.begin(stage));
    let analysis = match analysis {
        Ok(analysis) => analysis,
        Err(error) => {
            let rejected = matches!(error, PipelineError::Rejected(_));
            let failure = Failure::from(error).with("series_uid", json!(scan.series_uid));
            if rejected {
                // Earlier results in the folder would contradict the verdict.
                for stale in ["lungs.nii.gz", "overview.png"] {
                    let _ = std::fs::remove_file(out.join(stale));
                }
                write(&out.join("findings.json"), &failure.json())?;
            }
            return Err(failure);
        }
    };
    times.seconds.insert("total".into(), json!(total.elapsed().as_secs_f64()));

    let mut json = json!({ "series_uid": scan.series_uid });
    let parts = serde_json::to_value(AnalysisJson::new(&analysis, &pipeline)).expect("plain data");
    if let (Some(json), Value::Object(parts)) = (json.as_object_mut(), parts) {
        json.extend(parts);
        json.insert("seconds".into(), Value::Object(times.seconds));
    }
    write_labels(&out.join("lungs.nii.gz"), &analysis.lungs)?;
    let picture = out.join("overview.png");
    overview::write(&picture, &scan.volume, &analysis.lungs, &analysis.findings, pipeline.manifest().synthetic)
        .map_err(io(&picture))?;
    write(&out.join("findings.json"), &with_ok(json.clone(), true))?;
    let text = summary(&json, out);
    Ok(Report { json, text })
}

/// Seconds of each stage; what comes before the first stage is loading.
struct Times {
    began: Instant,
    stage: &'static str,
    seconds: Map<String, Value>,
}

impl Times {
    fn begin(&mut self, stage: Stage) {
        self.seconds.insert(self.stage.into(), json!(self.began.elapsed().as_secs_f64()));
        (self.began, self.stage) = (Instant::now(), stage.name());
        if stage != Stage::Done {
            eprintln!("{} ...", stage.name());
        }
    }
}

/// Complete or not at all.
fn write(path: &Path, json: &Value) -> Result<(), Failure> {
    let draft = path.with_extension("json.part");
    let text = serde_json::to_string_pretty(json).expect("plain data") + "\n";
    std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, path)).map_err(io(path))
}

fn summary(json: &Value, out: &Path) -> String {
    let mut text = format!("series {}\n", json["series_uid"].as_str().unwrap_or_default());
    text += &quality_text(&json["quality"]);
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let mut line = |words: String| writeln!(text, "{words}").expect("text grows");
    line(format!(
        "  lungs: left {:.0} ml, right {:.0} ml",
        number(&json["lungs"]["left_ml"]),
        number(&json["lungs"]["right_ml"])
    ));
    let findings = json["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    line(format!("  {} findings at score >= {:.3}", findings.len(), number(&json["operating_threshold"])));
    if !findings.is_empty() {
        line("    id  score  left   post.  sup. (mm)  diameter  type          malignancy".into());
    }
    for f in findings {
        let at = &f["position_lps_mm"];
        line(format!(
            "  {:>4}  {:.3}  {:>6.1} {:>6.1} {:>7.1}  {:>6.1} mm  {:<12}  {:.2} ({})",
            f["id"].as_u64().unwrap_or(0),
            number(&f["score"]),
            number(&at[0]),
            number(&at[1]),
            number(&at[2]),
            number(&f["diameter_mm"]),
            f["characteristics"]["type"].as_str().unwrap_or("-"),
            number(&f["malignancy"]["probability"]),
            f["malignancy"]["class"].as_str().unwrap_or_default(),
        ));
    }
    let model = &json["model"];
    let word = |key: &str| model[key].as_str().unwrap_or_default().to_owned();
    let synthetic = if model["synthetic"] == json!(true) { ", trained on SYNTHETIC data" } else { "" };
    line(format!(
        "  model {} {}{synthetic}; {:.1} s",
        word("name"),
        word("version"),
        number(&json["seconds"]["total"])
    ));
    line(format!("  written to {}: findings.json, lungs.nii.gz, overview.png", out.display()));
    line("  Marks for a physician to look at; not a diagnosis, not cleared for clinical use.".into());
    text
}
