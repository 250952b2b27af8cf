//! Pixel data to stored values and to HU, one frame at a time.

use crate::header::{Layout, ModalityLut, Plane};
use crate::structure::{EXPLICIT_BE, Pixels, Structure};
use crate::worker::contained;
use crate::{DicomError, Limits, jpeg12};
use dicom_encoding::adapters::{PixelDataObject, RawPixelData};
use dicom_encoding::transfer_syntax::{Codec, TransferSyntaxIndex};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use lungai_trace::implements;
use std::borrow::Cow;
use std::ops::Range;

const JPEG_EXTENDED: &str = "1.2.840.10008.1.2.4.51";
const ENCAPSULATED_NATIVE: &str = "1.2.840.10008.1.2.1.98";
const RLE: &str = "1.2.840.10008.1.2.5";
/// Most that decoding takes per sample, with codec and output. Resident at 2,048 x 2,048: JPEG lossless 10, JPEG 2000 7,
/// JPEG-LS and RLE 6; the rest is room for what is reserved and not used.
const DECODER_BYTES: u64 = 12;

/// The frames of one file, checked against the declared layout.
pub struct Frames<'a> {
    structure: &'a Structure<'a>,
    layout: &'a Layout,
    /// Fragments of each frame; empty for uncompressed pixels.
    fragments: Vec<&'a [Range<usize>]>,
}

/// Stored value to HU.
pub enum Rescale<'a> {
    /// `slope * stored + intercept`
    Linear { slope: f64, intercept: f64 },
    /// PS3.3 C.11.1: stored values before the first entry have the first entry's output, those behind the last the last's.
    Table(&'a ModalityLut),
}

impl<'a> Rescale<'a> {
    /// # Errors
    /// [`DicomError::MissingTag`] without rescale attributes: CT demands them. [`DicomError::AmbiguousRescale`] with both
    /// kinds. [`DicomError::NotHounsfield`] where the outcome is of another kind, as iodine in a multi-energy CT.
    pub fn of(plane: &Plane, lut: Option<&'a Result<ModalityLut, DicomError>>) -> Result<Self, DicomError> {
        if let Some(table) = lut {
            let table = table.as_ref().map_err(Clone::clone)?;
            let linear = plane.slope.is_some() || plane.intercept.is_some();
            return if linear { Err(DicomError::AmbiguousRescale) } else { Ok(Self::Table(table)) };
        }
        let slope = plane.slope.ok_or_else(|| DicomError::missing("RescaleSlope"))?;
        let intercept = plane.intercept.ok_or_else(|| DicomError::missing("RescaleIntercept"))?;
        if !plane.hounsfield {
            return Err(DicomError::NotHounsfield);
        }
        if slope == 0.0 {
            return Err(DicomError::bad("RescaleSlope"));
        }
        Ok(Self::Linear { slope, intercept })
    }

    /// Rounded half away from zero and kept within `i16`.
    #[implements("FR-001", "SW-103")]
    pub fn hu(&self, stored: i32) -> i16 {
        match self {
            Self::Linear { slope, intercept } => (slope * f64::from(stored) + intercept).round() as i16, // `as` saturates
            Self::Table(lut) => {
                let last = lut.entries.len() as i64 - 1;
                let entry = (i64::from(stored) - i64::from(lut.first)).clamp(0, last) as usize;
                lut.entries[entry].clamp(i16::MIN.into(), i16::MAX.into()) as i16
            }
        }
    }

    /// The intercept, where HU are the stored values plus a whole number: nearly every CT.
    pub fn whole_offset(&self) -> Option<i32> {
        match *self {
            Self::Linear { slope: 1.0, intercept } if intercept.fract() == 0.0 && intercept.abs() < 1e9 => {
                Some(intercept as i32)
            }
            _ => None,
        }
    }
}

