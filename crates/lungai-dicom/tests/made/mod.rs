//! DICOM files put together byte by byte: containers and oddities that no library would write.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::io::Write;

#[derive(Clone, Copy, PartialEq)]
pub enum Syntax {
    Implicit,
    Explicit,
    BigEndian,
}

use Syntax::{BigEndian, Explicit, Implicit};

pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub const RLE: &str = "1.2.840.10008.1.2.5";
pub const JPEG_EXTENDED: &str = "1.2.840.10008.1.2.4.51";
/// Stands in every field of free text. Letters and digits only, so that no filter of characters can hide it.
pub const PATIENT: &str = "PATIENT7";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const ENHANCED_CT: &str = "1.2.840.10008.5.1.4.1.1.2.1";
pub const ROWS: u16 = 3;
pub const COLUMNS: u16 = 4;

/// Elements in the order in which they were put.
#[derive(Clone)]
pub struct DataSet {
    pub syntax: Syntax,
    pub bytes: Vec<u8>,
}

impl DataSet {
    pub fn new(syntax: Syntax) -> Self {
        Self { syntax, bytes: Vec::new() }
    }

    fn two(&mut self, value: u16) {
        let bytes = if self.syntax == BigEndian { value.to_be_bytes() } else { value.to_le_bytes() };
        self.bytes.extend(bytes);
    }

    fn four(&mut self, value: u32) {
        let bytes = if self.syntax == BigEndian { value.to_be_bytes() } else { value.to_le_bytes() };
        self.bytes.extend(bytes);
    }

    /// Tag, VR and length.
    pub fn head(&mut self, (group, element): (u16, u16), vr: &str, length: u32) {
        self.two(group);
        self.two(element);
        if self.syntax == Implicit {
            return self.four(length);
        }
        self.bytes.extend(vr.as_bytes());
        if ["OB", "OW", "SQ", "UN", "OV", "UT"].contains(&vr) {
            self.two(0);
            self.four(length);
        } else {
            self.two(length as u16);
        }
    }

    pub fn raw(&mut self, tag: (u16, u16), vr: &str, value: &[u8]) {
        self.head(tag, vr, value.len() as u32);
        self.bytes.extend(value);
    }

    pub fn text(&mut self, tag: (u16, u16), vr: &str, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(2), if vr == "UI" { 0 } else { b' ' });
        self.raw(tag, vr, &bytes);
    }

    pub fn words(&mut self, tag: (u16, u16), vr: &str, values: &[u16]) {
        self.head(tag, vr, 2 * values.len() as u32);
        values.iter().for_each(|value| self.two(*value));
    }

    /// A sequence of undefined length with items of undefined length.
    pub fn sequence(&mut self, tag: (u16, u16), items: &[DataSet]) {
        self.head(tag, "SQ", u32::MAX);
        for item in items {
            self.item(0xE000, u32::MAX);
            self.bytes.extend(&item.bytes);
            self.item(0xE00D, 0);
        }
        self.item(0xE0DD, 0);
    }

    /// Header of an item (E000), end of an item (E00D) or of a sequence (E0DD).
    pub fn item(&mut self, element: u16, length: u32) {
        self.two(0xFFFE);
        self.two(element);
        self.four(length);
    }

    /// Compressed pixels: offset table, then fragments.
    pub fn fragments(&mut self, table: &[u32], fragments: &[Vec<u8>]) {
        self.head((0x7FE0, 0x0010), "OB", u32::MAX);
        self.item(0xE000, 4 * table.len() as u32);
        table.iter().for_each(|offset| self.four(*offset));
        for fragment in fragments {
            self.item(0xE000, fragment.len() as u32);
            self.bytes.extend(fragment);
        }
        self.item(0xE0DD, 0);
    }
}

/// With preamble and file meta information.
pub fn file(transfer_syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let mut meta = DataSet::new(Explicit);
    meta.text((2, 0x10), "UI", transfer_syntax);
    let data_set = if transfer_syntax == DEFLATED {
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(data_set).unwrap();
        packed.finish().unwrap()
    } else {
        data_set.to_vec()
    };
    [&[0; 128], &b"DICM"[..], &meta.bytes, &data_set].concat()
}

