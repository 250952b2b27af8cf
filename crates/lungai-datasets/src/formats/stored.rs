//! Voxels as a research format stores them, and the one place where they become `[z, y, x]` arrays.

use crate::DatasetError;
use crate::error::name;
use lungai_ct::{Geometry, Spacing, WorldPoint};
use lungai_trace::implements;
use ndarray::Array3;
use rayon::prelude::*;
use std::io::Read;
use std::path::Path;

/// Most voxels that an image may declare: 2,048 slices of 512 x 512.
pub const MAX_VOXELS: u64 = 1 << 29;

/// Number type of one voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
}

impl Element {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// Turns the bytes of one voxel into its value.
    fn reader(self, big_endian: bool) -> fn(&[u8]) -> f64 {
        macro_rules! number {
            ($kind:ty) => {
                if big_endian {
                    |b| <$kind>::from_be_bytes(b.try_into().expect("chunk of the element's size")) as f64
                } else {
                    |b| <$kind>::from_le_bytes(b.try_into().expect("chunk of the element's size")) as f64
                }
            };
        }
        match self {
            Self::I8 => |b| f64::from(b[0] as i8),
            Self::U8 => |b| f64::from(b[0]),
            Self::I16 => number!(i16),
            Self::U16 => number!(u16),
            Self::I32 => number!(i32),
            Self::U32 => number!(u32),
            Self::I64 => number!(i64),
            Self::U64 => number!(u64),
            Self::F32 => number!(f32),
            Self::F64 => number!(f64),
        }
    }
}

/// How the payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Raw,
    Gzip,
    Zlib,
}

/// Everything that a header says about the voxels.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    /// The name that [`lungai_ct::Scan::transfer_syntax`] carries.
    pub format: &'static str,
    /// Voxels along the file's axes, fastest first.
    pub size: [usize; 3],
    /// Step of each file axis in LPS mm.
    pub steps: [[f64; 3]; 3],
    /// Centre of the first stored voxel, LPS mm.
    pub origin: [f64; 3],
    pub element: Element,
    pub big_endian: bool,
    /// `value = slope * stored + intercept`
    pub scale: (f64, f64),
    pub packing: Packing,
}

/// An image in its own axes.
pub(crate) struct Stored {
    pub header: Header,
    pub bytes: Vec<u8>,
    pub file: String,
}

/// Refuses sizes beyond [`MAX_VOXELS`] and empty axes; nothing is allocated yet.
pub(crate) fn checked_size(path: &Path, format: &'static str, size: [u64; 3]) -> Result<[usize; 3], DatasetError> {
    if size.contains(&0) {
        let reason = format!("size {size:?} has an empty axis");
        return Err(DatasetError::Malformed { format, file: name(path), reason });
    }
    let voxels = size.iter().try_fold(1u64, |n, s| n.checked_mul(*s));
    match voxels {
        Some(n) if n <= MAX_VOXELS => Ok(size.map(|s| s as usize)),
        _ => Err(DatasetError::TooLarge { file: name(path), size_xyz: size, limit: MAX_VOXELS }),
    }
}

impl Header {
    /// Bytes of the unpacked voxels.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.size.iter().product::<usize>() as u64 * self.element.bytes() as u64
    }

    /// Reads the voxels from `source`, which stands at their first byte and has `available` bytes left.
    pub(crate) fn read_payload(
        self,
        path: &Path,
        source: &mut dyn Read,
        available: u64,
    ) -> Result<Stored, DatasetError> {
        let declared = self.payload_bytes();
        // Deflate packs at most 1,032 bytes into one (RFC 1951: 258 bytes for two bits), so a short file
        // can be refused before memory is asked for.
        let possible = match self.packing {
            Packing::Raw => available,
            Packing::Gzip | Packing::Zlib => available.saturating_mul(1032),
        };
        if possible < declared {
            return Err(DatasetError::Truncated { file: name(path), declared, found: possible });
        }
        let mut bytes = vec![0; declared as usize];
        let limited = source.take(available);
        let filled = match self.packing {
            Packing::Raw => fill(&mut bytes, limited),
            Packing::Gzip => fill(&mut bytes, flate2::read::MultiGzDecoder::new(limited)),
            Packing::Zlib => fill(&mut bytes, flate2::read::ZlibDecoder::new(limited)),
        };
        match filled {
            Ok(found) if found == declared => Ok(Stored { header: self, bytes, file: name(path) }),
            Ok(found) => Err(DatasetError::Truncated { file: name(path), declared, found }),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData) => {
                let reason = "the packed voxels are damaged".into();
                Err(DatasetError::Malformed { format: self.format, file: name(path), reason })
            }
            Err(source) => Err(DatasetError::Io { file: name(path), source }),
        }
    }
}

