use super::*;
use crate::protocol::{Criterion, Metric, On, Op};
use crate::record::{Covariates, ReaderMark, Reading, Seconds, Side};
use lungai_trace::verifies;

pub fn protocol() -> Protocol {
    let text = include_str!("../../../../validation/phantom-small.yaml");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("protocol.yaml");
    std::fs::write(&path, text).unwrap();
    let protocol: Protocol = lungai_datasets::read_yaml(&path).unwrap();
    protocol.check().unwrap();
    protocol
}

/// Diameter, malignant, score and probability of its mark.
type TestNodule = (f64, bool, Option<(f64, f64)>);

/// A scan with nodules 100 mm apart and the scores of marks on nothing.
pub fn scan(i: usize, centre: &str, nodules: &[TestNodule], false_positives: &[f64]) -> ScanRecord {
    let at = |n: usize| [100.0 * n as f64, 0.0, 0.0];
    let mut marks: Vec<SystemMark> = nodules
        .iter()
        .enumerate()
        .filter_map(|(n, (diameter_mm, _, mark))| {
            let (score, malignancy) = (*mark)?;
            Some(SystemMark {
                position_lps_mm: at(n),
                score,
                diameter_mm: Some(*diameter_mm),
                malignancy: Some(malignancy),
            })
        })
        .collect();
    marks.extend(false_positives.iter().map(|score| SystemMark {
        position_lps_mm: [0.0, 300.0, 0.0],
        score: *score,
        diameter_mm: Some(5.0),
        malignancy: Some(0.1),
    }));
    let side = Side { dice: 0.98, hd95_mm: Some(1.5), surface_dice: 0.97 };
    ScanRecord {
        case: format!("{centre}-{i}"),
        patient: format!("p{i}"),
        centre: centre.into(),
        covariates: Covariates::default(),
        quality: "accept".into(),
        quality_rules: vec![],
        lungs: Some([side, Side { dice: 0.96, ..side }]),
        seconds: Some(Seconds { segment: 2.0, detect: 3.0, classify: 1.0, total: Some(7.0), ..Seconds::default() }),
        nodules: nodules
            .iter()
            .enumerate()
            .map(|(n, (diameter_mm, malignant, _))| Nodule {
                id: n.to_string(),
                position_lps_mm: at(n),
                diameter_mm: *diameter_mm,
                volume_mm3: None,
                long_axis_mm: None,
                short_axis_mm: None,
                lobe: None,
                kind: Some("solid".into()),
                malignant: Some(*malignant),
                excluded: false,
            })
            .collect(),
        readings: vec![],
        baseline: Some(marks[..marks.len().min(1)].to_vec()),
        marks,
    }
}

pub fn records() -> Vec<ScanRecord> {
    let (a, b) = ("coast-hospital", "hill-screening");
    vec![
        scan(0, a, &[(10.0, true, Some((0.9, 0.8))), (5.0, false, Some((0.6, 0.2)))], &[0.7]),
        scan(1, a, &[(8.0, true, None), (4.0, false, Some((0.3, 0.4)))], &[]),
        scan(2, b, &[(12.0, true, Some((0.95, 0.9)))], &[0.55, 0.2]),
        scan(3, b, &[(7.0, false, Some((0.8, 0.3)))], &[]),
    ]
}