/// [`Rescale::hu`] in whole numbers, ten times as fast. A sum beyond `i32` lies beyond `i16` too.
pub fn shifted(stored: i32, offset: i32) -> i16 {
    stored.saturating_add(offset).clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

impl<'a> Frames<'a> {
    /// # Errors
    /// [`DicomError`] where the layout is not one that is read, or where the bytes are not those that it demands.
    pub fn open(
        structure: &'a Structure<'a>,
        layout: &'a Layout,
        input: u64,
        limits: &Limits,
    ) -> Result<Self, DicomError> {
        let &Layout { frames, rows, columns, allocated, stored, high_bit, .. } = layout;
        match &structure.pixels {
            Pixels::None => return Err(DicomError::NoPixels),
            Pixels::Broken(error) => return Err(error.clone()),
            Pixels::Native { .. } | Pixels::Encapsulated { .. } => {}
        }
        for (value, name) in [(rows, "Rows"), (columns, "Columns"), (u32::from(allocated), "BitsAllocated")] {
            if value == 0 {
                return Err(DicomError::missing(name));
            }
        }
        let pixels = u64::from(rows).saturating_mul(columns.into()).saturating_mul(frames.into());
        if pixels.saturating_mul(layout.samples.into()) > limits.file_pixels || rows > 0xFFFF || columns > 0xFFFF {
            return Err(DicomError::TooManyPixels { rows, columns, frames, limit: limits.file_pixels });
        }
        if frames == 0 || layout.samples == 0 {
            return Err(DicomError::NoPixels);
        }
        let whole = matches!((allocated, stored), (1, 1) | (8, 1..=8) | (16, 1..=16) | (32, 1..=32));
        if !whole || high_bit >= allocated || high_bit + 1 < stored {
            return Err(DicomError::PixelLayout { allocated, stored, high_bit });
        }
        let mut by_frame = Vec::new();
        match &structure.pixels {
            Pixels::None | Pixels::Broken(_) => {}
            Pixels::Native { bytes, .. } => {
                let expected = (pixels * u64::from(layout.samples) * u64::from(allocated)).div_ceil(8);
                let found = bytes.len() as u64;
                // PS3.5 8.1.1 allows one pad byte, some writers pad by more. A whole row too many is taken for wrong attributes.
                let spare = (u64::from(columns) * u64::from(layout.samples) * u64::from(allocated)).div_ceil(8);
                if found < expected || found > expected + spare.max(1) {
                    return Err(DicomError::PixelLength { expected, found });
                }
            }
            Pixels::Encapsulated { offsets, fragments } => {
                let samples = u64::from(rows) * u64::from(columns) * u64::from(layout.samples);
                let (needs, limit) = (samples * DECODER_BYTES, limits.memory(input));
                if needs > limit {
                    return Err(DicomError::FrameTooLarge { rows, columns, needs, limit });
                }
                by_frame = assign(&structure.data, offsets, fragments, frames)?;
            }
        }
        Ok(Self { structure, layout, fragments: by_frame })
    }

    /// Stored values of one frame: rows, columns, samples. Bits beyond BitsStored are cut off (they held overlays once).
    ///
    /// # Errors
    /// [`DicomError`] where compressed data are damaged.
    #[implements("FR-001")]
    pub fn stored(&self, frame: u32) -> Result<Vec<i32>, DicomError> {
        let mut values = self.each(frame, |value| value)?;
        let native = matches!(self.structure.pixels, Pixels::Native { .. });
        if native && self.layout.planar && self.layout.samples > 1 {
            let samples = usize::from(self.layout.samples);
            let (count, plane) = (values.len(), values.len() / samples);
            values = (0..count).map(|i| values[i % samples * plane + i / samples]).collect();
        }
        Ok(values)
    }

    /// HU of one frame.
    ///
    /// # Errors
    /// As [`Frames::stored`].
    pub fn hu(&self, frame: u32, rescale: &Rescale) -> Result<Vec<i16>, DicomError> {
        match rescale.whole_offset() {
            Some(offset) => self.each(frame, |value| shifted(value, offset)),
            None => self.each(frame, |value| rescale.hu(value)),
        }
    }

    fn values_per_frame(&self) -> usize {
        self.layout.rows as usize * self.layout.columns as usize * usize::from(self.layout.samples)
    }

    /// What `take` makes of each stored value of a frame, in the order of the file.
    fn each<T>(&self, frame: u32, take: impl Fn(i32) -> T) -> Result<Vec<T>, DicomError> {
        let layout = self.layout;
        let count = self.values_per_frame();
        let bytes_per_value = usize::from(layout.allocated / 8);
        let data = &self.structure.data;
        match &self.structure.pixels {
            Pixels::None | Pixels::Broken(_) => Err(DicomError::NoPixels),
            Pixels::Native { bytes, .. } if layout.allocated == 1 => {
                // Frames follow each other without padding to whole bytes.
                let first = frame as usize * count;
                let packed = &data[bytes.clone()];
                Ok((first..first + count).map(|bit| take(i32::from(packed[bit / 8] >> (bit % 8) & 1))).collect())
            }
            Pixels::Native { bytes, words } => {
                let start = bytes.start + frame as usize * count * bytes_per_value;
                let swapped = self.structure.data_syntax == EXPLICIT_BE;
                if swapped && *words && bytes_per_value == 1 {
                    // The last of an odd number of bytes has no partner in a value without its pad byte.
                    let byte = |at: usize| data.get(bytes.start + ((at - bytes.start) ^ 1)).copied().unwrap_or(0);
                    let bytes: Vec<u8> = (start..start + count).map(byte).collect();
                    each_value(&bytes, layout, false, take)
                } else {
                    each_value(&data[start..start + count * bytes_per_value], layout, swapped, take)
                }
            }
            Pixels::Encapsulated { .. } => {
                each_value(&self.decompress(frame, count * bytes_per_value)?, layout, false, take)
            }
        }
    }

    fn decompress(&self, frame: u32, expected: usize) -> Result<Vec<u8>, DicomError> {
        let layout = self.layout;
        let fragments = self.fragments[frame as usize];
        let mut stream = Vec::with_capacity(fragments.iter().map(|range| range.len()).sum());
        fragments.iter().for_each(|range| stream.extend_from_slice(&self.structure.data[range.clone()]));
        if stream.starts_with(JP2_START) {
            let codestream = stream.windows(4).position(|four| four == J2K_START);
            stream.drain(..codestream.unwrap_or(0));
        }
        mend_tile_lengths(&mut stream);
        let damaged = DicomError::DamagedPixels { frame };
        let bytes = if self.structure.transfer_syntax == RLE {
            unpack_rle(&stream, layout).ok_or_else(|| damaged.clone())?
        } else if self.structure.transfer_syntax == ENCAPSULATED_NATIVE {
            stream.truncate(expected.max(stream.len().saturating_sub(1))); // one pad byte
            stream
        } else {
            let unsupported = || DicomError::TransferSyntax { uid: self.structure.transfer_syntax.clone() };
            let syntax = TransferSyntaxRegistry.get(&self.structure.transfer_syntax).ok_or_else(unsupported)?;
            let Codec::EncapsulatedPixelData(Some(codec), _) = syntax.codec() else { return Err(unsupported()) };
            if !matches!(layout.allocated, 8 | 16) {
                let &Layout { allocated, stored, high_bit, .. } = layout;
                return Err(DicomError::PixelLayout { allocated, stored, high_bit });
            }
            // A decoder allocates what its stream declares: it must be what the header declares.
            let declared = stream_size(&stream).ok_or_else(|| damaged.clone())?;
            let StreamSize { rows: stream_rows, columns: stream_columns, precision, components } = declared;
            if components != u32::from(layout.samples) {
                return Err(damaged);
            }
            if (stream_rows, stream_columns) != (layout.rows, layout.columns) {
                let Layout { rows, columns, .. } = *layout;
                return Err(DicomError::StreamSize { stream_rows, stream_columns, rows, columns });
            }
            // The JPEG library gives bytes for these, and its adapter would fill up the words' place with zeros behind them.
            let narrow = layout.allocated == 16 && precision <= 8 && !stream.starts_with(&J2K_START);
            let of_codec = Layout { allocated: if narrow { 8 } else { layout.allocated }, ..layout.clone() };
            let one = OneFrame { stream: &stream, layout: &of_codec, transfer_syntax: &self.structure.transfer_syntax };
            if self.structure.transfer_syntax == JPEG_EXTENDED && precision > 8 {
                let samples = jpeg12::decode(&stream, layout.rows as usize, layout.columns as usize);
                samples.ok_or_else(|| damaged.clone())?.into_iter().flat_map(u16::to_le_bytes).collect()
            } else {
                // Codecs are not ours: some panic on damaged streams.
                let decode = || {
                    let mut bytes = Vec::new();
                    codec.decode_frame(&one, 0, &mut bytes).ok().map(|()| bytes)
                };
                let bytes = contained(decode).ok_or_else(|| damaged.clone())?;
                if narrow { widen(&bytes, precision, layout.signed) } else { bytes }
            }
        };
        if bytes.len() == expected { Ok(bytes) } else { Err(damaged) }
    }
}

/// Samples of at most 8 bits, of which codecs give bytes, as 16-bit values. The stream does not know of a sign: it is the
/// top bit of its precision.
fn widen(samples: &[u8], precision: u8, signed: bool) -> Vec<u8> {
    let spare = 16 - u32::from(precision.clamp(1, 8));
    let value = |byte: u8| if signed { (i16::from(byte) << spare) >> spare } else { i16::from(byte) };
    samples.iter().flat_map(|byte| value(*byte).to_le_bytes()).collect()
}

/// The stored value in an allocated word, of a layout that [`Frames::open`] accepts.
pub fn stored_value(layout: &Layout) -> impl Fn(u32) -> i32 + use<> {
    let &Layout { stored, high_bit, signed, .. } = layout;
    let shift = u32::from(high_bit + 1 - stored);
    let spare = 32 - u32::from(stored);
    // To the top of the word, which drops what lies above, then back with or without the sign.
    move |raw| {
        let top = (raw >> shift) << spare;
        if signed { (top as i32) >> spare } else { (top >> spare) as i32 }
    }
}

fn each_value<T>(
    bytes: &[u8],
    layout: &Layout,
    big_endian: bool,
    take: impl Fn(i32) -> T,
) -> Result<Vec<T>, DicomError> {
    let &Layout { allocated, stored, high_bit, signed, .. } = layout;
    let value = stored_value(layout);
    // The commonest layout needs no shifts, and without a choice in the loop it is vectorised.
    if (allocated, stored, signed, big_endian) == (16, 16, true, false) {
        return Ok(bytes.as_chunks().0.iter().map(|b| take(i32::from(i16::from_le_bytes(*b)))).collect());
    }
    Ok(match allocated {
        8 => bytes.iter().map(|byte| take(value(u32::from(*byte)))).collect(),
        16 if big_endian => {
            bytes.as_chunks().0.iter().map(|b| take(value(u32::from(u16::from_be_bytes(*b))))).collect()
        }
        16 => bytes.as_chunks().0.iter().map(|b| take(value(u32::from(u16::from_le_bytes(*b))))).collect(),
        32 => {
            let four = if big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
            let words = || bytes.as_chunks().0.iter().map(|b| four(*b));
            if !signed && stored == 32 && words().any(|word| i32::try_from(word).is_err()) {
                return Err(DicomError::PixelLayout { allocated, stored, high_bit });
            }
            words().map(|word| take(value(word))).collect()
        }
        _ => return Err(DicomError::PixelLayout { allocated, stored, high_bit }),
    })
}

/// Which fragments make up which frame: one each, else by the offset table, else, where that is missing or wrong, each
/// frame starts where a fragment starts with an image's first marker.
fn assign<'a>(
    data: &[u8],
    offsets: &[u64],
    fragments: &'a [Range<usize>],
    frames: u32,
) -> Result<Vec<&'a [Range<usize>]>, DicomError> {
    let count = frames as usize;
    let error = || DicomError::Fragments { fragments: fragments.len(), frames };
    if count > fragments.len() {
        return Err(error());
    }
    if count == 1 {
        return Ok(vec![fragments]);
    }
    if count == fragments.len() {
        return Ok(fragments.chunks(1).collect());
    }
    let sound = |starts: &Vec<usize>| {
        starts.len() == count && starts[0] == 0 && starts.windows(2).all(|pair| pair[0] < pair[1])
    };
    let first = fragments[0].start as u64;
    let by_table: Option<Vec<usize>> = offsets
        .iter()
        .map(|offset| first.saturating_add(*offset))
        .map(|start| fragments.binary_search_by_key(&start, |fragment| fragment.start as u64).ok())
        .collect();
    let by_marker = || {
        let opens = |fragment: &Range<usize>| matches!(data[fragment.clone()], [0xFF, 0xD8 | 0x4F, ..]);
        (0..fragments.len()).filter(|i| opens(&fragments[*i])).collect()
    };
    let starts = by_table.filter(sound).or_else(|| Some(by_marker()).filter(sound)).ok_or_else(error)?;
    let ends = starts.iter().copied().skip(1).chain([fragments.len()]);
    Ok(starts.iter().zip(ends).map(|(start, end)| &fragments[*start..end]).collect())
}