/// Reads until `buffer` is full or the source ends; says how far it came.
fn fill(buffer: &mut [u8], mut source: impl Read) -> std::io::Result<u64> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => (),
            // A deflate stream that stops in the middle: the caller reports how much came out.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(e) => return Err(e),
        }
    }
    Ok(filled as u64)
}

/// Which file axis becomes which array axis.
struct Arrangement {
    /// File axis of the array's x, y and z.
    axis: [usize; 3],
    /// Whether slices must be reversed to ascend towards the head.
    flip_z: bool,
}

impl Stored {
    /// The array axis x, y or z is the file axis nearest to the patient's left-right, front-back or
    /// foot-head line. Rows and columns stay as stored; slices are reversed where they descend.
    fn arrangement(&self) -> Arrangement {
        const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1]];
        let unit = self.header.steps.map(|step| {
            let length = norm(step);
            step.map(|v| if length > 0.0 { v / length } else { 0.0 })
        });
        let along = |order: &[usize; 3]| (0..3).map(|i| unit[order[i]][i].abs()).sum::<f64>();
        let mut axis = ORDERS[0];
        for order in &ORDERS[1..] {
            // A tie, as in a grid turned by 45 degrees, keeps the stored order.
            if along(order) > along(&axis) + 1e-6 {
                axis = *order;
            }
        }
        Arrangement { axis, flip_z: unit[axis[2]][2] < 0.0 }
    }

    /// Array and geometry after [`Stored::arrangement`]; no voxel is interpolated.
    #[implements("FR-001", "SW-105")]
    pub(crate) fn convert<T: Copy + Default + Send + Sync>(
        &self,
        from: impl Fn(f64) -> Option<T> + Sync,
        refuse: impl Fn(String, [usize; 3], f64) -> DatasetError,
    ) -> Result<(Array3<T>, Geometry), DatasetError> {
        let Header { size, steps, origin, element, big_endian, scale: (slope, intercept), .. } = &self.header;
        let Arrangement { axis: [ax, ay, az], flip_z } = self.arrangement();
        let stride = [1, size[0], size[0] * size[1]];
        let (nx, ny, nz) = (size[ax], size[ay], size[az]);
        let width = element.bytes();
        let read = element.reader(*big_endian);
        let mut voxels = vec![T::default(); nx * ny * nz];
        let refused = voxels
            .par_chunks_mut(nx * ny)
            .enumerate()
            .filter_map(|(z, slice)| {
                let file_z = if flip_z { nz - 1 - z } else { z };
                for (y, row) in slice.chunks_mut(nx).enumerate() {
                    let start = file_z * stride[az] + y * stride[ay];
                    for (x, voxel) in row.iter_mut().enumerate() {
                        let at = start + x * stride[ax];
                        let value = slope * read(&self.bytes[at * width..(at + 1) * width]) + intercept;
                        match from(value) {
                            Some(accepted) => *voxel = accepted,
                            None => return Some((at, value)),
                        }
                    }
                }
                None
            })
            .min_by_key(|(at, _)| *at);
        if let Some((at, value)) = refused {
            let index = [at % size[0], at / size[0] % size[1], at / stride[2]];
            return Err(refuse(self.file.clone(), index, value));
        }
        let array = Array3::from_shape_vec((nz, ny, nx), voxels).expect("as many voxels as the shape has");

        let geometry = |source| DatasetError::Geometry { file: self.file.clone(), source };
        let spacing = Spacing::new([az, ay, ax].map(|i| norm(steps[i]))).map_err(geometry)?;
        let mut direction = [ax, ay, az].map(|i| steps[i].map(|v| v / norm(steps[i])));
        let mut origin = *origin;
        if flip_z {
            origin = std::array::from_fn(|i| origin[i] + (nz - 1) as f64 * steps[az][i]);
            direction[2] = direction[2].map(|v| 0.0 - v);
        }
        Ok((array, Geometry::new([nz, ny, nx], spacing, WorldPoint(origin), direction).map_err(geometry)?))
    }
}

