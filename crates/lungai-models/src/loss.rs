//! What the networks are trained to make small. All losses are means, so that they compare across batch sizes.

use crate::anchors::{MAX_LOG_RATIO, SCALE};
use crate::detector::{BOX_VALUES, DetectorOutput};
use crate::lung;
use crate::ops::mean_pool2;
use burn::tensor::{
    Tensor,
    activation::{log_sigmoid, log_softmax, sigmoid},
};

/// Weight of the nodule class in [`detector`]; background gets the rest.
const FOCAL_ALPHA: f64 = 0.75;

/// Cross entropy plus soft Dice over the two lungs, Dice over the whole batch (Isensee et al. 2021); of each deeply
/// supervised level half as much as of the one before, all together as much as of one.
///
/// - `logits`: `[b, 3, d, h, w]`, then of half the size each, see [`lung::LungNet::forward_deep`]
/// - `truth`: `[b, 3, d, h, w]`, one-hot
pub fn lung(logits: Vec<Tensor<5>>, mut truth: Tensor<5>) -> Tensor<1> {
    let levels = logits.into_iter().enumerate();
    let weighted = levels.map(|(level, logits)| {
        if level > 0 {
            truth = mean_pool2(truth.clone());
        }
        let weight = 0.5f64.powi(level as i32);
        (lung_level(logits, truth.clone()) * weight, weight)
    });
    let (loss, weight) = weighted.reduce(|(a, u), (b, v)| (a + b, u + v)).expect("the network has an output");
    loss / weight
}

fn lung_level(logits: Tensor<5>, truth: Tensor<5>) -> Tensor<1> {
    let log_p = log_softmax(logits, 1);
    let cross_entropy = -(log_p.clone() * truth.clone()).sum_dim(1).mean();
    let p = log_p.exp();
    let sums = |t: Tensor<5>| {
        let [b, c, d, h, w] = t.dims();
        t.reshape([b, c, d * h * w]).sum_dim(2).sum_dim(0).reshape([c]).narrow(0, 1, lung::CLASSES - 1)
    };
    let overlap = sums(p.clone() * truth.clone());
    let total = sums(p) + sums(truth);
    // One voxel of slack: an empty class in an empty patch is no error.
    let dice = (overlap * 2.0 + 1.0) / (total + 1.0);
    cross_entropy + 1.0 - dice.mean()
}

/// What the detector's loss counts beside the classes and offsets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectorRule {
    /// Background cells for each nodule cell of the batch, the worst ones; 0: all of them.
    pub hard_negatives: usize,
    /// Weight of [`diou`] beside the offsets; 0: not at all.
    pub overlap_weight: f64,
}

/// Focal loss (Lin et al. 2017, gamma 2) on the classes, smooth L1 on the boxes of the nodule cells and, where wanted, their
/// overlap; all divided by the number of nodule cells.
///
/// - `class`: `[b, anchors, cells..]`, 1 nodule, 0 background, -1 not judged
/// - `boxes`: `[b, anchors * BOX_VALUES, cells..]`
pub fn detector(output: DetectorOutput, class: Tensor<5>, boxes: Tensor<5>, rule: &DetectorRule) -> Tensor<1> {
    let nodule = class.clone().greater_elem(0.5).float();
    let background = class.equal_elem(0.0).float();
    let p = sigmoid(output.class.clone());
    let hit = log_sigmoid(output.class.clone()) * (-p.clone() + 1.0).powi_scalar(2) * nodule.clone();
    let quiet = log_sigmoid(-output.class) * p.powi_scalar(2) * background;
    let quiet = if rule.hard_negatives > 0 { worst(quiet, &nodule, rule.hard_negatives) } else { quiet };
    let count = nodule.clone().sum().clamp_min(1.0);
    let focal = -(hit * FOCAL_ALPHA + quiet * (1.0 - FOCAL_ALPHA)).sum() / count.clone();

    let [b, anchors, d, h, w] = nodule.dims();
    let shape = [b, anchors, BOX_VALUES, d * h * w];
    let (found, truth) = (output.boxes.reshape(shape), boxes.reshape(shape));
    let nodule = nodule.reshape([b, anchors, 1, d * h * w]);
    let error = (found.clone() - truth.clone()).abs();
    let small = error.clone().clamp_max(1.0);
    // 0.5 e^2 up to 1, e - 0.5 beyond: with s = min(e, 1) this is s (e - s / 2).
    let smooth = small.clone() * (error - small * 0.5) * nodule.clone();
    let mut boxes = smooth.sum();
    if rule.overlap_weight > 0.0 {
        boxes = boxes + (diou(found, truth) * nodule).sum() * rule.overlap_weight;
    }
    focal + boxes / count
}

/// Of `losses`, none above 0, the lowest `per_nodule` for each nodule cell, at least so many; the others become 0.
fn worst(losses: Tensor<5>, nodule: &Tensor<5>, per_nodule: usize) -> Tensor<5> {
    let cells: usize = losses.dims().iter().product();
    let nodules: f32 = nodule.clone().sum().into_scalar();
    let kept = (per_nodule * (nodules as usize).max(1)).min(cells);
    // Nothing has to flow back through the choice itself.
    let plain = losses.clone().detach();
    let limit = plain.clone().reshape([cells]).sort(0).narrow(0, kept - 1, 1).reshape([1, 1, 1, 1, 1]);
    let chosen = plain.lower_equal(limit.expand(losses.dims())).float();
    losses * chosen
}

