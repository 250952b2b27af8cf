//! One training run: batches drawn ahead, steps, evaluations, checkpoints; resumable at any of them with the same
//! result as if it had not been interrupted.

use crate::average;
use crate::config::{Experiment, Precision, Training};
use crate::curves;
use crate::devices::{self, Devices};
use anyhow::{Context, bail, ensure};
use burn::module::Module;
use burn::optim::{GradientsAccumulator, ModuleOptimizer};
use burn::tensor::Device;
use burn_train::{ItemLazy, TrainStep};
use indicatif::{ProgressBar, ProgressStyle};
use lungai_models::{ops, optim::AdamW};
use lungai_runs::{Best, CHECKPOINTS, Event, Journal, Metrics, Progress, WEIGHTS, selector};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

/// False positives of each training scan, voxels; in a run folder once the network was asked.
pub type Mined = Vec<Vec<[f64; 3]>>;
const MINED: &str = "mined.json";

/// What differs between the networks.
pub trait Task: Sync {
    /// The network with its loss.
    type Objective: Module + TrainStep<Input = Self::Batch, Output = Loss>;
    /// Patches with their truth, on the host.
    type Batch: Send + 'static;

    /// Untrained.
    fn init(&self, seed: u64, device: &Device) -> Self::Objective;
    /// With the weights of a file that [`Self::weights`] could have written.
    fn with_weights(&self, weights: Vec<u8>, device: &Device) -> anyhow::Result<Self::Objective>;
    /// The next batch; a pure function of `rng`, and of what was mined.
    fn draw(&self, rng: &mut StdRng) -> anyhow::Result<Self::Batch>;
    /// Figures on the held-out scans.
    fn evaluate(&self, objective: &Self::Objective, device: &Device) -> anyhow::Result<Metrics>;
    /// Names of the figures of its learning curves, each within `0..=1`; three at most.
    fn plotted(&self) -> &'static [&'static str];
    /// The network alone, as a weights file.
    fn weights(&self, objective: &Self::Objective) -> Vec<u8>;

    /// Training scans.
    fn scans(&self) -> usize;
    /// Steps after which the network is asked for its false positives on the training scans; `None`: it never is.
    fn mines_at(&self) -> Option<u64> {
        None
    }
    /// Its false positives; `done` is called after each scan.
    fn mine(&self, _: &Self::Objective, _: &Device, _done: &(dyn Fn() + Sync)) -> Mined {
        Mined::new()
    }
    /// From here on batches hold some of them.
    fn learn_from(&mut self, _: Mined) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Loss of one step.
#[derive(Debug, Clone, Copy)]
pub struct Loss(pub f32);

impl ItemLazy for Loss {
    fn sync(self) -> Result<Self, burn::backend::ExecutionError> {
        Ok(self)
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The kept weights.
    pub best: Best,
    /// Steps done.
    pub steps: u64,
    /// Whether patience ended it.
    pub stopped_early: bool,
}

/// A run folder and what goes on in it.
pub struct RunFolder<'a> {
    /// Where.
    pub path: &'a Path,
    /// Its journal.
    pub journal: Journal,
    /// Title of the learning curves.
    pub title: String,
    /// Whether it goes on from the newest checkpoint.
    pub resume: bool,
}

/// Trains until the steps are done or patience is over.
pub fn run<T: Task>(
    task: &mut T,
    experiment: &Experiment,
    folder: RunFolder,
    devices: &Devices,
) -> anyhow::Result<Outcome> {
    let training = &experiment.training;
    let on_gpu = !ops::on_cpu(devices.first());
    ensure!(
        on_gpu || training.precision == Precision::F32,
        "training.precision bf16 is for GPUs: choose f32, or another --device"
    );
    let mut run = Run::begin(task, experiment, folder, devices)?;
    // Only before the search for false positives, and at its step: there it is done once more, with the same result.
    let mines_at = task.mines_at().filter(|at| run.state.step <= *at && *at < training.steps);
    if let Some(at) = mines_at {
        run.steps(task, at)?;
        if !run.stopped_early() {
            run.mine(task)?;
        }
    } else if task.mines_at().is_some_and(|at| at < run.state.step) {
        let path = run.folder.path.join(MINED);
        let text = fs::read(&path).with_context(|| format!("{}", path.display()))?;
        task.learn_from(serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?)?;
    }
    run.steps(task, training.steps)?;
    run.end()
}

