//! What of a journal counts: a resumed run repeats the steps after its checkpoint, and the later lines count.

use crate::journal::{Event, Line};
use crate::record::Metrics;

/// The curves of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Step and training loss.
    pub losses: Vec<(u64, f64)>,
    /// Step and held-out figures.
    pub evaluations: Vec<(u64, Metrics)>,
    /// Steps done.
    pub step: u64,
    /// Seconds of training, pauses between an interruption and its resumption left out; none where the journal has no
    /// times.
    pub seconds: Option<f64>,
}

impl History {
    /// Of a journal's lines.
    pub fn of(lines: &[Line]) -> Self {
        let mut history = Self::default();
        for line in lines {
            match &line.event {
                Event::Start { .. } | Event::Mined { .. } => (),
                Event::Step { step, loss, .. } => {
                    history.losses.push((*step, *loss));
                    history.step = *step;
                }
                Event::Evaluation { step, metrics, .. } => history.evaluations.push((*step, metrics.clone())),
                Event::Resume { step } => {
                    history.losses.retain(|point| point.0 <= *step);
                    history.evaluations.retain(|point| point.0 <= *step);
                    history.step = *step;
                }
                Event::Failed { step, .. } | Event::End { step, .. } => history.step = *step,
            }
        }
        history.seconds = seconds(lines);
        history
    }

    /// Step and value of one held-out figure.
    pub fn figure(&self, name: &str) -> Vec<(u64, f64)> {
        self.evaluations.iter().filter_map(|(step, metrics)| Some((*step, *metrics.get(name)?))).collect()
    }
}

/// Sum over the stretches between one start or resumption and the next.
fn seconds(lines: &[Line]) -> Option<f64> {
    let mut total_ms = 0;
    let (mut first, mut last) = (lines.first()?.time_ms?, lines.first()?.time_ms?);
    for line in lines {
        let now = line.time_ms?;
        if matches!(line.event, Event::Resume { .. }) {
            total_ms += last.saturating_sub(first);
            first = now;
        }
        last = now;
    }
    Some((total_ms + last.saturating_sub(first)) as f64 / 1000.0)
}

/// Mean of the last 30 or so steps (exponential, unbiased at the start).
pub fn smoothed(losses: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let decay = 1.0 - 1.0 / 30.0;
    let mean = |(step, loss): &(u64, f64)| {
        (sum, weight) = (decay * sum + loss, decay * weight + 1.0);
        (*step, sum / weight)
    };
    losses.iter().map(mean).collect()
}
