//! What the three networks are trained to make small. All losses are means, so that they compare across batch sizes.

use crate::detector::{BOX_VALUES, DetectorOutput};
use crate::lung;
use burn::tensor::{
    Tensor,
    activation::{log_sigmoid, log_softmax, sigmoid},
};

/// Weight of the nodule class in [`detector`]; background gets the rest.
const FOCAL_ALPHA: f64 = 0.75;

/// Cross entropy plus soft Dice over the two lungs, Dice over the whole batch (Isensee et al. 2021).
///
/// - `logits`, `truth`: `[b, 3, d, h, w]`; `truth` is one-hot
pub fn lung(logits: Tensor<5>, truth: Tensor<5>) -> Tensor<1> {
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

/// Focal loss (Lin et al. 2017, gamma 2) on the classes, smooth L1 on the boxes of the nodule cells; both divided by
/// the number of nodule cells.
///
/// - `class`: `[b, anchors, cells..]`, 1 nodule, 0 background, -1 not judged
/// - `boxes`: `[b, anchors * BOX_VALUES, cells..]`
pub fn detector(output: DetectorOutput, class: Tensor<5>, boxes: Tensor<5>) -> Tensor<1> {
    let nodule = class.clone().greater_elem(0.5).float();
    let background = class.equal_elem(0.0).float();
    let p = sigmoid(output.class.clone());
    let hit = log_sigmoid(output.class.clone()) * (-p.clone() + 1.0).powi_scalar(2) * nodule.clone();
    let quiet = log_sigmoid(-output.class) * p.powi_scalar(2) * background;
    let count = nodule.clone().sum().clamp_min(1.0);
    let focal = -(hit * FOCAL_ALPHA + quiet * (1.0 - FOCAL_ALPHA)).sum() / count.clone();

    let [b, anchors, d, h, w] = nodule.dims();
    let shape = [b, anchors, BOX_VALUES, d * h * w];
    let error = (output.boxes.reshape(shape) - boxes.reshape(shape)).abs();
    let small = error.clone().clamp_max(1.0);
    // 0.5 e^2 up to 1, e - 0.5 beyond: with s = min(e, 1) this is s (e - s / 2).
    let smooth = small.clone() * (error - small * 0.5) * nodule.reshape([b, anchors, 1, d * h * w]);
    focal + smooth.sum() / count
}

/// Binary cross entropy on malignancy with label smoothing, plus the helpers: attenuation class, log diameter,
/// spiculation. An entry without a label does not count.
///
/// - `outputs`: `[b, OUTPUTS]`
/// - `malignant`, `spiculation`: `[b]`, `0..=1`, or -1 where unknown
/// - `kind`: `[b, 4]`, one-hot, or all 0 where unknown
/// - `log_diameter`: `[b]`, ln(diameter / 10 mm)
pub fn classifier(
    outputs: Tensor<2>,
    malignant: Tensor<1>,
    kind: Tensor<2>,
    log_diameter: Tensor<1>,
    spiculation: Tensor<1>,
) -> Tensor<1> {
    let [b, _] = outputs.dims();
    let column = |at: usize| outputs.clone().narrow(1, at, 1).reshape([b]);
    let main = masked_cross_entropy(column(0), malignant, 0.02);
    let kinds = -(log_softmax(outputs.clone().narrow(1, 1, 4), 1) * kind).sum_dim(1).mean();
    let size = (column(5) - log_diameter).abs().mean();
    let spikes = masked_cross_entropy(column(6), spiculation, 0.0);
    main + (kinds + size + spikes) * 0.3
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

    fn t5(values: [f32; 4]) -> Tensor<5> {
        Tensor::<1>::from_floats(values, &Device::flex()).reshape([1, 1, 1, 1, 4])
    }

    #[test]
    fn a_certain_correct_segmentation_costs_nothing() {
        let truth = Tensor::<1>::from_floats([1., 0., 0., 1., 0., 0.], &Device::flex()).reshape([1, 3, 1, 1, 2]);
        close(lung(truth.clone() * 60.0, truth), 0.0);
    }

    #[test]
    fn an_unjudged_cell_costs_nothing_and_a_missed_nodule_does() {
        let output = |logits| DetectorOutput { class: t5(logits), boxes: t5([0.0; 4]).repeat_dim(1, BOX_VALUES) };
        let boxes = t5([0.0; 4]).repeat_dim(1, BOX_VALUES);
        close(detector(output([9.0, -60.0, -60.0, -60.0]), t5([-1.0, 0.0, 0.0, 0.0]), boxes.clone()), 0.0);
        // logit 0 on a nodule: 0.75 * 0.5^2 * ln 2
        close(detector(output([0.0, -60.0, -60.0, -60.0]), t5([1.0, 0.0, 0.0, 0.0]), boxes), 0.12997);
    }

    #[test]
    fn box_errors_count_on_nodule_cells_only() {
        let output =
            DetectorOutput { class: t5([60.0, -60.0, -60.0, -60.0]), boxes: t5([3.0; 4]).repeat_dim(1, BOX_VALUES) };
        let boxes = t5([0.0; 4]).repeat_dim(1, BOX_VALUES);
        close(detector(output, t5([1.0, 0.0, 0.0, 0.0]), boxes), 4.0 * 2.5);
    }

    #[test]
    fn an_unknown_malignancy_does_not_count() {
        let device = Device::flex();
        let logits = Tensor::<1>::from_floats([0.0, 5.0], &device);
        let truth = Tensor::<1>::from_floats([1.0, -1.0], &device);
        close(masked_cross_entropy(logits, truth, 0.0), 2f32.ln());
    }
}
