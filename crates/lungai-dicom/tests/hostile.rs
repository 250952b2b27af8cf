//! Damaged and malicious files cost one clear error, little memory and little time.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use lungai_ct::{Acquisition, Geometry, Spacing, Volume, WorldPoint};
use lungai_dicom::{DicomError, Limits, SeriesTags, decode_file, read, read_within, write_series};
use lungai_trace::verifies;
use ndarray::Array3;
use std::fs;
use std::io::{Read, Write};
use tempfile::TempDir;

lungai_dicom::worker_in_tests!();

fn two_slices() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let spacing = Spacing::new([1.0; 3]).unwrap();
    let geometry = Geometry::new([2, 64, 64], spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
    let volume = Volume::new(Array3::zeros((2, 64, 64)), geometry).unwrap();
    let tags = SeriesTags::synthetic("PATIENT7", "scan");
    write_series(&volume, &Acquisition::default(), &tags, folder.path()).unwrap();
    folder
}

/// A file with this transfer syntax and data set.
fn dicom(transfer_syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let mut uid = transfer_syntax.as_bytes().to_vec();
    uid.resize(uid.len().next_multiple_of(2), 0);
    let mut file = vec![0; 128];
    file.extend(b"DICM\x02\x00\x10\x00UI");
    file.extend((uid.len() as u16).to_le_bytes());
    file.extend(uid);
    file.extend(data_set);
    file
}

fn check_decode(bytes: &[u8]) -> DicomError {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    decode_file(file.path()).unwrap_err()
}

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

#[verifies("FR-001", "SW-101")]
#[test]
fn a_length_beyond_the_file_is_named_and_not_allocated() {
    // (0008,0008) UN, 0x60000000 bytes: 1.6 GB in a file of 200 bytes.
    let file = dicom(EXPLICIT, b"\x08\x00\x08\x00UN\x00\x00\x00\x00\x00\x60abcd");
    let expected = DicomError::Truncated { group: 8, element: 8, declared: 0x6000_0000, left: 4 };
    assert_eq!(check_decode(&file), expected);
}

#[verifies("FR-001")]
#[test]
fn a_cut_slice_refuses_its_series() {
    let folder = two_slices();
    let last = folder.path().join("000002.dcm");
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 10]).unwrap();
    let error = read(folder.path()).unwrap_err();
    assert_eq!(*error.cause(), DicomError::Truncated { group: 0x7FE0, element: 0x10, declared: 8192, left: 8182 });
}

#[verifies("FR-001")]
#[test]
fn sequences_nest_only_so_deep() {
    // Each level: a sequence of undefined length, an item of undefined length.
    let explicit = b"\x08\x00\x15\x11SQ\x00\x00\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF".repeat(10_000);
    assert_eq!(check_decode(&dicom(EXPLICIT, &explicit)), DicomError::NestedTooDeep { limit: 16 });
    let implicit = b"\x08\x00\x15\x11\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF".repeat(10_000);
    assert_eq!(check_decode(&dicom(IMPLICIT, &implicit)), DicomError::NestedTooDeep { limit: 16 });
}

#[verifies("FR-001")]
#[test]
fn elements_are_counted() {
    let many = b"\x08\x00\x05\x00CS\x00\x00".repeat(400_000);
    // 200,000, and one more per 32 bytes.
    assert_eq!(check_decode(&dicom(EXPLICIT, &many)), DicomError::TooManyElements { limit: 300_000 });
}

#[verifies("FR-001")]
#[test]
fn a_deflate_bomb_is_stopped() {
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&vec![0; 80 << 20]).unwrap();
    let data_set = packed.finish().unwrap();
    let packed = data_set.len() as u64;
    let file = dicom(DEFLATED, &data_set);
    assert!(file.len() < 1 << 20);
    assert_eq!(check_decode(&file), DicomError::DeflateTooLarge { limit: (32 << 20) + 6 * packed });
    // A stored block of 255 bytes that ends after four.
    let cut = dicom(DEFLATED, &[0x01, 0xFF, 0x00, 0x00, 0xFF, 1, 2, 3, 4]);
    assert_eq!(check_decode(&cut), DicomError::DamagedDeflate);
}

#[verifies("FR-001")]
#[test]
fn a_zip_bomb_is_stopped_before_it_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    zip.start_file("zeros", zip::write::SimpleFileOptions::default()).unwrap();
    for _ in 0..80 {
        zip.write_all(&vec![0; 1 << 20]).unwrap();
    }
    zip.finish().unwrap();
    assert!(matches!(read(&path).unwrap_err(), DicomError::CompressionRatio { ratio: 201.., limit: 200 }));
    let small = Limits { archive_bytes: 1 << 20, ..Limits::default() };
    assert_eq!(read_within(&path, &small).unwrap_err().rule(), "archive-too-large");
}

#[verifies("FR-001")]
#[test]
fn a_tar_gz_bomb_is_stopped_while_it_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.tgz");
    let gzip = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::best());
    let mut tar = tar::Builder::new(gzip);
    let mut header = tar::Header::new_gnu();
    header.set_size(80 << 20);
    header.set_cksum();
    tar.append_data(&mut header, "zeros", std::io::repeat(0).take(80 << 20)).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    assert!(matches!(read(&path).unwrap_err(), DicomError::CompressionRatio { ratio: 200.., limit: 200 }));
    // An image that is packed by gzip alone is no archive of DICOM files.
    let mut gzip = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::best());
    gzip.write_all(&[1; 2000]).unwrap();
    gzip.finish().unwrap();
    assert_eq!(read(&path).unwrap_err(), DicomError::NotDicom);
}

#[verifies("FR-001")]
#[test]
fn a_zip_entry_cannot_outgrow_its_declared_size() {
    let folder = two_slices();
    let path = folder.path().join("scan.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    zip.start_file("a", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(&fs::read(folder.path().join("000001.dcm")).unwrap()).unwrap();
    zip.finish().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let central = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    bytes[central + 24..central + 28].copy_from_slice(&100u32.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let rule = read(&path).unwrap_err().rule();
    assert!(["entry-longer-than-declared", "damaged-archive"].contains(&rule.as_str()), "{rule}");
}

#[verifies("FR-001")]
#[test]
fn archives_within_archives_stay_closed() {
    let folder = two_slices();
    let (inner, outer) = (folder.path().join("inner.zip"), folder.path().join("outer.zip"));
    for (path, content) in [(&inner, folder.path().join("000001.dcm")), (&outer, inner.clone())] {
        let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
        zip.start_file("x", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&fs::read(content).unwrap()).unwrap();
        zip.finish().unwrap();
    }
    assert_eq!(read(&outer).unwrap_err(), DicomError::NestedArchive);
}

#[verifies("FR-001", "SW-101", "R-005")]
#[test]
fn a_decoder_out_of_memory_dies_alone() {
    let folder = two_slices();
    let tight = Limits { worker_bytes: 1 << 16, ..Limits::default() };
    let error = read_within(folder.path(), &tight).unwrap_err();
    assert_eq!(error, DicomError::NoCtSeries { files: 2, mostly: "worker-died".to_owned() });
    assert!(read(folder.path()).is_ok()); // this process lives, and the next reading works
}