/// Twelve stored values of the slice at this height; HU are the same.
pub fn values(z: u16) -> Vec<u16> {
    (0..ROWS * COLUMNS).map(|i| 100 * z + i).collect()
}

/// A CT slice at `z` mm without pixels: 3 x 4, 12 bits unsigned, HU equal stored values.
pub fn slice(syntax: Syntax, z: u16) -> DataSet {
    let mut set = image(syntax, CT, 1);
    set.text((0x20, 0x32), "DS", &format!("0\\0\\{z}"));
    set.text((0x20, 0x37), "DS", "1\\0\\0\\0\\1\\0");
    set.text((0x28, 0x30), "DS", "1\\1");
    set.text((0x28, 0x1052), "DS", "0");
    set.text((0x28, 0x1053), "DS", "1");
    set
}

fn image(syntax: Syntax, class: &str, frames: usize) -> DataSet {
    let mut set = DataSet::new(syntax);
    set.words((8, 0), "UL", &[0xFFFF, 0]); // group length, retired and often wrong
    set.text((8, 0x16), "UI", class);
    set.text((8, 0x60), "CS", "CT");
    set.text((8, 0x70), "LO", PATIENT); // Manufacturer
    set.text((8, 0x1090), "LO", PATIENT); // ManufacturerModelName
    set.text((0x10, 0x10), "PN", PATIENT);
    set.text((0x10, 0x20), "LO", PATIENT);
    set.text((0x18, 0x10), "LO", PATIENT); // ContrastBolusAgent
    set.text((0x18, 0x1210), "SH", PATIENT); // ConvolutionKernel
    set.text((0x20, 0x0E), "UI", "1.2.3");
    set.words((0x28, 2), "US", &[1]);
    set.text((0x28, 4), "CS", "MONOCHROME2");
    set.text((0x28, 8), "IS", &frames.to_string());
    set.words((0x28, 0x10), "US", &[ROWS]);
    set.words((0x28, 0x11), "US", &[COLUMNS]);
    set.words((0x28, 0x100), "US", &[16]);
    set.words((0x28, 0x101), "US", &[12]);
    set.words((0x28, 0x102), "US", &[11]);
    set.words((0x28, 0x103), "US", &[0]);
    set
}

/// One frame of an Enhanced CT object.
#[derive(Clone)]
pub struct Frame {
    pub z: u16,
    pub slope: &'static str,
    pub intercept: &'static str,
    pub stack: &'static str,
}

pub fn frame(z: u16) -> Frame {
    Frame { z, slope: "1", intercept: "0", stack: "1" }
}

/// An Enhanced CT object without pixels: orientation and spacing shared, position and rescale per frame.
pub fn enhanced(syntax: Syntax, frames: &[Frame]) -> DataSet {
    let one = |tag, fill: &dyn Fn(&mut DataSet)| {
        let mut inner = DataSet::new(syntax);
        fill(&mut inner);
        let mut outer = DataSet::new(syntax);
        outer.sequence(tag, &[inner]);
        outer.bytes
    };
    let group = |parts: &[Vec<u8>]| DataSet { syntax, bytes: parts.concat() };
    let mut set = image(syntax, ENHANCED_CT, frames.len());
    let shared = group(&[
        one((0x20, 0x9116), &|s| s.text((0x20, 0x37), "DS", "1\\0\\0\\0\\1\\0")),
        one((0x28, 0x9110), &|s| s.text((0x28, 0x30), "DS", "1\\1")),
    ]);
    set.sequence((0x5200, 0x9229), &[shared]);
    let per_frame = frames.iter().map(|frame| {
        group(&[
            one((0x20, 0x9111), &|s| s.text((0x20, 0x9056), "SH", frame.stack)),
            one((0x20, 0x9113), &|s| s.text((0x20, 0x32), "DS", &format!("0\\0\\{}", frame.z))),
            one((0x28, 0x9145), &|s| {
                s.text((0x28, 0x1052), "DS", frame.intercept);
                s.text((0x28, 0x1053), "DS", frame.slope);
            }),
        ])
    });
    let per_frame: Vec<DataSet> = per_frame.collect();
    set.sequence((0x5200, 0x9230), &per_frame);
    set
}

