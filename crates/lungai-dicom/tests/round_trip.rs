//! What we write we read back, and what breaks the rules of a series is refused by name.

use lungai_ct::{Acquisition, Geometry, Spacing, Volume, WorldPoint};
use lungai_dicom::{SeriesTags, read, write_series};
use lungai_trace::verifies;
use ndarray::Array3;

lungai_dicom::worker_in_tests!();

/// Every voxel has another value.
fn ramp(size: [usize; 3]) -> Volume {
    let [z, y, x] = size;
    let hu = Array3::from_shape_fn((z, y, x), |(k, j, i)| ((k * y + j) * x + i) as i16 - 1024);
    let spacing = Spacing::new([1.25, 0.7, 0.703125]).unwrap();
    let geometry = Geometry::new(size, spacing, WorldPoint([-180.5, -170.1, -42.3]), Geometry::AXIAL).unwrap();
    Volume::new(hu, geometry).unwrap()
}

fn acquisition() -> Acquisition {
    Acquisition {
        slice_thickness_mm: Some(1.25),
        kernel: Some("B60f".to_owned()),
        manufacturer: Some("Maker".to_owned()),
        model: Some("Model".to_owned()),
        tube_kv: Some(120.0),
        exposure_mas: Some(40.0),
        contrast: Some(false),
        padding_hu: Some(-2000),
    }
}

#[verifies("FR-001")]
#[test]
fn a_written_series_reads_back_equal() {
    let folder = tempfile::tempdir().unwrap();
    let volume = ramp([5, 7, 6]);
    let tags = SeriesTags::synthetic("PHANTOM-1", "scan-a");
    write_series(&volume, &acquisition(), &tags, folder.path()).unwrap();
    let input = read(folder.path()).unwrap();
    assert_eq!((input.scans.len(), input.refused.len(), input.set_aside.len()), (1, 0, 0));
    let scan = &input.scans[0];
    assert_eq!(scan.volume, volume);
    assert_eq!(scan.acquisition, acquisition());
    assert_eq!(scan.patient_id.as_deref(), Some("PHANTOM-1"));
    assert_eq!(scan.series_uid, tags.series_uid);
    assert_eq!(scan.study_uid.as_ref(), Some(&tags.study_uid));
    assert_eq!(scan.frame_of_reference_uid.as_ref(), Some(&tags.frame_of_reference_uid));
}
