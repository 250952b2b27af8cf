//! The bounded walk over a file's bytes that comes before any library sees them.
//!
//! dicom-object 0.10 allocates what an element declares (1.6 GB for a file of 39 KB). After this walk
//! every declared length lies within the bytes at hand, and nesting, element count and inflated size
//! are bounded; and only the attributes that we use reach the library, so that oddities of all others do no harm.
//! DICOM PS3.5 chapter 7 (elements, sequences), A.4 (encapsulated pixels), PS3.10 7.1 (file).

use crate::identity::Marks;
use crate::{DicomError, Limits};
use dicom_core::dictionary::{DataDictionary, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;

/// Where things are in a DICOM file.
pub struct Structure<'a> {
    /// Transfer Syntax UID.
    pub transfer_syntax: String,
    /// Syntax of `data`: of a deflated file what it inflated to.
    pub data_syntax: String,
    /// The data set, inflated where need be.
    pub data: Cow<'a, [u8]>,
    /// The elements of `data` that [`KEPT`] names, encoded as they were.
    pub header: Vec<u8>,
    /// What the elements before the pixels say about a person.
    pub marks: Marks,
    /// The pixel data within `data`.
    pub pixels: Pixels,
}

/// Pixel data as they lie in the file.
pub enum Pixels {
    /// None.
    None,
    /// They do not fit into the file. The header is whole: the series that the file belongs to must know.
    Broken(DicomError),
    /// Uncompressed.
    Native {
        /// Within the data set.
        bytes: Range<usize>,
        /// OW in a big endian file swaps bytes also of 8-bit pixels.
        words: bool,
    },
    /// Compressed.
    Encapsulated {
        /// Where frames begin, counted from the first fragment's item: the extended offset table, else the
        /// basic one, which is often empty.
        offsets: Vec<u64>,
        /// Within the data set.
        fragments: Vec<Range<usize>>,
    },
}

/// Explicit VR little endian.
pub const EXPLICIT_LE: &str = "1.2.840.10008.1.2.1";
const IMPLICIT_LE: &str = "1.2.840.10008.1.2";
/// Explicit VR big endian (retired).
pub const EXPLICIT_BE: &str = "1.2.840.10008.1.2.2";
const DEFLATED_LE: &str = "1.2.840.10008.1.2.1.99";

const UNDEFINED: u32 = u32::MAX;
const PIXEL_DATA: (u16, u16) = (0x7FE0, 0x0010);
const EXTENDED_OFFSETS: (u16, u16) = (0x7FE0, 0x0001);
const ITEM: (u16, u16) = (0xFFFE, 0xE000);
const ITEM_END: (u16, u16) = (0xFFFE, 0xE00D);
const SEQUENCE_END: (u16, u16) = (0xFFFE, 0xE0DD);

/// Attributes that [`Header`](crate::header::Header) looks at.
const KEPT: [Tag; 37] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::IMAGE_TYPE,
    tags::SOP_CLASS_UID,
    tags::MODALITY,
    tags::MANUFACTURER,
    tags::MANUFACTURER_MODEL_NAME,
    tags::PATIENT_ID,
    tags::CONTRAST_BOLUS_AGENT,
    tags::SLICE_THICKNESS,
    tags::KVP,
    tags::EXPOSURE_TIME,
    tags::X_RAY_TUBE_CURRENT,
    tags::EXPOSURE,
    tags::CONVOLUTION_KERNEL,
    tags::STUDY_INSTANCE_UID,
    tags::SERIES_INSTANCE_UID,
    tags::IMAGE_POSITION_PATIENT,
    tags::IMAGE_ORIENTATION_PATIENT,
    tags::FRAME_OF_REFERENCE_UID,
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::PLANAR_CONFIGURATION,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::PIXEL_SPACING,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::PIXEL_PADDING_VALUE,
    tags::PIXEL_PADDING_RANGE_LIMIT,
    tags::RESCALE_INTERCEPT,
    tags::RESCALE_SLOPE,
    tags::MODALITY_LUT_SEQUENCE,
    tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
    tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
];
/// Longest value of an attribute that is no sequence: none of [`KEPT`] needs more.
const VALUE_BYTES: usize = 1 << 16;

