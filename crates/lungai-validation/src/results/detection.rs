//! Finding nodules: the operating point, the curve, its mean, parts of the nodules.

use super::{Evaluation, Figure, Matched, lesions, rule};
use crate::failure::Failure;
use crate::record::ScanRecord;
use lungai_ct::WorldPoint;
use lungai_metrics::Interval;
use lungai_metrics::bootstrap::{cpm_difference, froc_intervals};
use lungai_metrics::froc::Froc;
use lungai_metrics::matching::{Mark, match_scan};
use serde::Serialize;

/// The system's detection.
#[derive(Debug, Clone, Serialize)]
pub struct Detection {
    /// The curve.
    #[serde(flatten)]
    pub curve: Curve,
    /// Score at which the detector is operated.
    pub operating_threshold: f64,
    /// Sensitivity there.
    pub sensitivity: Figure,
    /// False positives per scan there.
    pub fp_per_scan: Figure,
    /// Found nodules there.
    pub found: usize,
    /// False positives there.
    pub false_positives: usize,
}

/// A FROC curve.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// Mean sensitivity at 1/8 to 8 false positives per scan.
    pub cpm: Figure,
    /// At the protocol's rates.
    pub at: Vec<AtRate>,
    /// Between 1/8 and 8, for the figure.
    pub band: Vec<AtRate>,
    /// Every threshold: score, false positives per scan, sensitivity.
    pub points: Vec<[f64; 3]>,
}

/// Sensitivity at a rate of false positives.
#[derive(Debug, Clone, Serialize)]
pub struct AtRate {
    /// False positives per scan.
    pub rate: f64,
    /// Interpolated as the protocol says.
    pub sensitivity: f64,
    /// Interval.
    pub ci: Interval,
    /// Lowest score that keeps to the rate; absent where no mark does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// The curve of a part of the nodules; false positives are those of all scans.
#[derive(Debug, Clone, Serialize)]
pub struct PartCurve {
    /// Name of the part.
    pub name: String,
    /// Scored nodules in it.
    pub nodules: usize,
    /// Too few nodules to judge.
    pub descriptive: bool,
    /// Mean sensitivity at 1/8 to 8 false positives per scan.
    pub cpm: Figure,
    /// Between 1/8 and 8.
    pub band: Vec<AtRate>,
}

impl Evaluation<'_> {
    pub(super) fn detection(&self) -> Result<Detection, Failure> {
        let found = self.scored.iter().filter(|n| n.mark.is_some()).count();
        let false_positives = self.false_positives(&|_| true);
        Ok(Detection {
            curve: self.curve(&self.system)?,
            operating_threshold: self.threshold,
            sensitivity: self.sensitivity(&|_| true),
            fp_per_scan: self.fp_per_scan(&|_| true),
            found,
            false_positives: false_positives.iter().sum(),
        })
    }

    pub(super) fn curve(&self, of: &Matched) -> Result<Curve, Failure> {
        let rates = &self.protocol.froc.rates;
        let band: Vec<f64> = (0..=96).map(|i| 2f64.powf(f64::from(i) / 16.0 - 3.0)).collect();
        let at = |rates: &[f64]| -> Result<Vec<AtRate>, Failure> {
            let sensitivity = of.froc.sensitivity_at(rates, self.how())?;
            let intervals = froc_intervals(&of.froc, &self.draws, rates, self.how(), self.level())?.intervals;
            rates
                .iter()
                .enumerate()
                .map(|(i, rate)| {
                    let threshold = of.froc.operating_point(*rate)?.threshold;
                    Ok(AtRate {
                        rate: *rate,
                        sensitivity: sensitivity[i],
                        ci: intervals[i],
                        threshold: threshold.is_finite().then_some(threshold),
                    })
                })
                .collect()
        };
        let points = of.froc.curve().into_iter().filter(|p| p.threshold.is_finite());
        Ok(Curve {
            cpm: self.cpm(of)?,
            at: at(rates)?,
            band: at(&band)?,
            points: points.map(|p| [p.threshold, p.fp_per_scan, p.sensitivity]).collect(),
        })
    }

