//! `track compare`: runs side by side, and their curves over each other.

use crate::figure::{self, Sheet};
use crate::replay::flatten;
use crate::table::{duration, figure, table};
use crate::{Failure, Report, list};
use lungai_runs::{Metrics, Run, smoothed};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Run folders, two or more.
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Also the parameters that do not differ.
    #[arg(long)]
    all: bool,
    /// Draw the runs' curves over each other: DIR/compare.svg and DIR/compare.png.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The verb.
pub fn run(args: &Args) -> Result<Report, Failure> {
    let runs = args.runs.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>, _>>()?;
    for warning in runs.iter().filter_map(Run::warning) {
        eprintln!("warning: {warning}");
    }
    let names = names(&runs);
    let drawn = match &args.out {
        None => None,
        Some(out) => {
            let path =
                |error: &dyn std::fmt::Display| Failure::new("figure-failed", format!("{}: {error}", out.display()));
            std::fs::create_dir_all(out).map_err(|error| path(&error))?;
            figure::draw(&Sheet { runs: &runs, names: &names, warning: warning(&runs) }, out)
                .map_err(|error| path(&error))?;
            Some(out)
        }
    };
    Ok(Report { json: as_json(&runs, &names, args.all, drawn), text: as_text(&runs, &names, args.all, drawn) })
}

/// Shortest names that tell the runs apart: their folders' names, else the paths as they were given.
fn names(runs: &[Run]) -> Vec<String> {
    let short: Vec<String> =
        runs.iter().map(|run| run.folder.file_name().unwrap_or(run.folder.as_os_str()).display().to_string()).collect();
    if short.iter().collect::<BTreeSet<_>>().len() == runs.len() {
        return short;
    }
    runs.iter().map(|run| run.folder.display().to_string()).collect()
}

fn same_data(runs: &[Run]) -> bool {
    runs.windows(2).all(|pair| pair[0].record.data.manifest_sha256 == pair[1].record.data.manifest_sha256)
}

/// What the reader of a comparison must not miss.
fn warning(runs: &[Run]) -> Option<String> {
    (!same_data(runs)).then(|| "DIFFERENT DATA: these figures do not compare".to_owned())
}

/// Value of every parameter in each run; none where the run has no such parameter. Only those that differ, unless `all`.
fn parameters(runs: &[Run], all: bool) -> BTreeMap<String, Vec<Option<String>>> {
    let mut rows: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for (run, column) in runs.iter().zip(0..) {
        let mut flat = Vec::new();
        flatten("", &run.experiment, &mut flat);
        for (key, value) in flat {
            rows.entry(key).or_insert_with(|| vec![None; runs.len()])[column] = Some(value);
        }
    }
    rows.retain(|_, values| all || values.windows(2).any(|pair| pair[0] != pair[1]));
    rows
}

/// Every figure's name with its value in each run.
fn figures<'a>(of: impl Iterator<Item = Option<&'a Metrics>>) -> BTreeMap<String, Vec<Option<f64>>> {
    let columns: Vec<Option<&Metrics>> = of.collect();
    let names: BTreeSet<&String> = columns.iter().flatten().flat_map(|metrics| metrics.keys()).collect();
    let row = |name: &String| columns.iter().map(|metrics| metrics.and_then(|m| m.get(name)).copied()).collect();
    names.into_iter().map(|name| (name.clone(), row(name))).collect()
}

fn best(runs: &[Run]) -> BTreeMap<String, Vec<Option<f64>>> {
    figures(runs.iter().map(|run| run.best.as_ref().map(|best| &best.metrics)))
}

fn last(runs: &[Run]) -> BTreeMap<String, Vec<Option<f64>>> {
    figures(runs.iter().map(|run| run.history.evaluations.last().map(|(_, metrics)| metrics)))
}

/// Of the last step: one batch's loss says little.
fn loss(run: &Run) -> Option<f64> {
    smoothed(&run.history.losses).last().map(|point| point.1)
}