/// Where the file meta information begins: behind a preamble, or at the start of a file without one. A file without meta
/// information does not say its transfer syntax, and none is guessed.
pub fn meta_start(file: &[u8]) -> Option<usize> {
    if file.get(128..132) == Some(b"DICM") {
        Some(132)
    } else if file.starts_with(b"DICM") {
        Some(4)
    } else if file.starts_with(b"\x02\x00\x00\x00UL\x04\x00") || file.starts_with(b"\x02\x00\x01\x00OB\x00\x00") {
        Some(0)
    } else {
        None
    }
}

/// Walks a whole file, preamble first.
///
/// # Errors
/// [`DicomError`] names the first bound that is broken.
pub fn examine<'a>(file: &'a [u8], limits: &Limits) -> Result<Structure<'a>, DicomError> {
    let start = meta_start(file).ok_or(DicomError::NotDicom)?;
    let (meta_end, transfer_syntax) = file_meta(file, start, limits)?;
    let (data, data_syntax) = if transfer_syntax == DEFLATED_LE {
        (Cow::Owned(inflate(&file[meta_end..], limits)?), EXPLICIT_LE.to_owned())
    } else {
        (Cow::Borrowed(&file[meta_end..]), transfer_syntax.clone())
    };
    let encoding = Encoding { explicit: data_syntax != IMPLICIT_LE, big_endian: data_syntax == EXPLICIT_BE };
    let mut marks = Marks::default();
    let (header, pixels) = Walk::over(&data, 0, limits).data_set(encoding, &mut marks)?;
    Ok(Structure { transfer_syntax, data_syntax, header, marks, pixels, data })
}

/// The file meta group is explicit VR little endian always.
fn file_meta(file: &[u8], start: usize, limits: &Limits) -> Result<(usize, String), DicomError> {
    let encoding = Encoding { explicit: true, big_endian: false };
    let mut walk = Walk::over(file, start, limits);
    let mut transfer_syntax = None;
    while walk.at < file.len() && walk.peek_tag(encoding)?.0 == 2 {
        let element = walk.element(encoding)?;
        if element.length == UNDEFINED {
            return Err(DicomError::DamagedDataSet);
        }
        let value = walk.take(element.tag, element.length)?;
        if element.tag == (2, 0x10) {
            let uid = std::str::from_utf8(&file[value]).unwrap_or_default().trim_end_matches(['\0', ' ']);
            if uid.is_empty() || uid.len() > 64 || !uid.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
                return Err(DicomError::bad("TransferSyntaxUID"));
            }
            transfer_syntax = Some(uid.to_owned());
        }
    }
    Ok((walk.at, transfer_syntax.ok_or_else(|| DicomError::missing("TransferSyntaxUID"))?))
}

fn inflate(packed: &[u8], limits: &Limits) -> Result<Vec<u8>, DicomError> {
    let limit = limits.unpacked(packed.len() as u64);
    let mut source = flate2::read::DeflateDecoder::new(packed).take(limit + 1);
    let data = read_growing(&mut source).map_err(|_| DicomError::DamagedDeflate)?;
    if data.len() as u64 > limit {
        return Err(DicomError::DeflateTooLarge { limit });
    }
    Ok(data)
}

/// `read_to_end` without its doubling: at most an eighth more than the data is asked for.
pub fn read_growing(source: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let filled = data.len();
        let more = (filled / 8).max(64 << 10);
        data.reserve_exact(more);
        data.resize(filled + more, 0);
        let mut end = filled;
        while end < data.len() {
            // A missing end of a packed stream is an error here: the image may be cut.
            match source.read(&mut data[end..])? {
                0 => break,
                n => end += n,
            }
        }
        let whole = end < data.len();
        data.truncate(end);
        if whole {
            return Ok(data);
        }
    }
}

#[derive(Clone, Copy)]
struct Encoding {
    explicit: bool,
    big_endian: bool,
}

struct Element {
    tag: (u16, u16),
    vr: VR,
    length: u32,
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Elements so far, an item counting for [`ITEM_ELEMENTS`], and how many there may be.
    elements: usize,
    most: usize,
    depth: usize,
}

/// What an item costs in memory, in elements.
const ITEM_ELEMENTS: usize = 8;

impl<'a> Walk<'a> {
    fn over(bytes: &'a [u8], at: usize, limits: &Limits) -> Self {
        let most = limits.elements.saturating_add(bytes.len() / 32);
        Self { bytes, at, elements: 0, most, depth: limits.depth }
    }