#[verifies("FR-003", "FR-004", "FR-005")]
#[test]
fn figures_at_the_operating_point_are_what_one_counts_by_hand() {
    let r = evaluate(&protocol(), &records(), &[], 0.5).unwrap();
    // Found at 0.5: 0.9, 0.6, 0.95, 0.8; the mark of 0.3 is below, one nodule has none. False: 0.7 and 0.55.
    assert_eq!((r.detection.found, r.counts.nodules, r.detection.false_positives), (4, 6, 2));
    assert_eq!(r.detection.sensitivity.value, Some(4.0 / 6.0));
    assert_eq!(r.detection.fp_per_scan.value, Some(0.5));
    // Malignant 0.8, 0 (missed), 0.9 against benign 0.2, 0 (below), 0.3: pairs 3 + (0 + 0.5 + 0) + 3 of 9.
    assert!((r.malignancy.auc.value.unwrap() - 6.5 / 9.0).abs() < 1e-12);
    // Separated, with two cases of each kind: 2 of 2 by Clopper-Pearson, 0.025^(1/2).
    assert_eq!(r.malignancy.auc_found.value, Some(1.0));
    assert!((r.malignancy.auc_found.ci.unwrap()[0] - 0.025f64.sqrt()).abs() < 1e-9);
    assert_eq!((r.malignancy.nodules, r.malignancy.malignant, r.malignancy.found), (6, 3, 4));
    assert!((r.lungs.dice_left.value.unwrap() - 0.96).abs() < 1e-12);
    assert_eq!(r.seconds.total.value, Some(7.0));
}

#[verifies("FR-004")]
#[test]
fn groups_add_up_to_the_whole() {
    let r = evaluate(&protocol(), &records(), &[], 0.5).unwrap();
    let strata = r.strata.iter().map(|stratum| &stratum.groups);
    for groups in std::iter::once(&r.centres).chain(strata) {
        assert_eq!(groups.iter().map(|g| g.nodules).sum::<usize>(), r.counts.nodules);
        assert_eq!(groups.iter().map(|g| g.found).sum::<usize>(), r.detection.found);
    }
    let centres: Vec<_> = r.centres.iter().map(|c| (c.nodules, c.found, c.fp_per_scan.unwrap().value)).collect();
    assert_eq!(centres, [(4, 2, Some(0.5)), (2, 2, Some(0.5))]);
    assert_eq!(r.heterogeneity.unwrap().centres, 2);
    assert!(r.strata.iter().flat_map(|s| &s.groups).all(|g| g.descriptive));
}

#[verifies("FR-004")]
#[test]
fn at_the_operating_point_every_mark_of_a_scan_counts() {
    let mut protocol = protocol();
    protocol.matching.marks_per_scan = 2;
    // The nodule's mark is the third, and a false positive the fourth: beyond what the curve takes of a scan.
    let busy = scan(0, "coast-hospital", &[(8.0, true, Some((0.6, 0.5)))], &[0.9, 0.8, 0.55]);
    let other = scan(1, "hill-screening", &[(8.0, false, Some((0.9, 0.5)))], &[]);
    let r = evaluate(&protocol, &[busy, other], &[], 0.5).unwrap();
    assert_eq!((r.detection.found, r.detection.false_positives), (2, 3));
    assert_eq!(r.detection.fp_per_scan.value, Some(1.5));
    assert_eq!(r.detection.curve.points.last().map(|p| (p[1], p[2])), Some((1.0, 0.5)));
}

#[verifies("FR-004")]
#[test]
fn none_missed_is_no_proof() {
    let all_found: Vec<ScanRecord> =
        (0..5).map(|i| scan(i, "coast-hospital", &[(10.0, true, Some((0.9, 0.8)))], &[])).collect();
    let r = evaluate(&protocol(), &all_found, &[], 0.5).unwrap();
    // Clopper-Pearson for 5 of 5: 0.025^(1/5) = 0.478; Garwood for none in 5 scans: 3.689 / 5.
    let [low, high] = r.detection.sensitivity.ci.unwrap();
    assert!((low - 0.025f64.powf(0.2)).abs() < 1e-9 && high == 1.0);
    assert!((r.detection.fp_per_scan.ci.unwrap()[1] - 3.6889 / 5.0).abs() < 1e-4);
    // One class only: no AUC, and a criterion on it is not met.
    assert_eq!(r.malignancy.auc.value, None);
    let auc = r.criteria.iter().find(|c| c.metric == Metric::Auc).unwrap();
    assert!(!auc.met && auc.value.is_none());
}

