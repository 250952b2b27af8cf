//! The peers: Python programs in a virtual environment that this program makes, see `peers/`.

use crate::race::Settings;
use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which peers take part in which workload; `peers/workloads.py` has a function for each pair.
const TABLE: &[(&str, &[&str])] = &[
    ("resample-linear", &["SimpleITK", "scipy", "torch", "MONAI"]),
    ("resample-cubic", &["SimpleITK", "scipy"]),
    ("resample-nearest", &["SimpleITK", "scipy"]),
    ("resample-antialias", &["SimpleITK", "scikit-image"]),
    ("label-6", &["cc3d", "SimpleITK", "scipy"]),
    ("label-26", &["cc3d", "SimpleITK", "scipy"]),
    ("dilate-box", &["SimpleITK", "scipy"]),
    ("close-ball-2", &["scipy", "scipy-distance", "SimpleITK"]),
    ("close-ball-5", &["scipy", "scipy-distance", "SimpleITK"]),
    ("close-ball-10", &["scipy-distance", "SimpleITK"]),
    ("fill-holes", &["fill_voids", "SimpleITK", "scipy"]),
    ("distance", &["edt", "SimpleITK", "scipy"]),
    ("gaussian", &["SimpleITK", "scipy"]),
    ("normalise", &["numpy"]),
    ("lungs", &["SimpleITK", "scipy"]),
    ("overlap", &["MONAI", "SimpleITK"]),
    ("shape", &["PyRadiomics"]),
    ("augment-affine", &["batchgeneratorsv2", "MONAI", "TorchIO", "scipy"]),
    ("augment-elastic", &["batchgeneratorsv2", "MONAI", "TorchIO"]),
    ("augment-full", &["batchgeneratorsv2", "MONAI", "TorchIO"]),
    ("read-raw", &["pydicom", "SimpleITK"]),
    ("read-jpegls", &["pydicom", "SimpleITK"]),
    ("read-j2k", &["pydicom", "SimpleITK"]),
    ("read-rle", &["pydicom", "SimpleITK"]),
    ("froc", &["LUNA16"]),
    ("auc", &["numpy", "scikit-learn"]),
    ("kappa", &["scikit-learn"]),
    ("trace-200", &["StrictDoc", "Doorstop"]),
    ("trace-2000", &["StrictDoc", "Doorstop"]),
    ("nets-lung-forward", &["torch", "onnxruntime"]),
    ("nets-lung-step", &["torch"]),
    ("nets-detector-forward", &["torch", "onnxruntime"]),
    ("nets-detector-step", &["torch"]),
    ("nets-classifier-forward", &["torch", "onnxruntime"]),
    ("nets-classifier-step", &["torch"]),
];

/// Names of the peers of a workload.
pub fn of(workload: &str) -> &'static [&'static str] {
    TABLE.iter().find(|(name, _)| *name == workload).map_or(&[], |(_, peers)| peers)
}

/// The command that runs a peer as a contestant.
pub fn command(settings: &Settings, workload: &str, peer: &str) -> anyhow::Result<Command> {
    let set = match peer {
        "PyRadiomics" => Set::PyRadiomics,
        "StrictDoc" | "Doorstop" => Set::Trace,
        _ => Set::Main,
    };
    let python = match &settings.python {
        Some(python) => python.clone(),
        None => environment(&settings.folder, set)?,
    };
    let threads = settings.threads.to_string();
    let mut command = Command::new(python);
    command.arg(scripts().join("contest.py")).args([workload, peer]).arg(&settings.folder).arg(&threads);
    command.env("LUNGAI_DEVICE", settings.device.to_string());
    command.env("LUNGAI_PRECISION", if settings.bf16 { "bf16" } else { "f32" });
    for key in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] {
        command.env(key, &threads);
    }
    Ok(command)
}

/// Packs the raw series as JPEG-LS, JPEG 2000 and RLE.
pub fn transcode(folder: &Path) -> anyhow::Result<()> {
    if folder.join("data/series/rle/000300.dcm").exists() {
        return Ok(());
    }
    let python = environment(folder, Set::Main)?;
    let status = Command::new(python).arg(scripts().join("transcode.py")).arg(folder.join("data/series")).status()?;
    if status.success() { Ok(()) } else { bail!("the series could not be packed") }
}

/// PyRadiomics 3.0.1 needs numpy 1, the others need numpy 2; tools of requirements need none of gigabytes.
#[derive(Clone, Copy)]
enum Set {
    Main,
    PyRadiomics,
    Trace,
}

/// The Python of a virtual environment with the peers, which is made if it is not there.
fn environment(folder: &Path, set: Set) -> anyhow::Result<PathBuf> {
    let (name, requirements, steps): (&str, &str, &[&[&str]]) = match set {
        Set::Main => ("venv", "requirements.txt", &[]),
        Set::Trace => ("venv-trace", "requirements-trace.txt", &[]),
        // Its build uses what it does not declare.
        Set::PyRadiomics => {
            ("venv-pyradiomics", "requirements-pyradiomics.txt", &[&["--no-build-isolation", "pyradiomics==3.0.1"]])
        }
    };
    let venv = folder.join(name);
    let python = venv.join("bin/python");
    let requirements = scripts().join(requirements);
    let wanted = fs::read_to_string(&requirements)?;
    let stamp = venv.join("requirements.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    eprintln!("making the peers' environment in {} (a download of up to some gigabytes, kept)", venv.display());
    let run = |command: &mut Command, what: &str| {
        let status =
            command.stdout(Stdio::null()).status().with_context(|| format!("{what}: is python3 installed?"))?;
        if status.success() { Ok(()) } else { bail!("{what} failed; see above") }
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv), "python3 -m venv")?;
    let pip = || {
        let mut command = Command::new(&python);
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        command
    };
    run(pip().arg("-r").arg(&requirements), "pip install")?;
    for step in steps {
        run(pip().args(*step), "pip install")?;
    }
    fs::write(stamp, wanted)?;
    Ok(python)
}

/// Beside the sources or, where this program was carried to another machine, below the folder it lies in.
fn scripts() -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let carried = || Some(std::env::current_exe().ok()?.parent()?.join("crates/lungai-bench/peers"));
    if sources.exists() { sources } else { carried().unwrap_or(sources) }
}