    /// Top level, up to and with the pixel data; what follows them is never read.
    fn data_set(&mut self, encoding: Encoding, marks: &mut Marks) -> Result<(Vec<u8>, Pixels), DicomError> {
        let mut header = Vec::new();
        let mut extended = Vec::new();
        while self.at < self.bytes.len() {
            let start = self.at;
            let element = self.element(encoding)?;
            let value = self.at;
            if element.tag == PIXEL_DATA {
                let pixels = if element.length == UNDEFINED {
                    self.fragments(extended)
                } else {
                    let words = element.vr != VR::OB;
                    self.take(element.tag, element.length).map(|bytes| Pixels::Native { bytes, words })
                };
                return Ok((header, pixels.unwrap_or_else(Pixels::Broken)));
            }
            self.value(&element, encoding, self.bytes.len(), 1)?;
            let tag = Tag(element.tag.0, element.tag.1);
            // A sequence of undefined length without items is its delimiter alone.
            let empty = element.length == UNDEFINED && self.at - value == 8;
            marks.see(tag, if empty { &[] } else { &self.bytes[value..self.at] });
            if element.tag == EXTENDED_OFFSETS {
                // Compressed pixels are little endian always.
                extended = self.bytes[value..self.at].as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
            } else if KEPT.contains(&tag) {
                if self.at - value > VALUE_BYTES && !matches!(element.vr, VR::SQ | VR::UN) {
                    return Err(DicomError::bad(&format!("{tag}")));
                }
                header.extend_from_slice(&self.bytes[start..self.at]);
            }
        }
        Ok((header, Pixels::None))
    }

    fn value(&mut self, element: &Element, encoding: Encoding, end: usize, depth: usize) -> Result<(), DicomError> {
        if element.length == UNDEFINED {
            return match element.vr {
                VR::SQ => self.items(encoding, end, depth, true),
                VR::UN => {
                    let start = self.at;
                    // PS3.5 6.2.2 note 2: unknown VR of undefined length holds implicit little endian. Some writers
                    // keep the data set's own encoding.
                    match self.items(Encoding { explicit: false, big_endian: false }, end, depth, true) {
                        Err(DicomError::DamagedDataSet | DicomError::Truncated { .. }) if encoding.explicit => {
                            self.at = start;
                            self.items(encoding, end, depth, true)
                        }
                        done => done,
                    }
                }
                // An icon's compressed pixels.
                VR::OB | VR::OW => self.fragments(Vec::new()).map(|_| ()),
                _ => Err(DicomError::DamagedDataSet),
            };
        }
        let value = self.within(element.tag, element.length, end)?;
        if element.vr == VR::SQ {
            self.items(encoding, value.end, depth, false)
        } else {
            self.at = value.end;
            Ok(())
        }
    }

    /// The items of a sequence that ends at `end` or at its delimiter.
    fn items(&mut self, encoding: Encoding, end: usize, depth: usize, delimited: bool) -> Result<(), DicomError> {
        if depth > self.depth {
            return Err(DicomError::NestedTooDeep { limit: self.depth });
        }
        while self.at < end {
            let (tag, length) = self.item_header(encoding)?;
            if tag == ITEM {
                self.count(ITEM_ELEMENTS)?;
            }
            match tag {
                SEQUENCE_END if delimited => return Ok(()),
                ITEM if length == UNDEFINED => self.item(encoding, end, depth, true)?,
                ITEM => {
                    let item = self.within(tag, length, end)?;
                    self.item(encoding, item.end, depth, false)?;
                }
                _ => return Err(DicomError::DamagedDataSet),
            }
        }
        if delimited { Err(self.short(SEQUENCE_END, 8)) } else { Ok(()) }
    }

    fn item(&mut self, encoding: Encoding, end: usize, depth: usize, delimited: bool) -> Result<(), DicomError> {
        while self.at < end {
            if delimited && self.peek_tag(encoding)? == ITEM_END {
                self.item_header(encoding)?;
                return Ok(());
            }
            let element = self.element(encoding)?;
            self.value(&element, encoding, end, depth + 1)?;
        }
        if self.at > end {
            return Err(DicomError::DamagedDataSet);
        }
        if delimited { Err(self.short(ITEM_END, 8)) } else { Ok(()) }
    }