fn as_text(runs: &[Run], names: &[String], all: bool, drawn: Option<&PathBuf>) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut add = |title: &str, cells: Vec<String>| {
        rows.push([vec![title.to_owned()], cells].concat());
    };
    let each = |cell: &dyn Fn(&Run) -> String| runs.iter().map(cell).collect::<Vec<_>>();
    add("", names.to_vec());
    add("network", each(&|run| run.network().to_owned()));
    add("state", each(&|run| list::state(run.state).to_owned()));
    add("steps", each(&list::steps));
    add("time", each(&|run| duration(run.history.seconds)));
    add(
        "device",
        each(&|run| format!("{}, {} threads, {}", run.record.device, run.record.threads, run.record.precision)),
    );
    add(
        "commit",
        each(&|run| {
            run.record.code.commit.chars().take(10).collect::<String>()
                + if run.record.code.dirty { " + changes" } else { "" }
        }),
    );
    add("data", each(&|run| run.record.data.name.clone() + if run.record.synthetic { " (SYNTHETIC)" } else { "" }));
    add("data SHA-256", each(&|run| run.record.data.manifest_sha256.chars().take(12).collect()));
    let parameters = parameters(runs, all);
    add("", Vec::new());
    add(
        if all { "PARAMETERS" } else { "PARAMETERS THAT DIFFER" },
        if parameters.is_empty() { vec!["none".into()] } else { Vec::new() },
    );
    for (name, values) in &parameters {
        add(name, values.iter().map(|value| value.clone().unwrap_or_else(|| "-".into())).collect());
    }
    add("", Vec::new());
    add("BEST", each(&|run| run.best.as_ref().map_or("-".into(), |best| format!("step {}", best.step))));
    for (name, values) in best(runs) {
        add(&name, values.into_iter().map(figure).collect());
    }
    add("", Vec::new());
    add("LAST", each(&|run| run.history.evaluations.last().map_or("-".into(), |(step, _)| format!("step {step}"))));
    add("training loss, smoothed", each(&|run| figure(loss(run))));
    for (name, values) in last(runs) {
        add(&name, values.into_iter().map(figure).collect());
    }
    let mut text = String::new();
    if let Some(warning) = warning(runs) {
        text.push_str(&format!("*** {warning} ***\n"));
        let data = runs.iter().zip(names).map(|(run, name)| {
            format!("    {name}: {}, manifest SHA-256 {}\n", run.record.data.name, run.record.data.manifest_sha256)
        });
        text.extend(data);
        text.push('\n');
    }
    text.push_str(&table(&rows));
    if let Some(out) = drawn {
        text.push_str(&format!("\ncurves: {}\n", out.join(figure::NAME).with_extension("png").display()));
    }
    text
}

fn as_json(runs: &[Run], names: &[String], all: bool, drawn: Option<&PathBuf>) -> Value {
    let list: Vec<Value> = runs
        .iter()
        .zip(names)
        .map(|(run, name)| {
            json!({
                "run": run.folder, "name": name, "experiment": run.name(), "network": run.network(), "state": run.state,
                "step": run.history.step, "seconds": run.history.seconds, "device": run.record.device,
                "threads": run.record.threads, "precision": run.record.precision, "code": run.record.code,
                "data": run.record.data, "synthetic": run.record.synthetic, "cut_lines": run.journal.cut,
                "loss_smoothed": loss(run),
            })
        })
        .collect();
    let steps = |of: &dyn Fn(&Run) -> Option<u64>| runs.iter().map(of).collect::<Vec<_>>();
    let mut value = json!({
        "ok": true, "same_data": same_data(runs), "runs": list, "parameters": parameters(runs, all),
        "best": { "step": steps(&|run| Some(run.best.as_ref()?.step)), "figures": best(runs) },
        "last": { "step": steps(&|run| Some(run.history.evaluations.last()?.0)), "figures": last(runs) },
    });
    let extra = drawn.map(|out| json!({ "svg": out.join("compare.svg"), "png": out.join("compare.png") }));
    if let (Value::Object(map), Some(figure)) = (&mut value, extra) {
        map.extend(Map::from_iter([("figure".to_owned(), figure)]));
    }
    value
}
