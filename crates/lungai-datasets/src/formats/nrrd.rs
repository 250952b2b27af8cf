//! NRRD: `.nrrd` (attached) and `.nhdr` (detached), as 3D Slicer and the Chest Imaging Platform write them.
//! Follows the Teem format specification, sections 2 to 5.

use super::stored::{Element, Header, Packing, Stored, checked_size};
use super::{Lines, Written, finish_gzip, inner_file};
use crate::DatasetError;
use crate::error::name;
use lungai_ct::Geometry;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

const FORMAT: &str = "NRRD";

pub(crate) fn read(path: &Path) -> Result<Stored, DatasetError> {
    let malformed = |reason: String| DatasetError::Malformed { format: FORMAT, file: name(path), reason };
    let unsupported = |reason: String| DatasetError::Unsupported { format: FORMAT, file: name(path), reason };
    let file = File::open(path).map_err(DatasetError::io(path))?;
    let mut lines = Lines::new(BufReader::new(file), path, FORMAT);
    match lines.next()? {
        Some(magic) if magic.starts_with("NRRD000") => (),
        _ => return Err(malformed("the first line is not NRRD000n".into())),
    }

    let (mut element, mut size, mut packing, mut big_endian) = (None, None, None, None);
    let (mut sign, mut steps, mut origin) = (None, None, None);
    let (mut line_skip, mut byte_skip, mut data_file) = (0u64, 0i64, None);
    while let Some(line) = lines.next()? {
        if line.is_empty() {
            break; // a blank line ends the header
        }
        // `key:=value` is free text; `#` a comment
        if line.starts_with('#') || line.contains(":=") {
            continue;
        }
        let Some((field, value)) = line.split_once(':') else {
            return Err(malformed(format!("line {} is not `field: value`", lines.number)));
        };
        let value = value.trim();
        match field.trim().to_ascii_lowercase().as_str() {
            "dimension" if value != "3" => return Err(unsupported(format!("dimension {value:.8}"))),
            "space dimension" if value != "3" => return Err(unsupported(format!("space dimension {value:.8}"))),
            "type" => element = Some(element_named(value).ok_or_else(|| unsupported(format!("type {value:.24}")))?),
            "sizes" => {
                let counts: Result<Vec<u64>, _> = value.split_whitespace().map(str::parse).collect();
                let counts: [u64; 3] = counts
                    .ok()
                    .and_then(|v| v.try_into().ok())
                    .ok_or_else(|| malformed("sizes needs 3 whole numbers".into()))?;
                size = Some(checked_size(path, FORMAT, counts)?);
            }
            "encoding" => {
                packing = Some(match value.to_ascii_lowercase().as_str() {
                    "raw" => Packing::Raw,
                    "gzip" | "gz" => Packing::Gzip,
                    other => return Err(unsupported(format!("encoding {other:.16}"))),
                });
            }
            "endian" => {
                big_endian = Some(match value {
                    "little" => false,
                    "big" => true,
                    _ => return Err(malformed("endian is neither little nor big".into())),
                });
            }
            // Which way the file's patient axes point, against LPS.
            "space" => {
                sign = Some(match value.to_ascii_lowercase().as_str() {
                    "left-posterior-superior" | "lps" => [1.0, 1.0, 1.0],
                    "right-anterior-superior" | "ras" => [-1.0, -1.0, 1.0],
                    "left-anterior-superior" | "las" => [1.0, -1.0, 1.0],
                    other => return Err(unsupported(format!("space {other:.32}"))),
                });
            }
            "space directions" => {
                let vectors: Option<Vec<[f64; 3]>> = vectors(value);
                steps = Some(
                    vectors
                        .and_then(|v| <[[f64; 3]; 3]>::try_from(v).ok())
                        .ok_or_else(|| malformed("space directions needs 3 vectors of 3 numbers".into()))?,
                );
            }
            "space origin" => {
                origin = Some(
                    vectors(value)
                        .and_then(|v| <[[f64; 3]; 1]>::try_from(v).ok())
                        .ok_or_else(|| malformed("space origin needs one vector of 3 numbers".into()))?[0],
                );
            }
            "line skip" | "lineskip" => {
                line_skip = value.parse().map_err(|_| malformed("line skip is no count".into()))?;
            }
            "byte skip" | "byteskip" => {
                byte_skip = value.parse().map_err(|_| malformed("byte skip is no count".into()))?;
            }
            "data file" | "datafile" => data_file = Some(value.to_owned()),
            _ => (),
        }
    }
    let missing = |key: &str| malformed(format!("`{key}` is missing"));
    let element: Element = element.ok_or_else(|| missing("type"))?;
    let no_orientation = |reason| DatasetError::NoOrientation { file: name(path), reason };
    let sign: [f64; 3] = sign.ok_or_else(|| no_orientation("no `space`"))?;
    let steps: [[f64; 3]; 3] = steps.ok_or_else(|| no_orientation("no `space directions`"))?;
    let to_lps = |v: [f64; 3]| -> [f64; 3] { std::array::from_fn(|i| sign[i] * v[i]) };
    let header = Header {
        format: "nrrd",
        size: size.ok_or_else(|| missing("sizes"))?,
        steps: steps.map(to_lps),
        origin: to_lps(origin.ok_or_else(|| no_orientation("no `space origin`"))?),
        element,
        big_endian: match big_endian {
            Some(big) => big,
            None if element.bytes() == 1 => false,
            None => return Err(missing("endian")),
        },
        scale: (1.0, 0.0),
        packing: packing.ok_or_else(|| missing("encoding"))?,
    };

    let (data, mut source, start) = match &data_file {
        None => (path.to_owned(), lines.into_inner(), None),
        Some(list) if list.starts_with("LIST") || list.contains('%') || list.split_whitespace().count() > 1 => {
            return Err(unsupported("voxels in several files".into()));
        }
        Some(inner) => {
            let data = inner_file(path, inner, FORMAT)?;
            let file = File::open(&data).map_err(DatasetError::io(&data))?;
            (data, BufReader::new(file), Some(0))
        }
    };
    let io = |e| DatasetError::io(&data)(e);
    let length = source.get_ref().metadata().map_err(io)?.len();
    let mut at = match start {
        Some(at) => at,
        None => source.stream_position().map_err(io)?,
    };
    for _ in 0..line_skip {
        let skipped = source.skip_until(b'\n').map_err(io)? as u64;
        if skipped == 0 {
            return Err(malformed("line skip goes beyond the end".into()));
        }
        at += skipped;
    }
    match byte_skip {
        0 => (),
        // Specification, `byte skip: -1`: the voxels are the last bytes of the file.
        -1 if header.packing == Packing::Raw => {
            at = length.saturating_sub(header.payload_bytes());
            source.seek(SeekFrom::Start(at)).map_err(io)?;
        }
        // Bytes are skipped after unpacking (specification, `byte skip`).
        n if n > 0 && header.packing == Packing::Gzip => return Err(unsupported("byte skip into packed data".into())),
        n if n > 0 => {
            at = at.saturating_add(n as u64).min(length);
            source.seek(SeekFrom::Start(at)).map_err(io)?;
        }
        n => return Err(malformed(format!("byte skip {n}"))),
    }
    header.read_payload(&data, &mut source as &mut dyn Read, length.saturating_sub(at))
}