/// A run under way.
struct Run<'a, T: Task> {
    experiment: &'a Experiment,
    folder: RunFolder<'a>,
    /// Where scans are evaluated.
    device: &'a Device,
    /// Where steps are made; the first is [`Self::device`] with gradients.
    training: Vec<Device>,
    selector: &'static str,
    objective: T::Objective,
    optimiser: ModuleOptimizer,
    mean: Option<T::Objective>,
    state: Progress,
    bar: ProgressBar,
    /// Smoothed.
    loss: f32,
}

impl<'a, T: Task> Run<'a, T> {
    fn begin(
        task: &T,
        experiment: &'a Experiment,
        folder: RunFolder<'a>,
        devices: &'a Devices,
    ) -> anyhow::Result<Self> {
        let training = &experiment.training;
        let train_devices = devices.training(training.checkpoint_gradients);
        let objective = task.init(experiment.seed, &train_devices[0]);
        let bar = ProgressBar::new(training.steps).with_style(
            ProgressStyle::with_template("{prefix:10} {bar:24} {pos}/{len} steps, {elapsed} of ~{duration}  {msg}")
                .expect("a constant template"),
        );
        bar.set_prefix(experiment.network.name());
        let mut run = Self {
            experiment,
            device: devices.first(),
            training: train_devices,
            selector: selector(experiment.network.name()).context("every network has a selector")?,
            mean: (training.average > 0.0).then(|| objective.valid()),
            optimiser: optimiser(training),
            state: Progress { step: 0, stale: 0, best: None },
            folder,
            objective,
            bar,
            loss: f32::NAN,
        };
        if run.folder.resume {
            run.go_on()?;
        }
        run.bar.set_position(run.state.step);
        Ok(run)
    }

    /// From the newest checkpoint that can be read.
    fn go_on(&mut self) -> anyhow::Result<()> {
        let mut all = checkpoints(self.folder.path)?;
        let Some(mut at) = all.pop() else {
            bail!(
                "{0} has no checkpoint yet (the first comes with the first evaluation): delete the folder and start again",
                self.folder.path.display()
            );
        };
        while let Err(error) = self.read_checkpoint(&at) {
            let Some(older) = all.pop() else { return Err(error) };
            self.say(&format!("  {error:#}; going on from the checkpoint before"));
            at = older;
        }
        self.folder.journal.write(Event::Resume { step: self.state.step })?;
        Ok(())
    }

    fn read_checkpoint(&mut self, at: &Path) -> anyhow::Result<()> {
        let text = fs::read_to_string(at.join("state.json")).with_context(|| format!("{}", at.display()))?;
        let state: Progress = serde_json::from_str(&text).with_context(|| format!("{}", at.display()))?;
        ensure!(at.ends_with(format!("{:09}", state.step)), "{} is not the checkpoint it says", at.display());
        let read = |module: T::Objective, file: &str| {
            module.try_load_file(at.join(file)).map_err(|e| anyhow::anyhow!("{}: {e:?}", at.display()))
        };
        let objective = read(self.objective.clone(), "model.bpk")?;
        let mean = self.mean.clone().map(|mean| read(mean, "mean.bpk")).transpose()?;
        let optimiser = optimiser(&self.experiment.training).load(at.join("optimiser.bpk"));
        self.optimiser = optimiser.map_err(|e| anyhow::anyhow!("{}: {e:?}", at.display()))?;
        (self.objective, self.mean, self.state) = (objective, mean, state);
        Ok(())
    }

    /// Frozen networks compute in 32 bits, and so does everything here that chooses weights, thresholds or false positives.
    fn in_training_precision(&self) {
        ops::convolve_in_bf16(self.experiment.training.precision == Precision::Bf16);
    }

    /// What is evaluated and kept.
    fn judged(&self) -> T::Objective {
        self.mean.clone().unwrap_or_else(|| self.objective.valid())
    }

    fn stopped_early(&self) -> bool {
        let patience = self.experiment.training.patience;
        patience > 0 && self.state.stale >= patience
    }

