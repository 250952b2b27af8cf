//! One training run: batches drawn ahead, steps, evaluations, checkpoints; resumable at any of them with the same
//! result as if it had not been interrupted.

use crate::average;
use crate::config::{Experiment, Training};
use crate::curves;
use anyhow::{Context, bail, ensure};
use burn::module::Module;
use burn::optim::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamWConfig, GradientsAccumulator, ModuleOptimizer};
use burn::tensor::Device;
use burn_train::{ItemLazy, TrainStep};
use indicatif::{ProgressBar, ProgressStyle};
use lungai_runs::{Best, CHECKPOINTS, Event, Journal, Metrics, Progress, WEIGHTS, selector};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

/// What differs between the three networks.
pub trait Task: Sync {
    /// The network with its loss.
    type Objective: Module + TrainStep<Input = Self::Batch, Output = Loss>;
    /// Patches with their truth, on the host.
    type Batch: Send + 'static;

    /// Untrained.
    fn init(&self, seed: u64, device: &Device) -> Self::Objective;
    /// With the weights of a file that [`Self::weights`] could have written.
    fn with_weights(&self, weights: Vec<u8>, device: &Device) -> anyhow::Result<Self::Objective>;
    /// The next batch; a pure function of `rng`.
    fn draw(&self, rng: &mut StdRng) -> anyhow::Result<Self::Batch>;
    /// Figures on the `tune` split.
    fn evaluate(&self, objective: &Self::Objective, device: &Device) -> anyhow::Result<Metrics>;
    /// Names of the figures of its learning curves, each within `0..=1`; three at most.
    fn plotted(&self) -> &'static [&'static str];
    /// The network alone, as a weights file.
    fn weights(&self, objective: &Self::Objective) -> Vec<u8>;
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

