//! Takes jobs from the queue and runs them on threads of their own, as many at a time as configured.

use crate::analyse::{Analysed, Engine, Failure, Study, Verdict};
use crate::app::{App, Phase};
use crate::store::{Ending, Job, StoreError, random_id};
use crate::wire::AnalysisResult;
use lungai_trace::implements;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

/// The running workers.
pub struct Workers {
    app: App,
    tasks: JoinSet<()>,
}

impl Workers {
    /// Starts the configured number, and the housekeeping.
    pub fn start(app: &App) -> Self {
        let mut tasks = JoinSet::new();
        for _ in 0..app.config.workers {
            tasks.spawn(work(app.clone()));
        }
        tasks.spawn(keep_house(app.clone()));
        Self { app: app.clone(), tasks }
    }

    /// Begins no further analysis, waits for the running ones as long as configured, and gives back to the queue what
    /// is not done by then.
    pub async fn stop(mut self) {
        self.app.phase.send_replace(Phase::Draining);
        let grace = Duration::from_secs(self.app.config.seconds.shutdown);
        let tasks = &mut self.tasks;
        if tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            self.app.phase.send_replace(Phase::Leaving);
            while self.tasks.join_next().await.is_some() {}
        }
    }
}

async fn work(app: App) {
    let owner = random_id();
    let mut phase = app.phase.subscribe();
    loop {
        // Before the look into the queue: a job that comes in between must wake us.
        let new_job = app.new_job.notified();
        if *phase.borrow() != Phase::Running {
            return;
        }
        let claimed = match app.engine.get() {
            None => Ok(None),
            Some(engine) => match app.store.claim(&owner, app.config.seconds.lease()).await {
                Ok(job) => Ok(job.map(|job| (engine.clone(), job))),
                Err(error) => Err(error),
            },
        };
        match claimed {
            Ok(Some((engine, job))) => {
                let span = tracing::info_span!("analysis", analysis_id = job.id);
                run(&app, engine, job, &mut phase).instrument(span).await;
                continue;
            }
            Ok(None) => (),
            Err(error) => tracing::error!(%error, "no job could be claimed"),
        }
        tokio::select! {
            () = new_job => (),
            _ = phase.changed() => (),
            // Leases run out without a wake-up call.
            () = tokio::time::sleep(Duration::from_secs(1)) => (),
        }
    }
}

/// One attempt at one job.
#[implements("PR-002", "PR-003")]
async fn run(app: &App, engine: Engine, job: Job, phase: &mut watch::Receiver<Phase>) {
    if job.attempts > app.config.attempts {
        let failure = Failure::new("gave-up", "the service ended unexpectedly in every attempt at this analysis");
        return end(app, &engine, &job, 0.0, Err(failure)).await;
    }
    tracing::info!(attempt = job.attempts, "analysis begins");
    app.metrics.active.increment(1);
    let begun = Instant::now();
    let folder = app.study_folder(&job.study);
    let (analyse, series_uid) = (engine.analyse.clone(), job.series_uid.clone());
    let mut thread =
        tokio::task::spawn_blocking(move || analyse(&Study { folder: &folder, series_uid: series_uid.as_deref() }));
    let limit = Duration::from_secs(app.config.seconds.analysis);
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    let mut ended = false;
    loop {
        tokio::select! {
            outcome = &mut thread => {
                if !ended {
                    // The message of a panic is not passed on: it can hold anything.
                    let outcome = outcome.unwrap_or_else(|_| Err(Failure::new("internal", "the analysis broke down")));
                    end(app, &engine, &job, begun.elapsed().as_secs_f64(), outcome).await;
                }
                break;
            }
            () = &mut deadline, if !ended => {
                // A thread cannot be stopped. The client gets its answer; the worker stays with the thread, so that
                // no more of them pile up than there are workers.
                ended = true;
                let failure = Failure::new("time-limit", format!("not done within {} s", limit.as_secs()));
                end(app, &engine, &job, limit.as_secs_f64(), Err(failure)).await;
            }
            () = tokio::time::sleep(app.config.seconds.lease() / 3), if !ended => {
                match app.store.renew(&job, app.config.seconds.lease()).await {
                    Ok(true) => (),
                    Ok(false) => {
                        tracing::warn!("the lease was lost; another worker has this analysis");
                        ended = true;
                    }
                    Err(error) => tracing::error!(%error, "the lease could not be renewed"),
                }
            }
            () = reached(phase, Phase::Leaving) => {
                if !ended {
                    match app.store.give_back(&job).await {
                        Ok(()) => tracing::info!("stopping: the analysis is queued again"),
                        Err(error) => tracing::error!(%error, "not queued again; the next start does it"),
                    }
                }
                break;
            }
        }
    }
    app.metrics.active.decrement(1);
}

