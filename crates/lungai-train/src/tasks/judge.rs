//! Figures of networks on cases that they did not learn from, as training, importing and freezing measure them: always through
//! `lungai-pipeline`. A case may have judges of its own: where folds are averaged, those that have not seen it.

use crate::calibrate::platt;
use burn::tensor::Device;
use lungai_ct::{LabelMap, Lung, ReferenceNodule, Scan, Volume};
use lungai_datasets::Case;
use lungai_metrics::froc::{Interpolation, froc};
use lungai_metrics::matching::{Lesion, Mark, MatchRule};
use lungai_metrics::roc;
use lungai_models::classifier::{ClassifierConfig, ClassifierNet};
use lungai_models::detector::{DetectorConfig, DetectorNet};
use lungai_models::lung::{LungConfig, LungNet};
use lungai_models::reducer::{ReducerConfig, ReducerNet};
use lungai_pipeline::detect::{self, Candidate, Gate};
use lungai_pipeline::{MIN_DIAMETER_MM, classify, lungs, reduce};
use lungai_runs::Metrics;

/// Candidates below this score are not worth counting.
pub const EVALUATION_SCORE: f64 = 0.02;
/// False positives per scan at which thresholds are reported.
const RATES: [f64; 3] = [0.125, 0.5, 2.0];

/// A case and the networks whose mean is judged on it.
pub type Judged<'a, N> = (&'a Case, Vec<&'a N>);

/// One network on all cases.
pub fn alone<'a, N>(net: &'a N, cases: &'a [Case]) -> Vec<Judged<'a, N>> {
    cases.iter().map(|case| (case, vec![net])).collect()
}

/// Dice of each lung on the scans' own grids, mean over scans; `dice` is that of the worse side.
pub fn lung(judged: &[Judged<LungNet>], config: &LungConfig, device: &Device) -> anyhow::Result<Metrics> {
    let mut sums = [0.0; 2];
    for (case, nets) in judged {
        let scan = case.load_scan()?;
        let truth = case.load_lungs(scan.volume.geometry())?;
        let found = lungs::segment(nets, config, &scan.volume, device);
        for (sum, lung) in sums.iter_mut().zip([Lung::Left, Lung::Right]) {
            *sum += dice(&truth, &found, lung as u8);
        }
    }
    let [left, right] = sums.map(|sum| sum / judged.len() as f64);
    Ok(Metrics::from([("dice_left".into(), left), ("dice_right".into(), right), ("dice".into(), left.min(right))]))
}

/// FROC over whole scans by LUNA16's rules: `cpm`, and per rate the sensitivity and the score threshold.
pub fn detector(judged: &[Judged<DetectorNet>], config: &DetectorConfig, device: &Device) -> anyhow::Result<Metrics> {
    let mut scans = Vec::new();
    for (case, nets) in judged {
        let scan = case.load_scan()?;
        let found = candidates(nets, config, case, &scan, EVALUATION_SCORE, device)?;
        scans.push((marks(&found), lesions(case)?));
    }
    froc_figures(&scans, EVALUATION_SCORE)
}

/// As [`detector`], of the score that detector and reducer give together, and `cpm_before`: the detector's by itself.
///
/// - `found`: the detector's candidates in each of the cases, down to [`reduce::PROPOSAL_SCORE`]
pub fn reducer(
    judged: &[Judged<ReducerNet>],
    found: &[Vec<Candidate>],
    config: &ReducerConfig,
    device: &Device,
) -> anyhow::Result<Metrics> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for ((case, nets), found) in judged.iter().zip(found) {
        let scan = case.load_scan()?;
        let rescored = reduce::rescored(nets, config, &scan.volume, found, device);
        let lesions = lesions(case)?;
        before.push((marks(found), lesions.clone()));
        after.push((marks(&rescored), lesions));
    }
    let mut metrics = froc_figures(&after, 0.0)?;
    let before = froc(&before, &MatchRule::LUNA16)?;
    metrics.insert("cpm_before".into(), before.cpm(Interpolation::Linear));
    Ok(metrics)
}