/// Trains until the steps are done or patience is over. With `resume` it goes on from the newest checkpoint.
///
/// - `title`: of the learning curves
/// - `journal`: of `folder`
pub fn run<T: Task>(
    task: &T,
    experiment: &Experiment,
    title: &str,
    folder: &Path,
    mut journal: Journal,
    device: &Device,
    resume: bool,
) -> anyhow::Result<Outcome> {
    let training = &experiment.training;
    let selector = selector(experiment.network.name()).context("every network has a selector")?;
    let train_device = device.clone().autodiff();
    let mut objective = task.init(experiment.seed, &train_device);
    let mut optimiser = optimiser(training);
    let mut mean = (training.average > 0.0).then(|| objective.valid());
    let mut state = Progress { step: 0, stale: 0, best: None };
    if resume {
        let (loaded, at) = newest_checkpoint(folder)?.context("there is no checkpoint to resume from")?;
        objective = objective.try_load_file(at.join("model.bpk")).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        optimiser = optimiser.load(at.join("optimiser.bpk")).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        mean = mean
            .map(|mean| mean.try_load_file(at.join("mean.bpk")))
            .transpose()
            .map_err(|e| anyhow::anyhow!("{e:?}"))?;
        state = loaded;
        journal.write(Event::Resume { step: state.step })?;
    }
    let bar = ProgressBar::new(training.steps).with_style(
        ProgressStyle::with_template("{prefix:10} {bar:24} {pos}/{len} steps, {elapsed} of ~{duration}  {msg}")
            .expect("a constant template"),
    );
    bar.set_prefix(experiment.network.name());
    bar.set_position(state.step);

    let mut stopped_early = training.patience > 0 && state.stale >= training.patience;
    let (first, parts) = (state.step, training.accumulate as u64);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        // Two batches ahead: drawing on one core hides behind the step.
        let (send, batches) = mpsc::sync_channel(2);
        scope.spawn(move || {
            for batch in first * parts..training.steps * parts {
                let drawn = task.draw(&mut StdRng::seed_from_u64(batch_seed(experiment.seed, batch)));
                if send.send(drawn).is_err() {
                    return;
                }
            }
        });
        let mut recent = f32::NAN;
        let (mut since, mut waited) = (Instant::now(), Duration::ZERO);
        while state.step < training.steps && !stopped_early {
            let rate = training.learning_rate_at(state.step);
            let (mut loss, mut gradients) = (0.0, GradientsAccumulator::new());
            for _ in 0..parts {
                let asked = Instant::now();
                let batch = batches.recv().context("the thread that draws batches ended")??;
                waited += asked.elapsed();
                let output = objective.step(batch);
                loss += output.item.0 / parts as f32;
                gradients.accumulate(&objective, output.grads);
            }
            if !loss.is_finite() {
                journal.write(Event::Failed { step: state.step, reason: "loss is not finite".into() })?;
                bail!("the loss became {loss} at step {}; lower training.learning_rate", state.step);
            }
            objective = objective.optimize(&mut optimiser, rate.into(), gradients.grads());
            state.step += 1;
            mean = mean.map(|mean| average::towards(mean, &objective.valid(), training.average, state.step));
            recent = if recent.is_nan() { loss } else { 0.9 * recent + 0.1 * loss };
            journal.write(Event::Step { step: state.step, loss: loss.into(), learning_rate: rate })?;
            bar.set_message(format!("loss {recent:.4}"));
            bar.inc(1);
            if state.step.is_multiple_of(training.evaluate_every) || state.step == training.steps {
                let share_waited = waited.as_secs_f64() / since.elapsed().as_secs_f64().max(1e-9);
                let judged = mean.clone().unwrap_or_else(|| objective.valid());
                let metrics = task.evaluate(&judged, device)?;
                let chosen = *metrics.get(selector).context("a task reports its selector")?;
                journal.write(Event::Evaluation {
                    step: state.step,
                    metrics: metrics.clone(),
                    waited: Some(share_waited),
                })?;
                let idle = format!("{:.0} % waiting for batches", 100.0 * share_waited);
                bar.println(format!("  step {:>6}  loss {recent:.4}  {}  ({idle})", state.step, shown(&metrics)));
                let old = state.best.as_ref().and_then(|best| best.metrics.get(selector)).copied();
                if old.is_none_or(|old| chosen > old) {
                    write_whole(&folder.join(WEIGHTS), &task.weights(&judged))?;
                    state.best = Some(Best { step: state.step, metrics });
                    state.stale = 0;
                } else {
                    state.stale += 1;
                }
                checkpoint(folder, &state, &objective, &optimiser, mean.as_ref())?;
                journal.sync()?;
                if let Err(error) = curves::draw(folder, title, task.plotted()) {
                    bar.println(format!("  learning curves not drawn: {error:#}"));
                }
                stopped_early = training.patience > 0 && state.stale >= training.patience;
                (since, waited) = (Instant::now(), Duration::ZERO);
            }
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let best = state.best.context("a run ends with an evaluation")?;
    journal.write(Event::End { step: state.step, stopped_early, best: best.clone() })?;
    journal.sync()?;
    Ok(Outcome { best, steps: state.step, stopped_early })
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
    // The gradient of a mean over a million voxels is small: Burn's default epsilon of 1e-5 would outweigh it.
    AdamWConfig::new()
        .with_epsilon(1e-8 * parts)
        .with_weight_decay(training.weight_decay as f32)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(training.clip_norm * parts)))
        .init()
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

fn newest_checkpoint(folder: &Path) -> anyhow::Result<Option<(Progress, PathBuf)>> {
    let Some(path) = checkpoints(folder)?.pop() else { return Ok(None) };
    let text = fs::read_to_string(path.join("state.json"))?;
    let state: Progress = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    ensure!(path.ends_with(format!("{:09}", state.step)), "{} is not the checkpoint it says", path.display());
    Ok(Some((state, path)))
}

/// Writes beside, then renames: a reader sees the old file or the new one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, bytes).with_context(|| format!("{}", draft.display()))?;
    fs::rename(&draft, path).with_context(|| format!("{}", path.display()))
}