/// 1 - DIoU (Zheng et al. 2020) of the cubes round two spheres: one less their overlap, more the further their centres lie
/// apart, in shares of the box that holds both.
///
/// - `found`, `truth`: codes of [`crate::anchors`], `[b, anchors, BOX_VALUES, cells]`; output `[b, anchors, 1, cells]`
fn diou(found: Tensor<4>, truth: Tensor<4>) -> Tensor<4> {
    // All in anchor diameters: how large the anchor is cancels.
    let centre = |codes: &Tensor<4>| codes.clone().narrow(2, 0, 3) * SCALE;
    let edge = |codes: &Tensor<4>| (codes.clone().narrow(2, 3, 1) * SCALE).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp();
    let ([c, t], [e, u]) = ([centre(&found), centre(&truth)], [edge(&found), edge(&truth)]);
    let half = |edge: &Tensor<4>| edge.clone() / 2.0;
    let (low, high) = ((c.clone() - half(&e), t.clone() - half(&u)), (c.clone() + half(&e), t.clone() + half(&u)));
    let shared = (high.0.clone().min_pair(high.1.clone()) - low.0.clone().max_pair(low.1.clone())).clamp_min(0.0);
    let [x, y, z] = [0, 1, 2].map(|axis| shared.clone().narrow(2, axis, 1));
    let overlap = x * y * z;
    let union = e.powi_scalar(3) + u.powi_scalar(3) - overlap.clone();
    let gap = (c - t).square().sum_dim(2);
    let diagonal = (high.0.max_pair(high.1) - low.0.min_pair(low.1)).square().sum_dim(2);
    -(overlap / union) + 1.0 + gap / diagonal
}

/// Binary cross entropy on malignancy with label smoothing, plus the helpers: attenuation class, log diameter,
/// spiculation. An entry without a label does not count.
///
/// - `outputs`: `[b, OUTPUTS]`
/// - `malignant`, `spiculation`: `[b]`, `0..=1`, or -1 where unknown
/// - `kind`: `[b, 4]`, one-hot, or all 0 where unknown
/// - `log_diameter`: `[b]`, ln(diameter / 10 mm)
/// - `smoothing`: of the malignancy label, `0..1`
/// - `helpers`: what each helper counts beside the malignancy, which counts 1
pub fn classifier(
    outputs: Tensor<2>,
    malignant: Tensor<1>,
    kind: Tensor<2>,
    log_diameter: Tensor<1>,
    spiculation: Tensor<1>,
    smoothing: f64,
    helpers: f64,
) -> Tensor<1> {
    let [b, _] = outputs.dims();
    let column = |at: usize| outputs.clone().narrow(1, at, 1).reshape([b]);
    let main = masked_cross_entropy(column(0), malignant, smoothing);
    let known = kind.clone().sum().clamp_min(1.0);
    let kinds = -(log_softmax(outputs.clone().narrow(1, 1, 4), 1) * kind).sum() / known;
    let size = (column(5) - log_diameter).abs().mean();
    let spikes = masked_cross_entropy(column(6), spiculation, 0.0);
    main + (kinds + size + spikes) * helpers
}

/// Binary focal loss (Lin et al. 2017) with label smoothing, over a batch that holds as many nodules as other things.
///
/// - `logits`: `[b, 1]`
/// - `nodule`: `[b]`, 0 or 1
/// - `gamma`: how much less an entry counts the surer it is right; 0: cross entropy
/// - `smoothing`: `0..1`
pub fn reducer(logits: Tensor<2>, nodule: Tensor<1>, gamma: f64, smoothing: f64) -> Tensor<1> {
    let logits = logits.squeeze_dim::<1>(1);
    let truth = nodule * (1.0 - smoothing) + smoothing / 2.0;
    let p = sigmoid(logits.clone());
    let weigh = |off: Tensor<1>| if gamma > 0.0 { off.powf_scalar(gamma) } else { off.ones_like() };
    let hit = log_sigmoid(logits.clone()) * weigh(-p.clone() + 1.0) * truth.clone();
    let quiet = log_sigmoid(-logits) * weigh(p) * (-truth + 1.0);
    -(hit + quiet).mean()
}

