//! MetaImage: `.mha` (one file) and `.mhd` (header) with `.raw` or `.zraw`; the format of LUNA16.
//! Follows ITK's MetaIO documentation; a row of `TransformMatrix` is the direction of one index.

use super::stored::{Element, Header, Packing, Stored, checked_size};
use super::{Lines, Written, finish_deflate, inner_file};
use crate::DatasetError;
use crate::error::name;
use lungai_ct::Geometry;
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::path::Path;

const FORMAT: &str = "MetaImage";

pub(crate) fn read(path: &Path) -> Result<Stored, DatasetError> {
    let malformed = |reason: String| DatasetError::Malformed { format: FORMAT, file: name(path), reason };
    let unsupported = |reason: String| DatasetError::Unsupported { format: FORMAT, file: name(path), reason };
    let file = File::open(path).map_err(DatasetError::io(path))?;
    let mut lines = Lines::new(BufReader::new(file), path, FORMAT);

    let (mut size, mut spacing, mut element) = (None, None, None);
    let mut direction = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let mut origin = [0.0; 3];
    let (mut big_endian, mut compressed) = (false, false);
    let (mut skip, mut packed_bytes) = (0i64, None);
    // The data file ends the header: what follows it belongs to the voxels.
    let data_file = loop {
        let Some(line) = lines.next()? else {
            return Err(malformed("the header ends without ElementDataFile".into()));
        };
        if line.trim().is_empty() {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(malformed(format!("line {} is not `key = value`", lines.number)));
        };
        let value = value.trim();
        let numbers = |n: usize| {
            let parsed: Vec<f64> = value.split_whitespace().map_while(|word| word.parse().ok()).collect();
            if parsed.len() == n && value.split_whitespace().count() == n && parsed.iter().all(|v| v.is_finite()) {
                Ok(parsed)
            } else {
                Err(malformed(format!("{} needs {n} numbers", key.trim())))
            }
        };
        let three = || numbers(3).map(|v| [v[0], v[1], v[2]]);
        let flag = || match value.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok(true),
            "false" | "f" | "0" => Ok(false),
            _ => Err(malformed(format!("{} is neither True nor False", key.trim()))),
        };
        match key.trim() {
            "ObjectType" if value != "Image" => return Err(unsupported("an ObjectType other than Image".into())),
            "NDims" if value != "3" => return Err(unsupported(format!("NDims {value:.8}"))),
            "BinaryData" if !flag()? => return Err(unsupported("voxels as text".into())),
            "BinaryDataByteOrderMSB" | "ElementByteOrderMSB" => big_endian = flag()?,
            "CompressedData" => compressed = flag()?,
            "CompressedDataSize" => {
                packed_bytes =
                    Some(value.parse::<u64>().map_err(|_| malformed("CompressedDataSize is no count".into()))?);
            }
            // CenterOfRotation says nothing about where voxels are; AnatomicalOrientation repeats the matrix.
            "TransformMatrix" | "Rotation" | "Orientation" => {
                let v = numbers(9)?;
                direction = std::array::from_fn(|i| [v[3 * i], v[3 * i + 1], v[3 * i + 2]]);
            }
            "Offset" | "Origin" | "Position" => origin = three()?,
            "ElementSpacing" => spacing = Some(three()?),
            // The size of the sensitive area; it stands for the spacing only where that is absent.
            "ElementSize" => spacing = spacing.or(Some(three()?)),
            "DimSize" => {
                let counts: Result<Vec<u64>, _> = value.split_whitespace().map(str::parse).collect();
                let counts: [u64; 3] = counts
                    .ok()
                    .and_then(|v| v.try_into().ok())
                    .ok_or_else(|| malformed("DimSize needs 3 whole numbers".into()))?;
                size = Some(checked_size(path, FORMAT, counts)?);
            }
            "ElementNumberOfChannels" if value != "1" => return Err(unsupported("several channels per voxel".into())),
            "ElementToIntensityFunctionSlope" if numbers(1)?[0] != 1.0 => {
                return Err(unsupported("an intensity function".into()));
            }
            "ElementToIntensityFunctionOffset" if numbers(1)?[0] != 0.0 => {
                return Err(unsupported("an intensity function".into()));
            }
            "HeaderSize" => skip = value.parse().map_err(|_| malformed("HeaderSize is no count".into()))?,
            "ElementType" => {
                element = Some(match value {
                    "MET_CHAR" => Element::I8,
                    "MET_UCHAR" => Element::U8,
                    "MET_SHORT" => Element::I16,
                    "MET_USHORT" => Element::U16,
                    "MET_INT" | "MET_LONG" => Element::I32,
                    "MET_UINT" | "MET_ULONG" => Element::U32,
                    "MET_LONG_LONG" => Element::I64,
                    "MET_ULONG_LONG" => Element::U64,
                    "MET_FLOAT" => Element::F32,
                    "MET_DOUBLE" => Element::F64,
                    other => return Err(unsupported(format!("ElementType {other:.24}"))),
                });
            }
            "ElementDataFile" => break value.to_owned(),
            _ => (),
        }
    };
    let missing = |key: &str| malformed(format!("{key} is missing"));
    let spacing: [f64; 3] = spacing.ok_or_else(|| missing("ElementSpacing"))?;
    let header = Header {
        format: "metaimage",
        size: size.ok_or_else(|| missing("DimSize"))?,
        steps: std::array::from_fn(|i| direction[i].map(|v| v * spacing[i])),
        origin,
        element: element.ok_or_else(|| missing("ElementType"))?,
        big_endian,
        scale: (1.0, 0.0),
        packing: if compressed { Packing::Zlib } else { Packing::Raw },
    };

    if data_file == "LOCAL" {
        let start = lines.offset;
        let left = std::fs::metadata(path).map_err(DatasetError::io(path))?.len().saturating_sub(start);
        let left = packed_bytes.filter(|_| compressed).map_or(left, |declared| declared.min(left));
        return header.read_payload(path, &mut lines.into_inner(), left);
    }
    if data_file == "LIST" || data_file.contains('%') || data_file.split_whitespace().count() > 1 {
        return Err(unsupported("voxels in several files".into()));
    }
    let data = inner_file(path, &data_file, FORMAT)?;
    let mut file = File::open(&data).map_err(DatasetError::io(&data))?;
    let length = file.metadata().map_err(DatasetError::io(&data))?.len();
    let skip = match skip {
        -1 => length.saturating_sub(header.payload_bytes()),
        n => u64::try_from(n).map_err(|_| malformed(format!("HeaderSize {n}")))?.min(length),
    };
    file.seek(SeekFrom::Start(skip)).map_err(DatasetError::io(&data))?;
    header.read_payload(&data, &mut BufReader::new(file), length - skip)
}

