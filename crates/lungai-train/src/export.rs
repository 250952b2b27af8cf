//! A frozen model as ONNX, for engines of other makers.

use crate::Printed;
use clap::Args;
use lungai_models::anchors::SCALE;
use lungai_models::classifier::ClassifierNet;
use lungai_models::detector::{DetectorNet, STRIDE};
use lungai_models::frozen::{self, Frozen, Manifest, Networks, sha256_hex};
use lungai_models::lung::{LungNet, POSITION_MM};
use lungai_models::reducer::ReducerNet;
use lungai_onnx::Graph;
use lungai_pipeline::reduce::PROPOSAL_SCORE;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

#[derive(Args)]
pub struct ExportArgs {
    /// Frozen model, MODELS/NAME/VERSION, or a registry that holds only one.
    model: PathBuf,
    /// Folder to make; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Public key (PEM) that must have signed the model; trusted-keys/ of the model's registry by default.
    #[arg(long, value_name = "PEM")]
    trusted_key: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What differs between the files.
struct Sheet {
    network: &'static str,
    input: &'static str,
    channels: usize,
    /// Edge of the cubes that the product gives it.
    tile: usize,
    /// Voxels that every side must be a multiple of.
    multiple: usize,
    spacing_mm: f64,
    window_hu: (f32, f32),
    config_sha256: String,
    /// Cubes a run: least, usual, most.
    batch: [usize; 3],
}

/// The lung network, the detector and the malignancy network, in this order.
pub fn graphs(networks: &Networks) -> [Graph; 3] {
    [
        LungNet::export_mean(&networks.lungs()),
        DetectorNet::export_mean(&networks.detectors()),
        ClassifierNet::export_mean(&networks.classifiers()),
    ]
}

/// The verb.
pub fn export(args: &ExportArgs) -> anyhow::Result<Printed> {
    let model = frozen::open(&args.model, args.trusted_key.as_deref(), &burn::tensor::Device::flex())?;
    let sheets = sheets(&model.manifest);
    let networks = &model.networks;
    let second_look = model.manifest.networks.reducer.as_ref().map(|_| ReducerNet::export_mean(&networks.reducers()));
    let mut files = Vec::new();
    for (sheet, mut graph) in sheets.iter().zip(graphs(networks).into_iter().chain(second_look)) {
        describe(&mut graph, sheet, &model);
        files.push((format!("{}.onnx", sheet.network), graph.into_bytes()?));
    }
    let sums: Vec<(String, String)> = files.iter().map(|(name, bytes)| (name.clone(), sha256_hex(bytes))).collect();
    files.push(("README.md".into(), readme(&model, &sheets, &sums).into_bytes()));
    crate::folder::whole(&args.out, |draft| {
        for (name, bytes) in &files {
            fs::write(draft.join(name), bytes)?;
        }
        Ok(())
    })?;

    let manifest = &model.manifest;
    let listed: Vec<_> = files
        .iter()
        .map(|(name, bytes)| json!({ "file": name, "bytes": bytes.len(), "sha256": sha256_hex(bytes) }))
        .collect();
    let value = json!({
        "ok": true, "out": args.out, "model": manifest.name, "version": manifest.version, "model_sha256": model.sha256,
        "synthetic": manifest.synthetic, "opset": lungai_onnx::proto::OPSET, "files": listed,
    });
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let word = if manifest.synthetic { " of a model trained on SYNTHETIC scans" } else { "" };
    Ok((format!("{}: {}{word}", args.out.display(), names.join(", ")), value))
}

fn sheets(manifest: &Manifest) -> Vec<Sheet> {
    let (lung, detector, classifier) =
        (&manifest.networks.lung, &manifest.networks.detector, &manifest.networks.classifier);
    let mut sheets = vec![
        Sheet {
            network: "lung",
            input: "scans",
            channels: lungai_models::lung::CHANNELS,
            tile: lung.tile,
            multiple: 1 << lung.depth,
            spacing_mm: lung.spacing_mm,
            window_hu: lung.window_hu,
            config_sha256: config_sha256(lung),
            batch: [1, 1, 4],
        },
        Sheet {
            network: "detector",
            input: "patches",
            channels: 1,
            tile: detector.tile,
            multiple: detector.deepest_stride(),
            spacing_mm: detector.spacing_mm,
            window_hu: detector.window_hu,
            config_sha256: config_sha256(detector),
            batch: [1, 2, 4],
        },
        Sheet {
            network: "classifier",
            input: "patches",
            channels: 1,
            tile: classifier.tile,
            multiple: 1 << (classifier.blocks.len().max(1) - 1),
            spacing_mm: classifier.spacing_mm,
            window_hu: classifier.window_hu,
            config_sha256: config_sha256(classifier),
            batch: [1, 8, 32],
        },
    ];
    sheets.extend(manifest.networks.reducer.as_ref().map(|reducer| Sheet {
        network: "reducer",
        input: "patches",
        channels: 1,
        tile: reducer.tile,
        multiple: reducer.tile,
        spacing_mm: reducer.spacing_mm,
        window_hu: reducer.window_hu,
        config_sha256: config_sha256(reducer),
        batch: [1, 8, 32],
    }));
    sheets
}

/// Of the network's part of the manifest as compact JSON.
fn config_sha256(config: &impl Serialize) -> String {
    sha256_hex(&serde_json::to_vec(config).expect("plain data"))
}

/// What an engine shows of the file.
fn describe(graph: &mut Graph, sheet: &Sheet, model: &Frozen) {
    let manifest = &model.manifest;
    graph.remark(&manifest.intended_use);
    graph.property("network", sheet.network);
    graph.property("model", &manifest.name);
    graph.property("version", &manifest.version);
    graph.property("model_sha256", &model.sha256);
    graph.property("config_sha256", &sheet.config_sha256);
    graph.property("spacing_mm", sheet.spacing_mm);
    graph.property("window_hu", format!("{} {}", sheet.window_hu.0, sheet.window_hu.1));
    graph.property("tile", sheet.tile);
    graph.property("size_multiple", sheet.multiple);
    if manifest.members(sheet.network) > 1 {
        graph.property("averaged", manifest.members(sheet.network));
    }
    graph.property("synthetic", manifest.synthetic);
}

/// `trtexec` with the shapes that the product uses.
fn trtexec(sheet: &Sheet) -> String {
    let shape = |batch: usize| {
        let edge = sheet.tile;
        format!("{}:{batch}x{}x{edge}x{edge}x{edge}", sheet.input, sheet.channels)
    };
    let [least, usual, most] = sheet.batch.map(shape);
    let name = sheet.network;
    format!(
        "trtexec --onnx={name}.onnx --saveEngine={name}.plan --minShapes={least} --optShapes={usual} --maxShapes={most}"
    )
}

/// What somebody with another engine has to know.
fn readme(model: &Frozen, sheets: &[Sheet], sums: &[(String, String)]) -> String {
    let manifest = &model.manifest;
    let [lung, detector, classifier, reducer @ ..] = sheets else { panic!("three networks at least") };
    let (anchors, calibration) = (&manifest.networks.detector.anchors_mm, &manifest.calibration);
    let mut text = format!(
        "# {} {} as ONNX\n\n**Not cleared for clinical use.**{}\n\nMade of the frozen model with SHA-256 `{}` after its \
         signature, its files and its golden outputs were checked. These files are copies without a signature: the frozen \
         model stays the record.\n\n",
        manifest.name,
        manifest.version,
        if manifest.synthetic {
            " **Trained on SYNTHETIC scans: what it says of patients means nothing.**"
        } else {
            ""
        },
        model.sha256,
    );
    text.push_str("| file | SHA-256 |\n|---|---|\n");
    for (name, sum) in sums {
        let _ = writeln!(text, "| {name} | `{sum}` |");
    }
    let n = anchors.len();
    let _ = writeln!(
        text,
        "\n## Shapes\n\n32-bit floats, `[batch, channel, z, y, x]`. Batch, depth, height and width are open; each side is a \
         multiple of the number given.\n\n\
         | network | input | outputs | sides | the product gives cubes of |\n|---|---|---|---|---|\n\
         | lung | `scans` [b, {}, d, h, w] | `logits` [b, 3, d, h, w]: background, right, left | {} | {} |\n\
         | detector | `patches` [b, 1, d, h, w] | `class` [b, {n}, d/{STRIDE}, h/{STRIDE}, w/{STRIDE}], `boxes` [b, {}, \
         d/{STRIDE}, h/{STRIDE}, w/{STRIDE}] | {} | {} |\n\
         | classifier | `patches` [b, 1, d, h, w] | `outputs` [b, 7] | {} | {} |",
        lung.channels,
        lung.multiple,
        lung.tile,
        n * lungai_models::detector::BOX_VALUES,
        detector.multiple,
        detector.tile,
        classifier.multiple,
        classifier.tile,
    );
    for reducer in reducer {
        let edge = reducer.tile;
        let _ = writeln!(
            text,
            "| reducer | `patches` [b, 1, {edge}, {edge}, {edge}]: these sides only | `logit` [b, 1] | {edge} | {edge} |"
        );
    }
    let averaged = sheets.iter().map(|sheet| (sheet.network, manifest.members(sheet.network)));
    let averaged: Vec<String> =
        averaged.filter(|(_, n)| *n > 1).map(|(network, n)| format!("{network} {n} networks")).collect();
    if !averaged.is_empty() {
        let _ = writeln!(
            text,
            "\nAveraged inside the file: {}. The outputs are the means that the product computes; the weights of the networks after \
             the first begin with `further.0.`, `further.1.`, ..",
            averaged.join(", ")
        );
    }
    text.push_str("\n## Preprocessing\n\n");
    let _ = writeln!(
        text,
        "1. Hounsfield units, axes turned and mirrored whole so that x runs to the patient's left, y to the back, z to the \
         head.\n\
         2. Linear resampling, antialiased where it coarsens, to cubic voxels: lung {} mm and detector {} mm (rounded \
         to whole HU, then tiles that overlap by at least a sixth), classifier {} mm (not rounded; a cube with the nodule's \
         centre at voxel {}).\n\
         3. Outside of the scan: {} HU.\n\
         4. `2 * (clip(hu, low, high) - low) / (high - low) - 1`, low and high: lung {}, {}; detector {}, {}; classifier {}, \
         {}.\n\
         5. Lung, second channel: `(column + 0.5 - columns / 2) * {} / {POSITION_MM}`, cut off at -1 and 1, with the column of the whole \
         resampled scan, not of the tile.",
        lung.spacing_mm,
        detector.spacing_mm,
        classifier.spacing_mm,
        (classifier.tile as f64 - 1.0) / 2.0,
        lungai_ct::AIR_HU,
        lung.window_hu.0,
        lung.window_hu.1,
        detector.window_hu.0,
        detector.window_hu.1,
        classifier.window_hu.0,
        classifier.window_hu.1,
        lung.spacing_mm,
    );
    for reducer in reducer {
        let _ = writeln!(
            text,
            "6. Reducer: cubes of {} mm voxels, not rounded, with the candidate's centre at voxel {}; low and high {}, {}.",
            reducer.spacing_mm,
            (reducer.tile as f64 - 1.0) / 2.0,
            reducer.window_hu.0,
            reducer.window_hu.1,
        );
    }
    text.push_str("\n## What the outputs mean\n\n");
    let millimetres: Vec<String> = anchors.iter().map(f64::to_string).collect();
    let _ = writeln!(
        text,
        "* lung: the largest logit of a voxel. The product averages overlapping tiles and keeps one piece of each lung.\n\
         * detector: the score is `1 / (1 + exp(-class))`, one per anchor ({} mm). `boxes` holds four values an anchor, anchor \
         slowest: with `a` the anchor in voxels and `i` the cell, the centre is `{STRIDE} i + {} + {SCALE} a v` for z, y, x, the \
         diameter `a exp({SCALE} v)` with the ratio kept within 1/8 and 8. **The product runs every tile twice**, as it is and \
         mirrored along z, y and x, mirrors the second outputs back, turns the sign of the three offsets and takes the mean \
         of both; the operating points belong to that mean.\n\
         * classifier: the probability of malignancy is `1 / (1 + exp(-({} * outputs[0] + {})))`; the other six only steadied \
         the training.\n\
         {}\nOperating points of the score: {}.",
        millimetres.join(", "),
        (STRIDE as f64 - 1.0) / 2.0,
        calibration.slope,
        calibration.intercept,
        if reducer.is_empty() {
            String::new()
        } else {
            format!(
                "* reducer: every candidate that the detector scores at least {PROPOSAL_SCORE} gets the score `1 / (1 + exp(-(c + \
                 logit) / 2))`, with `c` the detector's own logit after its mean of both passes; the operating points belong to \
                 this score.\n"
            )
        },
        manifest.operating_points.iter().map(|(name, at)| format!("{name} {at}")).collect::<Vec<_>>().join(", "),
    );
    text.push_str("\n## TensorRT\n\nTensorRT 10 or newer, on the GPU that will run the engine:\n\n```\n");
    for sheet in sheets {
        let _ = writeln!(text, "{}", trtexec(sheet));
    }
    let _ = writeln!(
        text,
        "```\n\nOther batches and sides: other shapes there. TensorRT may compute in TF32 (`--noTF32` keeps full precision) and \
         with `--fp16` in half precision: check the engine before it is used. `golden/golden.safetensors` of the frozen \
         model holds `lung.input`, `lung.output` and so on (the detector's outputs one after the other along the channels); \
         the product accepts a largest difference of {:e} of the largest output. Whatever the check says, another engine is \
         another product: validate it.",
        manifest.golden_tolerance,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use std::collections::BTreeMap;

    fn args(model: PathBuf, out: PathBuf) -> ExportArgs {
        ExportArgs { model, out, trusted_key: None, json: true }
    }

    #[test]
    fn a_frozen_model_becomes_three_files_and_a_readme() {
        let registry = tempfile::tempdir().unwrap();
        let (folder, _) = frozen::untrained(registry.path(), BTreeMap::from([("default".into(), 0.5)])).unwrap();
        let out = registry.path().join("onnx");
        let (_, value) = export(&args(folder.clone(), out.clone())).unwrap();
        assert_eq!((&value["synthetic"], &value["opset"]), (&json!(true), &json!(17)));

        let file = fs::read(out.join("detector.onnx")).unwrap();
        let sum = sha256_hex(&file);
        assert_eq!(value["files"][1]["sha256"], json!(sum));
        let model = lungai_onnx::proto::Model::decode(file.as_slice()).unwrap();
        let remark =
            |key: &str| model.metadata_props.iter().find(|p| p.key == key).map(|p| p.value.clone()).unwrap_or_default();
        assert_eq!(
            [remark("network"), remark("spacing_mm"), remark("window_hu"), remark("synthetic")],
            ["detector", "4", "-1000 400", "true"]
        );
        assert_eq!(remark("config_sha256").len(), 64);

        let readme = fs::read_to_string(out.join("README.md")).unwrap();
        // Of the untrained model: tiles of 32, 32 and 16 voxels; sides that halve once, twice and once.
        for expected in [
            "SYNTHETIC",
            &sum,
            "| lung | `scans` [b, 2, d, h, w] | `logits` [b, 3, d, h, w]: background, right, left | 2 | 32 |",
            "--minShapes=patches:1x1x32x32x32 --optShapes=patches:2x1x32x32x32 --maxShapes=patches:4x1x32x32x32",
            "(column + 0.5 - columns / 2) * 6 / 50",
            "centre is `4 i + 1.5 + 0.2 a v`",
            "centre at voxel 7.5",
        ] {
            assert!(readme.contains(expected), "{expected}\n{readme}");
        }

        let again = export(&args(folder, out)).unwrap_err().to_string();
        assert!(again.ends_with("exists already; choose another folder"), "{again}");
    }

    #[test]
    fn a_reducer_gets_a_file_and_averaged_networks_are_one() {
        let registry = tempfile::tempdir().unwrap();
        let points = BTreeMap::from([("default".into(), 0.5)]);
        let (folder, _) = frozen::untrained_pairs(registry.path(), points).unwrap();
        let out = registry.path().join("onnx");
        export(&args(folder, out.clone())).unwrap();
        for network in ["lung", "detector", "classifier", "reducer"] {
            let file = fs::read(out.join(format!("{network}.onnx"))).unwrap();
            let model = lungai_onnx::proto::Model::decode(file.as_slice()).unwrap();
            assert!(model.metadata_props.iter().any(|p| p.key == "averaged" && p.value == "2"));
            let graph = model.graph.unwrap();
            let weights = graph.initializer.iter().filter(|w| !w.name.starts_with("constant/"));
            let (further, first): (Vec<_>, Vec<_>) = weights.partition(|w| w.name.starts_with("further.0."));
            assert_eq!(further.len(), first.len());
        }
        let readme = fs::read_to_string(out.join("README.md")).unwrap();
        for expected in [
            "Averaged inside the file: lung 2 networks, detector 2 networks, classifier 2 networks, reducer 2 networks.",
            "| reducer | `patches` [b, 1, 8, 8, 8]: these sides only | `logit` [b, 1] | 8 | 8 |",
            "with the candidate's centre at voxel 3.5",
            "gets the score `1 / (1 + exp(-(c + logit) / 2))`",
            "--maxShapes=patches:32x1x8x8x8",
        ] {
            assert!(readme.contains(expected), "{expected}\n{readme}");
        }
    }

    #[test]
    fn a_model_that_was_changed_is_not_exported() {
        let registry = tempfile::tempdir().unwrap();
        let (folder, _) = frozen::untrained(registry.path(), BTreeMap::from([("default".into(), 0.5)])).unwrap();
        fs::write(folder.join("MODEL_CARD.md"), "better").unwrap();
        let out = registry.path().join("onnx");
        let error = export(&args(folder, out.clone())).unwrap_err();
        assert_eq!(error.to_string(), "frozen file `MODEL_CARD.md` is changed");
        assert!(!out.exists());
    }
}
