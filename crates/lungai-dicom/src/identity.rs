//! What files still say about whom they show: which identifying attributes hold a value, never the value.

use crate::header::Header;
use dicom_core::Tag;
use dicom_core::dictionary::DataDictionary;
use dicom_dictionary_std::{StandardDataDictionary, tags};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Attributes of the Basic Application Level Confidentiality Profile (PS3.15, table E.1-1, 2025) that a CT scanner, an archive or a
/// hospital's information system writes at the top level of a file and that name a person, a place, a device or a date, or hold free
/// text: group and element. Not among them: UIDs, by which a series is told from another, and what is true of many people (sex,
/// age, size, weight).
#[rustfmt::skip]
const IDENTIFYING: [u32; 135] = [
    // The patient.
    0x0010_0010, 0x0010_0020, 0x0010_0021, 0x0010_0030, 0x0010_0032, 0x0010_1000, 0x0010_1001, 0x0010_1002,
    0x0010_1005, 0x0010_1040, 0x0010_1050, 0x0010_1060, 0x0010_1080, 0x0010_1081, 0x0010_1090, 0x0010_2000,
    0x0010_2110, 0x0010_2150, 0x0010_2152, 0x0010_2154, 0x0010_2155, 0x0010_2180, 0x0010_21B0, 0x0010_21D0,
    0x0010_21F0, 0x0010_2297, 0x0010_2299, 0x0010_4000,
    // Numbers that lead to the patient.
    0x0008_0050, 0x0020_0010, 0x0032_0012, 0x0038_0010, 0x0038_0011, 0x0038_0060, 0x0040_1001, 0x0040_2016,
    0x0040_2017, 0x0040_0253,
    // Dates and times.
    0x0008_0012, 0x0008_0013, 0x0008_0020, 0x0008_0021, 0x0008_0022, 0x0008_0023, 0x0008_002A, 0x0008_0030,
    0x0008_0031, 0x0008_0032, 0x0008_0033, 0x0008_0201, 0x0018_1200, 0x0018_1201, 0x0032_1040, 0x0038_0020,
    0x0038_0021, 0x0040_0002, 0x0040_0003, 0x0040_0244, 0x0040_0245, 0x0040_0250, 0x0040_0251,
    // Other persons.
    0x0008_0090, 0x0008_0092, 0x0008_0094, 0x0008_0096, 0x0008_009C, 0x0008_1048, 0x0008_1049, 0x0008_1050,
    0x0008_1052, 0x0008_1060, 0x0008_1062, 0x0008_1070, 0x0008_1072, 0x0032_1032, 0x0040_0006, 0x0040_1010,
    0x0040_2008, 0x0040_2010,
    // Places and devices.
    0x0008_0054, 0x0008_0055, 0x0008_0080, 0x0008_0081, 0x0008_0082, 0x0008_1010, 0x0008_1040, 0x0008_1041,
    0x0018_1000, 0x0018_1004, 0x0018_1005, 0x0018_1008, 0x0018_700A, 0x0032_1033, 0x0038_0300, 0x0038_0400,
    0x0040_0001, 0x0040_0010, 0x0040_0011, 0x0040_0241, 0x0040_0242, 0x0040_0243, 0x0040_1005,
    // Free text, and what holds copies of any of it.
    0x0008_1030, 0x0008_103E, 0x0008_1080, 0x0008_1084, 0x0008_1120, 0x0008_2111, 0x0008_4000, 0x0018_1030,
    0x0018_1400, 0x0018_4000, 0x0018_9424, 0x0020_4000, 0x0020_9158, 0x0032_1030, 0x0032_1060, 0x0032_4000,
    0x0038_0040, 0x0038_0050, 0x0038_0062, 0x0038_0500, 0x0038_4000, 0x0040_0007, 0x0040_0254, 0x0040_0275,
    0x0040_0280, 0x0040_0310, 0x0040_1002, 0x0040_1400, 0x0040_2001, 0x0040_2400, 0x0088_0200, 0x0400_0561,
    0x4000_4000,
];

