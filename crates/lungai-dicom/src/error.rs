//! Every reason for which a file or a series is refused.

use serde::{Deserialize, Serialize};

/// Why a file, a series or a whole input was refused. Messages name the rule and the value, never the
/// patient, and never text that was read from the file's free-text fields.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each message says what its fields are")]
pub enum DicomError {
    // The input as a whole.
    #[error("the operating system could not read or write the file: {kind}")]
    Io { kind: String },
    #[error("no files")]
    Empty,
    #[error("none of {files} files holds a slice of an axial CT series (most frequent reason: {mostly})")]
    NoCtSeries { files: usize, mostly: String },
    #[error("more than {limit} files in one input")]
    TooManyFiles { limit: usize },
    #[error("more than {limit} frames and archive entries in one input")]
    TooManyFrames { limit: usize },
    #[error("folders are nested deeper than {limit}")]
    FoldersTooDeep { limit: usize },
    #[error(
        "slices of {rows} x {columns} pixels; a DICOM image has at most 65535 rows and columns, and 2^28 pixels are read back"
    )]
    SliceTooLarge { rows: usize, columns: usize },
    #[error("the output folder is not empty; a series needs a folder of its own")]
    FolderNotEmpty,

    // One file's container.
    #[error("the file changed while it was read; read it again once it is complete")]
    Changed,
    #[error("neither a DICOM file with its meta information, nor a zip, tar or tar.gz of such files")]
    NotDicom,
    #[error("not a regular file")]
    NotAFile,
    #[error("{bytes} bytes; at most {limit} are read from one file")]
    FileTooLarge { bytes: u64, limit: u64 },
    #[error("the archive is damaged or of an unsupported kind; zip, tar and tar.gz are read")]
    DamagedArchive,
    #[error("an archive within an archive is not opened")]
    NestedArchive,
    #[error("the archive entry is encrypted")]
    EncryptedEntry,
    #[error("the archive unpacks to {bytes} bytes; the limit is {limit}")]
    ArchiveTooLarge { bytes: u64, limit: u64 },
    #[error("the archive unpacks to {ratio} times its size; the limit is {limit}")]
    CompressionRatio { ratio: u64, limit: u64 },
    #[error("the archive entry unpacks to more than the {declared} bytes it declares")]
    EntryLongerThanDeclared { declared: u64 },

    // One file's structure.
    #[error("element ({group:04x},{element:04x}) declares {declared} bytes where {left} are left")]
    Truncated { group: u16, element: u16, declared: u64, left: u64 },
    #[error("sequences are nested deeper than {limit}")]
    NestedTooDeep { limit: usize },
    #[error("more than {limit} data elements")]
    TooManyElements { limit: usize },
    #[error("the deflated data set is damaged")]
    DamagedDeflate,
    #[error("the deflated data set unpacks to more than {limit} bytes")]
    DeflateTooLarge { limit: u64 },
    #[error("the data set cannot be parsed")]
    DamagedDataSet,
    #[error("required attribute {name} is missing or empty")]
    MissingTag { name: String },
    #[error("attribute {name} cannot be read as its type demands")]
    BadTag { name: String },
    #[error("transfer syntax {uid} is not supported")]
    TransferSyntax { uid: String },

    /// A rule that one file of many breaks. Files may be called after patients; their order tells nothing.
    #[error("file {file} of {files} {order}: {reason}")]
    InFile { file: usize, files: usize, order: String, reason: Box<DicomError> },

    // One file's kind.
    #[error("modality {modality}, not CT")]
    NotCt { modality: String },
    #[error("SOP class {sop_class} is not CT Image Storage")]
    NotCtImage { sop_class: String },
    #[error("localizer image")]
    Localizer,

    // One file's pixels.
    #[error("no pixel data")]
    NoPixels,
    #[error("{rows} x {columns} x {frames} pixels; at most {limit} are decoded from one file")]
    TooManyPixels { rows: u32, columns: u32, frames: u32, limit: u64 },
    #[error("a frame of {rows} x {columns} pixels takes {needs} bytes to decode; a file of this size may take {limit}")]
    FrameTooLarge { rows: u32, columns: u32, needs: u64, limit: u64 },
    #[error("{found} bytes of pixel data where the image attributes demand {expected}")]
    PixelLength { expected: u64, found: u64 },
    #[error("{allocated} bits allocated, {stored} stored, high bit {high_bit}: not a layout that is read")]
    PixelLayout { allocated: u16, stored: u16, high_bit: u16 },
    #[error("photometric interpretation {photometric} with {samples} samples per pixel; CT needs MONOCHROME2 with one")]
    NotGreyscale { photometric: String, samples: u16 },
    #[error("{fragments} compressed fragments cannot be assigned to {frames} frames")]
    Fragments { fragments: usize, frames: u32 },
    #[error("the compressed image is {stream_rows} x {stream_columns}, its header says {rows} x {columns}")]
    StreamSize { stream_rows: u32, stream_columns: u32, rows: u32, columns: u32 },
    #[error("the compressed pixel data of frame {frame} are damaged or of an unsupported kind")]
    DamagedPixels { frame: u32 },

    #[error("RescaleType is not HU: the values stand for something else than CT numbers")]
    NotHounsfield,
    #[error("both a Modality LUT and RescaleSlope or RescaleIntercept; which one is meant is not said")]
    AmbiguousRescale,
    #[error("Modality LUT: {reason}")]
    ModalityLut { reason: String },

    // One series.
    #[error("series of a single slice; a volume needs at least two")]
    SingleSlice,
    #[error("{plane} slices (normal {degrees:.1} degrees off the body's axis); only axial series are read")]
    NonAxial { plane: String, degrees: f64 },
    #[error("{stacks} stacks and time points of frames in one series; only one stack makes a volume")]
    SeveralStacks { stacks: usize },
    #[error("slices of one series differ in {name}; a volume is of one patient, one study and one frame of reference")]
    MixedSeries { name: String },
    #[error("slices of different size: {first:?} and {other:?} (rows, columns)")]
    MixedSizes { first: [u32; 2], other: [u32; 2] },
    #[error("slices of different pixel spacing: {first:?} and {other:?} mm (rows, columns)")]
    MixedSpacing { first: [f64; 2], other: [f64; 2] },
    #[error("slice orientations differ by {deviation:.4} in a direction cosine")]
    MixedOrientation { deviation: f64 },
    #[error("{count} slices share a position with another one (first at {at_mm:.3} mm)")]
    DuplicateSlices { count: usize, at_mm: f64 },
    #[error("{missing} slices are missing: gaps of {max_mm:.3} mm in a series of {min_mm:.3} mm steps")]
    MissingSlices { missing: usize, min_mm: f64, max_mm: f64 },
    #[error(
        "slice gaps range from {min_mm:.3} to {max_mm:.3} mm; a volume needs equal gaps, and no slice 0.5 mm off its place"
    )]
    UnevenGaps { min_mm: f64, max_mm: f64 },
    #[error("the stack leans by {degrees:.2} degrees against its slices (tilted gantry)")]
    GantryTilt { degrees: f64 },
    #[error("a slice lies {off_mm:.2} mm beside the line through the others")]
    Misaligned { off_mm: f64 },
    #[error("{voxels} voxels in the series; the limit is {limit}")]
    SeriesTooLarge { voxels: u64, limit: u64 },
    #[error("the series of this input have {voxels} voxels or more together; the limit is {limit}")]
    InputTooLarge { voxels: u64, limit: u64 },
    #[error("{reason}")]
    Geometry { reason: String },

    // The worker process.
    #[error("decoding is not possible: this program did not call lungai_dicom::worker::init() first in main")]
    WorkerNotInitialised,
    #[error("the decoding process could not be started: {kind}")]
    WorkerStart { kind: String },
    #[error("decoding took more than {limit_s} s of computing")]
    TooSlow { limit_s: u64 },
    #[error(
        "the decoding process gave no answer within {waited_s} s; is the machine busy with other work, or its disk gone?"
    )]
    NoAnswer { waited_s: u64 },
    #[error(
        "the decoding process ended while it read the file ({how}): out of memory, of which it has at most {limit_mib} MiB, or a fault of a decoder"
    )]
    WorkerDied { how: String, limit_mib: u64 },
    #[error("a fault of this program while it read the file")]
    Fault,
    #[error("the decoding process answered out of order")]
    WorkerReply,
}

impl DicomError {
    /// The rule's stable kebab-case name, such as `uneven-gaps`.
    pub fn rule(&self) -> String {
        let value = serde_json::to_value(self.cause()).unwrap_or_default();
        value["rule"].as_str().unwrap_or("dicom").to_owned()
    }

    /// The broken rule itself, whichever file breaks it.
    pub fn cause(&self) -> &Self {
        match self {
            Self::InFile { reason, .. } => reason.cause(),
            rule => rule,
        }
    }

    pub(crate) fn missing(name: &str) -> Self {
        Self::MissingTag { name: name.to_owned() }
    }

    pub(crate) fn bad(name: &str) -> Self {
        Self::BadTag { name: name.to_owned() }
    }
}

impl From<std::io::Error> for DicomError {
    fn from(error: std::io::Error) -> Self {
        // Only the kind: the text may carry a path, and paths may carry names.
        Self::Io { kind: error.kind().to_string() }
    }
}
