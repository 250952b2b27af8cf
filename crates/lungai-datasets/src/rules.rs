//! Which series belong to a set, and the count of those that do not: the flow of STARD 2015 (item 19).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a series must be. Every rule is applied to every series in the order of the fields, and a series counts at the
/// first that it breaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// Slices at least; null: any number.
    pub slices_at_least: Option<usize>,
    /// DICOM Slice Thickness in mm, both ends included; null: any.
    pub slice_thickness_mm: Option<[f64; 2]>,
    /// Distance of slices in mm; null: any.
    pub slice_distance_mm: Option<[f64; 2]>,
    /// Distance of pixels in mm, rows and columns; null: any.
    pub pixel_spacing_mm: Option<[f64; 2]>,
    /// DICOM Patient's Age in years; null: any.
    pub age_years: Option<[f64; 2]>,
    /// What the quality gate must say (it segments the lungs of every series: seconds each).
    pub quality: QualityRule,
    /// A series that does not state what a rule asks for, as research formats state neither thickness nor age.
    pub unknown: Unknown,
}

/// What the quality gate must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QualityRule {
    /// The gate is not asked.
    Any,
    /// Accept or warn.
    NotRejected,
    /// Accept.
    Accepted,
}

/// What becomes of a series of which a rule's value is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// It passes that rule.
    Keep,
    /// It is excluded and counted.
    Exclude,
}

/// What the rules look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    pub slices: usize,
    pub spacing_zyx_mm: [f64; 3],
    pub slice_thickness_mm: Option<f64>,
    pub age_years: Option<f64>,
    /// `accept`, `warn` or `reject`, where the gate was asked.
    pub quality: Option<String>,
}

impl Inclusion {
    /// The broken rule with its key and value.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String, String)> {
        let ranges = [
            ("slice_thickness_mm", self.slice_thickness_mm),
            ("slice_distance_mm", self.slice_distance_mm),
            ("pixel_spacing_mm", self.pixel_spacing_mm),
            ("age_years", self.age_years),
        ];
        for (key, range) in ranges {
            if let Some([low, high]) = range
                && !(low.is_finite() && high.is_finite() && 0.0 <= low && low <= high)
            {
                let reason = format!("inclusion: {key} [{low}, {high}] must be two ascending numbers from 0 on");
                return Err((key, format!("[{low}, {high}]"), reason));
            }
        }
        Ok(())
    }

    /// The first rule that a series breaks: its name, and its limit in words.
    pub(crate) fn broken(&self, facts: &Facts) -> Option<(String, String)> {
        if let Some(least) = self.slices_at_least.filter(|least| facts.slices < *least) {
            return Some(("slices".into(), format!("at least {least}")));
        }
        let [z, y, x] = facts.spacing_zyx_mm;
        let ranges = [
            ("slice-thickness", self.slice_thickness_mm, vec![facts.slice_thickness_mm], "mm"),
            ("slice-distance", self.slice_distance_mm, vec![Some(z)], "mm"),
            ("pixel-spacing", self.pixel_spacing_mm, vec![Some(y), Some(x)], "mm"),
            ("age", self.age_years, vec![facts.age_years], "years"),
        ];
        for (rule, range, values, unit) in ranges {
            let Some([low, high]) = range else { continue };
            let limit = format!("{low} to {high} {unit}");
            for value in values {
                match value {
                    Some(value) if !(low..=high).contains(&value) => return Some((rule.into(), limit)),
                    None if self.unknown == Unknown::Exclude => return Some((format!("{rule}-unknown"), limit)),
                    _ => (),
                }
            }
        }
        let quality = facts.quality.as_deref();
        match self.quality {
            QualityRule::NotRejected if quality == Some("reject") => Some(("quality".into(), "not rejected".into())),
            QualityRule::Accepted if quality != Some("accept") => Some(("quality".into(), "accepted".into())),
            _ => None,
        }
    }
}

/// Series and the patients whom they are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Series.
    pub series: usize,
    /// Distinct patients.
    pub patients: usize,
}

/// Series that a rule kept out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excluded {
    /// Stable name: `missing-series` (tables speak of it, no image is there), `unreadable-` and the reader's rule, one of
    /// [`Inclusion`]'s rules, `not-annotated`.
    pub rule: String,
    /// The limit in words.
    pub limit: String,
    /// How many. A patient may appear under several rules and still be included with another series.
    pub counts: Counts,
}

