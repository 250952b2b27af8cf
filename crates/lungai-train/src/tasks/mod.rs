//! The tasks: what a batch is, what is optimised, and how it is judged on held-out scans.

mod classifier;
mod cube;
mod detector;
pub mod judge;
mod lung;
mod reducer;

pub use classifier::ClassifierTask;
pub use detector::DetectorTask;
pub use lung::LungTask;
pub use reducer::ReducerTask;

use crate::run::Loss;
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use burn_train::TrainOutput;
use lungai_datasets::Case;
use rayon::prelude::*;

/// `read` of every case, several at a time, in their order; `loaded` is called after each.
fn each_case<T: Send>(
    cases: &[Case],
    loaded: &(dyn Fn() + Sync),
    read: impl Fn(&Case) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    cases.par_iter().map(|case| read(case).inspect(|_| loaded())).collect()
}

/// What every `TrainStep` does with its loss.
fn optimise<M: Module>(module: &M, loss: Tensor<1>) -> TrainOutput<Loss> {
    let value: f32 = loss.clone().into_scalar();
    TrainOutput::new(module, loss.backward(), Loss(value))
}

/// Values with their shape, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Host<const D: usize> {
    /// Row major.
    pub values: Vec<f32>,
    /// Their shape.
    pub shape: [usize; D],
}

impl<const D: usize> Host<D> {
    /// On the device of `module`.
    fn on(self, module: &impl Module) -> Tensor<D> {
        let device = module.devices().into_iter().next().expect("a module with parameters");
        Tensor::from_data(TensorData::new(self.values, self.shape), &device)
    }
}
