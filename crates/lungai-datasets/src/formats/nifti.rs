//! NIfTI-1 and NIfTI-2 in one file: `.nii`, `.nii.gz`. World axes are RAS there and LPS here.
//! Follows nifti1.h and nifti2.h of the NIfTI Data Format Working Group.

use super::stored::{Element, Header, Packing, Stored, checked_size};
use super::{Written, finish_gzip};
use crate::DatasetError;
use crate::error::name;
use lungai_ct::Geometry;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

const FORMAT: &str = "NIfTI";
/// Header plus the four bytes that say whether extensions follow.
const NIFTI1_OFFSET: usize = 352;
const NIFTI2_OFFSET: usize = 544;

pub(crate) fn read(path: &Path) -> Result<Stored, DatasetError> {
    let io = || DatasetError::io(path);
    let file = File::open(path).map_err(io())?;
    let length = file.metadata().map_err(io())?.len();
    let mut file = BufReader::new(file);
    let packed = {
        let head = std::io::BufRead::fill_buf(&mut file).map_err(io())?;
        head.starts_with(&[0x1f, 0x8b])
    };
    // What an unpacked file can hold at best: see `Header::read_payload`.
    let possible = if packed { length.saturating_mul(1032) } else { length };
    let mut source: Box<dyn Read> =
        if packed { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
    let header = Fields::read(path, source.as_mut())?;
    let (parsed, offset) = header.parse(path)?;
    // Extensions lie between header and voxels. `take` bounds them by the file's length.
    let skip = offset - header.bytes.len() as u64;
    let skipped = std::io::copy(&mut source.as_mut().take(skip.min(possible)), &mut std::io::sink()).map_err(io())?;
    if skipped < skip {
        let reason = format!("vox_offset {offset} lies beyond the end of the file");
        return Err(DatasetError::Malformed { format: FORMAT, file: name(path), reason });
    }
    parsed.read_payload(path, source.as_mut(), possible.saturating_sub(offset))
}

/// The raw header and how to read numbers in it.
struct Fields {
    bytes: Vec<u8>,
    big_endian: bool,
    version: u8,
}

impl Fields {
    fn read(path: &Path, source: &mut dyn Read) -> Result<Self, DatasetError> {
        let malformed =
            |reason: &str| DatasetError::Malformed { format: FORMAT, file: name(path), reason: reason.into() };
        let mut bytes = vec![0; 348];
        let short = |_| malformed("the header is shorter than 348 bytes");
        source.read_exact(&mut bytes).map_err(short)?;
        let first = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let (big_endian, version) = match (i32::from_le_bytes(first), i32::from_be_bytes(first)) {
            (348, _) => (false, 1),
            (_, 348) => (true, 1),
            (540, _) => (false, 2),
            (_, 540) => (true, 2),
            (other, _) => return Err(malformed(&format!("sizeof_hdr is {other}, neither 348 nor 540"))),
        };
        if version == 2 {
            bytes.resize(540, 0);
            source.read_exact(&mut bytes[348..]).map_err(short)?;
        }
        Ok(Self { bytes, big_endian, version })
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes: [u8; N] = self.bytes[at..at + N].try_into().expect("offset within the header");
        if self.big_endian {
            bytes.reverse();
        }
        bytes
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.array(at))
    }

    /// A float field that is 4 bytes wide in version 1 and 8 in version 2, number `i` from `at`.
    fn float(&self, at: [usize; 2], i: usize) -> f64 {
        match self.version {
            1 => f64::from(f32::from_le_bytes(self.array(at[0] + 4 * i))),
            _ => f64::from_le_bytes(self.array(at[1] + 8 * i)),
        }
    }

    fn code(&self, at: [usize; 2]) -> i64 {
        match self.version {
            1 => i64::from(self.i16(at[0])),
            _ => i64::from(i32::from_le_bytes(self.array(at[1]))),
        }
    }

    /// Meaning of the header, and where the voxels begin.
    fn parse(&self, path: &Path) -> Result<(Header, u64), DatasetError> {
        let malformed = |reason: String| DatasetError::Malformed { format: FORMAT, file: name(path), reason };
        let unsupported = |reason: String| DatasetError::Unsupported { format: FORMAT, file: name(path), reason };
        let magic = if self.version == 1 { &self.bytes[344..348] } else { &self.bytes[4..8] };
        match (self.version, magic) {
            (1, b"n+1\0") | (2, b"n+2\0") => (),
            (1, b"ni1\0") | (2, b"ni2\0") => return Err(unsupported("a separate .img file".into())),
            _ => return Err(malformed("no NIfTI magic".into())),
        }
        let dim = |i: usize| match self.version {
            1 => i64::from(self.i16(40 + 2 * i)),
            _ => i64::from_le_bytes(self.array(16 + 8 * i)),
        };
        let dimensions = dim(0);
        if !(3..=7).contains(&dimensions) {
            return Err(unsupported(format!("{dimensions} dimensions")));
        }
        if let Some(i) = (4..=dimensions as usize).find(|i| dim(*i) > 1) {
            return Err(unsupported(format!("{} volumes along dimension {i}", dim(i))));
        }
        let size = [dim(1), dim(2), dim(3)];
        let counts: Option<Vec<u64>> = size.iter().map(|n| u64::try_from(*n).ok()).collect();
        let counts: [u64; 3] =
            counts.and_then(|v| v.try_into().ok()).ok_or_else(|| malformed(format!("size {size:?}")))?;
        let size = checked_size(path, FORMAT, counts)?;

        let element = match self.i16(if self.version == 1 { 70 } else { 12 }) {
            2 => Element::U8,
            4 => Element::I16,
            8 => Element::I32,
            16 => Element::F32,
            64 => Element::F64,
            256 => Element::I8,
            512 => Element::U16,
            768 => Element::U32,
            1024 => Element::I64,
            1280 => Element::U64,
            other => return Err(unsupported(format!("datatype {other}"))),
        };
        let (slope, intercept) = (self.float([112, 176], 0), self.float([116, 184], 0));
        // nifti1.h: a slope of 0 means that there is no scaling; NaN is used the same way.
        let scale = match slope {
            s if s == 0.0 || s.is_nan() => (1.0, 0.0),
            s if s.is_finite() && intercept.is_finite() => (s, intercept),
            s => return Err(malformed(format!("scaling by {s} and {intercept}"))),
        };
        let offset = match self.version {
            1 => f64::from(f32::from_le_bytes(self.array(108))) as i64, // `as` turns NaN into 0
            _ => i64::from_le_bytes(self.array(168)),
        };
        let least = self.bytes.len() as u64 + 4;
        // Some writers leave 0 in a single file; voxels then follow header and extension flag.
        let offset = match u64::try_from(offset) {
            Ok(0) => least,
            Ok(at) if at >= least => at,
            _ => return Err(malformed(format!("vox_offset {offset} lies within the header"))),
        };

        let unit_mm = unit(
            self.bytes[if self.version == 1 {
                123
            } else if self.big_endian {
                503
            } else {
                500
            }],
        );
        let (steps, origin) = self.affine(path)?;
        let to_lps = |v: [f64; 3]| [-v[0] * unit_mm, -v[1] * unit_mm, v[2] * unit_mm];
        // 0.0 - 0.0 keeps negative zeros out of printed directions.
        let tidy = |v: [f64; 3]| v.map(|x| x + 0.0);
        let header = Header {
            format: "nifti",
            size,
            steps: steps.map(|v| tidy(to_lps(v))),
            origin: tidy(to_lps(origin)),
            element,
            big_endian: self.big_endian,
            scale,
            packing: Packing::Raw, // gzip wraps the whole file, header included
        };
        Ok((header, offset))
    }

    /// Steps of the three indices and the first voxel's centre in RAS, in the file's unit.
    fn affine(&self, path: &Path) -> Result<([[f64; 3]; 3], [f64; 3]), DatasetError> {
        let (qform, sform) = (self.code([252, 344]), self.code([254, 348]));
        if sform > 0 {
            let row = |r: usize, i: usize| self.float([280 + 16 * r, 400 + 32 * r], i);
            return Ok((
                std::array::from_fn(|i| std::array::from_fn(|r| row(r, i))),
                std::array::from_fn(|r| row(r, 3)),
            ));
        }
        if qform > 0 {
            let pixdim: [f64; 4] = std::array::from_fn(|i| self.float([76, 104], i));
            let quaternion = std::array::from_fn(|i| self.float([256, 352], i));
            let origin = std::array::from_fn(|i| self.float([268, 376], i));
            let mut steps = rotation(quaternion);
            // nifti1.h: qfac is -1 where pixdim[0] is negative, and turns the third column.
            let signs = [1.0, 1.0, if pixdim[0] < 0.0 { -1.0 } else { 1.0 }];
            for i in 0..3 {
                steps[i] = steps[i].map(|v| v * signs[i] * pixdim[i + 1]);
            }
            return Ok((steps, origin));
        }
        Err(DatasetError::NoOrientation { file: name(path), reason: "qform_code and sform_code are 0" })
    }
}