/// What was found, what was left out and why, and what remained; `found = excluded + included`, series by series.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Every series below the folder of images or in a table. A damaged archive counts as one: which series of the tables it holds,
    /// nobody knows.
    pub found: Counts,
    /// In the order in which rules apply.
    pub excluded: Vec<Excluded>,
    /// The cases of the manifest.
    pub included: Counts,
    /// Included series and patients per split.
    pub splits: BTreeMap<String, Counts>,
    /// Nodules that count in scoring.
    pub nodules: usize,
    /// Findings that scoring ignores.
    pub ignored_findings: usize,
    /// Included series of which it is not known where their nodules are.
    pub without_reference: usize,
    /// Included series that no table names: taken to have no nodule, or unknown, as the configuration says.
    #[serde(default)]
    pub in_no_table: usize,
    /// Damaged files that lie beside readable ones, by the reader's rule. They are no series; one of a series' end may be
    /// among them.
    #[serde(default)]
    pub damaged_files: BTreeMap<String, usize>,
}

/// Counts series, and patients once.
#[derive(Debug, Default)]
pub(crate) struct Tally<'a> {
    series: usize,
    patients: BTreeSet<&'a str>,
}

impl<'a> Tally<'a> {
    /// Of whom a series is that was never read may be unknown.
    pub(crate) fn add(&mut self, patient: Option<&'a str>) {
        self.series += 1;
        self.patients.extend(patient);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { series: self.series, patients: self.patients.len() }
    }
}

impl Flow {
    /// The flow as an indented text, one line per box of the diagram.
    pub fn text(&self) -> String {
        let counts = |c: &Counts| format!("{} series of {} patients", c.series, c.patients);
        let mut text = format!("found      {}\n", counts(&self.found));
        for Excluded { rule, limit, counts: c } in &self.excluded {
            let limit = if limit.is_empty() { String::new() } else { format!(" ({limit})") };
            text += &format!("  excluded {}: {rule}{limit}\n", counts(c));
        }
        text += &format!("included   {}\n", counts(&self.included));
        for (split, c) in &self.splits {
            text += &format!("  {split:<8} {}\n", counts(c));
        }
        text += &format!(
            "reference  {} nodules, {} ignored findings; unknown for {} series; {} series in no table\n",
            self.nodules, self.ignored_findings, self.without_reference, self.in_no_table
        );
        if !self.damaged_files.is_empty() {
            let each: Vec<String> = self.damaged_files.iter().map(|(rule, files)| format!("{files} {rule}")).collect();
            text += &format!(
                "damaged    {} files beside readable ones: {}\n",
                self.damaged_files.values().sum::<usize>(),
                each.join(", ")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Inclusion {
        Inclusion {
            slices_at_least: Some(100),
            slice_thickness_mm: Some([0.5, 2.5]),
            slice_distance_mm: None,
            pixel_spacing_mm: Some([0.4, 1.0]),
            age_years: Some([18.0, 120.0]),
            quality: QualityRule::NotRejected,
            unknown: Unknown::Keep,
        }
    }

    fn facts() -> Facts {
        Facts {
            slices: 100,
            spacing_zyx_mm: [1.0, 0.7, 0.7],
            slice_thickness_mm: Some(2.5),
            age_years: None,
            quality: Some("warn".into()),
        }
    }

    #[test]
    fn a_series_counts_at_the_first_rule_that_it_breaks() {
        let broken = |rules: Inclusion, facts: Facts| rules.broken(&facts).map(|(rule, _)| rule);
        assert_eq!(broken(rules(), facts()), None);
        let short_and_thick = Facts { slices: 99, slice_thickness_mm: Some(5.0), ..facts() };
        assert_eq!(broken(rules(), short_and_thick).as_deref(), Some("slices"));
        let thick = Facts { slice_thickness_mm: Some(2.6), ..facts() };
        assert_eq!(rules().broken(&thick), Some(("slice-thickness".into(), "0.5 to 2.5 mm".into())));
        let wide = Facts { spacing_zyx_mm: [1.0, 0.7, 1.1], ..facts() };
        assert_eq!(broken(rules(), wide).as_deref(), Some("pixel-spacing"));
        let rejected = Facts { quality: Some("reject".into()), ..facts() };
        assert_eq!(broken(rules(), rejected).as_deref(), Some("quality"));
        let accepted = Inclusion { quality: QualityRule::Accepted, ..rules() };
        assert_eq!(broken(accepted, facts()).as_deref(), Some("quality"));
    }

    #[test]
    fn what_is_unknown_passes_or_not_as_the_configuration_says() {
        let strict = Inclusion { unknown: Unknown::Exclude, ..rules() };
        assert_eq!(strict.broken(&facts()), Some(("age-unknown".into(), "18 to 120 years".into())));
        assert_eq!(rules().broken(&facts()), None);
    }

    #[test]
    fn a_range_that_no_value_can_meet_is_refused() {
        let turned = Inclusion { age_years: Some([80.0, 18.0]), ..rules() };
        assert_eq!(
            turned.check().unwrap_err().2,
            "inclusion: age_years [80, 18] must be two ascending numbers from 0 on"
        );
    }
}
