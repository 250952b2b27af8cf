//! One workload: all contestants in turn, medians, ratios, agreement.

use crate::agreement::{Agreement, compare};
use crate::contestant::{Contestant, Run};
use crate::results::Saved;
use crate::workloads::Workload;
use crate::{inputs, nets, peers, statistics, trace};
use indicatif::{ProgressBar, ProgressStyle};
use lungai_models::DeviceChoice;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

/// A contestant gets no further run once its runs have taken this long together.
const BUDGET_S: f64 = 60.0;

/// How a race is run.
pub struct Settings {
    pub folder: PathBuf,
    pub rounds: u32,
    pub threads: u32,
    pub peers: bool,
    /// A Python that has the peers, instead of an environment of our own making.
    pub python: Option<PathBuf>,
    /// Where networks run: `cpu`, `cuda:0`.
    pub device: DeviceChoice,
    /// Whether their convolutions count in bfloat16.
    pub bf16: bool,
}

/// One contestant's figures.
pub struct Measured {
    pub name: String,
    pub version: String,
    pub median_s: f64,
    pub runs: usize,
    pub peak_mib: f64,
}

/// A workload's result.
pub struct Report {
    workload: &'static Workload,
    threads: u32,
    ours: Measured,
    peers: Vec<(Measured, Agreement)>,
}

struct Lane {
    name: String,
    contestant: Contestant,
    runs: Vec<Run>,
    peak_mib: f64,
}

impl Lane {
    fn start(name: &str, mut command: Command) -> anyhow::Result<Self> {
        let mut contestant = Contestant::start(&mut command)?;
        // The warm-up fills caches and shows the memory; later runs may reuse what an allocator kept.
        let peak_mib = contestant.run()?.peak_mib;
        Ok(Self { name: name.to_owned(), contestant, runs: Vec::new(), peak_mib })
    }

    fn tired(&self) -> bool {
        self.runs.iter().map(|run| run.seconds).sum::<f64>() > BUDGET_S
    }

