//! The running mean of the weights: what a run is judged by and remembered as, where it is wanted. Single steps jump about a
//! good place; their mean lies nearer to it (Polyak & Juditsky 1992).

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use std::collections::VecDeque;

/// Moves `mean` towards `now`: `mean = decay mean + (1 - decay) now`, for every weight.
///
/// - `decay`: `0..1`
/// - `step`: steps done; the first means forget faster, `(1 + step) / (10 + step)`, or the untrained weights would weigh on
///   them for thousands of steps
pub fn towards<M: Module>(mean: M, now: &M, decay: f64, step: u64) -> M {
    let decay = decay.min((1 + step) as f64 / (10 + step) as f64);
    let mut weights = Weights(VecDeque::new());
    now.visit(&mut weights);
    mean.map(&mut Mix { now: weights.0, decay })
}

/// All weights of a module, flat, in the order of its fields.
struct Weights(VecDeque<Tensor<1>>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push_back(param.val().flatten(0, D - 1));
    }
}

/// Visits fields in the same order.
struct Mix {
    now: VecDeque<Tensor<1>>,
    decay: f64,
}

impl ModuleMapper for Mix {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let now = self.now.pop_front().expect("both modules have the same weights");
        param.map(|mean| {
            let now = now.reshape(mean.dims());
            mean * self.decay + now * (1.0 - self.decay)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use lungai_models::frozen::{weights_from_bytes, weights_to_bytes};
    use lungai_models::lung::{LungConfig, LungNet, Normalise};

    fn net(seed: u64) -> LungNet {
        let window_hu = (-1000.0, 400.0);
        let norm = Normalise::Batch;
        let config = LungConfig { width: 2, depth: 1, norm, deep_supervision: 0, spacing_mm: 2.0, tile: 8, window_hu };
        config.init(seed, &Device::flex())
    }

    /// The numbers of a weights file, without its header.
    fn numbers(net: &LungNet) -> Vec<f32> {
        let bytes = weights_to_bytes(net);
        let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        bytes[8 + header..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn the_mean_moves_by_the_stated_share() {
        let (a, b) = (net(1), net(2));
        let mean = towards(a.clone(), &b, 0.75, 1_000_000);
        for ((a, b), mean) in numbers(&a).iter().zip(numbers(&b)).zip(numbers(&mean)) {
            assert!((mean - (0.75 * a + 0.25 * b)).abs() < 1e-6);
        }
        // After the first step it keeps 2/11.
        let early = towards(a.clone(), &b, 0.999, 1);
        for ((a, b), mean) in numbers(&a).iter().zip(numbers(&b)).zip(numbers(&early)) {
            assert!((mean - (2.0 * a + 9.0 * b) / 11.0).abs() < 1e-6);
        }
        let mut copy = net(3);
        weights_from_bytes(&mut copy, weights_to_bytes(&early)).unwrap();
        assert_eq!(numbers(&copy), numbers(&early));
    }
}
