//! What Prometheus reads. No label can hold an id, so nothing here is about a patient.

use crate::store::Depth;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::collections::BTreeMap;

/// Upper bounds of the analysis times in seconds; PR-001's limit of 60 s is one of them.
const ANALYSIS_BOUNDS: [f64; 6] = [1.0, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Upper bounds of the stage times in seconds; the limits of 5, 10 and 30 s are among them.
const STAGE_BOUNDS: [f64; 8] = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
/// Stages of an analysis, in order.
const STAGES: [&str; 6] = ["load", "preprocess", "segment", "detect", "classify", "report"];
const STATES: [&str; 3] = ["succeeded", "failed", "rejected"];

/// The service's own registry: every server has one, also several in one process.
pub struct Metrics {
    handle: PrometheusHandle,
    requests: BTreeMap<&'static str, Counter>,
    stages: BTreeMap<&'static str, Histogram>,
    /// Seconds of an analysis, reading included, waiting not.
    pub duration: Histogram,
    /// Nodules in all results.
    pub nodules: Counter,
    /// Analyses that run now.
    pub active: Gauge,
    /// Seconds that loading and verifying the model took.
    pub model_load: Gauge,
    queued: Gauge,
    oldest: Gauge,
}

impl Metrics {
    /// Registers everything at zero, so that a rate can be taken from the first event on.
    ///
    /// # Errors
    /// Never with the bounds above; the builder checks that there are any.
    pub fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full("lungai_inference_duration_seconds".into()), &ANALYSIS_BOUNDS)?
            .set_buckets_for_metric(Matcher::Full("lungai_stage_duration_seconds".into()), &STAGE_BOUNDS)?
            .build_recorder();
        let handle = recorder.handle();
        Ok(metrics::with_local_recorder(&recorder, || {
            describe();
            let metrics = Self {
                handle,
                requests: STATES.map(|s| (s, counter!("lungai_inference_requests_total", "status" => s))).into(),
                stages: STAGES.map(|s| (s, histogram!("lungai_stage_duration_seconds", "stage" => s))).into(),
                duration: histogram!("lungai_inference_duration_seconds"),
                nodules: counter!("lungai_nodules_detected_total"),
                active: gauge!("lungai_active_inference_tasks"),
                model_load: gauge!("lungai_model_load_time_seconds"),
                queued: gauge!("lungai_queue_length"),
                oldest: gauge!("lungai_queue_oldest_seconds"),
            };
            metrics.requests.values().for_each(|counter| counter.increment(0));
            metrics.nodules.increment(0);
            for gauge in [&metrics.active, &metrics.model_load, &metrics.queued, &metrics.oldest] {
                gauge.set(0.0);
            }
            metrics
        }))
    }

    /// Counts an analysis that ended `succeeded`, `failed` or `rejected`.
    pub fn ended(&self, state: &'static str, seconds: f64) {
        self.requests[state].increment(1);
        self.duration.record(seconds);
    }

    /// Notes the time of one stage; names that are no stage of ours are left out.
    pub fn stage(&self, name: &str, seconds: f64) {
        if let Some(histogram) = self.stages.get(name) {
            histogram.record(seconds);
        }
    }

    /// The text exposition format.
    pub fn render(&self, depth: Depth) -> String {
        self.queued.set(depth.queued);
        self.oldest.set(depth.oldest_seconds);
        self.handle.render()
    }

    /// To be called now and then: folds recorded times into their histograms where nobody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("lungai_inference_requests_total", "Analyses that ended, by status.");
    describe_histogram!("lungai_inference_duration_seconds", "Time of an analysis without waiting in the queue.");
    describe_counter!("lungai_nodules_detected_total", "Nodules in all results.");
    describe_gauge!("lungai_active_inference_tasks", "Analyses that run now.");
    describe_gauge!("lungai_model_load_time_seconds", "Time to load and verify the model.");
    describe_gauge!("lungai_queue_length", "Analyses that wait.");
    describe_gauge!("lungai_queue_oldest_seconds", "Time that the longest waiting analysis has waited.");
    describe_histogram!("lungai_stage_duration_seconds", "Time of one stage of an analysis.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_before_the_first_event_and_counts_after_it() {
        let metrics = Metrics::new().unwrap();
        let text = metrics.render(Depth::default());
        for line in [
            "lungai_inference_requests_total{status=\"failed\"} 0",
            "lungai_nodules_detected_total 0",
            "lungai_active_inference_tasks 0",
            "lungai_model_load_time_seconds 0",
            "lungai_queue_length 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        metrics.ended("succeeded", 42.0);
        metrics.stage("detect", 7.0);
        metrics.stage("DOE^JOHN", 7.0);
        let text = metrics.render(Depth { queued: 3, oldest_seconds: 1.5 });
        for line in [
            "lungai_inference_requests_total{status=\"succeeded\"} 1",
            "lungai_inference_duration_seconds_bucket{le=\"30\"} 0",
            "lungai_inference_duration_seconds_bucket{le=\"60\"} 1",
            "lungai_stage_duration_seconds_bucket{stage=\"detect\",le=\"10\"} 1",
            "lungai_queue_length 3",
            "lungai_queue_oldest_seconds 1.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("DOE"));
    }
}