    fn measured(&self) -> Measured {
        let mut seconds: Vec<f64> = self.runs.iter().map(|run| run.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let middle = seconds.len() / 2;
        let median_s =
            if seconds.len() % 2 == 1 { seconds[middle] } else { 0.5 * (seconds[middle - 1] + seconds[middle]) };
        let version = self.contestant.version.clone();
        Measured { name: self.name.clone(), version, median_s, runs: seconds.len(), peak_mib: self.peak_mib }
    }
}

/// Runs a workload.
pub fn run(workload: &'static Workload, settings: &Settings) -> anyhow::Result<Report> {
    if workload.group() == "nets" {
        nets::make(&settings.folder)?;
    } else if statistics::owns(workload.group()) {
        statistics::make(&settings.folder)?;
    } else if workload.group() == "trace" {
        trace::make(&settings.folder, workload.name)?;
    } else {
        inputs::make(&settings.folder, workload.group() == "read")?;
    }
    let mut own = Command::new(std::env::current_exe()?);
    own.args([workload.name, "--contest", "--folder"]).arg(&settings.folder);
    own.args(["--device", &settings.device.to_string()]).args(settings.bf16.then_some("--bf16"));
    own.env("RAYON_NUM_THREADS", settings.threads.to_string());
    let mut lanes = vec![Lane::start("lungai", own)?];
    if settings.peers {
        // Only PyTorch follows to a GPU.
        let follows = |peer: &str| settings.device == DeviceChoice::Cpu || peer == "torch";
        for peer in peers::of(workload.name).iter().filter(|peer| follows(peer)) {
            lanes.push(Lane::start(peer, peers::command(settings, workload.name, peer)?)?);
        }
    }
    let style = ProgressStyle::with_template("{prefix:18} {bar:30} {pos}/{len} {msg}")?;
    let bar = ProgressBar::new(u64::from(settings.rounds)).with_style(style).with_prefix(workload.name);
    for round in 0..settings.rounds {
        for lane in &mut lanes {
            if round == 0 || !lane.tired() {
                bar.set_message(lane.name.clone());
                let run = lane.contestant.run()?;
                lane.runs.push(run);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    let folder = settings.folder.join("results").join(workload.name);
    let mut results: Vec<(PathBuf, Saved)> = Vec::new();
    for lane in &mut lanes {
        let to = folder.join(&lane.name);
        let saved = lane.contestant.save(&to)?;
        results.push((to, saved));
    }
    let ours = lanes[0].measured();
    let mut peers = Vec::new();
    for (lane, (path, saved)) in lanes.iter().zip(&results).skip(1) {
        let special = workload.unlike.iter().find(|(name, _)| *name == lane.name);
        let how = special.map_or(workload.compare, |(_, how)| *how);
        let agreement = compare(how, (&results[0].0, &results[0].1), (path, saved))?;
        peers.push((lane.measured(), agreement));
    }
    // Results of one workload take up to a gigabyte.
    std::fs::remove_dir_all(&folder)?;
    Ok(Report { workload, threads: settings.threads, ours, peers })
}

impl Report {
    /// Whether all peers that can be compared computed the same as we did.
    pub fn agrees(&self) -> bool {
        self.peers.iter().all(|(_, agreement)| agreement.agrees != Some(false))
    }

    /// Whether our own time keeps to the workload's bar, where there is one.
    pub fn in_time(&self) -> bool {
        self.bar_s().is_none_or(|bar| self.ours.median_s <= bar)
    }

    /// Seconds that our side may take.
    fn bar_s(&self) -> Option<f64> {
        statistics::bar_s(self.workload.name).or(trace::bar_s(self.workload.name))
    }

    fn ratio(&self, peer: &Measured) -> f64 {
        peer.median_s / self.ours.median_s
    }

    /// The ratio that we want to reach against a peer, if there is one.
    fn bar(&self, peer: &str) -> Option<f64> {
        self.workload.bars.iter().find(|(name, _)| *name == peer).map(|(_, ratio)| *ratio)
    }

    pub fn json(&self) -> Value {
        let measured = |m: &Measured| json!({ "median_s": m.median_s, "peak_mib": m.peak_mib, "runs": m.runs });
        let peers: Vec<Value> = self
            .peers
            .iter()
            .map(|(peer, agreement)| {
                let mut json = measured(peer);
                json["name"] = json!(peer.name);
                json["version"] = json!(peer.version);
                json["ratio"] = json!(self.ratio(peer));
                json["agreement"] = agreement.json();
                if let Some(bar) = self.bar(&peer.name) {
                    json["bar"] = json!(bar);
                }
                json
            })
            .collect();
        let (name, about) = (self.workload.name, self.workload.about);
        let mut ours = measured(&self.ours);
        if let Some(bar) = self.bar_s() {
            ours["bar_s"] = json!(bar);
        }
        let ok = self.agrees() && self.in_time();
        json!({ "ok": ok, "name": name, "about": about, "threads": self.threads, "ours": ours, "peers": peers })
    }

    pub fn table(&self) -> String {
        let mut text = format!("{}: {} ({} threads)\n", self.workload.name, self.workload.about, self.threads);
        text += &format!("  {:28} {:>10} {:>10} {:>8}  agreement\n", "", "median", "memory", "ratio");
        let row = |m: &Measured, name: &str| format!("  {name:28} {:>8.3} s {:>6.0} MiB", m.median_s, m.peak_mib);
        text += &row(&self.ours, &self.ours.version);
        match self.bar_s() {
            Some(bar) if self.in_time() => text += &format!("  bar {bar} s\n"),
            Some(bar) => text += &format!("  ABOVE the bar of {bar} s\n"),
            None => text += "\n",
        }
        for (peer, agreement) in &self.peers {
            let bar = match self.bar(&peer.name) {
                Some(bar) if self.ratio(peer) < bar => format!(", below the bar of {bar}"),
                Some(bar) => format!(", bar {bar}"),
                None => String::new(),
            };
            text += &format!("{} {:>8.2}  {}{bar}\n", row(peer, &peer.version), self.ratio(peer), agreement.text());
        }
        text
    }
}
