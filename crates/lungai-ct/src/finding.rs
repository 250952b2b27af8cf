//! Nodules: those that the system found, and those that readers or the phantom know of.

use crate::{Lobe, WorldPoint};

/// Attenuation class of a nodule (Fleischner Society glossary).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoduleKind {
    /// Soft tissue throughout.
    Solid,
    /// Ground glass with a solid core.
    PartSolid,
    /// Ground glass: vessels stay visible through it.
    GroundGlass,
    /// Calcium, usually benign.
    Calcified,
}

impl NoduleKind {
    /// The name used in files: `solid`, `part-solid`, `ground-glass`, `calcified`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Solid => "solid",
            Self::PartSolid => "part-solid",
            Self::GroundGlass => "ground-glass",
            Self::Calcified => "calcified",
        }
    }

    /// Inverse of [`NoduleKind::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Solid, Self::PartSolid, Self::GroundGlass, Self::Calcified].into_iter().find(|kind| kind.name() == name)
    }
}

/// A nodule of the reference standard.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceNodule {
    /// Name, unique within the scan.
    pub id: String,
    /// Centre.
    pub position: WorldPoint,
    /// Diameter in mm, of the sphere of equal volume where a volume is known.
    pub diameter_mm: f64,
    /// Volume in mm3, where known.
    pub volume_mm3: Option<f64>,
    /// Attenuation class, where known.
    pub kind: Option<NoduleKind>,
    /// Malignant by pathology, follow-up or the phantom's draw; `None` where unknown.
    pub malignant: Option<bool>,
    /// Probability of malignancy given all that an image shows, `0..=1`: known of phantoms only.
    pub malignancy_probability: Option<f64>,
    /// Spiculation from 0 (smooth) to 1 (marked), where known.
    pub spiculation: Option<f64>,
    /// The lobe that it lies in, where known.
    pub lobe: Option<Lobe>,
    /// Longest diameter in mm on the axial section of largest area, where known.
    pub long_axis_mm: Option<f64>,
    /// Diameter in mm at right angles to it on the same section, where known.
    pub short_axis_mm: Option<f64>,
    /// Volume doubling time in days since the patient's first scan, where known: infinite where the volume did not change,
    /// negative where it shrank.
    pub doubling_days: Option<f64>,
    /// Excluded from scoring: neither a hit nor a false positive (LUNA16's irrelevant findings).
    pub excluded: bool,
}

impl ReferenceNodule {
    /// A nodule of which only place and diameter in mm are known, to be scored.
    pub fn at(position: WorldPoint, diameter_mm: f64) -> Self {
        Self {
            id: String::new(),
            position,
            diameter_mm,
            volume_mm3: None,
            kind: None,
            malignant: None,
            malignancy_probability: None,
            spiculation: None,
            lobe: None,
            long_axis_mm: None,
            short_axis_mm: None,
            doubling_days: None,
            excluded: false,
        }
    }
}

/// Diameter in mm of the sphere of a volume in mm3.
pub fn sphere_diameter_mm(volume_mm3: f64) -> f64 {
    (6.0 * volume_mm3 / std::f64::consts::PI).cbrt()
}

/// A nodule that the system reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// `1`, `2`, ... by falling score.
    pub id: u32,
    /// Centre.
    pub position: WorldPoint,
    /// Extent along patient `[x, y, z]` in mm.
    pub size_mm: [f64; 3],
    /// Diameter in mm of the sphere of equal volume.
    pub diameter_mm: f64,
    /// Volume in mm3.
    pub volume_mm3: f64,
    /// Detector score, `0..=1`.
    pub score: f64,
    /// Risk estimate.
    pub malignancy: Malignancy,
    /// What was measured on the voxels.
    pub characteristics: Characteristics,
}

/// A risk estimate, never a diagnosis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Malignancy {
    /// Calibrated probability, `0..=1`.
    pub probability: f64,
    /// The class that the probability falls into.
    pub class: MalignancyClass,
    /// `0..=1`: distance of the probability from the undecided 0.5, doubled.
    pub confidence: f64,
}

/// Risk classes of a malignancy probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MalignancyClass {
    /// Below 0.3.
    Low,
    /// From 0.3 to below 0.7.
    Intermediate,
    /// 0.7 and above.
    High,
}

impl MalignancyClass {
    /// `low`, `intermediate` or `high`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Intermediate => "intermediate",
            Self::High => "high",
        }
    }
}

impl Malignancy {
    /// # Panics
    /// If `probability` is not within `0..=1`.
    pub fn from_probability(probability: f64) -> Self {
        assert!((0.0..=1.0).contains(&probability), "a probability, not {probability}");
        let class = match probability {
            p if p < 0.3 => MalignancyClass::Low,
            p if p < 0.7 => MalignancyClass::Intermediate,
            _ => MalignancyClass::High,
        };
        Self { probability, class, confidence: (2.0 * probability - 1.0).abs() }
    }
}

/// Measures of a segmented nodule; one that could not be measured is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Characteristics {
    /// Sphericity from mesh volume and area as PyRadiomics defines it, `0..=1`.
    pub sphericity: Option<f64>,
    /// Mean of the nodule's voxels in HU.
    pub mean_hu: Option<f64>,
    /// Standard deviation of the nodule's voxels in HU.
    pub texture_sd_hu: Option<f64>,
    /// Mean HU gradient across the border, in HU per mm.
    pub edge_sharpness: Option<f64>,
    /// Attenuation class by the share of solid voxels.
    pub kind: Option<NoduleKind>,
}
