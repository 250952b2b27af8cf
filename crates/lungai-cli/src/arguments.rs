//! The command line, and the text that `--help` teaches with.

use clap::{Args, Parser, Subcommand, ValueEnum};
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
  cargo xtask ct info scan/                       what is in a folder, and whether it is fit for analysis
  cargo xtask ct convert scan/ scan.nii.gz        DICOM to NIfTI; geometry is kept, nothing is resampled
  cargo xtask analyze scan/ --models demo/models/lungai-phantom/0.1.0 --out result/
  cargo xtask dataset make datasets/phantom-quick.yaml --out data/quick
  cargo xtask dataset import luna16 --help        LUNA16, LIDC-IDRI, your own folders or a Decathlon task become a data set
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
    /// Make a synthetic data set, import others'; check, lock, plan, describe and store any data set.
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
    #[command(after_help = "Example: cargo xtask ct info scan.zip --json | jq '.series[].quality.verdict'")]
    Info(Info),
    /// The stored values of one DICOM file, before rescale.
    #[command(after_help = "Example: cargo xtask ct decode IM0001 --json")]
    Decode(Decode),
    /// From any kind to a DICOM folder, .mha, .mhd, .nii, .nii.gz, .nrrd or .nhdr.
    #[command(after_help = "\
Examples:
  cargo xtask ct convert scan/ scan.nrrd
  cargo xtask ct convert scan.mhd series/         a name without a known extension, or with a slash, is a DICOM folder")]
    Convert(Convert),
    /// Lung mask: 0 background, 1 right, 2 left. Classical, or by the network of --models.
    #[command(after_help = "Example: cargo xtask ct lungs scan/ --out lungs.nii.gz")]
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
  cargo xtask analyze scan/ --models demo/models/lungai-phantom/0.1.0 --out result/
  cargo xtask analyze scan/ --models demo/models/lungai-phantom/0.1.0 --out result/ --operating-point 0.2    more sensitive, more false positives
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
    #[command(after_help = "\
Examples:
  cargo xtask dataset make datasets/phantom-small.yaml --out data/phantom-small
  cargo xtask dataset make datasets/phantom-8c.yaml --out data/phantom-8c --on-demand test")]
    Make(Make),
    /// Measure how hard a recipe's scans are for two detectors without training, compare it with published figures, and draw
    /// a page of slices to look at. Takes minutes; exit code 3 where a rule is broken.
    #[command(
        after_help = "Example: cargo xtask dataset difficulty datasets/phantom-small.yaml --out reports/difficulty"
    )]
    Difficulty(DifficultyCheck),
    /// Import a set that others made. Images are not changed, and not copied unless asked for.
    ///
    /// Reads every series once; an interrupted import goes on where it stopped. Patients that have a split keep it.
    Import {
        #[command(subcommand)]
        kind: ImportKind,
    },
    /// Compare with dataset.lock if there is one; then open every case, compare checksums, grids and positions. Of a recipe:
    /// measure how hard it is, as `difficulty` does.
    ///
    /// Exit code 4: a file is changed, gone or new.
    #[command(after_help = "\
Examples:
  cargo xtask dataset check data/phantom-small/manifest.yaml
  cargo xtask dataset check datasets/phantom-8c.yaml --out reports/phantom-8c")]
    Check(Check),
    /// One hash that changes with any voxel, label, nodule or split: computed from the manifest's own checksums, in no time.
    /// Whether the files still have them says `check`.
    #[command(after_help = "Example: cargo xtask dataset fingerprint data/phantom-small --json")]
    Fingerprint(Manifest),
    /// Hash every file and write dataset.lock, which `sha256sum -c` can check too.
    #[command(after_help = "Example: cargo xtask dataset lock data/phantom-small")]
    Lock(Manifest),
    /// Measure the training cases (spacing, sizes, HU) and derive grid, patch and batch by nnU-Net's rules.
    #[command(after_help = "Example: cargo xtask dataset plan data/luna16 --json > plan.json")]
    Plan(Plan),
    /// Describe the set as Croissant 1.0 JSON-LD, without patients' pseudonyms.
    #[command(after_help = "\
Example: cargo xtask dataset croissant data/phantom-small --url https://example.org/phantom-small --date 2026-01-31 > croissant.json")]
    Croissant(Croissant),
    /// Fill a patch store: one memory-mapped file per scan, from which training reads patches without decoding a series.
    #[command(after_help = "Example: cargo xtask dataset store data/luna16 --out cache/ --spacing 1.0")]
    Store(Store),
    /// Let three simulated readers mark a synthetic set: small and faint nodules are missed, marks lie a little off, ratings
    /// differ. For studies of reference standards and of agreement.
    #[command(after_help = "\
Examples:
  cargo xtask dataset readers data/phantom-8c --out readings/
  cargo xtask stats kappa --csv readings/ratings.csv --json")]
    Readers(Readers),
}

