//! `mrmc`: readers under several treatments, on the same cases.

use crate::table::Table;
use crate::{Failure, Report};
use clap::ValueEnum;
use lungai_metrics::mrmc::{
    Covariance, Difference, DorfmanBerbaumMetz, Inference, MeanSquare, ObuchowskiRockette, Test, dorfman_berbaum_metz,
    obuchowski_rockette,
};
use lungai_metrics::reader_study::{Merit, ReaderStudy, Reading};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Every reader reads every case under every modality. The truth has a line for each lesion of a diseased case and one
/// for each other case; a weight of 0 or nothing means equal lesions. Marks are NL (on no lesion) or LL (on the lesion
/// named); a lesion or case without a line is not marked. For `auc` every case has exactly one rating: NL without
/// disease, LL with it.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask stats mrmc --truth truth.csv --marks marks.csv --fom wafroc

  truth.csv                              marks.csv
  case_id,is_diseased,lesion_id,weight   modality,reader,case_id,mark_type,lesion_id,rating
  1,0,,                                  CT,A,1,NL,,2
  2,1,1,0.5                              CT,A,2,LL,1,4
  2,1,2,0.5                              CT+AI,A,2,LL,1,5

rrrc: random readers and cases; frrc: these readers, cases like these; rrfc: readers like these, these cases. `or` is
Obuchowski and Rockette's analysis with Hillis' degrees of freedom, `dbm` that of Dorfman, Berbaum and Metz.")]
pub struct Args {
    /// Cases: columns case_id, is_diseased (0 or 1), lesion_id, weight.
    #[arg(long)]
    truth: PathBuf,
    /// Marks: columns modality, reader, case_id, mark_type, lesion_id, rating.
    #[arg(long)]
    marks: PathBuf,
    /// Figure of merit.
    #[arg(long, value_enum)]
    fom: Fom,
    /// How the covariances of `or` are estimated.
    #[arg(long, value_enum, default_value_t = How::Jackknife)]
    covariance: How,
    /// Replicates of `--covariance bootstrap`.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    bootstrap: u32,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Confidence of the intervals.
    #[arg(long, default_value_t = 0.95)]
    level: f64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    /// By leaving out each case.
    Jackknife,
    /// DeLong's; `auc` and `hrauc` only.
    Delong,
    /// By drawing cases, normal and diseased ones apart.
    Bootstrap,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Fom {
    /// Area under the ROC curve.
    Auc,
    /// Lesions against the highest false mark of normal cases.
    Afroc,
    /// Lesions against the highest false mark of all cases.
    Afroc1,
    /// `afroc` with weighted lesions.
    Wafroc,
    /// `afroc1` with weighted lesions.
    Wafroc1,
    /// Area under the ROC curve of each case's highest rating.
    Hrauc,
    /// Share of lesions that are marked.
    Maxllf,
    /// False marks for each normal case.
    Maxnlf,
    /// Share of diseased cases with a mark.
    Hrse,
    /// Share of normal cases without a mark.
    Hrsp,
}

impl Fom {
    fn merit(self) -> Merit {
        match self {
            Self::Auc => Merit::Auc,
            Self::Afroc => Merit::Afroc,
            Self::Afroc1 => Merit::Afroc1,
            Self::Wafroc => Merit::WeightedAfroc,
            Self::Wafroc1 => Merit::WeightedAfroc1,
            Self::Hrauc => Merit::HighestRatingAuc,
            Self::Maxllf => Merit::MarkedLesions,
            Self::Maxnlf => Merit::MarksPerNormal,
            Self::Hrse => Merit::HighestRatingSensitivity,
            Self::Hrsp => Merit::HighestRatingSpecificity,
        }
    }
}

pub fn run(args: &Args) -> Result<Report, Failure> {
    let truth = Truth::read(&args.truth)?;
    let marks = Marks::read(&args.marks, &truth, args.fom == Fom::Auc)?;
    let study = ReaderStudy::new(truth.weights.clone(), &marks.readings)?;
    let covariance = match args.covariance {
        How::Jackknife => Covariance::Jackknife,
        How::Delong => Covariance::DeLong,
        How::Bootstrap => Covariance::Bootstrap { replicates: args.bootstrap as usize, seed: args.seed },
    };
    let or = obuchowski_rockette(&study, args.fom.merit(), covariance, args.level)?;
    let pseudovalues = study.treatments() > 1 && study.readers() > 1;
    let dbm = if pseudovalues { Some(dorfman_berbaum_metz(&study, args.fom.merit(), args.level)?) } else { None };

    let by_modality = |value: &dyn Fn(usize) -> Value| -> Map<String, Value> {
        marks.modalities.iter().enumerate().map(|(i, name)| (name.clone(), value(i))).collect()
    };
    let mean = |i: usize| or.figures[i].iter().sum::<f64>() / or.figures[i].len() as f64;
    let figures = by_modality(&|i| {
        let named = marks.readers.iter().zip(&or.figures[i]).map(|(reader, figure)| (reader.clone(), json!(figure)));
        Value::Object(named.collect())
    });
    let (normal, diseased) = study.cases();
    let mut out = json!({
        "ok": true,
        "figures": figures,
        "means": by_modality(&|i| json!(mean(i))),
        "or": or_json(&or, &marks),
        "level": args.level,
        "counts": {
            "modalities": study.treatments(), "readers": study.readers(), "cases": normal + diseased,
            "without_lesions": normal, "with_lesions": diseased,
            "lesions": truth.weights.iter().map(Vec::len).sum::<usize>(),
        },
    });
    if let Some(dbm) = &dbm {
        out["dbm"] = dbm_json(dbm, &marks);
    }
    Ok(Report { json: out, table: table(&or, dbm.as_ref(), &marks, &study) })
}

/// Cases in the order of the file.
struct Truth {
    place: HashMap<String, usize>,
    /// Empty for a normal case.
    weights: Vec<Vec<f64>>,
    lesions: HashMap<(usize, String), usize>,
}

impl Truth {
    fn read(path: &Path) -> Result<Self, Failure> {
        let table = Table::with_header(path)?;
        let case = table.column("case_id")?;
        let diseased = table.column("is_diseased")?;
        let lesion = table.column("lesion_id")?;
        let weight = table.header().iter().position(|name| name == "weight");
        let mut truth = Self { place: HashMap::new(), weights: vec![], lesions: HashMap::new() };
        let mut with_disease = Vec::new();
        for row in table.rows() {
            let name = table.required(row, case)?;
            let is_diseased = match &row.cells[diseased] {
                "1" => true,
                "0" => false,
                _ => return Err(table.failure(row, "bad-truth", "is_diseased must be 0 or 1")),
            };
            let known = truth.place.get(name).copied();
            let place = known.unwrap_or(truth.weights.len());
            if known.is_none() {
                truth.place.insert(name.to_owned(), place);
                truth.weights.push(vec![]);
                with_disease.push(is_diseased);
            } else if !is_diseased || !with_disease[place] {
                return Err(table.failure(row, "duplicate-case", "this case has a line before"));
            }
            if !is_diseased {
                if !row.cells[lesion].is_empty() {
                    return Err(table.failure(row, "bad-truth", "a case without disease has a lesion"));
                }
                continue;
            }
            let lesion = (place, table.required(row, lesion)?.to_owned());
            if truth.lesions.insert(lesion, truth.weights[place].len()).is_some() {
                return Err(table.failure(row, "duplicate-lesion", "this lesion has a line before"));
            }
            let value = weight.map_or(Ok(None), |column| table.number(row, column))?;
            truth.weights[place].push(value.unwrap_or(0.0));
        }
        for (name, place) in &truth.place {
            let sum: f64 = truth.weights[*place].iter().sum();
            if sum != 0.0 && (sum - 1.0).abs() >= 1e-6 {
                let message = format!("{}: the lesion weights of case {name} sum to {sum}, not to 1", table.file());
                return Err(Failure { rule: "lesion-weights".into(), message });
            }
        }
        Ok(truth)
    }
}

/// Readings by modality, reader and case; the first two in the order in which the file names them.
struct Marks {
    modalities: Vec<String>,
    readers: Vec<String>,
    readings: Vec<Vec<Vec<Reading>>>,
}

impl Marks {
    fn read(path: &Path, truth: &Truth, one_rating: bool) -> Result<Self, Failure> {
        let table = Table::with_header(path)?;
        let names = ["modality", "reader", "case_id", "mark_type", "lesion_id", "rating"];
        let columns = names.iter().map(|name| table.column(name)).collect::<Result<Vec<_>, _>>()?;
        let (mut modalities, mut readers) = (Vec::new(), Vec::new());
        let mut cells: HashMap<(usize, usize), Vec<Reading>> = HashMap::new();
        let unread: Vec<Reading> = truth
            .weights
            .iter()
            .map(|lesions| Reading { elsewhere: vec![], lesions: vec![None; lesions.len()] })
            .collect();
        for row in table.rows() {
            let modality = number_of(&mut modalities, table.required(row, columns[0])?);
            let reader = number_of(&mut readers, table.required(row, columns[1])?);
            let case = table.required(row, columns[2])?;
            let Some(place) = truth.place.get(case) else {
                return Err(table.failure(row, "unknown-case", &format!("the truth has no case {case}")));
            };
            let rating = table.required_number(row, columns[5])?;
            let lesion = &row.cells[columns[4]];
            let reading = &mut cells.entry((modality, reader)).or_insert_with(|| unread.clone())[*place];
            let rated_before = !reading.elsewhere.is_empty() || reading.lesions.iter().any(Option::is_some);
            if one_rating && rated_before {
                let message = format!("case {case} is rated before; one rating a case makes a ROC curve, see hrauc");
                return Err(table.failure(row, "duplicate-mark", &message));
            }
            match &row.cells[columns[3]] {
                "NL" if lesion.is_empty() => reading.elsewhere.push(rating),
                "NL" => return Err(table.failure(row, "bad-mark", "a mark on no lesion (NL) names a lesion")),
                "LL" => {
                    let Some(which) = truth.lesions.get(&(*place, lesion.to_owned())) else {
                        let message = format!("the truth has no lesion \"{lesion}\" of case {case}");
                        return Err(table.failure(row, "unknown-lesion", &message));
                    };
                    if reading.lesions[*which].replace(rating).is_some() {
                        let message = format!("lesion {lesion} of case {case} is marked before by this reader");
                        return Err(table.failure(row, "duplicate-mark", &message));
                    }
                }
                _ => return Err(table.failure(row, "bad-mark", "mark_type must be NL or LL")),
            }
        }
        let missing = |rule: &str, message: String| Failure {
            rule: rule.into(),
            message: format!("{}: {message}", table.file()),
        };
        if modalities.is_empty() {
            return Err(missing("csv-empty", "no marks".into()));
        }
        let mut readings = Vec::new();
        for (i, modality) in modalities.iter().enumerate() {
            let mut of_modality = Vec::new();
            for (j, reader) in readers.iter().enumerate() {
                let Some(cell) = cells.remove(&(i, j)) else {
                    return Err(missing(
                        "missing-cell",
                        format!("reader {reader} has no marks under modality {modality}"),
                    ));
                };
                if one_rating {
                    let rated = |r: &Reading| !r.elsewhere.is_empty() || r.lesions.iter().any(Option::is_some);
                    if let Some(place) = cell.iter().position(|reading| !rated(reading)) {
                        let case = truth.place.iter().find(|(_, p)| **p == place).map_or("", |(name, _)| name);
                        let message = format!("reader {reader} has no rating of case {case} under modality {modality}");
                        return Err(missing("missing-cell", message));
                    }
                }
                of_modality.push(cell);
            }
            readings.push(of_modality);
        }
        Ok(Self { modalities, readers, readings })
    }
}

fn number_of(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

fn or_json(or: &ObuchowskiRockette, marks: &Marks) -> Value {
    let [t, r, tr] = or.anova;
    let c = or.components;
    let mut components = json!({ "cov1": c.cov1, "cov2": c.cov2, "cov3": c.cov3, "var": c.var });
    for (name, value) in [("reader", c.reader), ("treatment_reader", c.treatment_reader)] {
        if let Some(value) = value {
            components[name] = json!(value);
        }
    }
    let mut out = json!({ "anova": { "t": square(t), "r": square(r), "tr": square(tr) }, "components": components });
    let each = |names: &[String], values: &[[f64; 3]], keys: [&str; 3]| -> Value {
        let named = names
            .iter()
            .zip(values)
            .map(|(name, [a, b, c])| (name.clone(), json!({ keys[0]: a, keys[1]: b, keys[2]: c })));
        Value::Object(named.collect())
    };
    out["by_modality"] = each(&marks.modalities, &or.by_treatment, ["ms_r", "var", "cov2"]);
    out["by_reader"] = each(&marks.readers, &or.by_reader, ["ms_t", "var", "cov1"]);
    add(&mut out, [("rrrc", &or.rrrc), ("frrc", &or.frrc), ("rrfc", &or.rrfc)], marks);
    out["readers"] = readers_json(&or.readers, marks);
    out
}

fn dbm_json(dbm: &DorfmanBerbaumMetz, marks: &Marks) -> Value {
    let a = &dbm.anova;
    let [r, c, tr, tc, rc, error] = dbm.components;
    let mut out = json!({
        "anova": { "t": square(a.t), "r": square(a.r), "c": square(a.c), "tr": square(a.tr), "tc": square(a.tc),
            "rc": square(a.rc), "trc": square(a.trc) },
        "components": { "reader": r, "case": c, "treatment_reader": tr, "treatment_case": tc, "reader_case": rc,
            "error": error },
        "readers": readers_json(&dbm.readers, marks),
    });
    add(&mut out, [("rrrc", &dbm.rrrc), ("frrc", &dbm.frrc), ("rrfc", &dbm.rrfc)], marks);
    out
}

/// What has an error to be held against; the rest is left out.
fn add(out: &mut Value, parts: [(&str, &Option<Inference>); 3], marks: &Marks) {
    for (name, inference) in parts {
        if let Some(inference) = inference {
            out[name] = inference_json(inference, marks);
        }
    }
}

fn square(m: MeanSquare) -> Value {
    json!({ "ss": m.ss, "df": m.df, "ms": m.ms })
}

/// `f`, `df`, `ddf` and `p` lie beside the rest; a chi-squared test has `chi2` in place of `ddf`.
fn inference_json(inference: &Inference, marks: &Marks) -> Value {
    let mut out = json!({});
    if let Some(Test { f, df, ddf, error, p }) = inference.test {
        out = json!({ "f": f, "df": df, "p": p, "ms_error": error });
        match ddf {
            Some(ddf) => out["ddf"] = json!(ddf),
            None => out["chi2"] = json!(f * df),
        }
    }
    out["differences"] = inference.differences.iter().map(|d| difference_json(d, marks)).collect();
    let means = inference.means.iter().zip(&marks.modalities).map(|(m, name)| {
        let mut value = json!({ "value": m.value, "standard_error": m.standard_error, "ci": m.interval });
        if let Some(df) = m.df {
            value["df"] = json!(df);
        }
        (name.clone(), value)
    });
    out["means"] = Value::Object(means.collect());
    out
}

fn difference_json(d: &Difference, marks: &Marks) -> Value {
    let [a, b] = d.treatments.map(|place| &marks.modalities[place]);
    let mut value = json!({ "a": a, "b": b, "difference": d.value, "standard_error": d.standard_error, "p": d.p,
        "ci": d.interval });
    match d.df {
        Some(df) => (value["df"], value["t"]) = (json!(df), json!(d.statistic)),
        None => value["z"] = json!(d.statistic),
    }
    value
}

fn readers_json(readers: &[Vec<Difference>], marks: &Marks) -> Value {
    let each = |pairs: &Vec<Difference>| pairs.iter().map(|d| difference_json(d, marks)).collect::<Value>();
    Value::Object(marks.readers.iter().zip(readers).map(|(name, pairs)| (name.clone(), each(pairs))).collect())
}

fn table(or: &ObuchowskiRockette, dbm: Option<&DorfmanBerbaumMetz>, marks: &Marks, study: &ReaderStudy) -> String {
    let (normal, diseased) = study.cases();
    let mut text = format!(
        "{} modalities, {} readers, {normal} cases without and {diseased} with lesions\n\n{:<16}",
        marks.modalities.len(),
        marks.readers.len(),
        "reader"
    );
    marks.modalities.iter().for_each(|name| _ = write!(text, " {name:>12}"));
    text.push('\n');
    for (j, reader) in marks.readers.iter().enumerate() {
        let _ = write!(text, "{reader:<16}");
        or.figures.iter().for_each(|row| _ = write!(text, " {:>12.8}", row[j]));
        text.push('\n');
    }
    let _ = write!(text, "{:<16}", "mean");
    or.figures.iter().for_each(|row| _ = write!(text, " {:>12.8}", row.iter().sum::<f64>() / row.len() as f64));
    text.push('\n');
    let of_or = [
        ("random readers, random cases (Obuchowski-Rockette, Hillis)", or.rrrc.as_ref()),
        ("fixed readers, random cases (Obuchowski-Rockette)", or.frrc.as_ref()),
        ("random readers, fixed cases", or.rrfc.as_ref()),
    ];
    let of_dbm = dbm.map(|dbm| ("random readers, random cases (Dorfman-Berbaum-Metz, Hillis)", dbm.rrrc.as_ref()));
    for (title, inference) in of_or.into_iter().chain(of_dbm) {
        let Some(inference) = inference else { continue };
        let _ = writeln!(text, "\n{title}");
        match inference.test {
            Some(Test { f, df, ddf: Some(ddf), p, .. }) => {
                let _ = writeln!(text, "  F({df:.0}, {ddf:.2}) = {f:.6}, p = {p:.6}");
            }
            Some(Test { f, df, p, .. }) => _ = writeln!(text, "  chi2({df:.0}) = {:.6}, p = {p:.6}", f * df),
            None => (),
        }
        for d in &inference.differences {
            let [a, b] = d.treatments.map(|place| &marks.modalities[place]);
            let [low, high] = d.interval;
            let _ = writeln!(text, "  {a} - {b}: {:.6} ({low:.6} to {high:.6}), p = {:.6}", d.value, d.p);
        }
        for (m, name) in inference.means.iter().zip(&marks.modalities) {
            let [low, high] = m.interval;
            let _ = writeln!(text, "  {name}: {:.6} ({low:.6} to {high:.6})", m.value);
        }
    }
    text
}