/// What a compressed stream declares.
#[derive(Debug, PartialEq)]
struct StreamSize {
    rows: u32,
    columns: u32,
    /// Bits per sample.
    precision: u8,
    components: u32,
}

/// Signature box of a JP2 file (ISO 15444-1 I.5.1).
const JP2_START: &[u8] = b"\0\0\0\x0CjP  ";
const J2K_START: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51]; // SOC, SIZ

/// Markers at both ends of a tile-part: SOT with its segment (12 bytes), SOD, EOC (2 each).
const PSOT_MENDED: u32 = 16;

/// Of a JPEG, JPEG-LS or JPEG 2000 stream.
fn stream_size(stream: &[u8]) -> Option<StreamSize> {
    let two = |at: usize| Some(u32::from(u16::from_be_bytes(stream.get(at..at + 2)?.try_into().ok()?)));
    let four = |at: usize| Some(u32::from_be_bytes(stream.get(at..at + 4)?.try_into().ok()?));
    if stream.starts_with(&J2K_START) {
        // ISO 15444-1 A.5.1: Xsiz, Ysiz, XOsiz, YOsiz after Lsiz and Rsiz; Csiz and Ssiz of the first component.
        let precision = (stream.get(42)? & 0x7F) + 1;
        let (rows, columns) = (four(12)?.checked_sub(four(20)?)?, four(8)?.checked_sub(four(16)?)?);
        return Some(StreamSize { rows, columns, precision, components: two(40)? });
    }
    if !stream.starts_with(&[0xFF, 0xD8]) {
        return None;
    }
    let mut at = 2;
    loop {
        let marker = *stream.get(at + 1)?;
        match marker {
            _ if stream[at] != 0xFF => return None,
            0xFF => at += 1,
            // ISO 10918-1 B.2.2 and ISO 14495-1 C.2.2: length, precision, lines, samples per line, components.
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7 => {
                let (rows, columns) = (two(at + 5)?, two(at + 7)?);
                let (precision, components) = (*stream.get(at + 4)?, u32::from(*stream.get(at + 9)?));
                return Some(StreamSize { rows, columns, precision, components });
            }
            0x01 | 0xD0..=0xD9 => at += 2,
            _ => at += 2 + two(at + 2)? as usize,
        }
    }
}