/// The attributes that are looked for, by keyword.
pub fn identifying_attributes() -> Vec<&'static str> {
    IDENTIFYING.iter().map(|tag| keyword(*tag)).collect()
}

fn keyword(tag: u32) -> &'static str {
    let known = StandardDataDictionary.by_tag(Tag((tag >> 16) as u16, tag as u16));
    known.map_or("unknown", |entry| entry.alias)
}

/// One file's answer on its way between processes: bits, no values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// Those of [`IDENTIFYING`] that hold a value.
    present: BTreeSet<u32>,
    private: bool,
    burned_in: Option<bool>,
    removed: Option<bool>,
    method: bool,
    age_years: Option<f64>,
}

impl Marks {
    /// Takes note of a top-level element by the bytes of its value, in whatever encoding: the few words that are looked at
    /// are ASCII in all of them. Attributes that were emptied, or filled with spaces, hold nothing.
    pub(crate) fn see(&mut self, tag: Tag, value: &[u8]) {
        if !value.iter().any(|b| !matches!(b, 0 | b' ')) {
            return;
        }
        let text = std::str::from_utf8(value).unwrap_or_default().trim_matches(['\0', ' ']);
        let yes_no = match text {
            "YES" => Some(true),
            "NO" => Some(false),
            _ => None,
        };
        match tag {
            tags::BURNED_IN_ANNOTATION => self.burned_in = yes_no,
            tags::PATIENT_IDENTITY_REMOVED => self.removed = yes_no,
            tags::DEIDENTIFICATION_METHOD | tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE => self.method = true,
            tags::PATIENT_AGE => self.age_years = age(text),
            _ => (),
        }
        self.private |= tag.group() % 2 == 1;
        let number = u32::from(tag.group()) << 16 | u32::from(tag.element());
        if IDENTIFYING.contains(&number) {
            self.present.insert(number);
        }
    }
}

/// An Age String (PS3.5, 6.2): three digits and D, W, M or Y.
fn age(text: &str) -> Option<f64> {
    let number = text.get(..3)?.parse::<u16>().ok()?;
    let in_a_year = match text.get(3..)? {
        "D" => 365.25,
        "W" => 365.25 / 7.0,
        "M" => 12.0,
        "Y" => 1.0,
        _ => return None,
    };
    Some(f64::from(number) / in_a_year)
}

/// How many files say yes, no or nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YesNo {
    /// `YES`.
    pub yes: usize,
    /// `NO`.
    pub no: usize,
    /// Absent or neither.
    pub unstated: usize,
}

impl YesNo {
    fn add(&mut self, answer: Option<bool>) {
        match answer {
            Some(true) => self.yes += 1,
            Some(false) => self.no += 1,
            None => self.unstated += 1,
        }
    }
}

/// Counts over the DICOM files of one input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// DICOM files that were looked at.
    pub files: usize,
    /// Files in which an attribute of [`identifying_attributes`] holds a value (a pseudonym counts as one), by keyword.
    pub with_value: BTreeMap<String, usize>,
    /// Files with private attributes.
    pub with_private_attributes: usize,
    /// BurnedInAnnotation.
    pub burned_in_annotation: YesNo,
    /// PatientIdentityRemoved.
    pub identity_removed: YesNo,
    /// Files that state how they were de-identified (DeidentificationMethod or its code sequence).
    pub method_stated: usize,
}

impl Identity {
    fn add(&mut self, marks: &Marks) {
        self.files += 1;
        for tag in &marks.present {
            *self.with_value.entry(keyword(*tag).to_owned()).or_default() += 1;
        }
        self.with_private_attributes += usize::from(marks.private);
        self.burned_in_annotation.add(marks.burned_in);
        self.identity_removed.add(marks.removed);
        self.method_stated += usize::from(marks.method);
    }