/// Mean binary cross entropy over the entries whose `truth` is not negative.
fn masked_cross_entropy(logits: Tensor<1>, truth: Tensor<1>, smoothing: f64) -> Tensor<1> {
    let known = truth.clone().greater_equal_elem(0.0).float();
    let truth = truth * (1.0 - smoothing) + smoothing / 2.0;
    let entropy = -(log_sigmoid(logits.clone()) * truth.clone() + log_sigmoid(-logits) * (-truth + 1.0));
    (entropy * known.clone()).sum() / known.sum().clamp_min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn close(value: Tensor<1>, expected: f32) {
        let value: f32 = value.into_scalar();
        assert!((value - expected).abs() < 1e-4, "{value} instead of {expected}");
    }

    const PLAIN: DetectorRule = DetectorRule { hard_negatives: 0, overlap_weight: 0.0 };

    fn t5(values: [f32; 4]) -> Tensor<5> {
        Tensor::<1>::from_floats(values, &Device::flex()).reshape([1, 1, 1, 1, 4])
    }

    #[test]
    fn a_certain_correct_segmentation_costs_nothing() {
        let truth = Tensor::<1>::from_floats([1., 0., 0., 1., 0., 0.], &Device::flex()).reshape([1, 3, 1, 1, 2]);
        close(lung(vec![truth.clone() * 60.0], truth), 0.0);
    }

    #[test]
    fn an_unjudged_cell_costs_nothing_and_a_missed_nodule_does() {
        let output = |logits| DetectorOutput { class: t5(logits), boxes: t5([0.0; 4]).repeat_dim(1, BOX_VALUES) };
        let boxes = t5([0.0; 4]).repeat_dim(1, BOX_VALUES);
        close(detector(output([9.0, -60.0, -60.0, -60.0]), t5([-1.0, 0.0, 0.0, 0.0]), boxes.clone(), &PLAIN), 0.0);
        // logit 0 on a nodule: 0.75 * 0.5^2 * ln 2
        close(detector(output([0.0, -60.0, -60.0, -60.0]), t5([1.0, 0.0, 0.0, 0.0]), boxes, &PLAIN), 0.12997);
    }

    #[test]
    fn box_errors_count_on_nodule_cells_only() {
        let output =
            DetectorOutput { class: t5([60.0, -60.0, -60.0, -60.0]), boxes: t5([3.0; 4]).repeat_dim(1, BOX_VALUES) };
        let boxes = t5([0.0; 4]).repeat_dim(1, BOX_VALUES);
        close(detector(output, t5([1.0, 0.0, 0.0, 0.0]), boxes, &PLAIN), 4.0 * 2.5);
    }

    #[test]
    fn of_the_background_only_the_worst_cells_count() {
        let output =
            || DetectorOutput { class: t5([60.0, 0.0, -1.0, -2.0]), boxes: t5([0.0; 4]).repeat_dim(1, BOX_VALUES) };
        let boxes = t5([0.0; 4]).repeat_dim(1, BOX_VALUES);
        let rule = DetectorRule { hard_negatives: 1, overlap_weight: 0.0 };
        // One nodule cell, so one background cell: 0.25 * 0.5^2 * ln 2.
        close(detector(output(), t5([1.0, 0.0, 0.0, 0.0]), boxes, &rule), 0.04332);
    }

    #[test]
    fn cubes_that_share_half_a_cube_and_cubes_apart_have_the_textbook_diou() {
        let device = Device::flex();
        let code = |offset: f32, log_edge: f32| {
            let s = SCALE as f32;
            Tensor::<1>::from_floats([offset / s, 0.0, 0.0, log_edge / s], &device).reshape([1, 1, BOX_VALUES, 1])
        };
        let value = |found, truth| -> f32 { diou(found, truth).into_scalar() };
        // Unit cubes half an edge apart: overlap 1/2 of 3/2, centres 1/4, box 1.5 x 1 x 1 with diagonal^2 4.25.
        assert!((value(code(0.5, 0.0), code(0.0, 0.0)) - (1.0 - 1.0 / 3.0 + 0.25 / 4.25)).abs() < 1e-5);
        // Three edges apart: no overlap, 9 of 16 + 1 + 1.
        assert!((value(code(3.0, 0.0), code(0.0, 0.0)) - (1.0 + 9.0 / 18.0)).abs() < 1e-5);
        // A cube of twice the edge round the same centre holds it: 1/8.
        assert!((value(code(0.0, 2f32.ln()), code(0.0, 0.0)) - 0.875).abs() < 1e-5);
    }

    #[test]
    fn a_candidate_that_is_surely_right_counts_for_little() {
        let device = Device::flex();
        let value = |gamma, smoothing| {
            let logits = Tensor::<1>::from_floats([0.0, -(3f32.ln())], &device).reshape([2, 1]);
            reducer(logits, Tensor::<1>::from_floats([1.0, 0.0], &device), gamma, smoothing)
        };
        // p = 1/2 for the nodule, 1/4 for the other: (ln 2 + ln 4/3) / 2; with gamma 2 times 1/4 and 1/16.
        close(value(0.0, 0.0), 0.490_41);
        close(value(2.0, 0.0), 0.095_63);
        // A fifth of the label moved: (ln 2 + 0.9 ln 4/3 + 0.1 ln 4) / 2.
        close(value(0.0, 0.2), 0.545_34);
    }

    #[test]
    fn an_unknown_malignancy_does_not_count() {
        let device = Device::flex();
        let logits = Tensor::<1>::from_floats([0.0, 5.0], &device);
        let truth = Tensor::<1>::from_floats([1.0, -1.0], &device);
        close(masked_cross_entropy(logits, truth, 0.0), 2f32.ln());
    }
}
