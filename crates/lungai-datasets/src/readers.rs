//! Simulated readers for studies of reference standards and agreement: they miss small and faint nodules, put marks a little
//! off, and rate malignancy by what they believe. Synthetic opinions on synthetic patients, and nothing else.

use crate::clusters::clusters;
use crate::hash::seed_of;
use crate::{DatasetError, Manifest, Split};
use lungai_ct::{NoduleKind, ReferenceNodule, WorldPoint};
use lungai_metrics::agreement::{Scale, fleiss, krippendorff};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// How one reader sees. Complete: no field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// Name, such as `r1`.
    pub name: String,
    /// Diameter in mm of a solid nodule of usual contrast that is found every second time.
    pub half_found_mm: f64,
    /// Natural logarithm of size over which the odds rise e-fold.
    pub slope: f64,
    /// Chance to report a mimic where a solid nodule of that size would be found for certain, 0..=1.
    pub mimic_chance: f64,
    /// Standard deviation in mm of the position along each axis, for a nodule of 10 mm; it grows with the root of size.
    pub position_sd_mm: f64,
    /// Relative standard deviation of the diameter.
    pub diameter_sd: f64,
    /// Added to the rating: positive readers fear more.
    pub rating_shift: f64,
    /// Standard deviation of the rating before it is rounded.
    pub rating_sd: f64,
}

/// A mark of a reader.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Where.
    pub position: WorldPoint,
    /// How large.
    pub diameter_mm: f64,
    /// 1 highly unlikely to be malignant, 2, 3 indeterminate, 4, 5 highly suspicious.
    pub malignancy: u8,
}

impl Reader {
    /// Three readers of different habits. They agree on malignancy about as LIDC's radiologists do (ordinal alpha 0.44).
    pub fn panel() -> [Self; 3] {
        let reader = |name: &str, half_found_mm: f64, mimic_chance: f64, rating_shift: f64| Self {
            name: name.to_owned(),
            half_found_mm,
            slope: 0.22,
            mimic_chance,
            position_sd_mm: 0.7,
            diameter_sd: 0.10,
            rating_shift,
            rating_sd: 0.85,
        };
        [reader("r1", 3.6, 0.06, 0.0), reader("r2", 4.2, 0.03, -0.35), reader("r3", 3.9, 0.10, 0.35)]
    }

    /// The reader's marks on a scan with this reference standard. The same case and seed give the same marks. What makes a
    /// nodule conspicuous is common to all readers of a seed; chance is each one's own.
    pub fn read(&self, case: &str, reference: &[ReferenceNodule], seed: u64) -> Vec<Reading> {
        let mut marks = Vec::new();
        for nodule in reference {
            let mut common = chance(&format!("{seed}/{case}/{}", nodule.id));
            let mut own = chance(&format!("{seed}/{case}/{}/{}", nodule.id, self.name));
            let conspicuity = 0.5 * normal(&mut common);
            let belief = normal(&mut common);
            let faint = match nodule.kind {
                Some(NoduleKind::GroundGlass) => 0.55,
                Some(NoduleKind::PartSolid) => 0.2,
                Some(NoduleKind::Calcified) => -0.2,
                Some(NoduleKind::Solid) | None => 0.0,
            };
            let size = nodule.diameter_mm.max(0.5) / self.half_found_mm;
            let seen = logistic((size.ln() - faint) / self.slope + conspicuity);
            let reported = if nodule.excluded { self.mimic_chance * seen } else { seen };
            if own.random::<f64>() >= reported {
                continue;
            }
            let off = self.position_sd_mm * (nodule.diameter_mm / 10.0).sqrt();
            let position = WorldPoint(nodule.position.0.map(|mm| mm + off * normal(&mut own)));
            let diameter_mm = nodule.diameter_mm * (self.diameter_sd * normal(&mut own)).exp();
            // 3 where nothing speaks for either; what is in the image moves all readers, what is not moves each.
            let p = nodule.malignancy_probability.unwrap_or(0.1).clamp(0.01, 0.99);
            let rating = 3.0
                + 0.25 * (p / (1.0 - p)).ln()
                + 0.23 * belief
                + self.rating_shift
                + self.rating_sd * normal(&mut own);
            marks.push(Reading { position, diameter_mm, malignancy: rating.round().clamp(1.0, 5.0) as u8 });
        }
        marks
    }
}