#[verifies("FR-004", "SW-1102")]
#[test]
fn a_criterion_is_decided_by_its_bound_and_not_by_the_point() {
    let mut protocol = protocol();
    let template = protocol.endpoints.primary.criteria[0].clone();
    let of = |metric, on, op, limit, diameter_at_least_mm| Criterion {
        metric,
        on,
        op,
        limit,
        diameter_at_least_mm,
        ..template.clone()
    };
    protocol.endpoints.primary.criteria = vec![
        of(Metric::Sensitivity, On::Value, Op::AtLeast, 0.75, 6.0),
        of(Metric::Sensitivity, On::CiLower, Op::AtLeast, 0.75, 6.0),
        of(Metric::FalsePositives, On::CiUpper, Op::AtMost, 0.5, 0.0),
        of(Metric::Segment, On::CiUpper, Op::AtMost, 2.0, 0.0),
    ];
    let r = evaluate(&protocol, &records(), &[], 0.5).unwrap();
    // Of 6 mm and more: 10, 8 (missed), 12, 7.
    assert_eq!((r.criteria[0].value, r.criteria[0].n), (Some(0.75), 4));
    assert_eq!(r.criteria.iter().map(|c| c.met).collect::<Vec<_>>(), [true, false, false, true]);
    for c in &r.criteria {
        let [low, high] = c.ci.unwrap();
        assert!(low <= c.value.unwrap() && c.value.unwrap() <= high);
    }
}

#[test]
fn the_same_records_give_the_same_bytes() {
    let once = || serde_json::to_string(&evaluate(&protocol(), &records(), &[], 0.5).unwrap()).unwrap();
    assert_eq!(once(), once());
}

#[verifies("FR-005")]
#[test]
fn decisions_calibration_and_equal_size_are_what_one_counts_by_hand() {
    let m = evaluate(&protocol(), &records(), &[], 0.5).unwrap().malignancy;
    // Malignant 0.8, 0 (missed), 0.9; benign 0.2, 0 (below), 0.3: called are 0.8 and 0.9.
    let c = m.confusion.unwrap();
    assert_eq!((c.of_malignant, c.of_benign), ([2, 3], [3, 3]));
    assert_eq!((c.of_called, c.of_not_called, c.of_all), ([2, 2], [3, 4], [5, 6]));
    assert_eq!(c.npv.value, Some(0.75));
    // Where 3.6 % are malignant: 2/3 of them are called and no benign one; not called are 0.964 and a third of 0.036.
    let [screening] = c.at_prevalence[..] else { panic!("one prevalence") };
    assert_eq!((screening.prevalence, screening.ppv.value), (0.036, Some(1.0)));
    assert!((screening.npv.value.unwrap() - 0.964 / (0.964 + 0.012)).abs() < 1e-12);
    // Found: 0.2 and 0.3, both benign; 0.8 and 0.9, both malignant. Fifths: 0.2 to 0.4 and 0.8 to 1.
    let bins: Vec<_> = m.reliability.iter().map(|b| (b.from, b.nodules, b.malignant, b.observed)).collect();
    assert_eq!(bins, [(0.2, 2, 0, 0.0), (0.8, 2, 2, 1.0)]);
    assert!((m.reliability[0].stated - 0.25).abs() < 1e-12 && m.malignant_found == 2);
    // Half of the cases are 0.25 off, half 0.15; over patients drawn the error lies between the two.
    let error = m.calibration_error;
    assert!((error.value.unwrap() - 0.2).abs() < 1e-12);
    let [low, high] = error.ci.unwrap();
    assert!((low - 0.1).abs() < 1e-9 && high > 0.2 && high <= 0.3 + 1e-9, "{low} {high}");
    // Of 10, 8, 12 mm against 5, 4, 7 mm only 8 and 7 are within 15 %; the missed one of 8 mm loses.
    let matched = m.size_matched.unwrap();
    assert_eq!((matched.pairs, matched.auc.value), (1, Some(0.0)));
    assert_eq!((matched.auc_of_size.value, matched.matched_auc_of_size.value), (Some(1.0), Some(1.0)));
    // The band holds its curve, which passes through (1, 1).
    assert!(m.band.iter().all(|p| p.ci[0] <= p.sensitivity && p.sensitivity <= p.ci[1]));
    assert_eq!(m.band.last().map(|p| (p.rate, p.sensitivity)), Some((1.0, 1.0)));
}