/// Third word after `dataset import`.
#[derive(Debug, Subcommand)]
pub enum ImportKind {
    /// LUNA16: MetaImage in subset folders, annotations.csv, annotations_excluded.csv.
    #[command(after_help = "\
Example: cargo xtask dataset import luna16 --config datasets/import-luna16.yaml --images LUNA16/ --annotations LUNA16/annotations.csv \\
           --excluded LUNA16/annotations_excluded.csv --patients LIDC-IDRI-mapping.txt --out data/luna16")]
    Luna16(ImportLuna16),
    /// LIDC-IDRI: DICOM folders and XML files of four readers, joined by the configuration's consensus.
    #[command(after_help = "\
Example: cargo xtask dataset import lidc --config datasets/import-lidc.yaml --images LIDC-IDRI/ --xml LIDC-IDRI/ --out data/lidc")]
    Lidc(ImportLidc),
    /// A folder of series, and a table whose columns the configuration explains (or a folder of SERIES.csv in our own format).
    #[command(after_help = "\
Example: cargo xtask dataset import folder --config datasets/import-folder.yaml --images scans/ --annotations nodules.csv --out data/ours")]
    Folder(ImportFolder),
    /// Medical Segmentation Decathlon: dataset.json, imagesTr and labelsTr in NIfTI.
    #[command(after_help = "\
Example: cargo xtask dataset import msd --config datasets/import-msd.yaml --images Task06_Lung/ --out data/msd-lung")]
    Msd(ImportFrom),
}

/// What every import needs.
#[derive(Debug, Args)]
pub struct ImportFrom {
    /// The configuration (YAML); one of each kind lies in datasets/.
    #[arg(long, value_name = "YAML")]
    pub config: PathBuf,
    /// Folder of the images.
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// Table of series and patients, where the configuration says `patients: { by: table }`.
    #[arg(long, value_name = "CSV")]
    pub patients: Option<PathBuf>,
    /// Folder of the data set; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Copy the images into the data set, so that it can be moved.
    #[arg(long)]
    pub copy: bool,
}

/// `dataset import luna16`
#[derive(Debug, Args)]
pub struct ImportLuna16 {
    #[command(flatten)]
    pub from: ImportFrom,
    /// seriesuid,coordX,coordY,coordZ,diameter_mm; also .csv.gz.
    #[arg(long, value_name = "CSV")]
    pub annotations: PathBuf,
    /// The same columns; findings that scoring ignores.
    #[arg(long, value_name = "CSV")]
    pub excluded: Option<PathBuf>,
}

/// `dataset import lidc`
#[derive(Debug, Args)]
pub struct ImportLidc {
    #[command(flatten)]
    pub from: ImportFrom,
    /// Folder of the XML files, searched recursively.
    #[arg(long, value_name = "DIR")]
    pub xml: PathBuf,
}

/// `dataset import folder`
#[derive(Debug, Args)]
pub struct ImportFolder {
    #[command(flatten)]
    pub from: ImportFrom,
    /// The table, or a folder of tables in our own format; without it nothing is known of nodules.
    #[arg(long, value_name = "CSV|DIR")]
    pub annotations: Option<PathBuf>,
}

/// `dataset check`
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub set: Manifest,
    /// Compare files with dataset.lock and open no image: seconds, not hours.
    #[arg(long)]
    pub lock_only: bool,
    /// Of a recipe: folder for its figures and its page of slices; NAME-difficulty by default.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `dataset plan`
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    pub set: Manifest,
    /// Voxels that one batch may have.
    #[arg(long, default_value_t = 2 * 128 * 128 * 128)]
    pub batch_voxels: usize,
    /// Edges of a patch are multiples of this.
    #[arg(long, default_value_t = 16)]
    pub divisor: usize,
    /// Patches in a batch at least.
    #[arg(long, default_value_t = 2)]
    pub batch_at_least: usize,
}

/// `dataset croissant`
#[derive(Debug, Args)]
pub struct Croissant {
    #[command(flatten)]
    pub set: Manifest,
    /// Where the set is published.
    #[arg(long)]
    pub url: String,
    /// Since when, YYYY-MM-DD.
    #[arg(long)]
    pub date: String,
}

/// `dataset store`
#[derive(Debug, Args)]
pub struct Store {
    #[command(flatten)]
    pub set: Manifest,
    /// Folder of the store; several data sets may share one.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Resample to cubes of this edge in mm; otherwise the scans keep their grids.
    #[arg(long, value_name = "MM")]
    pub spacing: Option<f64>,
}

/// `dataset readers`
#[derive(Debug, Args)]
pub struct Readers {
    #[command(flatten)]
    pub set: Manifest,
    /// Folder for each reader's marks, their consensus and their ratings; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which readers: another number, other opinions.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `dataset make`
#[derive(Debug, Args)]
pub struct Make {
    /// The recipe (YAML).
    pub recipe: PathBuf,
    /// Folder of the data set.
    #[arg(long)]
    pub out: PathBuf,
    /// Store no images of these cases (all, if no word follows); they are computed when they are opened, at some seconds each.
    #[arg(long, value_name = "CASES", num_args = 0..=1, default_missing_value = "all")]
    pub on_demand: Option<OnDemand>,
    /// Also store label maps of lobes, airways, vessels and each nodule with the stored cases.
    #[arg(long)]
    pub masks: bool,
}

/// Cases without stored images.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OnDemand {
    /// The test cases.
    Test,
    /// Every case.
    All,
}

/// `dataset difficulty`
#[derive(Debug, Args)]
pub struct DifficultyCheck {
    /// The recipe (YAML).
    pub recipe: PathBuf,
    /// Folder for difficulty.json and slices.png; made if it does not exist.
    #[arg(long)]
    pub out: PathBuf,
    /// Rules, settings and anchors instead of validation/difficulty.yaml as it was built in.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
}

/// The set that a verb looks at.
#[derive(Debug, Args)]
pub struct Manifest {
    /// A manifest.yaml, or the folder that holds it.
    pub manifest: PathBuf,
}
