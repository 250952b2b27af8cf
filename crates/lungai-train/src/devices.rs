//! Training on several devices at once: the batches behind one step (`training.accumulate`) are shared out, each device works
//! on its own copy of the network, and the gradients are added on the first device in the order of the batches. So a run on
//! several devices takes the steps of one that accumulates as many batches on a single device, to the last bit where the
//! devices compute alike; an all-reduce between devices promises no order. Batch normalisation alone would differ: what it
//! remembers is of the first device's batches.

use anyhow::ensure;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn_train::TrainStep;
use lungai_models::{DeviceChoice, DeviceError};
use std::panic::resume_unwind;

/// At least one, all of one kind.
#[derive(Debug)]
pub struct Devices {
    devices: Vec<Device>,
    /// For records: `cpu`, `cuda:0` or `cuda:0,cuda:1`.
    pub name: String,
}

impl Devices {
    /// The devices that were asked for, in their order; `cpu` may be named several times.
    ///
    /// # Errors
    /// A device that is not there, a GPU that is named twice, or both kinds together.
    pub fn open(choices: &[DeviceChoice]) -> anyhow::Result<Self> {
        let opened: Vec<(Device, String)> =
            choices.iter().map(|choice| choice.open()).collect::<Result<_, DeviceError>>()?;
        for (i, (_, name)) in opened.iter().enumerate() {
            let twice = name != "cpu" && opened[..i].iter().any(|(_, other)| other == name);
            ensure!(!twice, "--device names {name} twice");
        }
        let on_cpu = opened.iter().filter(|(_, name)| name == "cpu").count();
        ensure!(on_cpu == 0 || on_cpu == opened.len(), "--device: the CPU and GPUs do not train together");
        let name = opened.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(",");
        Ok(Self { devices: opened.into_iter().map(|(device, _)| device).collect(), name })
    }

    /// A step must keep every device busy.
    pub fn check(&self, batches: usize) -> anyhow::Result<()> {
        let devices = self.devices.len();
        ensure!(
            batches.is_multiple_of(devices),
            "training.accumulate {batches} is no multiple of the {devices} devices: --set training.accumulate={} shares \
             one batch to each (and --set training.batch to keep as many patches a step)",
            batches.next_multiple_of(devices)
        );
        Ok(())
    }

    /// Where the weights live and everything but the steps is done.
    pub fn first(&self) -> &Device {
        &self.devices[0]
    }

    /// The same devices, as a training uses them.
    pub fn training(&self, checkpoint_gradients: bool) -> Vec<Device> {
        let training = |device: &Device| {
            let device = device.clone().autodiff();
            if checkpoint_gradients { device.gradient_checkpointing() } else { device }
        };
        self.devices.iter().map(training).collect()
    }
}