#[verifies("FR-004")]
#[test]
fn the_curve_of_a_part_counts_its_own_nodules_and_everyones_false_positives() {
    let r = evaluate(&protocol(), &records(), &[], 0.5).unwrap();
    // 3 to 6: 5 (0.6) and 4 mm (0.3); 6 to 10: 8 (missed) and 7 mm (0.8); 10 and more: both found. False: 0.7, 0.55, 0.2.
    let curves: Vec<_> = r.froc_by_size.iter().map(|c| (c.name.as_str(), c.nodules)).collect();
    assert_eq!(curves, [("3 to < 6 mm", 2), ("6 to < 10 mm", 2), ("10 to < 20 mm", 2)]);
    let last = |i: usize| r.froc_by_size[i].band.last().map(|p| p.sensitivity);
    assert_eq!([last(0), last(1), last(2)], [Some(1.0), Some(0.5), Some(1.0)]);
    // Small ones at a quarter of a false positive per scan: one false mark (0.7) above, then 0.6 is found.
    let quarter = r.froc_by_size[0].band.iter().find(|p| p.rate == 0.25).unwrap();
    assert_eq!(quarter.sensitivity, 0.5);
}

#[verifies("FR-004")]
#[test]
fn measured_diameters_are_compared_with_the_reference() {
    let mut records = records();
    // Found ones of 10, 5, 12 and 7 mm, measured 1 mm too large, 1 mm too small, 1 too large, 1 too small.
    for (record, by) in records.iter_mut().zip([[1.0, -1.0], [0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]) {
        record.marks.iter_mut().zip(by).for_each(|(mark, by)| mark.diameter_mm = mark.diameter_mm.map(|mm| mm + by));
    }
    let d = evaluate(&protocol(), &records, &[], 0.5).unwrap().diameters.unwrap();
    assert_eq!(d.pairs, [[10.0, 11.0], [5.0, 4.0], [12.0, 13.0], [7.0, 6.0]]);
    // Differences 1, -1, 1, -1: mean 0, SD sqrt(4 / 3).
    assert!(d.bias.abs() < 1e-12 && (d.sd - (4.0f64 / 3.0).sqrt()).abs() < 1e-12);
    assert!((d.limits[1] - 1.959964 * d.sd).abs() < 1e-5);
    let slope = d.slope.unwrap();
    assert!(slope[0] > 0.0, "larger ones are measured too large: {slope:?}");
}

#[verifies("FR-004")]
#[test]
fn a_further_centre_may_lie_further_off_than_the_mean() {
    let (a, b, c) = ("coast-hospital", "hill-screening", "delta-hospital");
    let nodules = |found: usize| -> Vec<TestNodule> {
        (0..10).map(|i| (8.0, i % 2 == 0, (i < found).then_some((0.9, 0.5)))).collect()
    };
    let records: Vec<ScanRecord> = [(a, 9), (b, 6), (c, 3)]
        .iter()
        .enumerate()
        .map(|(i, (centre, found))| scan(i, centre, &nodules(*found), &[]))
        .collect();
    let h = evaluate(&protocol(), &records, &[], 0.5).unwrap().heterogeneity.unwrap();
    let [low, high] = h.prediction.unwrap();
    assert!(low < h.ci[0] && h.ci[1] < high, "{h:?}");
    let names: Vec<&str> = h.without.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, [a, c, b], "in the order of the protocol");
    // Hartung and Knapp's: by t with two degrees of freedom, wider than 1.96 standard errors.
    let centres = [(9, 10), (6, 10), (3, 10)].map(|(found, all)| lungai_metrics::centres::logit(found, all).unwrap());
    let effects = lungai_metrics::centres::random_effects(&centres, 0.95).unwrap();
    let held = effects.hartung_knapp_held.map(lungai_metrics::centres::from_logit);
    assert!(h.ci.iter().zip(held).all(|(bound, held)| (bound - held).abs() < 1e-12), "{:?} {held:?}", h.ci);
    assert!(h.ci[0] < lungai_metrics::centres::from_logit(effects.interval[0]));
    // Without the best centre the mean falls, without the worst it rises.
    assert!(h.without[0].1 < h.sensitivity && h.without[1].1 > h.sensitivity);
}

