//! What kind of patients are drawn.

use crate::{ConfigError, require};
use serde::{Deserialize, Serialize};

/// How patients are drawn. Complete: no field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseMix {
    /// Scales the density of mimics and vessels and the contrast of nodules.
    pub difficulty: Difficulty,
    /// Body size relative to a nominal adult (lungs of about 5 l), lowest and highest; each axis varies by a further 4 %.
    /// Within 0.6..=1.2.
    pub body_scale: [f64; 2],
    /// Mean number of nodules per patient (Poisson), 0..=50.
    pub nodules_mean: f64,
    /// Most nodules per patient, at most 100.
    pub nodules_max: usize,
    /// Median of the log-normal diameters in mm, before truncation.
    pub diameter_median_mm: f64,
    /// Standard deviation of the natural logarithm of what the diameter exceeds `diameter_offset_mm` by, 0..=2.
    pub diameter_log_sd: f64,
    /// Where the log-normal law begins in mm, from 0 to below the median: the third parameter of a distribution whose small
    /// sizes are cut off by what readers report.
    pub diameter_offset_mm: f64,
    /// Smallest and largest diameter in mm, within 3..=40: draws outside are repeated.
    pub diameter_range_mm: [f64; 2],
    /// Shares of the attenuation classes.
    pub kinds: KindShares,
    /// Share of nodules that touch the costal pleura, 0..=1.
    pub juxtapleural_share: f64,
    /// Share of nodules that touch a vessel, 0..=1; with the share above at most 1.
    pub juxtavascular_share: f64,
    /// Share of nodules in the upper lobes, 0..=1.
    pub upper_lobe_share: f64,
    /// Share of patients with emphysema, 0..=1.
    pub emphysema_share: f64,
    /// Share of patients with reticular fibrosis, 0..=1.
    pub fibrosis_share: f64,
    /// What may be taken for a nodule, per patient, before `difficulty`.
    pub mimics: MimicMeans,
}

/// Named settings of difficulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Difficulty {
    /// Mimics times 0.4, half of the vessels, no nodule on a vessel, subsolid nodules 60 HU denser.
    Easy,
    /// As configured.
    Standard,
    /// Mimics times 1.8, vessels times 1.5, three times as many nodules on vessels, subsolid nodules 100 HU fainter.
    Hard,
}

/// Shares of the attenuation classes; they need not sum to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindShares {
    /// Soft tissue.
    pub solid: f64,
    /// Ground glass with a solid core.
    pub part_solid: f64,
    /// Ground glass.
    pub ground_glass: f64,
    /// Calcified.
    pub calcified: f64,
}

/// Mean numbers per patient (Poisson), each 0..=50.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MimicMeans {
    /// Thickenings where a vessel branches.
    pub bifurcation_bulges: f64,
    /// Flat intrapulmonary lymph nodes with a septum to the pleura.
    pub lymph_nodes: f64,
    /// Fibrotic bands.
    pub scars: f64,
    /// Pleural plaques, some calcified.
    pub plaques: f64,
    /// Nodules below 3 mm: in the reference standard, but excluded from scoring.
    pub micronodules: f64,
    /// Bronchi filled with mucus.
    pub mucus_plugs: f64,
}

impl CaseMix {
    /// The shipped case mix: solid 72 %, part-solid 12 %, ground glass 10 %, calcified 6 %; diameters as those of the 1,186
    /// nodules of LUNA16 (5, 25, 50, 75, 95 %: 4.1, 5.1, 6.4, 9.7, 19.0 mm).
    pub fn preset(difficulty: Difficulty) -> Self {
        Self {
            difficulty,
            body_scale: [0.9, 1.02],
            nodules_mean: 3.0,
            nodules_max: 12,
            diameter_median_mm: 6.5,
            diameter_log_sd: 1.05,
            diameter_offset_mm: 3.4,
            diameter_range_mm: [3.0, 30.0],
            kinds: KindShares { solid: 0.72, part_solid: 0.12, ground_glass: 0.10, calcified: 0.06 },
            juxtapleural_share: 0.3,
            juxtavascular_share: 0.2,
            upper_lobe_share: 0.6,
            emphysema_share: 0.2,
            fibrosis_share: 0.05,
            mimics: MimicMeans {
                bifurcation_bulges: 8.0,
                lymph_nodes: 2.0,
                scars: 1.5,
                plaques: 1.0,
                micronodules: 3.0,
                mucus_plugs: 1.0,
            },
        }
    }

