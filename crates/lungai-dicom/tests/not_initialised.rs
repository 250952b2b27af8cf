//! A program that forgets `worker::init` learns so; it never decodes in its own process.

use lungai_dicom::{DicomError, decode_file, read};
use lungai_trace::verifies;

#[verifies("FR-001")]
#[test]
fn without_init_nothing_is_decoded() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(read(file.path()).unwrap_err(), DicomError::WorkerNotInitialised);
    assert_eq!(decode_file(file.path()).unwrap_err(), DicomError::WorkerNotInitialised);
}