/// Marks of a reader: place, diameter, rating.
fn read(name: &str, marks: &[([f64; 3], f64, u8)]) -> Reading {
    let mark = |(position_lps_mm, diameter_mm, rating): &([f64; 3], f64, u8)| ReaderMark {
        position_lps_mm: *position_lps_mm,
        diameter_mm: *diameter_mm,
        malignancy: Some(*rating),
    };
    Reading { reader: name.into(), marks: marks.iter().map(mark).collect() }
}

#[verifies("FR-004")]
#[test]
fn readers_and_system_agree_as_one_counts_by_hand() {
    let mut records = records();
    let (first, second, wrong) = ([0.0; 3], [100.0, 0.0, 0.0], [0.0, 300.0, 0.0]);
    // Nodules: 10 and 5 mm; 8 and 4 mm; 12 mm; 7 mm.
    let a = [
        vec![(first, 10.0, 5), (second, 5.0, 2)],
        vec![(first, 8.0, 4)],
        vec![(first, 12.0, 5), (wrong, 5.0, 2)],
        vec![(first, 7.0, 1)],
    ];
    let b = [vec![(first, 9.0, 4), (second, 5.0, 1)], vec![], vec![(first, 12.0, 5)], vec![]];
    for ((record, a), b) in records.iter_mut().zip(a).zip(b) {
        record.readings = vec![read("a", &a), read("b", &b)];
    }
    let study = evaluate(&protocol(), &records, &[], 0.5).unwrap().readers.unwrap();
    let seen: Vec<_> = study.readers.iter().map(|r| (r.name.as_str(), r.found, r.false_positives)).collect();
    // The system at 0.5: 10, 5, 12 and 7 mm, and two marks on nothing.
    assert_eq!(seen, [("a", 5, 1), ("b", 3, 0), ("AI", 4, 2)]);
    let pairs: Vec<_> = study.pairs.iter().map(|p| (p.both, p.only_a, p.only_b)).collect();
    // a with the system: 10, 5, 12, 7 mm and the mark on nothing of the third scan; a alone 8 mm; the system alone one.
    assert_eq!(pairs, [(3, 3, 0), (5, 1, 1), (3, 0, 3)]);
    assert_eq!(study.pairs[0].agreement.value, Some(6.0 / 9.0));
    // Found of the six nodules: a all but that of 4 mm, b three of them: observed 4/6, expected 5/6 3/6 + 1/6 3/6 = 1/2.
    let kappa = study.pairs[0].kappa_found.value.unwrap();
    assert!((kappa - (4.0 / 6.0 - 0.5) / 0.5).abs() < 1e-12);
    assert_eq!(study.rated_by_all, 3);
    // Decided ratings of b that the system rated, too: 4, 1, 5 against 0.8, 0.2, 0.9.
    assert_eq!((study.pairs[2].kappa_malignancy.value, study.pairs[2].kappa_malignancy.n), (Some(1.0), 3));
    assert!(study.diameter_icc.value.unwrap() > 0.9);

    // A reader who has not seen every scan has no share of all nodules.
    records[3].readings.pop();
    let study = evaluate(&protocol(), &records, &[], 0.5).unwrap().readers.unwrap();
    assert_eq!(study.readers.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["a", "AI"]);
    assert_eq!(study.fleiss, None);
}