/// `(1,0,0) (0,1,0) ...`
fn vectors(text: &str) -> Option<Vec<[f64; 3]>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (inner, after) = rest.strip_prefix('(')?.split_once(')')?;
        let values: Option<Vec<f64>> =
            inner.split(',').map(|v| v.trim().parse().ok().filter(|v: &f64| v.is_finite())).collect();
        found.push(values?.try_into().ok()?);
        rest = after.trim_start();
    }
    Some(found)
}

fn element_named(name: &str) -> Option<Element> {
    Some(match name {
        "signed char" | "int8" | "int8_t" => Element::I8,
        "uchar" | "unsigned char" | "uint8" | "uint8_t" => Element::U8,
        "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => Element::I16,
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => Element::U16,
        "int" | "signed int" | "int32" | "int32_t" => Element::I32,
        "uint" | "unsigned int" | "uint32" | "uint32_t" => Element::U32,
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64"
        | "int64_t" => Element::I64,
        "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => Element::U64,
        "float" => Element::F32,
        "double" => Element::F64,
        _ => return None,
    })
}

/// Writes `.nrrd`, or `.nhdr` beside a `.raw.gz` of the same name; LPS, gzip.
pub(crate) fn write(path: &Path, geometry: &Geometry, kind: &str, bytes: &[u8]) -> Result<(), DatasetError> {
    let packed = finish_gzip(&[bytes]).map_err(DatasetError::io(path))?;
    let detached = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("nhdr"));
    let data = path.with_extension("raw.gz");
    let [nz, ny, nx] = geometry.size();
    let [sz, sy, sx] = geometry.spacing().zyx_mm();
    let triple = |v: [f64; 3]| format!("({},{},{})", v[0], v[1], v[2]);
    let [x, y, z] = geometry.direction();
    let header = format!(
        "NRRD0004\ntype: {kind}\ndimension: 3\nspace: left-posterior-superior\nsizes: {nx} {ny} {nz}\n\
         space directions: {} {} {}\nkinds: domain domain domain\nendian: little\nencoding: gzip\n\
         space origin: {}\n{}\n",
        triple(x.map(|v| v * sx)),
        triple(y.map(|v| v * sy)),
        triple(z.map(|v| v * sz)),
        triple(geometry.origin().0),
        if detached { format!("data file: {}\n", name(&data)) } else { String::new() },
    );
    if detached {
        let mut file = Written::create(&data)?;
        file.write_all(&packed).map_err(DatasetError::io(&data))?;
        file.keep()?;
    }
    let mut file = Written::create(path)?;
    file.write_all(header.as_bytes()).map_err(DatasetError::io(path))?;
    if !detached {
        file.write_all(&packed).map_err(DatasetError::io(path))?;
    }
    file.keep()
}