/// PS3.5 annex G, all literal.
pub fn rle(values: &[u16]) -> Vec<u8> {
    let plane = |byte: usize| values.iter().map(move |value| value.to_be_bytes()[byte]);
    let length = values.len() as u32;
    let mut stream = Vec::new();
    for word in [2, 64, 64 + 1 + length] {
        stream.extend(word.to_le_bytes());
    }
    stream.resize(64, 0);
    for byte in 0..2 {
        stream.push((length - 1) as u8);
        stream.extend(plane(byte));
    }
    stream.resize(stream.len().next_multiple_of(2), 0);
    stream
}

/// A flat 8 x 8 block of 12 bits, as in the decoder's own test.
pub fn jpeg12() -> Vec<u8> {
    let mut stream = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
    stream.extend([16; 64]);
    stream.extend([0xFF, 0xC1, 0, 11, 12, 0, ROWS as u8, 0, COLUMNS as u8, 1, 1, 0x11, 0]);
    for (class, symbol) in [(0x00, 3), (0x10, 0)] {
        stream.extend([0xFF, 0xC4, 0, 20, class, 1]);
        stream.extend([0; 15]);
        stream.push(symbol);
    }
    stream.extend([0xFF, 0xDA, 0, 8, 1, 1, 0x00, 0, 63, 0]);
    stream.extend([0b0101_0111, 0xFF, 0xD9]);
    stream
}

/// A Modality LUT of these entries, the first of which stands for stored value `first`.
pub fn modality_lut(set: &mut DataSet, first: u16, entries: &[u16]) {
    modality_lut_of(set, "HU", first, entries);
}

fn modality_lut_of(set: &mut DataSet, kind: &str, first: u16, entries: &[u16]) {
    let mut item = DataSet::new(set.syntax);
    item.words((0x28, 0x3002), "US", &[entries.len() as u16, first, 16]);
    item.text((0x28, 0x3003), "LO", PATIENT); // LUTExplanation
    item.text((0x28, 0x3004), "LO", kind);
    item.words((0x28, 0x3006), "US", entries);
    set.sequence((0x28, 0x3000), &[item]);
}

/// One file of each kind, by name.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let native = |mut set: DataSet, values: &[u16]| {
        set.words((0x7FE0, 0x10), "OW", values);
        set.bytes
    };
    let frames = [frame(2), frame(0), frame(1)];
    let rles: Vec<Vec<u8>> = (0..3).map(|z| rle(&values(z))).collect();
    let several: Vec<u16> = (0..3).flat_map(values).collect();
    let mut compressed = enhanced(Explicit, &frames);
    compressed.fragments(&[0, rles[0].len() as u32 + 8, 2 * (rles[0].len() as u32 + 8)], &rles);
    let mut twelve = slice(Explicit, 0);
    twelve.fragments(&[], &[jpeg12()]);
    let mut table = slice(Explicit, 0);
    modality_lut(&mut table, 5, &[0, 10, 20, 30]);
    let mut named = slice(Explicit, 0);
    modality_lut_of(&mut named, PATIENT, 5, &[0, 10, 20, 30]);
    vec![
        ("implicit little endian", file(IMPLICIT, &native(slice(Implicit, 0), &values(0)))),
        ("explicit big endian", file(BIG_ENDIAN, &native(slice(BigEndian, 0), &values(0)))),
        ("deflated", file(DEFLATED, &native(slice(Explicit, 0), &values(0)))),
        ("multi-frame", file(EXPLICIT, &native(enhanced(Explicit, &frames), &several))),
        ("multi-frame, implicit", file(IMPLICIT, &native(enhanced(Implicit, &frames), &several))),
        ("multi-frame, RLE", file(RLE, &compressed.bytes)),
        ("JPEG, 12 bits", file(JPEG_EXTENDED, &twelve.bytes)),
        ("modality LUT", file(EXPLICIT, &native(table, &values(0)))),
        ("modality LUT of another type", file(EXPLICIT, &native(named, &values(0)))),
    ]
}