async fn end(app: &App, engine: &Engine, job: &Job, seconds: f64, outcome: Result<Analysed, Failure>) {
    let mut nodules = 0;
    let mut stages = Vec::new();
    let mut study_uid = None;
    let mut series = Vec::new();
    let writing = Instant::now();
    let (state, ending) = match outcome {
        Err(failure) => {
            // The code only: the detail is for the client.
            tracing::warn!(code = failure.code, seconds, "analysis failed");
            ("failed", Ending::Failed(failure))
        }
        Ok(analysed) => {
            nodules = analysed.outcome.as_ref().map_or(0, |outcome| outcome.findings.len());
            stages.clone_from(&analysed.stage_seconds);
            study_uid.clone_from(&analysed.study_uid);
            series.push(analysed.series_uid.clone());
            series.extend(analysed.other_series.iter().cloned());
            let rejected = analysed.outcome.is_none();
            let verdict = analysed.quality.verdict;
            let result = AnalysisResult::new(analysed, engine.model.clone(), now(), seconds);
            match serde_json::to_string(&result) {
                Ok(json) if rejected => ("rejected", Ending::Rejected(json)),
                Ok(json) => {
                    tracing::info!(seconds, quality_warning = verdict == Verdict::Warn, "analysis succeeded");
                    ("succeeded", Ending::Succeeded(json))
                }
                Err(_) => ("failed", Ending::Failed(Failure::new("internal", "the result could not be written"))),
            }
        }
    };
    if state == "rejected" {
        tracing::info!(seconds, "images rejected by the quality gate");
    }
    match store_ending(app, job, &ending, study_uid.as_deref(), &series).await {
        Ok(true) => {
            app.metrics.ended(state, seconds);
            app.metrics.nodules.increment(nodules as u64);
            stages.iter().for_each(|(name, seconds)| app.metrics.stage(name, *seconds));
            app.metrics.stage("report", writing.elapsed().as_secs_f64());
        }
        Ok(false) => tracing::warn!("the lease was lost; this result is not used"),
        // The lease runs out and the analysis is repeated.
        Err(error) => tracing::error!(%error, "the result could not be stored"),
    }
}

/// A result that took minutes is worth a second try at writing it.
async fn store_ending(
    app: &App,
    job: &Job,
    ending: &Ending,
    study_uid: Option<&str>,
    series: &[String],
) -> Result<bool, StoreError> {
    match app.store.finish(job, ending, study_uid, series).await {
        Err(error) => {
            tracing::warn!(%error, "the result could not be stored; trying once more");
            tokio::time::sleep(Duration::from_secs(1)).await;
            app.store.finish(job, ending, study_uid, series).await
        }
        done => done,
    }
}

async fn keep_house(app: App) {
    let mut phase = app.phase.subscribe();
    loop {
        if let Err(error) = app.expire_images().await {
            tracing::error!(%error, "old images could not be looked up");
        }
        app.metrics.upkeep();
        tokio::select! {
            () = reached(&mut phase, Phase::Draining) => return,
            () = tokio::time::sleep(Duration::from_secs(60)) => (),
        }
    }
}

async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // The sender lives in the `App` that every task holds.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

/// RFC 3339 in UTC, to the millisecond.
pub(crate) fn now() -> String {
    chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now())
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
