//! Ordinary uncompressed slices need no decoder: once the decoding process has said where the pixels are, they are read
//! straight into the volume. This saves two copies of every voxel.

use crate::header::{Header, Layout};
use crate::job::regular;
use crate::pixels::{Frames, Rescale, shifted, stored_value};
use crate::structure::{EXPLICIT_BE, Pixels, Structure};
use crate::{DicomError, Limits};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// The pixels of a file that hold one grey frame of 16-bit little endian words, HU but for a whole number.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Plain {
    /// First byte within the file.
    at: u64,
    file: Identity,
    /// Added to a stored value.
    offset: i32,
}

/// A file as it was when its header was read: device, inode, length, time of change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Identity(u64, u64, u64, [i64; 2]);

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self(file.dev(), file.ino(), file.len(), [file.mtime(), file.mtime_nsec()])
    }
}

impl Plain {
    /// `None` where a file needs more than this, or is to be refused with its reason by who decodes it.
    pub fn find(structure: &Structure, header: &Header, file: &Metadata, limits: &Limits) -> Option<Self> {
        let Layout { frames: 1, samples: 1, allocated: 16, .. } = header.layout else { return None };
        let (Pixels::Native { bytes, .. }, [plane]) = (&structure.pixels, &header.planes[..]) else { return None };
        if structure.data_syntax == EXPLICIT_BE {
            return None;
        }
        Frames::open(structure, &header.layout, file.len(), limits).ok()?;
        let offset = Rescale::of(plane, header.lut.as_ref()).ok()?.whole_offset()?;
        Some(Self { at: (structure.data_at? + bytes.start) as u64, file: Identity::of(file), offset })
    }

    /// Reads HU of all pixels, row by row.
    ///
    /// # Errors
    /// [`DicomError::Changed`] where the file is not what it was.
    #[implements("FR-001")]
    pub fn read(self, path: &Path, layout: &Layout, hu: &mut [i16]) -> Result<(), DicomError> {
        let file = regular(path)?;
        if Identity::of(&file.metadata()?) != self.file {
            return Err(DicomError::Changed);
        }
        file.read_exact_at(bytemuck::cast_slice_mut(hu), self.at)?;
        if layout.signed && layout.stored == 16 {
            // Without a choice in the loop it is vectorised.
            hu.iter_mut().for_each(|v| *v = shifted(i16::from_le(*v).into(), self.offset));
        } else {
            let value = stored_value(layout);
            hu.iter_mut().for_each(|v| *v = shifted(value(u16::from_le(*v as u16).into()), self.offset));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structure::{examine, examine_start};

    #[test]
    fn twelve_bits_in_the_upper_part_of_a_word_become_hu_and_a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slice");
        // 0xFFF, 0, 1 in the upper twelve bits; the lower four held something else once.
        std::fs::write(&path, [9, 0xF7, 0xFF, 0x0A, 0x00, 0x10, 0x00]).unwrap();
        let layout = |signed| Layout {
            frames: 1,
            rows: 1,
            columns: 3,
            samples: 1,
            planar: false,
            allocated: 16,
            stored: 12,
            high_bit: 15,
            signed,
            photometric: "MONOCHROME2".into(),
        };
        let plain = Plain { at: 1, file: Identity::of(&path.metadata().unwrap()), offset: -1024 };
        let mut hu = [0; 3];
        plain.read(&path, &layout(false), &mut hu).unwrap();
        assert_eq!(hu, [4095 - 1024, -1024, 1 - 1024]);
        plain.read(&path, &layout(true), &mut hu).unwrap();
        assert_eq!(hu, [-1 - 1024, -1024, 1 - 1024]);
        // Another file of the same length takes its place.
        let other = folder.path().join("other");
        std::fs::write(&other, [0; 7]).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(plain.read(&path, &layout(true), &mut hu).unwrap_err(), DicomError::Changed);
    }

    #[test]
    fn only_grey_little_endian_words_that_are_hu_but_for_a_whole_number_are_plain() {
        let folder = tempfile::tempdir().unwrap();
        let spacing = lungai_ct::Spacing::new([1.0; 3]).unwrap();
        let (origin, axes) = (lungai_ct::WorldPoint([0.0; 3]), lungai_ct::Geometry::AXIAL);
        let grid = lungai_ct::Geometry::new([2, 3, 4], spacing, origin, axes).unwrap();
        let volume = lungai_ct::Volume::new(ndarray::Array3::from_elem((2, 3, 4), -7), grid).unwrap();
        let acquisition = lungai_ct::Acquisition::default();
        crate::write_series(&volume, &acquisition, &crate::SeriesTags::synthetic("p", "s"), folder.path()).unwrap();
        let path = folder.path().join("000001.dcm");
        let (bytes, limits) = (std::fs::read(&path).unwrap(), Limits::default());
        let file = path.metadata().unwrap();
        let mut structure = examine(&bytes, &limits).unwrap();
        let header = Header::parse(&structure).unwrap();
        let find = |structure: &Structure, header: &Header| Plain::find(structure, header, &file, &limits);
        let plain = find(&structure, &header).unwrap();
        let mut hu = [0; 12];
        plain.read(&path, &header.layout, &mut hu).unwrap();
        assert_eq!(hu, [-7; 12]);
        // The start of the file tells the same.
        let start = examine_start(&bytes[..bytes.len() - 24], bytes.len(), &limits).unwrap();
        assert_eq!(find(&start, &header).unwrap().at, plain.at);
        assert!(examine_start(&bytes[..bytes.len() - 24], bytes.len() - 1, &limits).is_none());

        let changed = |change: &dyn Fn(&mut Header)| {
            let mut header = header.clone();
            change(&mut header);
            find(&structure, &header).is_none()
        };
        assert!(changed(&|header| header.layout.allocated = 8));
        assert!(changed(&|header| header.layout.samples = 3));
        assert!(changed(&|header| header.layout.rows = 4));
        assert!(changed(&|header| header.planes[0].intercept = Some(0.5)));
        assert!(changed(&|header| header.planes[0].slope = Some(2.0)));
        assert!(changed(&|header| header.planes[0].hounsfield = false));
        assert!(changed(&|header| header.lut = Some(Err(DicomError::NoPixels))));
        structure.data_syntax = EXPLICIT_BE.to_owned();
        assert!(find(&structure, &header).is_none());
    }
}