/// Writes `.mha`, or `.mhd` beside a `.zraw` of the same name; deflated.
pub(crate) fn write(path: &Path, geometry: &Geometry, kind: &str, bytes: &[u8]) -> Result<(), DatasetError> {
    let packed = finish_deflate(bytes).map_err(DatasetError::io(path))?;
    let join = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
    let local = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("mha"));
    let data = path.with_extension("zraw");
    let [nz, ny, nx] = geometry.size();
    let [sz, sy, sx] = geometry.spacing().zyx_mm();
    let header = format!(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n\
         CompressedDataSize = {}\nTransformMatrix = {}\nOffset = {}\nCenterOfRotation = 0 0 0\nElementSpacing = {}\n\
         DimSize = {nx} {ny} {nz}\nElementType = {kind}\nElementDataFile = {}\n",
        packed.len(),
        join(geometry.direction().as_flattened()),
        join(&geometry.origin().0),
        join(&[sx, sy, sz]),
        if local { "LOCAL".to_owned() } else { name(&data) },
    );
    if !local {
        let mut file = Written::create(&data)?;
        file.write_all(&packed).map_err(DatasetError::io(&data))?;
        file.keep()?;
    }
    let mut file = Written::create(path)?;
    file.write_all(header.as_bytes()).map_err(DatasetError::io(path))?;
    if local {
        file.write_all(&packed).map_err(DatasetError::io(path))?;
    }
    file.keep()
}