/// `auc` and `log_likelihood` (mean, after Platt scaling), and that scaling itself.
pub fn classifier(
    judged: &[Judged<ClassifierNet>],
    config: &ClassifierConfig,
    device: &Device,
) -> anyhow::Result<Metrics> {
    let (mut logits, mut truth) = (Vec::new(), Vec::new());
    for (case, nets) in judged {
        let (scan, nodules) = (case.load_scan()?, labelled(case)?);
        let centres: Vec<_> = nodules.iter().map(|n| n.position).collect();
        logits.extend(classify::logits(nets, config, &scan.volume, &centres, device));
        truth.extend(nodules.iter().map(|n| n.malignant == Some(true)));
    }
    let auc = roc::auc(&logits, &truth, 0.95)?;
    let (calibration, log_likelihood) = platt(&logits, &truth);
    Ok(Metrics::from([
        ("auc".into(), auc.value),
        ("log_likelihood".into(), log_likelihood),
        ("platt_slope".into(), calibration.slope),
        ("platt_intercept".into(), calibration.intercept),
    ]))
}

/// Where the product would look: the true lungs in place of the network's, united with the classical region. A threshold that
/// was chosen behind a narrower gate would let more false positives through than it promises.
pub fn gate(case: &Case, volume: &Volume) -> anyhow::Result<Gate> {
    Ok(Gate::new(&[&case.load_lungs(volume.geometry())?, &lungai_imaging::lungs::segment(volume)]))
}

/// Candidates that the product would give, at [`gate`].
pub fn candidates(
    nets: &[&DetectorNet],
    config: &DetectorConfig,
    case: &Case,
    scan: &Scan,
    least: f64,
    device: &Device,
) -> anyhow::Result<Vec<Candidate>> {
    Ok(detect::candidates(nets, config, &scan.volume, &gate(case, &scan.volume)?, least, device))
}

/// Nodules whose malignancy is known.
pub fn labelled(case: &Case) -> anyhow::Result<Vec<ReferenceNodule>> {
    let wanted = |n: &ReferenceNodule| !n.excluded && n.malignant.is_some() && n.diameter_mm >= MIN_DIAMETER_MM;
    Ok(case.nodules()?.into_iter().filter(wanted).collect())
}

/// What marks are held against; what is too small to be reported is excluded.
pub fn lesions(case: &Case) -> anyhow::Result<Vec<Lesion>> {
    let lesion = |n: &ReferenceNodule| Lesion {
        position: n.position,
        diameter_mm: n.diameter_mm,
        excluded: n.excluded || n.diameter_mm < MIN_DIAMETER_MM,
    };
    Ok(case.nodules()?.iter().map(lesion).collect())
}

/// What is held against them.
pub fn marks(found: &[Candidate]) -> Vec<Mark> {
    found.iter().map(|c| Mark { position: c.position, score: c.score }).collect()
}

/// - `floor`: the lowest score that marks were looked for
fn froc_figures(scans: &[(Vec<Mark>, Vec<Lesion>)], floor: f64) -> anyhow::Result<Metrics> {
    let froc = froc(scans, &MatchRule::LUNA16)?;
    let mut metrics = Metrics::from([("cpm".into(), froc.cpm(Interpolation::Linear))]);
    for rate in RATES {
        let point = froc.operating_point(rate)?;
        metrics.insert(format!("sensitivity_at_{rate}"), point.sensitivity);
        metrics.insert(format!("threshold_at_{rate}"), point.threshold.clamp(floor, 1.0));
    }
    Ok(metrics)
}

/// Overlap of one label, 0 to 1.
pub fn dice(a: &LabelMap, b: &LabelMap, label: u8) -> f64 {
    let (mut both, mut total) = (0usize, 0usize);
    for (a, b) in a.as_slice().iter().zip(b.as_slice()) {
        both += usize::from(*a == label && *b == label);
        total += usize::from(*a == label) + usize::from(*b == label);
    }
    if total == 0 { 1.0 } else { 2.0 * both as f64 / total as f64 }
}
