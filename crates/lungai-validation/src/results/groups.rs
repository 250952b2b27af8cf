//! Parts of the nodules and scans at the operating point: strata, centres, and whether centres differ.

use super::{Evaluation, Figure, PartCurve, Scored};
use crate::failure::Failure;
use crate::protocol::{Property, Stratum};
use crate::record::ScanRecord;
use lungai_metrics::Interval;
use lungai_metrics::centres::{TauSquared, from_logit, leave_one_out, logit, random_effects};
use serde::Serialize;

/// A part of the nodules or scans, at the operating point.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Scored nodules.
    pub nodules: usize,
    /// Found.
    pub found: usize,
    /// Sensitivity.
    pub sensitivity: Figure,
    /// Lower edge of a group of diameters in mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_mm: Option<f64>,
    /// Too few nodules to judge.
    pub descriptive: bool,
    /// Scans, where the group is one of scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scans: Option<usize>,
    /// False positives per scan, where the group is one of scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp_per_scan: Option<Figure>,
    /// CPM, where the group is one of scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpm: Option<Figure>,
    /// Mean Dice of both lungs, where the group is one of scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dice: Option<f64>,
}

/// Nodules parted by one property.
#[derive(Debug, Clone, Serialize)]
pub struct StratumResult {
    /// The property.
    pub of: Property,
    /// Its groups, in the protocol's order.
    pub groups: Vec<Group>,
}

/// Random effects of the logit of sensitivity.
#[derive(Debug, Clone, Serialize)]
pub struct Heterogeneity {
    /// Centres with nodules.
    pub centres: usize,
    /// Sensitivity that the mean logit stands for.
    pub sensitivity: f64,
    /// Its interval: Hartung and Knapp's, no narrower than the normal one.
    pub ci: Interval,
    /// Cochran's Q.
    pub q: f64,
    /// Probability of such a Q if all centres were alike.
    pub p: f64,
    /// Between-centre variance of the logit.
    pub tau2: f64,
    /// Share of variation that is between centres.
    pub i2: f64,
    /// Where the sensitivity of a further centre may lie; absent with two centres.
    pub prediction: Option<Interval>,
    /// Sensitivity that the mean logit stands for without each centre in turn; empty with two centres.
    pub without: Vec<(String, f64, Interval)>,
}

impl StratumResult {
    /// Groups that hold nodules.
    pub fn filled(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|g| g.nodules > 0)
    }

    /// Whether its property is known of any nodule.
    pub fn is_known(&self) -> bool {
        self.filled().any(|g| g.name != "unknown")
    }

    /// Of its table and figure, without ending.
    pub fn file_name(&self) -> &'static str {
        match self.of {
            Property::Diameter => "sizes",
            Property::Kind => "kinds",
            Property::Lobe => "lobes",
            Property::Centre => "strata-centre",
            Property::SliceThickness => "slice-thickness",
            Property::SliceDistance => "slice-distance",
            Property::Kernel => "kernel",
            Property::Exposure => "exposure",
            Property::TubeVoltage => "tube-voltage",
            Property::Manufacturer => "vendor",
            Property::Contrast => "contrast",
            Property::Sex => "sex",
            Property::Age => "age",
        }
    }
}

impl Evaluation<'_> {
    fn group(&self, name: String, part: &dyn Fn(&Scored<'_>) -> bool) -> Group {
        let nodules: Vec<&Scored<'_>> = self.scored.iter().filter(|n| part(n)).collect();
        Group {
            name,
            nodules: nodules.len(),
            found: nodules.iter().filter(|n| n.mark.is_some()).count(),
            sensitivity: self.sensitivity(part),
            from_mm: None,
            descriptive: nodules.len() < self.protocol.descriptive_below,
            scans: None,
            fp_per_scan: None,
            cpm: None,
            dice: None,
        }
    }

    pub(super) fn by_centre(&self) -> Result<Vec<Group>, Failure> {
        let mut groups = Vec::new();
        for centre in &self.protocol.centres {
            let here = |r: &ScanRecord| r.centre == *centre;
            let scans = self.records.iter().filter(|r| here(r)).count();
            if scans == 0 {
                continue; // all of its scans were rejected; the counts say so
            }
            let cpm = self.cpm_of_part(&here, None);
            let dices: Vec<f64> = self
                .records
                .iter()
                .filter(|r| here(r))
                .filter_map(|r| r.lungs)
                .map(|[r, l]| (r.dice + l.dice) / 2.0)
                .collect();
            groups.push(Group {
                scans: Some(scans),
                fp_per_scan: Some(self.fp_per_scan(&here)),
                cpm: cpm.value.map(|_| cpm),
                dice: (!dices.is_empty()).then(|| dices.iter().sum::<f64>() / dices.len() as f64),
                ..self.group(centre.clone(), &|n| here(&self.records[n.scan]))
            });
        }
        Ok(groups)
    }

    /// The FROC curve of each group of a stratum of nodules that holds any.
    pub(super) fn curves_of(&self, stratum: &Stratum) -> Result<Vec<PartCurve>, Failure> {
        let group_of = |r: &ScanRecord, place: usize| stratum.group_of(stratum.of.of_nodule(r, &r.nodules[place]));
        let scored =
            self.scored.iter().map(|n| stratum.group_of(stratum.of.of_nodule(&self.records[n.scan], n.nodule)));
        let mut curves = Vec::new();
        for name in stratum.names(scored) {
            curves.extend(self.part_curve(name.clone(), &|r, place| group_of(r, place) == name)?);
        }
        Ok(curves)
    }

    pub(super) fn by_stratum(&self, stratum: &Stratum) -> StratumResult {
        let group_of = |n: &Scored<'_>| stratum.group_of(stratum.of.of_nodule(&self.records[n.scan], n.nodule));
        let names = stratum.names(self.scored.iter().map(group_of));
        let mut groups: Vec<Group> =
            names.into_iter().map(|name| self.group(name.clone(), &|n| group_of(n) == name)).collect();
        if stratum.of == Property::Diameter {
            groups.iter_mut().zip(&stratum.edges).for_each(|(group, edge)| group.from_mm = Some(*edge));
        }
        StratumResult { of: stratum.of, groups }
    }
}

pub fn heterogeneity(centres: &[Group], level: f64) -> Option<Heterogeneity> {
    let with_nodules: Vec<_> =
        centres.iter().filter_map(|c| Some((&c.name, logit(c.found, c.nodules).ok()?))).collect();
    let estimates: Vec<_> = with_nodules.iter().map(|(_, estimate)| *estimate).collect();
    let effects = random_effects(&estimates, level).ok()?;
    let others = leave_one_out(&estimates, TauSquared::DerSimonianLaird, level).unwrap_or_default();
    let without = with_nodules.iter().zip(others);
    Some(Heterogeneity {
        centres: estimates.len(),
        sensitivity: from_logit(effects.mean),
        ci: effects.hartung_knapp_held.map(from_logit),
        q: effects.q,
        p: effects.p,
        tau2: effects.tau2,
        i2: effects.i2,
        prediction: effects.prediction.map(|interval| interval.map(from_logit)),
        without: without
            .map(|((name, _), e)| ((*name).clone(), from_logit(e.mean), e.hartung_knapp_held.map(from_logit)))
            .collect(),
    })
}
