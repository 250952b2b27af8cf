//! Ordinary uncompressed slices need no decoder: once the decoding process has said where the pixels are, they are read
//! straight into the volume. This saves two copies of every voxel.

use crate::header::{Header, Layout};
use crate::job::regular;
use crate::pixels::{Frames, Rescale, shifted, stored_value};
use crate::structure::{EXPLICIT_BE, Pixels, Structure};
use crate::{DicomError, Limits};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The pixels of a file that hold one grey frame of 16-bit little endian words, HU but for a whole number.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Plain {
    /// First byte within the file.
    at: u64,
    /// Of the whole file.
    length: u64,
    /// Added to a stored value.
    offset: i32,
}

impl Plain {
    /// `None` where a file of `length` bytes needs more than this, or is to be refused with its reason by who decodes it.
    pub fn find(structure: &Structure, header: &Header, length: u64, limits: &Limits) -> Option<Self> {
        let Layout { frames: 1, samples: 1, allocated: 16, .. } = header.layout else { return None };
        let (Pixels::Native { bytes, .. }, [plane]) = (&structure.pixels, &header.planes[..]) else { return None };
        if structure.data_syntax == EXPLICIT_BE {
            return None;
        }
        Frames::open(structure, &header.layout, length, limits).ok()?;
        let offset = Rescale::of(plane, header.lut.as_ref()).ok()?.whole_offset()?;
        Some(Self { at: (structure.data_at? + bytes.start) as u64, length, offset })
    }

    /// Reads HU of all pixels, row by row.
    ///
    /// # Errors
    /// [`DicomError::Changed`] where the file is not as long as it was.
    #[implements("FR-001")]
    pub fn read(self, path: &Path, layout: &Layout, hu: &mut [i16]) -> Result<(), DicomError> {
        let file = regular(path)?;
        let unchanged = |length: u64| if length == self.length { Ok(()) } else { Err(DicomError::Changed) };
        unchanged(file.metadata()?.len())?;
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

    #[test]
    fn twelve_bits_in_the_upper_part_of_a_word_become_hu_and_a_longer_file_is_refused() {
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
        let plain = Plain { at: 1, length: 7, offset: -1024 };
        let mut hu = [0; 3];
        plain.read(&path, &layout(false), &mut hu).unwrap();
        assert_eq!(hu, [4095 - 1024, -1024, 1 - 1024]);
        plain.read(&path, &layout(true), &mut hu).unwrap();
        assert_eq!(hu, [-1 - 1024, -1024, 1 - 1024]);
        let error = Plain { length: 6, ..plain }.read(&path, &layout(true), &mut hu).unwrap_err();
        assert_eq!(error, DicomError::Changed);
    }
}
