//! LUNA16's files: which scans count, what is in them, and what a system marked.

use crate::Failure;
use crate::table::{Row, Table};
use lungai_ct::WorldPoint;
use lungai_metrics::froc::Froc;
use lungai_metrics::matching::{
    HitRule, Lesion, Mark, MatchRule, OverlapRule, Pairing, ScanMatch, check_millimetres, match_overlaps, match_scan,
    sphere_iou,
};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The reference and what hits it.
#[derive(clap::Args)]
pub struct Reference {
    /// Nodules: columns seriesuid, coordX, coordY, coordZ, diameter_mm.
    #[arg(long)]
    pub annotations: PathBuf,
    /// Findings that are not scored: same columns; a negative diameter means 10 mm.
    #[arg(long)]
    pub excluded: Option<PathBuf>,
    /// Scans that count, one series UID a line, also those without marks or nodules.
    #[arg(long)]
    pub seriesuids: PathBuf,
    /// A hit lies strictly within so many mm of a nodule's centre, instead of within its radius.
    #[arg(long, value_name = "MM", conflicts_with = "hit_iou")]
    pub hit_mm: Option<f64>,
    /// A hit overlaps the nodule by this intersection over union of balls, one to one by falling score; marks then have a column
    /// diameter_mm.
    #[arg(long, value_name = "IOU")]
    pub hit_iou: Option<f64>,
    /// At most so many marks a scan count, those above the next score; 0 for all.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub max_marks: usize,
    /// Take marks of series that none of the files knows for a mistake of the files: count and ignore them.
    #[arg(long)]
    pub ignore_unknown: bool,
    /// Take marks that occur twice, and positions that do not look like millimetres, as they are.
    #[arg(long)]
    pub unchecked: bool,
}

/// The scans of a cohort in the order of their list.
pub struct Cohort {
    pub place: HashMap<String, usize>,
    pub lesions: Vec<Vec<Lesion>>,
    /// Every series that a file of the reference names.
    known: HashSet<String>,
    /// Lines of the two reference files that belong to scans that do not count.
    pub outside: [usize; 2],
}

/// A system's marks, scan by scan, and lines of scans that do not count.
pub struct Submission {
    pub marks: Vec<Vec<Mark>>,
    /// Of each mark, where the hit rule needs it.
    diameters: Vec<Vec<f64>>,
    pub outside: usize,
}

impl Cohort {
    pub fn read(reference: &Reference) -> Result<Self, Failure> {
        let place = series(&reference.seriesuids)?;
        let mut cohort = Self { lesions: vec![vec![]; place.len()], known: HashSet::new(), outside: [0; 2], place };
        let files = [(Some(&reference.annotations), false), (reference.excluded.as_ref(), true)];
        for (i, (path, excluded)) in files.into_iter().enumerate() {
            let Some(path) = path else { continue };
            let table = Table::with_header(path)?;
            let columns = Columns::of(&table, "diameter_mm")?;
            let mut seen = HashSet::new();
            for row in table.rows() {
                let (uid, position, diameter_mm) = columns.read(&table, row)?;
                // Of findings that are not scored a second copy changes nothing; a nodule twice counts twice.
                if !excluded && !seen.insert((uid.to_owned(), position.0.map(f64::to_bits))) {
                    return Err(table.failure(row, "duplicate-annotation", "this nodule is listed before"));
                }
                cohort.known.insert(uid.to_owned());
                match cohort.place.get(uid) {
                    Some(scan) => cohort.lesions[*scan].push(Lesion { position, diameter_mm, excluded }),
                    None => cohort.outside[i] += 1,
                }
            }
        }
        Ok(cohort)
    }

    pub fn submission(&self, path: &Path, reference: &Reference) -> Result<Submission, Failure> {
        let table = Table::with_header(path)?;
        let columns = Columns::of(&table, "probability")?;
        let diameter = reference.hit_iou.map(|_| table.column("diameter_mm")).transpose()?;
        let mut submission =
            Submission { marks: vec![vec![]; self.place.len()], diameters: vec![vec![]; self.place.len()], outside: 0 };
        let mut seen = HashSet::new();
        for row in table.rows() {
            // Read before the series is looked up: a malformed line is an error wherever it belongs.
            let (uid, position, score) = columns.read(&table, row)?;
            let diameter_mm = diameter.map_or(Ok(0.0), |column| table.required_number(row, column))?;
            let Some(scan) = self.place.get(uid) else {
                if !reference.ignore_unknown && !self.known.contains(uid) {
                    let message = "neither the list of series nor a file of findings knows this series; \
                        --ignore-unknown leaves such marks out";
                    return Err(table.failure(row, "unknown-series", message));
                }
                submission.outside += 1;
                continue;
            };
            let bits = [position.0[0], position.0[1], position.0[2], score].map(f64::to_bits);
            if !reference.unchecked && !seen.insert((*scan, bits)) {
                let message = "the same mark with the same score is listed before; --unchecked counts both";
                return Err(table.failure(row, "duplicate-mark", message));
            }
            submission.marks[*scan].push(Mark { position, score });
            submission.diameters[*scan].push(diameter_mm);
        }
        if !reference.unchecked {
            check_millimetres(submission.marks.iter().flatten(), self.lesions.iter().flatten()).map_err(|error| {
                let message = format!("{}: {error} --unchecked takes them as they are", table.file());
                Failure { rule: error.rule().into(), message }
            })?;
        }
        Ok(submission)
    }

