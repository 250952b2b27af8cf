//! `manifest.json`: what a frozen model is.

use crate::{classifier::ClassifierConfig, detector::DetectorConfig, lung::LungConfig, reducer::ReducerConfig};
use lungai_runs::{Code, DataOrigin};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The manifest. Every field is required; unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 1.
    pub schema: u32,
    /// Model name.
    pub name: String,
    /// Model version.
    pub version: String,
    /// Whether any training data was synthetic.
    pub synthetic: bool,
    /// What the model may be used for.
    pub intended_use: String,
    /// What a scan must be like.
    pub input_contract: String,
    /// Shapes of the networks.
    pub networks: NetworkConfigs,
    /// Number format of the weights file.
    pub weights: Storage,
    /// Score thresholds by name, `0..=1`; `default` must be there.
    pub operating_points: BTreeMap<String, f64>,
    /// From the classifier's logit to a probability.
    pub calibration: Calibration,
    /// How each network was trained, by network name; of averaged networks the first.
    pub training: BTreeMap<String, Training>,
    /// Networks that are several, averaged, by network name; and a reducer behind several detectors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ensembles: BTreeMap<String, Ensemble>,
    /// The program that froze it.
    pub code: Code,
    /// Largest relative difference that the golden self-test allows.
    pub golden_tolerance: f64,
}

/// Number format of stored weights; networks compute in f32 with what comes out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// 32 bits.
    F32,
    /// Rounded to 16 bits: half the file.
    F16,
}

/// Shapes of the networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfigs {
    /// Lung segmentation.
    pub lung: LungConfig,
    /// Nodule detection.
    pub detector: DetectorConfig,
    /// Malignancy.
    pub classifier: ClassifierConfig,
    /// A second look at candidates, in models that have it: scores and thresholds are then those of detector and reducer
    /// together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reducer: Option<ReducerConfig>,
}

/// Several networks of one shape whose outputs are averaged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ensemble {
    /// How those after the first were trained, in their order.
    pub further: Vec<Training>,
    /// Their figures together, from which thresholds and calibration are.
    pub metrics: BTreeMap<String, f64>,
    /// What these figures rest on.
    pub basis: Basis,
    /// Cases behind them.
    pub cases: usize,
}

/// On which cases the figures of averaged networks were measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// No network has learned from any of the cases; all judged them together, as they do in use.
    HeldOut,
    /// Every case was learned from by some of the networks, and judged by the others only: the mean in use is of more
    /// networks, and steadier, than what was measured.
    OutOfFold,
}

/// Platt scaling: `probability = 1 / (1 + exp(-(slope * logit + intercept)))`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// 1 leaves the logit as it is.
    pub slope: f64,
    /// 0 leaves the logit as it is.
    pub intercept: f64,
}

/// Where a network came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Name of the run folder.
    pub run: String,
    /// SHA-256 of the resolved experiment file.
    pub experiment_sha256: String,
    /// What it was trained on.
    pub data: DataOrigin,
    /// Seed of the run.
    pub seed: u64,
    /// Optimiser steps behind the kept weights.
    pub steps: u64,
    /// Device, for example `cpu` or `cuda:0`.
    pub device: String,
    /// Worker threads.
    pub threads: usize,
    /// Held-out metrics of the kept weights, by name.
    pub metrics: BTreeMap<String, f64>,
    /// SHA-256 of the file that the weights were imported from, where another program trained them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_sha256: Option<String>,
    /// The resolved experiment.
    pub experiment: serde_json::Value,
    /// The program that trained it.
    pub code: Code,
}

/// Networks of one kind at most.
pub const MOST_MEMBERS: usize = 50;

impl Calibration {
    /// Changes nothing.
    pub const NONE: Self = Self { slope: 1.0, intercept: 0.0 };

    /// Probability of a logit.
    pub fn probability(&self, logit: f64) -> f64 {
        1.0 / (1.0 + (-(self.slope * logit + self.intercept)).exp())
    }
}

impl Manifest {
    /// `NAME/VERSION`, as it lies in a registry.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }

    /// What a manifest promises beyond its types.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.schema != 1 {
            return Err(format!("schema {} is not 1", self.schema));
        }
        self.operating_points.get("default").ok_or("no operating point `default`")?;
        for (name, threshold) in &self.operating_points {
            if !(0.0..=1.0).contains(threshold) {
                return Err(format!("operating point `{name}` is {threshold}, not within 0..=1"));
            }
        }
        if !(self.calibration.slope.is_finite() && self.calibration.intercept.is_finite()) {
            return Err("calibration is not finite".into());
        }
        for (name, ensemble) in &self.ensembles {
            let known = ["lung", "detector", "classifier"].contains(&name.as_str())
                || (name == "reducer" && self.networks.reducer.is_some());
            // A single reducer has figures together with several detectors.
            let least = if name == "reducer" && self.ensembles.contains_key("detector") { 1 } else { 2 };
            let members = 1 + ensemble.further.len();
            if !known || !(least..=MOST_MEMBERS).contains(&members) {
                return Err(format!(
                    "ensemble `{name}` of {members}: no such network, or not {least} to {MOST_MEMBERS} of it"
                ));
            }
        }
        Ok(())
    }
}