pub(crate) fn norm(v: [f64; 3]) -> f64 {
    (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::VoxelIndex;
    use lungai_trace::verifies;

    /// A 2 x 3 x 4 image whose voxel value is 100 i + 10 j + k in the file's own axes.
    fn stored(steps: [[f64; 3]; 3]) -> Stored {
        let mut bytes = Vec::new();
        for k in 0..4i16 {
            for j in 0..3 {
                for i in 0..2 {
                    bytes.extend((100 * i + 10 * j + k).to_be_bytes());
                }
            }
        }
        let header = Header {
            format: "test",
            size: [2, 3, 4],
            steps,
            origin: [5.0, 6.0, 7.0],
            element: Element::I16,
            big_endian: true,
            scale: (1.0, 0.0),
            packing: Packing::Raw,
        };
        Stored { header, bytes, file: "t".into() }
    }

    fn check_every_voxel_keeps_its_place(steps: [[f64; 3]; 3], size_zyx: [usize; 3]) {
        let image = stored(steps);
        let (array, geometry) = image.convert(|v| Some(v as i16), |_, _, _| unreachable!()).unwrap();
        assert_eq!(geometry.size(), size_zyx);
        assert!(geometry.direction()[2][2] > 0.0, "slices ascend");
        for k in 0..4 {
            for j in 0..3 {
                for i in 0..2 {
                    let at = WorldPoint(std::array::from_fn(|a| {
                        image.header.origin[a]
                            + i as f64 * steps[0][a]
                            + j as f64 * steps[1][a]
                            + k as f64 * steps[2][a]
                    }));
                    let VoxelIndex(index) = geometry.voxel_at(at).unwrap();
                    assert_eq!(array[index], (100 * i + 10 * j + k) as i16, "voxel {i} {j} {k}");
                }
            }
        }
    }

    #[verifies("FR-001")]
    #[test]
    fn every_voxel_keeps_its_place_in_the_patient() {
        let (r, p, s) = ([0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 2.0]);
        let minus = |v: [f64; 3]| v.map(|x| -x);
        check_every_voxel_keeps_its_place([r, p, s], [4, 3, 2]);
        check_every_voxel_keeps_its_place([r, minus(p), minus(s)], [4, 3, 2]);
        check_every_voxel_keeps_its_place([s, r, p], [2, 4, 3]); // stored as a coronal stack
        check_every_voxel_keeps_its_place([minus(p), minus(s), r], [3, 2, 4]); // as a sagittal stack, head first
        let (sin, cos) = 0.3f64.sin_cos();
        let tilted = [r, [0.0, 0.5 * cos, 0.5 * sin], [0.0, -2.0 * sin, 2.0 * cos]];
        check_every_voxel_keeps_its_place(tilted, [4, 3, 2]);
    }

    #[test]
    fn rows_and_columns_stay_as_stored() {
        let image = stored([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]);
        let (array, geometry) = image.convert(|v| Some(v as i16), |_, _, _| unreachable!()).unwrap();
        assert_eq!(array[[3, 0, 0]], 0); // the first stored slice is the highest
        assert_eq!(array[[0, 0, 1]], 103);
        assert_eq!(geometry.origin(), WorldPoint([5.0, 6.0, 4.0]));
        assert_eq!(geometry.direction()[0], [-1.0, 0.0, 0.0]);
    }

    #[test]
    fn declared_sizes_are_capped_before_any_memory_is_asked_for() {
        let path = Path::new("x.mha");
        assert!(matches!(checked_size(path, "t", [u64::MAX, 2, 2]), Err(DatasetError::TooLarge { .. })));
        assert!(matches!(checked_size(path, "t", [0, 2, 2]), Err(DatasetError::Malformed { .. })));
        let mut header = stored([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).header;
        header.size = [512, 512, 2000];
        header.packing = Packing::Gzip;
        let error = header.read_payload(path, &mut &[0u8; 100][..], 100).err().unwrap();
        assert_eq!(error.to_string(), "x.mha: holds 103200 bytes of voxels where the header declares 1048576000");
    }
}