    /// Adds what another input says.
    pub fn merge(&mut self, other: &Self) {
        let sum = |a: &mut YesNo, b: &YesNo| {
            *a = YesNo { yes: a.yes + b.yes, no: a.no + b.no, unstated: a.unstated + b.unstated };
        };
        self.files += other.files;
        for (keyword, files) in &other.with_value {
            *self.with_value.entry(keyword.clone()).or_default() += files;
        }
        self.with_private_attributes += other.with_private_attributes;
        sum(&mut self.burned_in_annotation, &other.burned_in_annotation);
        sum(&mut self.identity_removed, &other.identity_removed);
        self.method_stated += other.method_stated;
    }
}

/// What the DICOM files of one input say: the counts, and each series' PatientAge in years, where stated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Identities {
    /// Over all files.
    pub all: Identity,
    /// By series UID: counts of its files, and the age.
    pub series: BTreeMap<String, (Identity, Option<f64>)>,
}

impl Identities {
    /// Counts over headers: attributes at the top level and before the pixels. What is burned into an image is only known as
    /// far as its header says so.
    #[implements("SR-003", "SW-904")]
    pub(crate) fn of<'a>(headers: impl Iterator<Item = &'a Header>) -> Self {
        let mut found = Self::default();
        headers.for_each(|header| found.add(&header.series_uid, &header.marks));
        found
    }

    #[implements("SR-003", "SW-904")]
    fn add(&mut self, series_uid: &str, marks: &Marks) {
        self.all.add(marks);
        let (identity, age) = self.series.entry(series_uid.to_owned()).or_default();
        identity.add(marks);
        *age = age.or(marks.age_years);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[verifies("SR-003", "SW-904", "R-004")]
    #[test]
    fn attributes_are_counted_and_their_values_stay_inside() {
        let mut marks = Marks::default();
        for (tag, value) in [
            (tags::PATIENT_NAME, "Doe^Jane"),
            (tags::PATIENT_BIRTH_DATE, ""),
            (tags::PATIENT_ADDRESS, "  "),
            (Tag(0x0010, 0x1000), "OLD-NUMBER"),
            (tags::BURNED_IN_ANNOTATION, "NO"),
            (tags::PATIENT_AGE, "018M"),
            (Tag(0x0009, 0x0010), "MAKER "),
        ] {
            marks.see(tag, value.as_bytes());
        }
        assert!(!serde_json::to_string(&marks).unwrap().contains("Doe"));
        let mut identities = Identities::default();
        identities.add("1.2", &marks);
        identities.add("1.2", &Marks::default());
        let all = &identities.all;
        assert_eq!(all.with_value, BTreeMap::from([("OtherPatientIDs".to_owned(), 1), ("PatientName".to_owned(), 1)]));
        assert_eq!(all.burned_in_annotation, YesNo { yes: 0, no: 1, unstated: 1 });
        assert_eq!((all.files, all.with_private_attributes, all.identity_removed.unstated), (2, 1, 2));
        assert_eq!(identities.series["1.2"].1, Some(1.5));
    }

    #[verifies("SR-003")]
    #[test]
    fn what_ct_headers_hold_of_the_confidentiality_profile_is_looked_for() {
        let names = identifying_attributes();
        // One of each kind that PS3.15, table E.1-1 removes or replaces.
        for name in [
            "OtherPatientIDs",
            "OtherPatientIDsSequence",
            "PatientBirthTime",
            "PatientAddress",
            "PatientTelephoneNumbers",
            "AccessionNumber",
            "StudyID",
            "StudyTime",
            "ReferringPhysicianTelephoneNumbers",
            "OperatorsName",
            "InstitutionAddress",
            "DeviceSerialNumber",
            "StationAETitle",
            "AcquisitionComments",
            "OriginalAttributesSequence",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        let distinct: BTreeSet<_> = names.iter().collect();
        assert!(distinct.len() == names.len() && !names.contains(&"unknown"), "{names:?}");
    }

    #[test]
    fn an_age_that_is_no_age_string_is_unknown() {
        let ages: Vec<_> = ["063Y", "005W", "63", "0xYY", "abcY"].map(age).into_iter().flatten().collect();
        assert_eq!(ages, [63.0, 5.0 * 7.0 / 365.25]);
    }
}