/// Marks as a table: `case,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,malignancy`. A case without a mark has no line.
pub fn readings_csv<'a>(cases: impl Iterator<Item = (&'a str, &'a [Reading])>) -> Vec<u8> {
    let mut text = "case,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,malignancy\n".to_owned();
    for (case, marks) in cases {
        for Reading { position: WorldPoint([x, y, z]), diameter_mm, malignancy } in marks {
            text += &format!("{case},{x:.2},{y:.2},{z:.2},{diameter_mm:.2},{malignancy}\n");
        }
    }
    text.into_bytes()
}

/// What several readers marked at one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// For each reader the mark, if any.
    pub by_reader: Vec<Option<Reading>>,
    /// Mean of the marks.
    pub position: WorldPoint,
    /// Mean of the marks.
    pub diameter_mm: f64,
}

impl Joined {
    /// Readers who marked it.
    pub fn votes(&self) -> usize {
        self.by_reader.iter().flatten().count()
    }
}

/// Puts together the marks of several readers: nearest pairs first, two marks are of one nodule where each centre lies
/// within the other's diameter, and of more marks than two every pair must be. A reader has at most one mark on a nodule.
pub fn join(readers: &[Vec<Reading>]) -> Vec<Joined> {
    let marks: Vec<(usize, &Reading)> =
        readers.iter().enumerate().flat_map(|(r, m)| m.iter().map(move |m| (r, m))).collect();
    let groups = clusters(marks.len(), |a, b| {
        let ((reader, a), (other, b)) = (marks[a], marks[b]);
        let apart = a.position.distance_mm(b.position);
        (reader != other && apart < a.diameter_mm.min(b.diameter_mm)).then_some(apart)
    });
    let mut joined = Vec::new();
    for group in groups {
        let mut by_reader = vec![None; readers.len()];
        for (reader, mark) in group.into_iter().map(|mark| marks[mark]) {
            by_reader[reader] = Some(mark.clone());
        }
        let n = by_reader.iter().flatten().count() as f64;
        let mean = |value: &dyn Fn(&Reading) -> f64| by_reader.iter().flatten().map(value).sum::<f64>() / n;
        let position = WorldPoint(std::array::from_fn(|axis| mean(&|mark| mark.position.0[axis])));
        let diameter_mm = mean(&|mark| mark.diameter_mm);
        joined.push(Joined { by_reader, position, diameter_mm });
    }
    joined
}

/// The reference standard that readers agree on: a nodule where at least `least_votes` marked it, an excluded finding where
/// fewer did, as LUNA16 has it.
pub fn consensus(joined: &[Joined], least_votes: usize) -> Vec<ReferenceNodule> {
    let nodule = |(number, joined): (usize, &Joined)| ReferenceNodule {
        id: format!("c{number}"),
        excluded: joined.votes() < least_votes,
        ..ReferenceNodule::at(joined.position, joined.diameter_mm)
    };
    (1..).zip(joined).map(nodule).collect()
}

/// What a panel of readers made of a set's scans.
#[derive(Debug, Clone, Serialize)]
pub struct Study {
    /// Scans read.
    pub cases: usize,
    /// What each reader found of the truth.
    pub readers: Vec<Found>,
    /// Findings by the number of readers who marked them: by one, by two, ...
    pub votes: Vec<usize>,
    /// Krippendorff's ordinal alpha of the ratings of findings that all marked; none where it is undefined.
    pub alpha: Option<f64>,
    /// Fleiss' kappa of the same.
    pub kappa: Option<f64>,
    /// Names and contents of its tables: each reader's marks (`r1.csv`, ...), `consensus.csv` with what at least two marked
    /// (others are excluded findings, as LUNA16 has it), and `ratings.csv` as `stats kappa` reads it.
    #[serde(skip)]
    pub tables: Vec<(String, Vec<u8>)>,
}