    /// PS3.5 A.4: offset table, fragments, delimiter; always little endian.
    fn fragments(&mut self, extended: Vec<u64>) -> Result<Pixels, DicomError> {
        let encoding = Encoding { explicit: true, big_endian: false };
        let mut table: Option<Vec<u64>> = None;
        let mut fragments = Vec::new();
        loop {
            let (tag, length) = self.item_header(encoding)?;
            match tag {
                ITEM if length != UNDEFINED => {
                    let bytes = self.take(tag, length)?;
                    match table {
                        Some(_) => fragments.push(bytes),
                        None => {
                            let words = self.bytes[bytes.clone()].as_chunks().0;
                            let words: Vec<u64> = words.iter().map(|b| u32::from_le_bytes(*b).into()).collect();
                            // A table begins with zero, a compressed image never does: some writers leave the table out.
                            if words.first().is_none_or(|first| *first == 0) {
                                table = Some(words);
                            } else {
                                table = Some(Vec::new());
                                fragments.push(bytes);
                            }
                        }
                    }
                }
                SEQUENCE_END => {
                    let basic = table.unwrap_or_default();
                    let offsets = if extended.is_empty() { basic } else { extended };
                    return Ok(Pixels::Encapsulated { offsets, fragments });
                }
                _ => return Err(DicomError::DamagedDataSet),
            }
        }
    }

    fn element(&mut self, encoding: Encoding) -> Result<Element, DicomError> {
        self.count(1)?;
        let tag = self.peek_tag(encoding)?;
        self.at += 4;
        if tag.0 == 0xFFFE {
            return Err(DicomError::DamagedDataSet);
        }
        if !encoding.explicit {
            let vr = match StandardDataDictionary.by_tag(Tag(tag.0, tag.1)).map(|entry| entry.vr) {
                Some(VirtualVr::Exact(vr)) => vr,
                _ => VR::UN,
            };
            return Ok(Element { tag, vr, length: self.u32(tag, encoding)? });
        }
        let code = self.raw(tag, 2)?;
        let vr = VR::from_binary([code[0], code[1]]).unwrap_or(VR::UN); // as dicom-object does
        use VR::*;
        let short = [AE, AS, AT, CS, DA, DS, DT, FL, FD, IS, LO, LT, PN, SH, SL, SS, ST, TM, UI, UL, US];
        let two = self.raw(tag, 2)?;
        let length = if short.contains(&vr) {
            let two = [two[0], two[1]];
            u32::from(if encoding.big_endian { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
        } else {
            self.u32(tag, encoding)?
        };
        Ok(Element { tag, vr, length })
    }

    fn count(&mut self, elements: usize) -> Result<(), DicomError> {
        self.elements += elements;
        if self.elements > self.most { Err(DicomError::TooManyElements { limit: self.most }) } else { Ok(()) }
    }

    fn item_header(&mut self, encoding: Encoding) -> Result<((u16, u16), u32), DicomError> {
        self.count(1)?;
        let tag = self.peek_tag(encoding)?;
        self.at += 4;
        Ok((tag, self.u32(tag, encoding)?))
    }

    fn peek_tag(&self, encoding: Encoding) -> Result<(u16, u16), DicomError> {
        let b = self.bytes.get(self.at..).and_then(|rest| rest.get(..4)).ok_or_else(|| self.short((0, 0), 4))?;
        let two = if encoding.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        Ok((two([b[0], b[1]]), two([b[2], b[3]])))
    }

    fn u32(&mut self, tag: (u16, u16), encoding: Encoding) -> Result<u32, DicomError> {
        let b = self.raw(tag, 4)?;
        let four = [b[0], b[1], b[2], b[3]];
        Ok(if encoding.big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    fn raw(&mut self, tag: (u16, u16), count: u32) -> Result<&[u8], DicomError> {
        let range = self.take(tag, count)?;
        Ok(&self.bytes[range])
    }

    /// Steps over `length` bytes.
    fn take(&mut self, tag: (u16, u16), length: u32) -> Result<Range<usize>, DicomError> {
        let range = self.within(tag, length, self.bytes.len())?;
        self.at = range.end;
        Ok(range)
    }

    fn within(&self, tag: (u16, u16), length: u32, end: usize) -> Result<Range<usize>, DicomError> {
        let left = end.saturating_sub(self.at) as u64;
        if u64::from(length) > left {
            return Err(DicomError::Truncated { group: tag.0, element: tag.1, declared: length.into(), left });
        }
        Ok(self.at..self.at + length as usize)
    }

    fn short(&self, tag: (u16, u16), declared: u64) -> DicomError {
        let left = (self.bytes.len() - self.at.min(self.bytes.len())) as u64;
        DicomError::Truncated { group: tag.0, element: tag.1, declared, left }
    }
}