/// Millimetres per unit of `xyzt_units`; unknown units are taken as mm, as all readers do.
fn unit(xyzt_units: u8) -> f64 {
    match xyzt_units & 7 {
        1 => 1000.0,
        3 => 0.001,
        _ => 1.0,
    }
}

/// Columns of the rotation that the quaternion's b, c and d stand for (nifti1.h, method 2).
fn rotation([b, c, d]: [f64; 3]) -> [[f64; 3]; 3] {
    let rest = 1.0 - (b * b + c * c + d * d);
    // Rounding may bring the sum slightly above one: then the turn is by 180 degrees.
    let (a, b, c, d) = if rest < 1e-7 {
        let length = (b * b + c * c + d * d).sqrt();
        (0.0, b / length, c / length, d / length)
    } else {
        (rest.sqrt(), b, c, d)
    };
    [
        [a * a + b * b - c * c - d * d, 2.0 * (b * c + a * d), 2.0 * (b * d - a * c)],
        [2.0 * (b * c - a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d + a * b)],
        [2.0 * (b * d + a * c), 2.0 * (c * d - a * b), a * a + d * d - c * c - b * b],
    ]
}

/// Versions of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Positions as 32-bit floats, at most 32,767 voxels along an axis: what every program reads.
    One,
    /// Positions as 64-bit floats.
    Two,
}

