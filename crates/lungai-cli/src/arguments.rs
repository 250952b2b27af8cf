//! The command line, and the text that `--help` teaches with.

use clap::{Args, Parser, Subcommand};
use lungai_models::DeviceChoice;
use std::path::PathBuf;

/// What one does with a CT at a terminal.
#[derive(Debug, Parser)]
#[command(
    name = "lungai",
    version,
    about = "Inspect, convert, segment and analyse chest CT; make and check data sets."
)]
#[command(after_help = "\
A PATH is a DICOM folder (searched recursively), zip or file, or an .mha, .mhd, .nii, .nii.gz, .nrrd or .nhdr image.
Examples:
  lungai ct info scan/                       what is in a folder, and whether it is fit for analysis
  lungai ct convert scan/ scan.nii.gz        DICOM to NIfTI; geometry is kept, nothing is resampled
  lungai analyze scan/ --models demo/models/lungai-phantom/0.1.0 --out result/
  lungai dataset make datasets/phantom-quick.yaml --out data/quick
Not cleared for clinical use.")]
pub struct Arguments {
    /// Print one JSON object and nothing else on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

/// First word.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Look at, decode, convert or segment a CT.
    Ct {
        #[command(subcommand)]
        verb: CtVerb,
    },
    /// Find nodules and estimate their malignancy with a frozen model.
    Analyze(Analyze),
    /// Make a synthetic data set; check or fingerprint any data set.
    Dataset {
        #[command(subcommand)]
        verb: DatasetVerb,
    },
}

/// Second word after `ct`.
#[derive(Debug, Subcommand)]
pub enum CtVerb {
    /// Every series with geometry, HU statistics and the verdict of the quality gate.
    ///
    /// Exit code 0 also where the gate says reject: that is the answer, not a failure.
    #[command(after_help = "Example: lungai ct info scan.zip --json | jq '.series[].quality.verdict'")]
    Info(Info),
    /// The stored values of one DICOM file, before rescale.
    #[command(after_help = "Example: lungai ct decode IM0001 --json")]
    Decode(Decode),
    /// From any kind to a DICOM folder, .mha, .mhd, .nii, .nii.gz, .nrrd or .nhdr.
    #[command(after_help = "\
Examples:
  lungai ct convert scan/ scan.nrrd
  lungai ct convert scan.mhd series/         a name without a known extension, or with a slash, is a DICOM folder")]
    Convert(Convert),
    /// Lung mask: 0 background, 1 right, 2 left. Classical, or by the network of --models.
    #[command(after_help = "Example: lungai ct lungs scan/ --out lungs.nii.gz")]
    Lungs(Lungs),
}

/// `ct info`
#[derive(Debug, Args)]
pub struct Info {
    /// DICOM folder, zip or file, or research image.
    pub path: PathBuf,
}

/// `ct decode`
#[derive(Debug, Args)]
pub struct Decode {
    /// A DICOM file.
    pub file: PathBuf,
}

/// `ct convert`
#[derive(Debug, Args)]
pub struct Convert {
    /// DICOM folder, zip or file, or research image.
    pub input: PathBuf,
    /// Where to; the name decides the format.
    pub output: PathBuf,
    /// Write a .nii or .nii.gz as NIfTI-2: positions with 64 bits. Not every program reads it.
    #[arg(long)]
    pub nifti2: bool,
    #[command(flatten)]
    pub choice: Choice,
}

/// `ct lungs`
#[derive(Debug, Args)]
pub struct Lungs {
    /// DICOM folder, zip or file, or research image.
    pub path: PathBuf,
    /// The mask to write; the name decides the format.
    #[arg(long)]
    pub out: PathBuf,
    /// Frozen model (REGISTRY/NAME/VERSION), or a registry with one; without it the classical method runs.
    #[arg(long)]
    pub models: Option<PathBuf>,
    #[command(flatten)]
    pub engine: Engine,
    #[command(flatten)]
    pub choice: Choice,
}

/// `analyze`
#[derive(Debug, Args)]
#[command(after_help = "\
Writes findings.json, lungs.nii.gz and overview.png to the folder of --out.
Examples:
  lungai analyze scan/ --models demo/models/lungai-phantom/0.1.0 --out result/
  lungai analyze scan/ --models demo/models/lungai-phantom/0.1.0 --out result/ --operating-point 0.2    more sensitive, more false positives
Exit code 3: the quality gate rejects the scan. Exit code 4: the model is not what was frozen and signed.
Findings are marks for a physician to look at, never a diagnosis.")]
pub struct Analyze {
    /// DICOM folder, zip or file, or research image.
    pub path: PathBuf,
    /// Frozen model (REGISTRY/NAME/VERSION), or a registry with one.
    #[arg(long, default_value = "models")]
    pub models: PathBuf,
    /// Folder for the results; made if it does not exist.
    #[arg(long)]
    pub out: PathBuf,
    /// One of the model's named operating points, or a score threshold within 0..=1.
    #[arg(long, default_value = "default")]
    pub operating_point: String,
    #[command(flatten)]
    pub engine: Engine,
    #[command(flatten)]
    pub choice: Choice,
}

/// Where networks run, and whose models are believed.
#[derive(Debug, Args)]
pub struct Engine {
    /// auto, cpu or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Public key (PEM) of a signer; otherwise the keys in the registry's trusted-keys/.
    #[arg(long, value_name = "PEM")]
    pub trusted_key: Option<PathBuf>,
}

/// Which of several series.
#[derive(Debug, Args)]
pub struct Choice {
    /// Series Instance UID; otherwise the series with most voxels.
    #[arg(long, value_name = "UID")]
    pub series: Option<String>,
}

/// Second word after `dataset`.
#[derive(Debug, Subcommand)]
pub enum DatasetVerb {
    /// Make a synthetic data set from a recipe. May be interrupted: a second run goes on where the first stopped.
    #[command(after_help = "Example: lungai dataset make datasets/phantom-demo.yaml --out data/phantom-demo")]
    Make(Make),
    /// Open every case, compare checksums, grids and positions.
    #[command(after_help = "Example: lungai dataset check data/phantom-demo/manifest.yaml")]
    Check(Manifest),
    /// One hash that changes with any voxel, label, nodule or split.
    #[command(after_help = "Example: lungai dataset fingerprint data/phantom-demo --json")]
    Fingerprint(Manifest),
}

/// `dataset make`
#[derive(Debug, Args)]
pub struct Make {
    /// The recipe (YAML).
    pub recipe: PathBuf,
    /// Folder of the data set.
    #[arg(long)]
    pub out: PathBuf,
}

/// `dataset check`, `dataset fingerprint`
#[derive(Debug, Args)]
pub struct Manifest {
    /// A manifest.yaml, or the folder that holds it.
    pub manifest: PathBuf,
}
