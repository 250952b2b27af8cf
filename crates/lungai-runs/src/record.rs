//! What a run says of itself: on what data, where, by which program, and how well.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Held-out figures by name.
pub type Metrics = BTreeMap<String, f64>;

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// What it was trained on.
    pub data: DataOrigin,
    /// Whether that is synthetic.
    pub synthetic: bool,
    /// `cpu`, `cuda:0`, ...
    pub device: String,
    /// Worker threads.
    pub threads: usize,
    /// Floating-point type of weights and activations.
    pub precision: String,
    /// The program.
    pub code: Code,
    /// Where the weights come from, if not from training here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// Of a reducer, the detector whose candidates it learned from and was judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposer: Option<Proposer>,
}

/// A detector's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposer {
    /// Name of its run folder.
    pub run: String,
    /// SHA-256 of its weights file.
    pub weights_sha256: String,
}

/// A file of weights that another program trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// Its name, without folders.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// A data set, pinned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataOrigin {
    /// Name of the data set.
    pub name: String,
    /// SHA-256 of its manifest, which pins every series and the split.
    pub manifest_sha256: String,
}

/// The program behind a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Commit, or `unknown`.
    pub commit: String,
    /// Whether the working tree had changes that the commit does not hold.
    pub dirty: bool,
    /// SHA-256 of the dependency lock file, or `unknown`.
    pub lock_sha256: String,
    /// Compiler version, or `unknown`.
    pub toolchain: String,
}

/// `best.json`: the weights that a run is remembered by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Steps behind them.
    pub step: u64,
    /// Their figures.
    #[serde(deserialize_with = "null_is_nan")]
    pub metrics: Metrics,
}

/// `state.json` of a checkpoint: where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Evaluations since the best one.
    pub stale: u32,
    /// The best one so far.
    pub best: Option<Best>,
}

/// The figure that decides which weights of a network are kept; larger is better.
///
/// - `network`: `lung`, `detector`, `classifier` or `reducer`
pub fn selector(network: &str) -> Option<&'static str> {
    let known = [("lung", "dice"), ("detector", "cpm"), ("classifier", "auc"), ("reducer", "cpm")];
    known.iter().find(|(name, _)| *name == network).map(|(_, figure)| *figure)
}

/// JSON has no NaN: a figure without a value is written as null and is NaN again when read.
pub(crate) fn null_is_nan<'de, D: Deserializer<'de>>(input: D) -> Result<Metrics, D::Error> {
    let metrics = BTreeMap::<String, Option<f64>>::deserialize(input)?;
    Ok(metrics.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}