/// Writes `.nii` or `.nii.gz` (by the name) with sform and qform; as version 2 where the grid does not fit version 1.
pub(crate) fn write(
    path: &Path,
    geometry: &Geometry,
    version: Version,
    datatype: i16,
    bits: i16,
    bytes: &[u8],
) -> Result<(), DatasetError> {
    let fits = geometry.size().iter().all(|n| *n <= i16::MAX as usize);
    let header = header(geometry, if fits { version } else { Version::Two }, datatype, bits);
    let mut file = Written::create(path)?;
    let io = || DatasetError::io(path);
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz")) {
        file.write_all(&finish_gzip(&[&header, bytes]).map_err(io())?).map_err(io())?;
    } else {
        file.write_all(&header).map_err(io())?;
        file.write_all(bytes).map_err(io())?;
    }
    file.keep()
}

/// The header and the four bytes that say that no extensions follow.
fn header(geometry: &Geometry, version: Version, datatype: i16, bits: i16) -> Vec<u8> {
    let [nz, ny, nx] = geometry.size();
    let [sz, sy, sx] = geometry.spacing().zyx_mm();
    let ras = |v: [f64; 3]| [-v[0], -v[1], v[2]];
    let columns = geometry.direction().map(ras);
    let origin = ras(geometry.origin().0);
    let (quaternion, qfac) = quaternion(columns);

    // Where a field is in each version; most are twice as wide in the second.
    let two = version == Version::Two;
    let mut header = vec![0u8; if two { NIFTI2_OFFSET } else { NIFTI1_OFFSET }];
    let length = header.len() as i64;
    let mut put = |at: [usize; 2], value: &[u8]| {
        let at = at[usize::from(two)];
        header[at..at + value.len()].copy_from_slice(value);
    };
    let mut float = |at: [usize; 2], i: usize, v: f64| {
        let bytes = if two { v.to_le_bytes().to_vec() } else { (v as f32).to_le_bytes().to_vec() };
        put([at[0] + 4 * i, at[1] + 8 * i], &bytes);
    };
    for (i, v) in [qfac, sx, sy, sz].into_iter().enumerate() {
        float([76, 104], i, v);
    }
    float([112, 176], 0, 1.0); // no scaling
    for i in 0..3 {
        float([256, 352], i, quaternion[i]);
        float([268, 376], i, origin[i]);
        for (column, step) in [sx, sy, sz].into_iter().enumerate() {
            float([280 + 16 * i, 400 + 32 * i], column, columns[column][i] * step);
        }
        float([280 + 16 * i, 400 + 32 * i], 3, origin[i]);
    }
    put([70, 12], &datatype.to_le_bytes());
    put([72, 14], &bits.to_le_bytes());
    put([123, 500], &[2]); // mm
    for at in [[252, 344], [254, 348]] {
        put(at, &[1]); // qform and sform are scanner coordinates
    }
    for (i, n) in [3, nx, ny, nz, 1, 1, 1, 1].into_iter().enumerate() {
        let bytes = (n as i64).to_le_bytes();
        put([40 + 2 * i, 16 + 8 * i], if two { &bytes } else { &bytes[..2] });
    }
    if two {
        put([0, 0], &540i32.to_le_bytes());
        put([0, 4], b"n+2\0\r\n\x1a\n");
        put([0, 168], &length.to_le_bytes());
    } else {
        put([0, 0], &348i32.to_le_bytes());
        put([344, 0], b"n+1\0");
        put([108, 0], &(length as f32).to_le_bytes());
    }
    header
}