    /// # Errors
    /// [`ConfigError`] names the first field out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let [low, high] = self.body_scale;
        require((0.6..=1.2).contains(&low), "body_scale[0]", low, "within 0.6..=1.2")?;
        require((low..=1.2).contains(&high), "body_scale[1]", high, "within body_scale[0]..=1.2")?;
        require((0.0..=50.0).contains(&self.nodules_mean), "nodules_mean", self.nodules_mean, "within 0..=50")?;
        require(self.nodules_max <= 100, "nodules_max", self.nodules_max as f64, "at most 100")?;
        let [low, high] = self.diameter_range_mm;
        require((3.0..=40.0).contains(&low), "diameter_range_mm[0]", low, "within 3..=40")?;
        require((low..=40.0).contains(&high), "diameter_range_mm[1]", high, "within diameter_range_mm[0]..=40")?;
        let median = self.diameter_median_mm;
        require((low..=high).contains(&median), "diameter_median_mm", median, "within diameter_range_mm")?;
        require((0.0..=2.0).contains(&self.diameter_log_sd), "diameter_log_sd", self.diameter_log_sd, "within 0..=2")?;
        let offset = self.diameter_offset_mm;
        require((0.0..median).contains(&offset), "diameter_offset_mm", offset, "within 0..diameter_median_mm")?;
        let kinds = [
            ("kinds.solid", self.kinds.solid),
            ("kinds.part_solid", self.kinds.part_solid),
            ("kinds.ground_glass", self.kinds.ground_glass),
            ("kinds.calcified", self.kinds.calcified),
        ];
        for (field, share) in kinds {
            require((0.0..=1.0).contains(&share), field, share, "within 0..=1")?;
        }
        let sum: f64 = kinds.iter().map(|kind| kind.1).sum();
        require(sum > 0.0, "sum of kinds", sum, "above 0")?;
        let (pleural, vascular) = (self.juxtapleural_share, self.juxtavascular_share);
        require((0.0..=1.0).contains(&pleural), "juxtapleural_share", pleural, "within 0..=1")?;
        require(
            (0.0..=1.0 - pleural + 1e-9).contains(&vascular),
            "juxtavascular_share",
            vascular,
            "within 0..=1 and leave room for juxtapleural_share",
        )?;
        require(
            (0.0..=1.0).contains(&self.upper_lobe_share),
            "upper_lobe_share",
            self.upper_lobe_share,
            "within 0..=1",
        )?;
        let (emphysema, fibrosis) = (self.emphysema_share, self.fibrosis_share);
        require((0.0..=1.0).contains(&emphysema), "emphysema_share", emphysema, "within 0..=1")?;
        require((0.0..=1.0).contains(&fibrosis), "fibrosis_share", fibrosis, "within 0..=1")?;
        for (field, mean) in [
            ("mimics.bifurcation_bulges", self.mimics.bifurcation_bulges),
            ("mimics.lymph_nodes", self.mimics.lymph_nodes),
            ("mimics.scars", self.mimics.scars),
            ("mimics.plaques", self.mimics.plaques),
            ("mimics.micronodules", self.mimics.micronodules),
            ("mimics.mucus_plugs", self.mimics.mucus_plugs),
        ] {
            require((0.0..=50.0).contains(&mean), field, mean, "within 0..=50")?;
        }
        Ok(())
    }
}

impl Difficulty {
    pub(crate) fn mimic_factor(self) -> f64 {
        match self {
            Self::Easy => 0.4,
            Self::Standard => 1.0,
            Self::Hard => 1.8,
        }
    }

    pub(crate) fn vessel_factor(self) -> f64 {
        match self {
            Self::Easy => 0.5,
            Self::Standard => 1.0,
            Self::Hard => 1.5,
        }
    }

    /// On the share of nodules that touch a vessel. Mimics alone make nothing harder to judge: a mark on one counts for
    /// nothing. What hides a nodule does.
    pub(crate) fn on_vessel_factor(self) -> f64 {
        match self {
            Self::Easy => 0.0,
            Self::Standard => 1.0,
            Self::Hard => 3.0,
        }
    }

    /// Added to the HU of ground glass.
    pub(crate) fn subsolid_shift_hu(self) -> f64 {
        match self {
            Self::Easy => 60.0,
            Self::Standard => 0.0,
            Self::Hard => -100.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_mixes_are_valid_and_a_wrong_one_names_its_field() {
        for difficulty in [Difficulty::Easy, Difficulty::Standard, Difficulty::Hard] {
            assert_eq!(CaseMix::preset(difficulty).check(), Ok(()));
        }
        let mut mix = CaseMix::preset(Difficulty::Easy);
        mix.juxtapleural_share = 0.9;
        assert_eq!(mix.check().unwrap_err().field, "juxtavascular_share");
        mix.body_scale[0] = f64::NAN;
        assert_eq!(mix.check().unwrap_err().field, "body_scale[0]");
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let mut value = serde_json::to_value(CaseMix::preset(Difficulty::Hard)).unwrap();
        assert!(serde_json::from_value::<CaseMix>(value.clone()).is_ok());
        value["nodule_mean"] = 3.0.into();
        assert!(serde_json::from_value::<CaseMix>(value).unwrap_err().to_string().contains("nodule_mean"));
    }
}