/// Some writers give tile-parts of a JPEG 2000 stream a length (Psot, ISO 15444-1 A.4.2) that leaves out a marker or counts
/// a pad byte, and OpenJPEG then refuses the stream. The marker that begins a tile-part cannot occur within compressed data
/// (B.10.1, D.4.1), so that the true lengths can be seen. A larger difference may be lost data and is left to the decoder,
/// as is a stream without its end marker.
fn mend_tile_lengths(stream: &mut [u8]) {
    let whole = stream.ends_with(&[0xFF, 0xD9]) || stream.ends_with(&[0xFF, 0xD9, 0]);
    if !whole || !stream.starts_with(&J2K_START) {
        return;
    }
    let Some(end) = stream.windows(2).rposition(|two| two == [0xFF, 0xD9]) else { return };
    // SOT and Lsot.
    let parts: Vec<usize> = (2..end).filter(|at| stream[*at..].starts_with(&[0xFF, 0x90, 0, 10])).collect();
    let ends = parts.iter().copied().skip(1).chain([end]);
    for (part, next) in parts.iter().copied().zip(ends) {
        let Some(length) = stream.get_mut(part + 6..part + 10) else { return };
        let declared = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        let found = (next - part) as u32;
        if declared.abs_diff(found) <= PSOT_MENDED {
            length.copy_from_slice(&found.to_be_bytes());
        }
    }
}