/// Inverse of [`rotation`], with the third column turned where the axes are left-handed.
fn quaternion(columns: [[f64; 3]; 3]) -> ([f64; 3], f64) {
    let [x, y, z] = columns;
    let cross = [y[1] * z[2] - y[2] * z[1], y[2] * z[0] - y[0] * z[2], y[0] * z[1] - y[1] * z[0]];
    let qfac = if x[0] * cross[0] + x[1] * cross[1] + x[2] * cross[2] < 0.0 { -1.0 } else { 1.0 };
    let z = z.map(|v| v * qfac);
    // The largest of the four components is taken by its square root, the others follow from the matrix.
    let squares =
        [1.0 + x[0] + y[1] + z[2], 1.0 + x[0] - y[1] - z[2], 1.0 - x[0] + y[1] - z[2], 1.0 - x[0] - y[1] + z[2]];
    let largest = (0..4).fold(0, |best, i| if squares[i] > squares[best] { i } else { best });
    let twice = squares[largest].sqrt(); // twice the component
    let q = match largest {
        0 => [twice / 2.0, (y[2] - z[1]) / twice / 2.0, (z[0] - x[2]) / twice / 2.0, (x[1] - y[0]) / twice / 2.0],
        1 => [(y[2] - z[1]) / twice / 2.0, twice / 2.0, (x[1] + y[0]) / twice / 2.0, (z[0] + x[2]) / twice / 2.0],
        2 => [(z[0] - x[2]) / twice / 2.0, (x[1] + y[0]) / twice / 2.0, twice / 2.0, (y[2] + z[1]) / twice / 2.0],
        _ => [(x[1] - y[0]) / twice / 2.0, (z[0] + x[2]) / twice / 2.0, (y[2] + z[1]) / twice / 2.0, twice / 2.0],
    };
    // The format stores b, c and d for a positive a.
    let sign = if q[0] < 0.0 { -1.0 } else { 1.0 };
    ([q[1] * sign, q[2] * sign, q[3] * sign], qfac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quaternion_and_its_rotation_are_inverse() {
        for q in
            [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.5, -0.5, 0.5], [0.1, 0.2, -0.3], [-0.7, 0.7, 0.0]]
        {
            let columns = rotation(q);
            let (back, qfac) = quaternion(columns);
            assert_eq!(qfac, 1.0);
            let again = rotation(back);
            for (a, b) in columns.as_flattened().iter().zip(again.as_flattened()) {
                assert!((a - b).abs() < 1e-6, "{q:?} became {back:?}");
            }
        }
    }
}