    /// Steps until `last` are done or patience is over; evaluations in between.
    fn steps(&mut self, task: &T, last: u64) -> anyhow::Result<()> {
        let training = &self.experiment.training;
        self.in_training_precision();
        let (seed, parts) = (self.experiment.seed, training.accumulate as u64);
        let batches = self.state.step * parts..last * parts;
        std::thread::scope(|scope| -> anyhow::Result<()> {
            // Two batches ahead each: drawing hides behind the step. Each worker draws every n-th batch, so that their
            // order does not depend on how fast they are.
            let workers = drawing_threads(self.device);
            let queues: Vec<_> = (0..workers)
                .map(|worker| {
                    let (send, queue) = mpsc::sync_channel(2);
                    let own = batches.clone().skip(worker).step_by(workers);
                    scope.spawn(move || {
                        for batch in own {
                            let drawn = task.draw(&mut StdRng::seed_from_u64(batch_seed(seed, batch)));
                            if send.send(drawn).is_err() {
                                return;
                            }
                        }
                    });
                    queue
                })
                .collect();
            let mut queues = queues.iter().cycle();
            let (mut since, mut waited) = (Instant::now(), Duration::ZERO);
            while self.state.step < last && !self.stopped_early() {
                let rate = training.learning_rate_at(self.state.step);
                let (mut loss, mut gradients) = (0.0, GradientsAccumulator::new());
                let mut left = parts;
                while left > 0 {
                    // One batch a device at a time: more would only fill the host's memory.
                    let now = left.min(self.training.len() as u64);
                    left -= now;
                    let asked = Instant::now();
                    let mut share = Vec::new();
                    for _ in 0..now {
                        let queue = queues.next().expect("at least one worker");
                        share.push(queue.recv().context("the thread that draws batches ended")??);
                    }
                    waited += asked.elapsed();
                    for (item, grads) in devices::steps(&self.training, &self.objective, share) {
                        loss += item.0 / parts as f32;
                        gradients.accumulate(&self.objective, grads);
                    }
                }
                self.learn(loss, rate, gradients)?;
                if self.state.step.is_multiple_of(training.evaluate_every) || self.state.step == training.steps {
                    self.evaluate(task, waited.as_secs_f64() / since.elapsed().as_secs_f64().max(1e-9))?;
                    (since, waited) = (Instant::now(), Duration::ZERO);
                }
            }
            Ok(())
        })
    }

    /// One step of the optimiser.
    fn learn(&mut self, loss: f32, rate: f64, mut gradients: GradientsAccumulator<T::Objective>) -> anyhow::Result<()> {
        if !loss.is_finite() {
            let step = self.state.step;
            self.folder.journal.write(Event::Failed { step, reason: "loss is not finite".into() })?;
            bail!("the loss became {loss} at step {step}; lower training.learning_rate");
        }
        self.objective = self.objective.clone().optimize(&mut self.optimiser, rate.into(), gradients.grads());
        self.state.step += 1;
        let (step, decay) = (self.state.step, self.experiment.training.average);
        self.mean = self.mean.take().map(|mean| average::towards(mean, &self.objective.valid(), decay, step));
        self.loss = if self.loss.is_nan() { loss } else { 0.9 * self.loss + 0.1 * loss };
        self.folder.journal.write(Event::Step { step, loss: loss.into(), learning_rate: rate })?;
        self.bar.set_message(format!("loss {:.4}", self.loss));
        self.bar.inc(1);
        Ok(())
    }

    /// Figures, the best weights, a checkpoint and learning curves.
    fn evaluate(&mut self, task: &T, waited: f64) -> anyhow::Result<()> {
        let (step, folder) = (self.state.step, self.folder.path);
        let judged = self.judged();
        ops::convolve_in_bf16(false);
        let metrics = task.evaluate(&judged, self.device)?;
        self.in_training_precision();
        let chosen = *metrics.get(self.selector).context("a task reports its selector")?;
        self.folder.journal.write(Event::Evaluation { step, metrics: metrics.clone(), waited: Some(waited) })?;
        let idle = format!("{:.0} % waiting for batches", 100.0 * waited);
        self.say(&format!("  step {step:>6}  loss {:.4}  {}  ({idle})", self.loss, shown(&metrics)));
        let old = self.state.best.as_ref().and_then(|best| best.metrics.get(self.selector)).copied();
        if old.is_none_or(|old| chosen > old) {
            write_whole(&folder.join(WEIGHTS), &task.weights(&judged))?;
            self.state.best = Some(Best { step, metrics });
            self.state.stale = 0;
        } else {
            self.state.stale += 1;
        }
        checkpoint(folder, &self.state, &self.objective, &self.optimiser, self.mean.as_ref())?;
        self.folder.journal.sync()?;
        if let Err(error) = curves::draw(folder, &self.folder.title, task.plotted()) {
            self.say(&format!("  learning curves not drawn: {error:#}"));
        }
        Ok(())
    }

    /// A line of its own, also where nobody watches a progress bar.
    fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Asks the network for its false positives on the training scans and has it learn from them.
    fn mine(&mut self, task: &mut T) -> anyhow::Result<()> {
        let bar = ProgressBar::new(task.scans() as u64).with_style(
            ProgressStyle::with_template("{prefix:10} {bar:24} {pos}/{len} scans searched for false positives, ~{eta}")
                .expect("a constant template"),
        );
        bar.set_prefix(self.experiment.network.name());
        ops::convolve_in_bf16(false);
        let mined = task.mine(&self.judged(), self.device, &|| bar.inc(1));
        bar.finish_and_clear();
        let (step, found) = (self.state.step, mined.iter().map(Vec::len).sum());
        write_whole(&self.folder.path.join(MINED), &serde_json::to_vec(&mined)?)?;
        self.folder.journal.write(Event::Mined { step, found })?;
        self.say(&format!("  step {step:>6}  {found} false positives to learn from"));
        task.learn_from(mined)
    }