/// One reader against the truth.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The reader.
    pub reader: String,
    /// Share found of the nodules below 6 mm, of 6 mm and below 10 mm, and of 10 mm and more; none where there are none.
    pub sensitivity: [Option<f64>; 3],
    /// Marks per scan on what is no nodule.
    pub false_marks_per_scan: f64,
}

/// Lets a panel read the synthetic cases of a split.
///
/// # Errors
/// [`DatasetError::Config`] of an acquired set: nobody's opinion on a real scan is invented. A table that cannot be read.
pub fn study(manifest: &Manifest, split: Split, panel: &[Reader], seed: u64) -> Result<Study, DatasetError> {
    if !manifest.synthetic {
        let reason = "simulated readers read synthetic sets only".to_owned();
        return Err(DatasetError::Config { file: "manifest.yaml".to_owned(), line: 1, reason });
    }
    let mut marks: Vec<Vec<(&str, Vec<Reading>)>> = vec![Vec::new(); panel.len()];
    let mut seen = vec![[(0_usize, 0_usize); 3]; panel.len()];
    let mut wrong = vec![0_usize; panel.len()];
    let (mut votes, mut ratings) = (vec![0; panel.len()], Vec::new());
    let mut agreed = "case,id,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,votes,excluded\n".to_owned();
    let cases: Vec<_> = manifest.cases(split).collect();
    for case in &cases {
        let reference = case.nodules()?;
        let read: Vec<_> = panel.iter().map(|reader| reader.read(&case.id, &reference, seed)).collect();
        // A mark hits a nodule within its radius, as in LUNA16.
        let on = |m: &Reading, n: &ReferenceNodule| m.position.distance_mm(n.position) < 0.5 * n.diameter_mm;
        for (reader, own) in read.iter().enumerate() {
            for nodule in reference.iter().filter(|n| !n.excluded) {
                let (found, all) = &mut seen[reader][[6.0, 10.0].partition_point(|mm| *mm <= nodule.diameter_mm)];
                *all += 1;
                *found += usize::from(own.iter().any(|mark| on(mark, nodule)));
            }
            wrong[reader] += own.iter().filter(|m| !reference.iter().any(|n| !n.excluded && on(m, n))).count();
        }
        let joined = join(&read);
        for (nodule, joined) in consensus(&joined, 2).iter().zip(&joined) {
            votes[joined.votes() - 1] += 1;
            let WorldPoint([x, y, z]) = nodule.position;
            let ReferenceNodule { id, diameter_mm, excluded, .. } = nodule;
            let by = joined.votes();
            agreed += &format!("{},{id},{x:.2},{y:.2},{z:.2},{diameter_mm:.2},{by},{excluded}\n", case.id);
            if by == panel.len() {
                ratings.push(joined.by_reader.iter().flatten().map(|m| f64::from(m.malignancy)).collect::<Vec<_>>());
            }
        }
        for (all, own) in marks.iter_mut().zip(read) {
            all.push((&case.id, own));
        }
    }
    let share = |(found, all): (usize, usize)| (all > 0).then(|| found as f64 / all as f64);
    let names: Vec<&str> = panel.iter().map(|reader| reader.name.as_str()).collect();
    let mut rated = names.join(",") + "\n";
    for row in &ratings {
        rated += &(row.iter().map(f64::to_string).collect::<Vec<_>>().join(",") + "\n");
    }
    let table = |(name, own): (&&str, &Vec<(&str, Vec<Reading>)>)| {
        (format!("{name}.csv"), readings_csv(own.iter().map(|(case, marks)| (*case, marks.as_slice()))))
    };
    let mut tables: Vec<_> = names.iter().zip(&marks).map(table).collect();
    tables.extend([("consensus.csv".to_owned(), agreed.into_bytes()), ("ratings.csv".to_owned(), rated.into_bytes())]);
    let found = |reader: usize| Found {
        reader: names[reader].to_owned(),
        sensitivity: seen[reader].map(share),
        false_marks_per_scan: wrong[reader] as f64 / cases.len().max(1) as f64,
    };
    Ok(Study {
        cases: cases.len(),
        readers: (0..panel.len()).map(found).collect(),
        votes,
        alpha: krippendorff(&ratings, Scale::Ordinal).ok(),
        kappa: fleiss(&ratings).ok(),
        tables,
    })
}