/// The item and gradients of each batch, in their order, on the first device. It works on `objective` itself, so that what
/// batch normalisation remembers is of the first device's batches.
///
/// - `devices`: of [`Devices::training`]; `objective` lives on the first
///
/// # Panics
/// If a step does.
pub fn steps<M>(devices: &[Device], objective: &M, batches: Vec<M::Input>) -> Vec<(M::Output, GradientsParams)>
where
    M: Module + TrainStep,
    M::Output: Send,
{
    let step = |objective: &M, batch| {
        let output = objective.step(batch);
        (output.item, output.grads)
    };
    let count = devices.len();
    let mut shares: Vec<Vec<M::Input>> = (0..count).map(|_| Vec::new()).collect();
    for (i, batch) in batches.into_iter().enumerate() {
        shares[i % count].push(batch);
    }
    let own = shares.remove(0);
    let first = &devices[0].clone().inner();
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = shares
            .into_iter()
            .zip(&devices[1..])
            .map(|(share, device)| {
                let copy = objective.clone();
                scope.spawn(move || {
                    let copy = copy.fork(device);
                    let back = |batch| {
                        let (item, grads) = step(&copy, batch);
                        (item, grads.to_device(first, &copy))
                    };
                    share.into_iter().map(back).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut all = vec![own.into_iter().map(|batch| step(objective, batch)).collect::<Vec<_>>().into_iter()];
        // A device's panic goes on here as it is: what it says decides what the user is told.
        let joined =
            |other: std::thread::ScopedJoinHandle<'_, Vec<_>>| other.join().unwrap_or_else(|e| resume_unwind(e));
        all.extend(others.into_iter().map(|other| joined(other).into_iter()));
        all
    });
    // Batch i was the (i / count)-th of device i % count.
    let mut in_order = Vec::new();
    while let Some(next) = done[in_order.len() % count].next() {
        in_order.push(next);
    }
    in_order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Loss;
    use burn::tensor::Tensor;
    use burn_train::TrainOutput;
    use lungai_models::classifier::{ClassifierConfig, ClassifierNet};

    #[derive(Module, Debug)]
    struct Objective {
        net: ClassifierNet,
    }

    impl TrainStep for Objective {
        type Input = f32;
        type Output = Loss;

        /// A cube of one value, and any loss that all weights have a share in.
        fn step(&self, value: f32) -> TrainOutput<Loss> {
            let device = self.devices().remove(0);
            let ramp = Tensor::<1, burn::tensor::Int>::arange(0..512, &device).float() / 512.0 * value;
            let loss = self.net.forward(ramp.reshape([1, 1, 8, 8, 8])).square().sum();
            let item = Loss(loss.clone().into_scalar());
            TrainOutput::new(self, loss.backward(), item)
        }
    }

    fn names(choices: &[&str]) -> anyhow::Result<Devices> {
        Devices::open(&choices.iter().map(|choice| choice.parse().unwrap()).collect::<Vec<DeviceChoice>>())
    }

    /// Losses, and the gradients of every weight in the order of batches.
    fn gradients(devices: &Devices) -> (Vec<f32>, Vec<Vec<f32>>) {
        let devices = devices.training(false);
        let config = ClassifierConfig {
            width: 4,
            blocks: vec![1, 1],
            spacing_mm: 1.0,
            tile: 8,
            window_hu: (-1000.0, 400.0),
            middle: true,
        };
        let objective = Objective { net: config.init(7, &devices[0]) };
        let values = [0.5, -1.0, 2.0, 0.25];
        let done = steps(&devices, &objective, values.to_vec());
        let mut all = Vec::new();
        let losses = done.iter().map(|(loss, _)| loss.0).collect();
        for (_, grads) in done {
            let mut flat = Flat { grads, values: Vec::new() };
            objective.visit(&mut flat);
            all.push(flat.values);
        }
        (losses, all)
    }

    struct Flat {
        grads: GradientsParams,
        values: Vec<f32>,
    }

    impl burn::module::ModuleVisitor for Flat {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            let grad = self.grads.get::<D>(param.id).expect("every weight has a gradient");
            self.values.extend(grad.into_data().try_to_vec::<f32>().expect("floats"));
        }
    }

    #[test]
    fn three_replicas_give_the_losses_and_gradients_of_one_device_bit_by_bit() {
        let one = gradients(&names(&["cpu"]).unwrap());
        let three = gradients(&names(&["cpu", "cpu", "cpu"]).unwrap());
        assert_eq!(one.0.len(), 4);
        assert!(one.1.iter().all(|grads| grads.iter().any(|g| *g != 0.0)));
        assert_eq!(one, three);
    }

    #[test]
    fn batches_that_leave_a_device_idle_are_refused_with_what_to_set() {
        let two = names(&["cpu", "cpu"]).unwrap();
        assert_eq!(two.name, "cpu,cpu");
        assert!(two.check(4).is_ok());
        assert!(two.check(3).unwrap_err().to_string().contains("training.accumulate=4"));
    }
}
