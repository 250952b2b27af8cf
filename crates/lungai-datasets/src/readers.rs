//! Simulated readers for studies of reference standards and agreement: they miss small and faint nodules, put marks a little
//! off, and rate malignancy by what they believe. Synthetic opinions on synthetic patients, and nothing else.

use crate::hash::sha256;
use lungai_ct::{NoduleKind, ReferenceNodule, WorldPoint};
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
/// within the other's diameter, and a reader has at most one mark on a nodule.
pub fn join(readers: &[Vec<Reading>]) -> Vec<Joined> {
    // Each mark starts on its own; sets are joined along the shortest links.
    let marks: Vec<(usize, &Reading)> =
        readers.iter().enumerate().flat_map(|(r, m)| m.iter().map(move |m| (r, m))).collect();
    let mut links = Vec::new();
    for (i, (reader, a)) in marks.iter().enumerate() {
        for (j, (other, b)) in marks.iter().enumerate().skip(i + 1) {
            let apart = a.position.distance_mm(b.position);
            if reader != other && apart < a.diameter_mm.min(b.diameter_mm) {
                links.push((apart, i, j));
            }
        }
    }
    links.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut set: Vec<usize> = (0..marks.len()).collect();
    for (_, i, j) in links {
        let (a, b) = (set[i], set[j]);
        let readers_of = |s: usize| (0..marks.len()).filter(|k| set[*k] == s).map(|k| marks[k].0).collect::<Vec<_>>();
        let clash = readers_of(a).iter().any(|reader| readers_of(b).contains(reader));
        if a != b && !clash {
            let (keep, gone) = (a.min(b), a.max(b));
            set.iter_mut().filter(|s| **s == gone).for_each(|s| *s = keep);
        }
    }
    let mut joined = Vec::new();
    for first in (0..marks.len()).filter(|i| set[*i] == *i) {
        let mut by_reader = vec![None; readers.len()];
        for (i, (reader, mark)) in marks.iter().enumerate() {
            if set[i] == first {
                by_reader[*reader] = Some((*mark).clone());
            }
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

fn chance(purpose: &str) -> StdRng {
    StdRng::seed_from_u64(u64::from_str_radix(&sha256(purpose.as_bytes())[..16], 16).expect("hex digits"))
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
    use crate::recipe::Recipe;
    use lungai_metrics::agreement::{Scale, fleiss, krippendorff};
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
    fn a_table_has_a_line_for_each_mark() {
        let marks = [mark(1.5, 6.25)];
        let table = readings_csv([("a-1", &marks[..]), ("a-2", &[])].into_iter());
        assert_eq!(table, b"case,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,malignancy\na-1,1.50,0.00,0.00,6.25,3\n");
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