fn chance(purpose: &str) -> StdRng {
    StdRng::seed_from_u64(seed_of(purpose))
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Standard normal (Box and Muller).
fn normal(rng: &mut StdRng) -> f64 {
    let u: f64 = 1.0 - rng.random::<f64>(); // not 0
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Keep, Recipe, Storage, make_with};
    use lungai_phantom::{CaseMix, Difficulty, Scanner, Scene};
    use std::path::Path;

    fn mark(x: f64, diameter_mm: f64) -> Reading {
        Reading { position: WorldPoint([x, 0.0, 0.0]), diameter_mm, malignancy: 3 }
    }

    #[test]
    fn marks_near_each_other_are_one_nodule_and_a_reader_marks_it_once() {
        let joined = join(&[vec![mark(0.0, 6.0), mark(5.0, 6.0)], vec![mark(1.0, 6.0)], vec![mark(30.0, 6.0)]]);
        let votes: Vec<_> = joined.iter().map(|j| (j.position.0[0], j.votes())).collect();
        assert_eq!(votes, [(0.5, 2), (5.0, 1), (30.0, 1)]);
        let reference = consensus(&joined, 2);
        assert_eq!(reference.iter().map(|n| n.excluded).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(join(&[Vec::new(), Vec::new()]), []);
    }

    #[test]
    fn a_mark_between_two_nodules_does_not_make_them_one() {
        // 5 mm apart, less than 6 mm; the outer two are 10 mm apart.
        let joined = join(&[vec![mark(0.0, 6.0)], vec![mark(5.0, 6.0)], vec![mark(10.0, 6.0)]]);
        let votes: Vec<_> = joined.iter().map(|j| (j.position.0[0], j.votes())).collect();
        assert_eq!(votes, [(2.5, 2), (10.0, 1)]);
    }

    #[test]
    fn a_table_has_a_line_for_each_mark() {
        let marks = [mark(1.5, 6.25)];
        let table = readings_csv([("a-1", &marks[..]), ("a-2", &[])].into_iter());
        assert_eq!(table, b"case,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,malignancy\na-1,1.50,0.00,0.00,6.25,3\n");
    }

    #[test]
    fn a_panel_reads_a_set_and_the_tables_say_what_the_summary_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/phantom-quick.yaml");
        let recipe = Recipe::load(&path).unwrap();
        let keep = Keep { storage: Storage::None, masks: false };
        let set = make_with(&recipe, folder.path(), keep, &|_| ()).unwrap();
        let found = study(&set, Split::Test, &Reader::panel(), 3).unwrap();
        assert_eq!(found.cases, set.cases(Split::Test).count());
        let lines = |name: &str| {
            let (_, table) = found.tables.iter().find(|(file, _)| file == name).unwrap();
            String::from_utf8(table.clone()).unwrap().lines().count() - 1
        };
        // Every mark is of one finding; a finding of two votes has two marks.
        let marks: usize = found.votes.iter().zip(1..).map(|(n, votes)| n * votes).sum();
        assert_eq!(["r1.csv", "r2.csv", "r3.csv"].map(lines).iter().sum::<usize>(), marks);
        assert_eq!(lines("consensus.csv"), found.votes.iter().sum::<usize>());
        assert_eq!(lines("ratings.csv"), found.votes[2]);
        assert!(found.readers.iter().all(|reader| reader.sensitivity[2].is_none_or(|share| share > 0.6)), "{found:?}");
        assert_eq!(study(&set, Split::Test, &Reader::panel(), 3).unwrap().tables, found.tables);

        let text = std::fs::read_to_string(folder.path().join("manifest.yaml")).unwrap();
        std::fs::write(folder.path().join("manifest.yaml"), text.replace("synthetic: true", "synthetic: false"))
            .unwrap();
        let acquired = Manifest::load(folder.path()).unwrap();
        let error = study(&acquired, Split::Test, &Reader::panel(), 3).unwrap_err().to_string();
        assert!(error.contains("synthetic sets only"), "{error}");
    }

    /// Cases of the shipped eight centres, scenes only.
    fn cases(n: usize) -> Vec<(String, Vec<ReferenceNodule>)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/phantom-8c.yaml");
        let recipe = Recipe::load(&path).unwrap();
        let patients = recipe.patients().filter(|patient| patient.split == crate::Split::Test).take(n);
        patients
            .map(|patient| {
                let (scene, scanner) = (patient.scene(), &patient.centre.scanner);
                (patient.id.clone(), scene.reference(scanner, &scanner.geometry(&scene), patient.scan_seed()))
            })
            .collect()
    }

    #[test]
    fn larger_nodules_are_missed_less_and_faint_ones_more() {
        let template = {
            let scene = Scene::draw(&CaseMix { nodules_mean: 20.0, ..CaseMix::preset(Difficulty::Easy) }, 1);
            let scanner = Scanner::small();
            scene.reference(&scanner, &scanner.geometry(&scene), 1).remove(0)
        };
        let [reader, ..] = Reader::panel();
        let found = |diameter_mm: f64, kind: NoduleKind| {
            let nodule = ReferenceNodule { diameter_mm, kind: Some(kind), ..template.clone() };
            let seen = |i: &u64| !reader.read(&format!("c{i}"), std::slice::from_ref(&nodule), 7).is_empty();
            (0..1000).filter(seen).count() as f64 / 1000.0
        };
        let solid = [3.6, 5.0, 8.0].map(|mm| found(mm, NoduleKind::Solid));
        assert!((solid[0] - 0.5).abs() < 0.05, "half of those of 3.6 mm, not {}", solid[0]);
        assert!(solid[1] > 0.7 && solid[2] > 0.95, "{solid:?}");
        assert!(found(5.0, NoduleKind::GroundGlass) < solid[1] - 0.2);
        assert_eq!(
            reader.read("c", std::slice::from_ref(&template), 7),
            reader.read("c", std::slice::from_ref(&template), 7)
        );
    }

    #[test]
    fn three_readers_agree_about_as_radiologists_do() {
        let (mut ratings, mut votes, mut found, mut scored) = (Vec::new(), [0; 4], 0, 0);
        for (case, reference) in cases(40) {
            let marks = Reader::panel().map(|reader| reader.read(&case, &reference, 11));
            let joined = join(&marks);
            for nodule in &joined {
                votes[nodule.votes()] += 1;
                if nodule.votes() == 3 {
                    ratings
                        .push(nodule.by_reader.iter().flatten().map(|m| f64::from(m.malignancy)).collect::<Vec<_>>());
                }
            }
            // A consensus of two finds most of the truth, and what it finds is where it is said to be.
            let agreed: Vec<_> = consensus(&joined, 2).into_iter().filter(|n| !n.excluded).collect();
            for nodule in reference.iter().filter(|n| !n.excluded && n.diameter_mm >= 6.0) {
                scored += 1;
                let near = |n: &ReferenceNodule| n.position.distance_mm(nodule.position) < 0.5 * nodule.diameter_mm;
                found += usize::from(agreed.iter().any(near));
            }
        }
        // LIDC-IDRI (763 nodules with four ratings): ordinal alpha 0.437, Fleiss' kappa of five classes 0.195.
        let alpha = krippendorff(&ratings, Scale::Ordinal).unwrap();
        let kappa = fleiss(&ratings).unwrap();
        assert!((0.34..0.54).contains(&alpha), "ordinal alpha {alpha:.3}");
        assert!((0.08..0.30).contains(&kappa), "Fleiss' kappa {kappa:.3}");
        // LIDC-IDRI: of 2,669 nodules marked by anyone 928 were marked by all four (Armato 2011, Med Phys 38:915): 35 %.
        let all = f64::from(votes[3]) / f64::from(votes.iter().sum::<i32>());
        assert!((0.35..0.75).contains(&all), "{all:.2} of what anyone marks is marked by all three");
        assert!(found as f64 > 0.85 * scored as f64, "{found} of {scored} nodules of 6 mm and more");
    }
}