    fn end(mut self) -> anyhow::Result<Outcome> {
        self.bar.finish_and_clear();
        let stopped_early = self.stopped_early();
        let best = self.state.best.context("a run ends with an evaluation")?;
        let steps = self.state.step;
        self.folder.journal.write(Event::End { step: steps, stopped_early, best: best.clone() })?;
        self.folder.journal.sync()?;
        Ok(Outcome { best, steps, stopped_early })
    }
}

/// On the CPU the step itself uses every core; a GPU would wait for one thread that draws.
fn drawing_threads(device: &Device) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if ops::on_cpu(device) { 1 } else { (cores - 1).clamp(1, 8) }
}

/// Figures of weights that were not trained here.
pub fn judge<T: Task>(task: &T, weights: &[u8], device: &Device) -> anyhow::Result<Outcome> {
    let objective = task.with_weights(weights.to_vec(), device)?;
    let best = Best { step: 0, metrics: task.evaluate(&objective, device)? };
    Ok(Outcome { best, steps: 0, stopped_early: false })
}

/// Gradients of several batches come as their sum. Adam's steps are the same for the mean, as long as what gradients are
/// compared with grows alike.
fn optimiser(training: &Training) -> ModuleOptimizer {
    let parts = training.accumulate as f32;
    let usual = AdamW::default();
    ModuleOptimizer::from(AdamW {
        epsilon: usual.epsilon * parts,
        weight_decay: training.weight_decay as f32,
        clip_norm: training.clip_norm * parts,
        ..usual
    })
}

/// Seed of a batch (SplitMix64's mixing of run seed and the batch's number), so that a resumed run draws what an
/// uninterrupted one would have drawn.
fn batch_seed(seed: u64, batch: u64) -> u64 {
    let mut z = seed.wrapping_add(batch.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn shown(metrics: &Metrics) -> String {
    metrics.iter().map(|(name, value)| format!("{name} {value:.3}")).collect::<Vec<_>>().join("  ")
}

/// `checkpoint/STEP/` with the network, the optimiser, the mean of the weights where there is one, and the state; complete or not there. The two newest are kept.
fn checkpoint<M: Module>(
    folder: &Path,
    state: &Progress,
    model: &M,
    optimiser: &ModuleOptimizer,
    mean: Option<&M>,
) -> anyhow::Result<()> {
    let all = folder.join(CHECKPOINTS);
    let draft = all.join("draft");
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    fs::create_dir_all(&draft).with_context(|| format!("{}", draft.display()))?;
    model.clone().save_file(draft.join("model.bpk")).map_err(|e| anyhow::anyhow!("checkpoint: {e:?}"))?;
    if let Some(mean) = mean {
        mean.clone().save_file(draft.join("mean.bpk")).map_err(|e| anyhow::anyhow!("checkpoint: {e:?}"))?;
    }
    optimiser.save(draft.join("optimiser.bpk")).map_err(|e| anyhow::anyhow!("checkpoint: {e:?}"))?;
    write_whole(&draft.join("state.json"), &serde_json::to_vec(state)?)?;
    // On the disk before it has a name, so that a crash of the machine leaves a whole one.
    for entry in fs::read_dir(&draft)? {
        fs::File::open(entry?.path())?.sync_all()?;
    }
    let done = all.join(format!("{:09}", state.step));
    if done.exists() {
        fs::remove_dir_all(&done)?;
    }
    fs::rename(&draft, &done)?;
    let mut steps = checkpoints(folder)?;
    while steps.len() > 2 {
        fs::remove_dir_all(steps.remove(0))?;
    }
    Ok(())
}

/// Checkpoint folders, oldest first.
fn checkpoints(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let all = folder.join(CHECKPOINTS);
    if !all.exists() {
        return Ok(Vec::new());
    }
    let mut found: Vec<PathBuf> = fs::read_dir(&all)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|b| b.is_ascii_digit())))
        .collect();
    found.sort();
    Ok(found)
}

/// Writes beside, then renames: a reader sees the old file or the new one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, bytes).with_context(|| format!("{}", draft.display()))?;
    fs::rename(&draft, path).with_context(|| format!("{}", path.display()))
}
