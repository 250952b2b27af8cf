//! What files still say about whom they show: which identifying attributes hold a value, never the value.

use crate::header::Header;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Attributes of the Basic Application Level Confidentiality Profile (PS3.15, table E.1-1) that name a person, a place or
/// a date, or hold free text. UIDs are not among them: they are how a series is told from another.
const IDENTIFYING: [(Tag, &str); 37] = [
    (tags::PATIENT_NAME, "PatientName"),
    (tags::PATIENT_ID, "PatientID"),
    (tags::PATIENT_BIRTH_DATE, "PatientBirthDate"),
    (tags::PATIENT_BIRTH_TIME, "PatientBirthTime"),
    (tags::PATIENT_BIRTH_NAME, "PatientBirthName"),
    (tags::PATIENT_MOTHER_BIRTH_NAME, "PatientMotherBirthName"),
    (tags::PATIENT_ADDRESS, "PatientAddress"),
    (tags::PATIENT_TELEPHONE_NUMBERS, "PatientTelephoneNumbers"),
    (tags::PATIENT_COMMENTS, "PatientComments"),
    (tags::OTHER_PATIENT_NAMES, "OtherPatientNames"),
    (tags::OTHER_PATIENT_I_DS_SEQUENCE, "OtherPatientIDsSequence"),
    (tags::ADDITIONAL_PATIENT_HISTORY, "AdditionalPatientHistory"),
    (tags::MILITARY_RANK, "MilitaryRank"),
    (tags::OCCUPATION, "Occupation"),
    (tags::ACCESSION_NUMBER, "AccessionNumber"),
    (tags::STUDY_ID, "StudyID"),
    (tags::STUDY_DATE, "StudyDate"),
    (tags::SERIES_DATE, "SeriesDate"),
    (tags::ACQUISITION_DATE, "AcquisitionDate"),
    (tags::ACQUISITION_DATE_TIME, "AcquisitionDateTime"),
    (tags::CONTENT_DATE, "ContentDate"),
    (tags::STUDY_DESCRIPTION, "StudyDescription"),
    (tags::SERIES_DESCRIPTION, "SeriesDescription"),
    (tags::PROTOCOL_NAME, "ProtocolName"),
    (tags::IMAGE_COMMENTS, "ImageComments"),
    (tags::REQUEST_ATTRIBUTES_SEQUENCE, "RequestAttributesSequence"),
    (tags::REFERRING_PHYSICIAN_NAME, "ReferringPhysicianName"),
    (tags::PERFORMING_PHYSICIAN_NAME, "PerformingPhysicianName"),
    (tags::PHYSICIANS_OF_RECORD, "PhysiciansOfRecord"),
    (tags::NAME_OF_PHYSICIANS_READING_STUDY, "NameOfPhysiciansReadingStudy"),
    (tags::REQUESTING_PHYSICIAN, "RequestingPhysician"),
    (tags::OPERATORS_NAME, "OperatorsName"),
    (tags::INSTITUTION_NAME, "InstitutionName"),
    (tags::INSTITUTION_ADDRESS, "InstitutionAddress"),
    (tags::INSTITUTIONAL_DEPARTMENT_NAME, "InstitutionalDepartmentName"),
    (tags::STATION_NAME, "StationName"),
    (tags::DEVICE_SERIAL_NUMBER, "DeviceSerialNumber"),
];

/// The attributes that are looked for, by keyword.
pub fn identifying_attributes() -> Vec<&'static str> {
    IDENTIFYING.iter().map(|(_, keyword)| *keyword).collect()
}

/// One file's answer on its way between processes: bits, no values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// Bit i: attribute i of [`IDENTIFYING`] holds a value.
    present: u64,
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
        if let Some(i) = IDENTIFYING.iter().position(|(known, _)| *known == tag) {
            self.present |= 1 << i;
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
        for (i, (_, keyword)) in IDENTIFYING.iter().enumerate() {
            if marks.present >> i & 1 == 1 {
                *self.with_value.entry((*keyword).to_owned()).or_default() += 1;
            }
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
    #[implements("SR-003")]
    pub(crate) fn of<'a>(headers: impl Iterator<Item = &'a Header>) -> Self {
        let mut found = Self::default();
        headers.for_each(|header| found.add(&header.series_uid, &header.marks));
        found
    }

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

    #[verifies("SR-003")]
    #[test]
    fn attributes_are_counted_and_their_values_stay_inside() {
        let mut marks = Marks::default();
        for (tag, value) in [
            (tags::PATIENT_NAME, "Doe^Jane"),
            (tags::PATIENT_BIRTH_DATE, ""),
            (tags::PATIENT_ADDRESS, "  "),
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
        assert_eq!(all.with_value, BTreeMap::from([("PatientName".to_owned(), 1)]));
        assert_eq!(all.burned_in_annotation, YesNo { yes: 0, no: 1, unstated: 1 });
        assert_eq!((all.files, all.with_private_attributes, all.identity_removed.unstated), (2, 1, 2));
        assert_eq!(identities.series["1.2"].1, Some(1.5));
    }

    #[test]
    fn an_age_that_is_no_age_string_is_unknown() {
        let ages: Vec<_> = ["063Y", "005W", "63", "0xYY", "abcY"].map(age).into_iter().flatten().collect();
        assert_eq!(ages, [63.0, 5.0 * 7.0 / 365.25]);
    }
}