/// PS3.5 annex G: a table of segments, each one byte plane (most significant first) packed by runs.
fn unpack_rle(stream: &[u8], layout: &Layout) -> Option<Vec<u8>> {
    let word = |i: usize| Some(u32::from_le_bytes(stream.get(4 * i..4 * i + 4)?.try_into().ok()?) as usize);
    let per_value = usize::from(layout.allocated / 8);
    let planes = per_value * usize::from(layout.samples);
    if planes == 0 || word(0)? != planes || planes > 15 {
        return None;
    }
    let pixels = layout.rows as usize * layout.columns as usize;
    // A run of 128 takes two bytes: more pixels than this cannot come out.
    if pixels > stream.len().saturating_mul(64) {
        return None;
    }
    let mut out = vec![0; pixels * planes];
    for plane in 0..planes {
        let start = word(1 + plane)?;
        let end = if plane + 1 < planes { word(2 + plane)? } else { stream.len() };
        let mut input = stream.get(start..end)?.iter();
        // Byte planes come most significant first, the output is little endian.
        let offset = plane / per_value * per_value + (per_value - 1 - plane % per_value);
        let mut pixel = 0;
        while pixel < pixels {
            let code = *input.next()? as i8;
            let length = usize::from(code.unsigned_abs()) + 1;
            if code == -128 {
                continue;
            }
            if pixel + length > pixels {
                return None;
            }
            let run = if code < 0 { Some(*input.next()?) } else { None };
            for _ in 0..length {
                let byte = match run {
                    Some(byte) => byte,
                    None => *input.next()?,
                };
                out[pixel * planes + offset] = byte;
                pixel += 1;
            }
        }
    }
    Some(out)
}