    pub fn froc(&self, submission: &Submission, reference: &Reference) -> Result<Froc, Failure> {
        let marks_per_scan = (reference.max_marks > 0).then_some(reference.max_marks);
        let scans = submission.marks.iter().zip(&submission.diameters).zip(&self.lesions);
        let matched = scans
            .map(|((marks, diameters), lesions)| match reference.hit_iou {
                Some(minimum) => by_overlap(marks, diameters, lesions, minimum, marks_per_scan),
                None => {
                    let hit = reference.hit_mm.map_or(HitRule::WithinRadius, HitRule::WithinMm);
                    Ok(match_scan(marks, lesions, &MatchRule { hit, marks_per_scan, ..MatchRule::LUNA16 })?)
                }
            })
            .collect::<Result<Vec<ScanMatch>, Failure>>()?;
        Ok(Froc::new(submission.marks.iter().map(Vec::as_slice).zip(&matched))?)
    }

    /// What a column says of each scan, as a number for each distinct name, and the names.
    pub fn labels(&self, path: &Path, column: &str) -> Result<(Vec<usize>, Vec<String>), Failure> {
        let table = Table::with_header(path)?;
        let (uid, label) = (table.column("seriesuid")?, table.column(column)?);
        let mut names: Vec<String> = Vec::new();
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let mut of_scan = vec![None; self.place.len()];
        for row in table.rows() {
            let Some(scan) = self.place.get(&row.cells[uid]) else { continue };
            let name = table.required(row, label)?;
            let number = *numbers.entry(name.to_owned()).or_insert_with(|| {
                names.push(name.to_owned());
                names.len() - 1
            });
            if of_scan[*scan].replace(number).is_some_and(|before| before != number) {
                let message = format!("this series has another {column} before");
                return Err(table.failure(row, &format!("ambiguous-{column}"), &message));
            }
        }
        let of_scan = of_scan.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| Failure {
            rule: format!("unknown-{column}"),
            message: format!("{}: at least one listed series has no line", table.file()),
        })?;
        Ok((of_scan, names))
    }
}

fn by_overlap(
    marks: &[Mark],
    diameters: &[f64],
    lesions: &[Lesion],
    minimum: f64,
    marks_per_scan: Option<usize>,
) -> Result<ScanMatch, Failure> {
    let scores: Vec<f64> = marks.iter().map(|mark| mark.score).collect();
    let excluded: Vec<bool> = lesions.iter().map(|lesion| lesion.excluded).collect();
    let overlap = |mark: &Mark, diameter: f64, lesion: &Lesion| {
        let squared: f64 = mark.position.0.iter().zip(lesion.position.0).map(|(a, b)| (a - b).powi(2)).sum();
        let unknown = MatchRule::LUNA16.unknown_diameter_mm;
        let reference = if lesion.diameter_mm < 0.0 { unknown } else { lesion.diameter_mm };
        sphere_iou([diameter, reference], squared.sqrt())
    };
    let rows: Vec<Vec<f64>> = marks
        .iter()
        .zip(diameters)
        .map(|(mark, diameter)| lesions.iter().map(|lesion| overlap(mark, *diameter, lesion)).collect())
        .collect();
    let rule = OverlapRule { minimum, pairing: Pairing::Greedy, surplus_is_false: false, marks_per_scan };
    Ok(match_overlaps(&scores, &excluded, &rows, &rule)?)
}

/// Where a file of positions has what.
struct Columns {
    uid: usize,
    coordinates: [usize; 3],
    value: usize,
}

impl Columns {
    fn of(table: &Table, value: &str) -> Result<Self, Failure> {
        Ok(Self {
            uid: table.column("seriesuid")?,
            coordinates: [table.column("coordX")?, table.column("coordY")?, table.column("coordZ")?],
            value: table.column(value)?,
        })
    }

    fn read<'a>(&self, table: &Table, row: &'a Row) -> Result<(&'a str, WorldPoint, f64), Failure> {
        let mut position = [0.0; 3];
        for (mm, column) in position.iter_mut().zip(self.coordinates) {
            *mm = table.required_number(row, column)?;
        }
        Ok((&row.cells[self.uid], WorldPoint(position), table.required_number(row, self.value)?))
    }
}

/// Place of every listed series, in the order of the file.
fn series(path: &Path) -> Result<HashMap<String, usize>, Failure> {
    let list = Table::list(path)?;
    let mut place = HashMap::new();
    for (i, row) in list.rows().iter().enumerate() {
        let uid = row.cells.get(0).unwrap_or_default();
        if uid.is_empty() {
            return Err(list.failure(row, "csv-missing-value", "no series UID"));
        }
        if i == 0 && uid == "seriesuid" {
            continue;
        }
        if place.insert(uid.to_owned(), place.len()).is_some() {
            return Err(list.failure(row, "duplicate-seriesuid", "this series is listed before"));
        }
    }
    if place.is_empty() {
        return Err(Failure { rule: "csv-empty".into(), message: format!("{}: no series UIDs", list.file()) });
    }
    Ok(place)
}