    pub(super) fn cpm(&self, of: &Matched) -> Result<Figure, Failure> {
        let intervals = froc_intervals(&of.froc, &self.draws, &[1.0], self.how(), self.level())?;
        Ok(Figure { value: Some(of.froc.cpm(self.how())), ci: Some(intervals.cpm), n: self.records.len() })
    }

    pub(super) fn over_baseline(&self) -> Result<Figure, Failure> {
        let Some(baseline) = &self.baseline else { return Ok(Figure::default()) };
        let d = cpm_difference(&self.system.froc, &baseline.froc, &self.draws, self.how(), self.level())?;
        Ok(Figure { value: Some(d.value), ci: Some(d.interval), n: self.records.len() })
    }

    /// CPM over a part of the scans, less that of another system where there is one.
    pub(super) fn cpm_of_part(&self, part: &dyn Fn(&ScanRecord) -> bool, less: Option<&Matched>) -> Figure {
        let inside: Vec<u32> = self.records.iter().map(|r| u32::from(part(r))).collect();
        let rates = lungai_metrics::froc::CPM_RATES;
        let cpm = |weights: &[u32]| {
            let own: Vec<u32> = weights.iter().zip(&inside).map(|(a, b)| a * b).collect();
            let of = |froc: &Froc| {
                let at = froc.resampled(&own, &rates, self.how())?;
                Some(at.iter().sum::<f64>() / at.len() as f64)
            };
            Some(of(&self.system.froc)? - less.map_or(Some(0.0), |less| of(&less.froc))?)
        };
        let value = cpm(&inside);
        let n = inside.iter().filter(|w| **w > 0).count();
        Figure { value, ci: value.and_then(|v| self.bootstrap(v, cpm)), n }
    }

    /// The curve of nodules that fall into the named part: marks on others count for nothing, as on excluded findings.
    ///
    /// - `in_part`: of a scan and a place among its nodules
    pub(super) fn part_curve(
        &self,
        name: String,
        in_part: &dyn Fn(&ScanRecord, usize) -> bool,
    ) -> Result<Option<PartCurve>, Failure> {
        let rule = rule(self.protocol, self.protocol.matching.hit);
        let mut scans = Vec::new();
        for record in self.records {
            let mut lesions = lesions(record);
            for (place, lesion) in lesions.iter_mut().enumerate() {
                lesion.excluded |= !in_part(record, place);
            }
            let marks: Vec<Mark> =
                record.marks.iter().map(|m| Mark { position: WorldPoint(m.position_lps_mm), score: m.score }).collect();
            let matched = match_scan(&marks, &lesions, &rule)?;
            scans.push((marks, matched));
        }
        let nodules = scans.iter().map(|(_, matched)| matched.nodules.len()).sum();
        if nodules == 0 {
            return Ok(None);
        }
        let froc = Froc::new(scans.iter().map(|(marks, matched)| (marks.as_slice(), matched)))?;
        let rates: Vec<f64> = (0..=24).map(|i| 2f64.powf(f64::from(i) / 4.0 - 3.0)).collect();
        let sensitivity = froc.sensitivity_at(&rates, self.how())?;
        let intervals = froc_intervals(&froc, &self.draws, &rates, self.how(), self.level())?;
        let point = |(rate, (sensitivity, ci)): (&f64, (f64, &Interval))| AtRate {
            rate: *rate,
            sensitivity,
            ci: *ci,
            threshold: None,
        };
        let band = rates.iter().zip(sensitivity.into_iter().zip(&intervals.intervals)).map(point).collect();
        let cpm = Figure { value: Some(froc.cpm(self.how())), ci: Some(intervals.cpm), n: nodules };
        let descriptive = nodules < self.protocol.descriptive_below;
        Ok(Some(PartCurve { name, nodules, descriptive, cpm, band }))
    }
}