/// One compressed frame, as the codecs want to see it.
struct OneFrame<'a> {
    stream: &'a [u8],
    layout: &'a Layout,
    transfer_syntax: &'a str,
}

impl PixelDataObject for OneFrame<'_> {
    fn transfer_syntax_uid(&self) -> &str {
        self.transfer_syntax
    }
    fn rows(&self) -> Option<u16> {
        u16::try_from(self.layout.rows).ok()
    }
    fn cols(&self) -> Option<u16> {
        u16::try_from(self.layout.columns).ok()
    }
    fn samples_per_pixel(&self) -> Option<u16> {
        Some(self.layout.samples)
    }
    fn bits_allocated(&self) -> Option<u16> {
        Some(self.layout.allocated)
    }
    fn bits_stored(&self) -> Option<u16> {
        Some(self.layout.stored)
    }
    fn photometric_interpretation(&self) -> Option<&str> {
        Some(&self.layout.photometric)
    }
    fn number_of_frames(&self) -> Option<u32> {
        Some(1)
    }
    fn number_of_fragments(&self) -> Option<u32> {
        Some(1)
    }
    fn fragment(&self, fragment: usize) -> Option<Cow<'_, [u8]>> {
        (fragment == 0).then_some(Cow::Borrowed(self.stream))
    }
    fn offset_table(&self) -> Option<Cow<'_, [u32]>> {
        Some(Cow::Borrowed(&[]))
    }
    fn raw_pixel_data(&self) -> Option<RawPixelData> {
        Some(RawPixelData { fragments: vec![self.stream.to_vec()].into(), offset_table: Default::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn unpack(bytes: &[u8], layout: &Layout, big_endian: bool) -> Result<Vec<i32>, DicomError> {
        each_value(bytes, layout, big_endian, |value| value)
    }

    fn layout(rows: u32, columns: u32, allocated: u16, stored: u16, signed: bool) -> Layout {
        let photometric = "MONOCHROME2".to_owned();
        let (frames, samples, planar, high_bit) = (1, 1, false, stored - 1);
        Layout { frames, rows, columns, samples, planar, allocated, stored, high_bit, signed, photometric }
    }

    /// PS3.5 G.3: 2 means three literal bytes, 0xFE (-2) three times the next, 0x80 nothing.
    #[verifies("FR-001")]
    #[test]
    fn runs_and_literals_fill_the_high_bytes_first() {
        let mut stream = Vec::new();
        for word in [2u32, 64, 68] {
            stream.extend(word.to_le_bytes());
        }
        stream.resize(64, 0);
        stream.extend([0x80, 0xFE, 0x01, 0]); // high bytes: 1 1 1, and a pad byte
        stream.extend([2, 10, 20, 30]); // low bytes
        let layout = layout(1, 3, 16, 16, false);
        assert_eq!(unpack_rle(&stream, &layout), Some(vec![10, 1, 20, 1, 30, 1]));
        assert_eq!(unpack_rle(&stream[..71], &layout), None, "a literal is cut");
        stream[65] = 0xFC; // a run of five where three pixels are left
        assert_eq!(unpack_rle(&stream, &layout), None);
    }

    #[verifies("FR-001")]
    #[test]
    fn stored_values_keep_sign_and_drop_foreign_bits() {
        let twelve = layout(1, 3, 16, 12, true);
        let bytes = [0xFF, 0x0F, 0x00, 0x08, 0x01, 0xF0];
        assert_eq!(unpack(&bytes, &twelve, false), Ok(vec![-1, -2048, 1]));
        assert_eq!(unpack(&bytes, &Layout { signed: false, ..twelve.clone() }, false), Ok(vec![4095, 2048, 1]));
        // Stored in the upper twelve bits.
        assert_eq!(unpack(&[0x1F, 0x80], &Layout { high_bit: 15, signed: false, ..twelve }, false), Ok(vec![0x801]));
        assert_eq!(unpack(&[0x12, 0x34], &layout(1, 1, 16, 16, false), true), Ok(vec![0x1234]));
        assert_eq!(unpack(&[0x80, 0x7F], &layout(1, 2, 8, 8, true), false), Ok(vec![-128, 127]));
    }

    /// The two ways to HU must be one: every layout that is read, random and extreme bits and intercepts.
    #[verifies("FR-001", "SW-103")]
    #[test]
    fn whole_numbers_and_floating_point_give_the_same_hu() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut taken = 0;
        let layouts = [(8, 8), (8, 5), (16, 16), (16, 12), (16, 1), (32, 31), (32, 32)];
        for ((allocated, stored), signed, big_endian) in
            layouts.iter().flat_map(|l| [(*l, false, false), (*l, true, false), (*l, false, true), (*l, true, true)])
        {
            if stored == 32 && !signed {
                continue; // refused
            }
            for high_bit in stored - 1..allocated {
                let layout = Layout { high_bit, ..layout(1, 64, allocated, stored, signed) };
                let mut bytes: Vec<u8> = (0..64 * allocated / 8).map(|_| rng.random()).collect();
                let edges =
                    [0u32, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x7FFF_7FFF, 0x8000_8000].map(u32::to_le_bytes);
                bytes[..24].copy_from_slice(edges.as_flattened());
                let any = f64::from(rng.random_range(-999_999_999..=999_999_999));
                let near = f64::from(rng.random_range(-40_000..=40_000));
                for intercept in [0.0, -0.0, -1024.0, -32_768.0, 65_535.0, 999_999_999.0, -999_999_999.0, any, near] {
                    let rescale = Rescale::Linear { slope: 1.0, intercept };
                    let offset = rescale.whole_offset().unwrap();
                    let fast = each_value(&bytes, &layout, big_endian, |value| shifted(value, offset)).unwrap();
                    let plain: Vec<i16> =
                        unpack(&bytes, &layout, big_endian).unwrap().into_iter().map(|v| rescale.hu(v)).collect();
                    assert_eq!(fast, plain, "{layout:?}, intercept {intercept}");
                    taken += fast.len();
                }
            }
        }
        assert!(taken > 50_000, "{taken}");
        let all = [i32::MIN, i32::MIN + 1, -32_769, -32_768, -1, 0, 1, 32_767, 32_768, i32::MAX - 1, i32::MAX];
        for (stored, offset) in all.iter().flat_map(|v| [-999_999_999, -1, 0, 1, 999_999_999].map(|o| (*v, o))) {
            let rescale = Rescale::Linear { slope: 1.0, intercept: offset.into() };
            assert_eq!(shifted(stored, offset), rescale.hu(stored), "{stored} + {offset}");
        }
        for (slope, intercept) in [(1.0, 0.5), (1.0, 1e9), (1.0, -1e300), (2.0, 0.0), (1.000_001, 0.0), (-1.0, 0.0)] {
            assert_eq!(Rescale::Linear { slope, intercept }.whole_offset(), None, "{slope}, {intercept}");
        }
    }

    #[verifies("FR-001")]
    #[test]
    fn bytes_of_a_codec_become_words_with_their_sign() {
        assert_eq!(widen(&[0x80, 0xFF, 0x7F], 8, true), [0x80, 0xFF, 0xFF, 0xFF, 0x7F, 0]);
        assert_eq!(widen(&[0x80, 0xFF, 0x7F], 8, false), [0x80, 0, 0xFF, 0, 0x7F, 0]);
        assert_eq!(widen(&[0x1F, 0x0F], 5, true), [0xFF, 0xFF, 0x0F, 0], "-1 and 15 of five bits");
    }

    #[verifies("FR-001")]
    #[test]
    fn fragments_find_their_frames() {
        // Four fragments of two bytes, eight bytes of item header before each.
        let mut data = vec![0; 40];
        let fragments = [8..10, 18..20, 28..30, 38..40];
        let frames = |offsets: &[u64], data: &[u8], frames| {
            assign(data, offsets, &fragments, frames).map(|found| found.iter().map(|f| f.len()).collect::<Vec<_>>())
        };
        assert_eq!(frames(&[], &data, 1), Ok(vec![4]));
        assert_eq!(frames(&[], &data, 4), Ok(vec![1; 4]));
        assert_eq!(frames(&[0, 10], &data, 2), Ok(vec![1, 3]));
        let error = Err(DicomError::Fragments { fragments: 4, frames: 2 });
        assert_eq!(frames(&[0, 11], &data, 2), error, "an offset between fragments");
        assert_eq!(frames(&[], &data, 2), error, "neither table nor markers");
        data[8..10].copy_from_slice(&[0xFF, 0xD8]);
        data[28..30].copy_from_slice(&[0xFF, 0xD8]);
        assert_eq!(frames(&[], &data, 2), Ok(vec![2, 2]));
        assert_eq!(frames(&[0, 11], &data, 2), Ok(vec![2, 2]), "a wrong table");
        assert_eq!(frames(&[0, 10], &data, 2), Ok(vec![1, 3]), "a sound one goes first");
        assert!(frames(&[], &data, 5).is_err());
    }

    #[test]
    fn streams_declare_their_size() {
        let jpeg = [0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 0, 0, 0xFF, 0xC3, 0, 11, 16, 2, 0, 1, 0, 1];
        let size = StreamSize { rows: 512, columns: 256, precision: 16, components: 1 };
        assert_eq!(stream_size(&jpeg).as_ref(), Some(&size));
        assert_eq!(stream_size(&jpeg[..14]), None);
        assert_eq!(stream_size(&[0xFF, 0xD8, 0, 0]), None);
        let mut j2k = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
        for word in [260u32, 512, 4, 0, 0, 0, 0, 0] {
            j2k.extend(word.to_be_bytes());
        }
        j2k.extend([0, 1, 0x8F, 1, 1]);
        assert_eq!(stream_size(&j2k), Some(size));
    }
}
