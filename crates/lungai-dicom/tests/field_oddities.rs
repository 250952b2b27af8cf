//! What files in the field look like, byte by byte: containers, offset tables, private elements, lookup tables, frames.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use lungai_dicom::{DicomError, decode_file, read};
use lungai_trace::verifies;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

mod made;
use made::Syntax::{BigEndian, Explicit, Implicit};
use made::{
    BIG_ENDIAN, DEFLATED, DataSet, EXPLICIT, Frame, IMPLICIT, JPEG_EXTENDED, RLE, enhanced, file, frame, modality_lut,
    rle, slice, values,
};

lungai_dicom::worker_in_tests!();

const PIXEL_DATA: (u16, u16) = (0x7FE0, 0x10);

/// Stored values, or the rule that the file breaks.
fn decoded(bytes: &[u8]) -> Result<Vec<i32>, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    decode_file(file.path()).map(|file| file.pixels).map_err(|error| {
        assert!(!error.to_string().contains("PATIENT"));
        error.rule()
    })
}

/// HU of all slices of the one volume that these files make, or the rule that they break.
fn hu(files: &[Vec<u8>]) -> Result<Vec<i16>, DicomError> {
    let folder = tempfile::tempdir().unwrap();
    for (number, bytes) in files.iter().enumerate() {
        fs::write(folder.path().join(number.to_string()), bytes).unwrap();
    }
    read(folder.path()).map(|mut input| input.scans.remove(0).volume.as_slice().to_vec())
}

fn refused(files: &[Vec<u8>]) -> String {
    let error = hu(files).unwrap_err();
    assert!(!error.to_string().contains("PATIENT"));
    error.rule()
}

fn ramp(zs: &[u16]) -> Vec<i32> {
    zs.iter().flat_map(|z| values(*z)).map(i32::from).collect()
}

fn ramp_hu(zs: &[u16]) -> Vec<i16> {
    ramp(zs).into_iter().map(|v| v as i16).collect()
}

fn native(mut set: DataSet, values: &[u16]) -> Vec<u8> {
    set.words(PIXEL_DATA, "OW", values);
    set.bytes
}

/// A whole explicit little endian file with these elements between header and pixels.
fn with(put: impl Fn(&mut DataSet)) -> Vec<u8> {
    let mut set = slice(Explicit, 0);
    put(&mut set);
    file(EXPLICIT, &native(set, &values(0)))
}

#[verifies("FR-001")]
#[test]
fn each_encoding_of_a_data_set_holds_the_same_slice() {
    for (syntax, uid) in [(Implicit, IMPLICIT), (Explicit, EXPLICIT), (BigEndian, BIG_ENDIAN), (Explicit, DEFLATED)] {
        let files: Vec<Vec<u8>> = (1..4).map(|z| file(uid, &native(slice(syntax, z), &values(z)))).collect();
        assert_eq!(hu(&files).unwrap(), ramp_hu(&[1, 2, 3]), "{uid}");
        let frames: Vec<u16> = (1..4).flat_map(values).collect();
        let one = file(uid, &native(enhanced(syntax, &[frame(1), frame(2), frame(3)]), &frames));
        assert_eq!(hu(&[one]).unwrap(), ramp_hu(&[1, 2, 3]), "{uid}, multi-frame");
    }
}

/// As archives write that do not know an attribute; pydicom's `explicit_VR-UN.dcm` is of this kind.
#[verifies("FR-001")]
#[test]
fn attributes_of_unknown_vr_mean_what_their_tag_says() {
    let files: Vec<Vec<u8>> = (1..4)
        .map(|z| {
            let mut set = DataSet::new(Explicit);
            let known = slice(Explicit, z).bytes;
            let mut rest = &known[..];
            while let [g0, g1, e0, e1, v0, v1, tail @ ..] = rest {
                let tag = (u16::from_le_bytes([*g0, *g1]), u16::from_le_bytes([*e0, *e1]));
                assert!(![b"OB", b"OW", b"SQ", b"UN"].contains(&&[*v0, *v1]));
                let length = usize::from(u16::from_le_bytes([tail[0], tail[1]]));
                set.raw(tag, "UN", &tail[2..2 + length]);
                rest = &tail[2 + length..];
            }
            file(EXPLICIT, &native(set, &values(z)))
        })
        .collect();
    assert_eq!(hu(&files).unwrap(), ramp_hu(&[1, 2, 3]));
}

#[verifies("FR-001")]
#[test]
fn unsigned_32_bit_values_are_read_up_to_what_fits() {
    let decode = |first: [u16; 2]| {
        let mut set = slice(Explicit, 0);
        for (element, value) in [(0x100, 32), (0x101, 32), (0x102, 31)] {
            set.words((0x28, element), "US", &[value]);
        }
        let words: Vec<u16> = first.into_iter().chain([0; 22]).collect();
        decoded(&file(EXPLICIT, &native(set, &words)))
    };
    assert_eq!(decode([0xFFFF, 0x7FFF]).unwrap()[..2], [i32::MAX, 0]);
    assert_eq!(decode([0, 0x8000]).unwrap_err(), "pixel-layout");
}

#[verifies("FR-001")]
#[test]
fn a_file_without_preamble_is_read_where_it_says_its_transfer_syntax() {
    let whole = with(|_| ());
    assert_eq!(decoded(&whole), Ok(ramp(&[0])));
    assert_eq!(decoded(&whole[128..]), Ok(ramp(&[0])), "from DICM on");
    // Group length, then the transfer syntax: no preamble, no DICM.
    let mut meta = DataSet::new(Explicit);
    meta.raw((2, 0), "UL", &28u32.to_le_bytes());
    assert_eq!(decoded(&[&meta.bytes, &whole[132..]].concat()), Ok(ramp(&[0])));
    // A bare data set could be in any encoding.
    assert_eq!(decoded(&native(slice(Explicit, 0), &values(0))), Err("not-dicom".to_owned()));
    assert_eq!(
        decoded(&[&whole[..132], &native(slice(Explicit, 0), &values(0))].concat()),
        Err("missing-tag".to_owned())
    );
}

#[verifies("FR-001")]
#[test]
fn pixels_may_be_padded_but_not_by_a_row() {
    // A row is 4 pixels of 2 bytes.
    let padded = |more: usize| {
        let mut set = slice(Explicit, 0);
        let bytes: Vec<u8> = values(0).iter().flat_map(|v| v.to_le_bytes()).chain(vec![0xAA; more]).collect();
        set.raw(PIXEL_DATA, "OW", &bytes);
        decoded(&file(EXPLICIT, &set.bytes))
    };
    for more in [0, 1, 2, 8] {
        assert_eq!(padded(more), Ok(ramp(&[0])), "{more} bytes too many");
    }
    assert_eq!(padded(9), Err("pixel-length".to_owned()));
    // An odd number of 8-bit pixels, with and without the pad byte.
    for pad in [0, 1] {
        let mut set = slice(Explicit, 0);
        for (element, value) in [(0x11, 5), (0x100, 8), (0x101, 8), (0x102, 7)] {
            set.words((0x28, element), "US", &[value]);
        }
        set.raw(PIXEL_DATA, "OB", &[vec![7; 15], vec![0; pad]].concat());
        assert_eq!(decoded(&file(EXPLICIT, &set.bytes)), Ok(vec![7; 15]));
    }
}

#[verifies("FR-001")]
#[test]
fn fragments_are_told_apart_with_and_without_tables() {
    let streams: Vec<Vec<u8>> = (0..3).map(|z| rle(&values(z))).collect();
    let length = streams[0].len() as u32; // all are equal
    let all = Ok(ramp(&[0, 1, 2]));
    let frames = || enhanced(Explicit, &[frame(0), frame(1), frame(2)]);
    let check = |set: DataSet| decoded(&file(RLE, &set.bytes));

    for table in [vec![], vec![0, length + 8, 2 * (length + 8)]] {
        let mut set = frames();
        set.fragments(&table, &streams);
        assert_eq!(check(set), all);
    }
    // Each frame in two fragments: the basic table counts from the first fragment's item.
    let halves: Vec<Vec<u8>> = streams.iter().flat_map(|s| [s[..10].to_vec(), s[10..].to_vec()]).collect();
    let mut set = frames();
    set.fragments(&[0, length + 16, 2 * (length + 16)], &halves);
    assert_eq!(check(set), all);
    // The extended one has 64-bit offsets; the basic one is empty then (PS3.3 C.7.6.3.1.8).
    let mut set = frames();
    let offsets: Vec<u8> = (0..3u64).flat_map(|i| (i * (u64::from(length) + 16)).to_le_bytes()).collect();
    set.raw((0x7FE0, 1), "OV", &offsets);
    set.fragments(&[], &halves);
    assert_eq!(check(set), all);
    // Neither: RLE frames have no marker by which to find them.
    let mut set = frames();
    set.fragments(&[], &halves);
    assert_eq!(check(set), Err("fragments".to_owned()));
    // One that points between fragments.
    let mut set = frames();
    set.fragments(&[0, length + 17, 2 * (length + 16)], &halves);
    assert_eq!(check(set), Err("fragments".to_owned()));
    // No item for the table at all.
    let mut set = frames();
    set.head(PIXEL_DATA, "OB", u32::MAX);
    for stream in &streams {
        set.item(0xE000, stream.len() as u32);
        set.bytes.extend(stream);
    }
    set.item(0xE0DD, 0);
    assert_eq!(check(set), all);
    // Fewer fragments than frames; a fragment that ends behind the file.
    let mut set = frames();
    set.fragments(&[], &streams[..2]);
    assert_eq!(check(set), Err("fragments".to_owned()));
    let mut set = frames();
    set.fragments(&[], &streams);
    set.bytes.truncate(set.bytes.len() - 9);
    assert_eq!(check(set), Err("truncated".to_owned()));
}

#[verifies("FR-001")]
#[test]
fn a_damaged_frame_refuses_its_file_and_the_next_file_is_read() {
    let mut streams: Vec<Vec<u8>> = (0..3).map(|z| rle(&values(z))).collect();
    streams[2].truncate(70);
    let mut set = enhanced(Explicit, &[frame(0), frame(1), frame(2)]);
    set.fragments(&[], &streams);
    let damaged = file(RLE, &set.bytes);
    assert_eq!(refused(std::slice::from_ref(&damaged)), "damaged-pixels");
    let whole = file(EXPLICIT, &native(slice(Explicit, 0), &values(0)));
    let paths = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = [damaged, whole]
        .iter()
        .enumerate()
        .map(|(i, bytes)| {
            let path = paths.path().join(i.to_string());
            fs::write(&path, bytes).unwrap();
            path
        })
        .collect();
    let limits = lungai_dicom::Limits { workers: 1, ..Default::default() };
    let both = lungai_dicom::decode_files(&paths, &limits);
    assert_eq!(both[0], Err(DicomError::DamagedPixels { frame: 2 }));
    assert_eq!(both[1].as_ref().unwrap().pixels, ramp(&[0]));
}

#[verifies("FR-001")]
#[test]
fn elements_that_we_do_not_need_cannot_harm() {
    let good = Ok(ramp(&[0]));
    // A private sequence of unknown length as UN, in implicit encoding as PS3.5 6.2.2 demands.
    let implicit = {
        let mut inner = DataSet::new(Implicit);
        inner.text((9, 0x1010), "LO", "private");
        inner.sequence((9, 0x1011), &[DataSet::new(Implicit)]);
        inner
    };
    let unknown = |items: &DataSet| {
        with(|set| {
            set.head((9, 0x1001), "UN", u32::MAX);
            set.item(0xE000, u32::MAX);
            set.bytes.extend(&items.bytes);
            set.item(0xE00D, 0);
            set.item(0xE0DD, 0);
        })
    };
    assert_eq!(decoded(&unknown(&implicit)), good);
    // The same in the data set's own encoding, as some write it.
    let mut explicit = DataSet::new(Explicit);
    explicit.text((9, 0x1010), "LO", "private");
    explicit.sequence((9, 0x1011), &[DataSet::new(Explicit)]);
    assert_eq!(decoded(&unknown(&explicit)), good);
    // Sequences in sequences, an icon with compressed pixels, text in a wrong character set, a VR of no edition.
    let mut nested = DataSet::new(Explicit);
    for _ in 0..10 {
        let mut outer = DataSet::new(Explicit);
        outer.sequence((9, 0x1011), &[nested, DataSet::new(Explicit)]);
        nested = outer;
    }
    assert_eq!(decoded(&with(|set| set.bytes.extend(&nested.bytes))), good);
    let mut icon = DataSet::new(Explicit);
    icon.fragments(&[], &[made::jpeg12()]);
    assert_eq!(decoded(&with(|set| set.sequence((0x88, 0x200), std::slice::from_ref(&icon)))), good);
    assert_eq!(decoded(&with(|set| set.raw((0x10, 0x10), "PN", b"\xFF\xFE\x80"))), good);
    // An unknown VR has the long form (PS3.5 7.1.2).
    let long = b"\x09\x00\x01\x10QQ\0\0\x02\0\0\0ab";
    assert_eq!(decoded(&with(|set| set.bytes.extend(long))), good);
    // What comes behind the pixels is never read.
    let mut trailing = with(|_| ());
    trailing.extend([0xFC, 0xFF, 0xFC, 0xFF, b'O', b'B', 0, 0, 0xFF]);
    assert_eq!(decoded(&trailing), good);
}

/// PS3.3 C.11.1 by hand: entries for stored values 5, 6, 7, 8.
#[verifies("FR-001", "SW-103")]
#[test]
fn a_modality_lut_stands_for_slope_and_intercept() {
    // Unlike `slice`: no rescale attributes.
    let bare = |syntax, z| {
        let mut set = slice(syntax, z);
        for (element, value) in [(0x1052u16, "0"), (0x1053, "1")] {
            let mut one = DataSet::new(syntax);
            one.text((0x28, element), "DS", value);
            let at = find(&set.bytes, &one.bytes);
            set.bytes.drain(at..at + one.bytes.len());
        }
        set
    };
    let entries = [100, 0, 32_767, 40_000];
    let stored = [0, 4, 5, 6, 7, 8, 9, 4095, 5, 5, 5, 5];
    // Below the first entry its output, above the last the last's; unsigned, and kept within 16 bits of HU.
    let expected = [100, 100, 100, 0, 32_767, 32_767, 32_767, 32_767, 100, 100, 100, 100];
    for (syntax, uid) in [(Implicit, IMPLICIT), (Explicit, EXPLICIT), (BigEndian, BIG_ENDIAN)] {
        let files: Vec<Vec<u8>> = (0..2)
            .map(|z| {
                let mut set = bare(syntax, z);
                modality_lut(&mut set, 5, &entries);
                set.words((0x28, 0x120), "US", &[6]); // padding is mapped too
                file(uid, &native(set, &stored))
            })
            .collect();
        assert_eq!(hu(&files).unwrap(), [expected, expected].concat(), "{uid}");
    }
    // Signed pixels: the first stored value is -2, written as 0xFFFE.
    let signed: Vec<Vec<u8>> = (0..2)
        .map(|z| {
            let mut set = bare(Explicit, z);
            set.words((0x28, 0x103), "US", &[1]);
            modality_lut(&mut set, 0xFFFE, &[7, 8, 9]);
            file(EXPLICIT, &native(set, &[0x0FFD, 0x0FFE, 0x0FFF, 0, 1, 2, 0, 0, 0, 0, 0, 0]))
        })
        .collect();
    assert_eq!(hu(&signed).unwrap()[..6], [7, 7, 8, 9, 9, 9]);

    let refused_with = |put: &dyn Fn(&mut DataSet)| {
        let files: Vec<Vec<u8>> = (0..2)
            .map(|z| {
                let mut set = bare(Explicit, z);
                put(&mut set);
                file(EXPLICIT, &native(set, &stored))
            })
            .collect();
        hu(&files).unwrap_err().to_string()
    };
    let item = |set: &mut DataSet, descriptor: &[u16], kind: &str, data: usize| {
        let mut item = DataSet::new(Explicit);
        item.words((0x28, 0x3002), "US", descriptor);
        item.text((0x28, 0x3004), "LO", kind);
        item.words((0x28, 0x3006), "US", &vec![0; data]);
        set.sequence((0x28, 0x3000), &[item]);
    };
    let both = refused_with(&|set| {
        set.text((0x28, 0x1052), "DS", "-1024");
        modality_lut(set, 5, &entries);
    });
    assert!(both.contains(": both a Modality LUT"), "{both}");
    for (descriptor, kind, data, message) in [
        (&[4u16, 5, 16][..], "HU", 3, "3 entries where LUTDescriptor says 4"),
        (&[4, 5, 12], "HU", 4, "entries of 12 bits"),
        (&[4, 5], "HU", 4, "LUTDescriptor has 2 values"),
        (&[4, 5, 16], made::PATIENT, 4, "ModalityLUTType is not HU"),
    ] {
        let error = refused_with(&|set| item(set, descriptor, kind, data));
        assert!(error.contains("Modality LUT: ") && error.contains(message), "{error}");
        assert!(!error.contains(made::PATIENT), "{error}");
        // Stored values are there all the same.
        let mut set = bare(Explicit, 0);
        item(&mut set, descriptor, kind, data);
        let mut alone = tempfile::NamedTempFile::new().unwrap();
        alone.write_all(&file(EXPLICIT, &native(set, &stored))).unwrap();
        assert_eq!(decode_file(alone.path()).unwrap().pixels.len(), 12);
    }
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

#[verifies("FR-001")]
#[test]
fn padding_is_a_value_or_a_range() {
    let folder = tempfile::tempdir().unwrap();
    for z in 0..2 {
        let mut set = slice(Explicit, z);
        set.words((0x28, 0x103), "US", &[1]);
        set.text((0x28, 0x1052), "DS", "-1024");
        // -2000 and -1900, as signed words.
        set.words((0x28, 0x120), "SS", &[(-2000i16) as u16]);
        set.words((0x28, 0x121), "SS", &[(-1900i16) as u16]);
        fs::write(folder.path().join(z.to_string()), file(EXPLICIT, &native(set, &values(z)))).unwrap();
    }
    let scan = read(folder.path()).unwrap().scans.remove(0);
    assert_eq!((scan.acquisition.padding_hu, scan.acquisition.padding_limit_hu), (Some(-3024), Some(-2924)));
}

#[verifies("FR-001", "FR-002")]
#[test]
fn frames_of_an_enhanced_object_go_where_their_groups_say() {
    let make = |frames: &[Frame]| {
        let pixels: Vec<u16> = frames.iter().flat_map(|frame| values(frame.z)).collect();
        file(EXPLICIT, &native(enhanced(Explicit, frames), &pixels))
    };
    // Stored in any order, sorted by position.
    assert_eq!(hu(&[make(&[frame(2), frame(0), frame(3), frame(1)])]).unwrap(), ramp_hu(&[0, 1, 2, 3]));
    // Frames of one series in two objects.
    assert_eq!(hu(&[make(&[frame(2), frame(0)]), make(&[frame(3), frame(1)])]).unwrap(), ramp_hu(&[0, 1, 2, 3]));
    // Each frame has its own rescale: 100 -> 2 * 100 - 1000 in the upper slice.
    let scaled = Frame { slope: "2", intercept: "-1000", ..frame(1) };
    let found = hu(&[make(&[scaled, frame(0)])]).unwrap();
    assert_eq!(found[..3], [0, 1, 2]);
    assert_eq!(found[12..15], [-800, -798, -796]);
    // Two stacks may overlap or not; which one is meant is not said.
    let other = |z| Frame { stack: "2", ..frame(z) };
    let error = hu(&[make(&[frame(0), frame(1), other(2), other(3)])]).unwrap_err();
    assert_eq!(error, DicomError::SeveralStacks { stacks: 2 });
    assert_eq!(refused(&[make(&[frame(0), frame(1), frame(1)])]), "duplicate-slices");
    // As many groups as frames, or none.
    let mut short = enhanced(Explicit, &[frame(0), frame(1), frame(2)]);
    short.text((0x28, 8), "IS", "2");
    assert_eq!(refused(&[file(EXPLICIT, &native(short, &[values(0), values(1)].concat()))]), "missing-tag");
}

/// PS3.5 A.4.11: native pixels in fragments, one per frame.
#[verifies("FR-001")]
#[test]
fn encapsulated_uncompressed_frames_are_read() {
    let bytes = |z: u16| values(z).iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut set = enhanced(Explicit, &[frame(1), frame(0)]);
    set.fragments(&[], &[bytes(1), bytes(0)]);
    assert_eq!(hu(&[file("1.2.840.10008.1.2.1.98", &set.bytes)]).unwrap(), ramp_hu(&[0, 1]));
    let mut set = enhanced(Explicit, &[frame(1), frame(0)]);
    set.fragments(&[], &[bytes(1), bytes(0)[..22].to_vec()]);
    assert_eq!(refused(&[file("1.2.840.10008.1.2.1.98", &set.bytes)]), "damaged-pixels");
    // Cut to one half, it is not a frame of bytes.
    let mut set = slice(Explicit, 0);
    set.fragments(&[], &[bytes(0)[..12].to_vec()]);
    assert_eq!(decoded(&file("1.2.840.10008.1.2.1.98", &set.bytes)), Err("damaged-pixels".to_owned()));
}

/// A baseline JPEG of one flat 8 x 8 block (5 * 16 / 8 = 10 above the middle, 128), in files of 16 bits per value.
#[verifies("FR-001")]
#[test]
fn samples_of_eight_bits_in_words_keep_their_sign() {
    let mut stream = made::jpeg12();
    let frame = find(&stream, &[0xFF, 0xC1]);
    stream[frame + 1] = 0xC0;
    stream[frame + 4] = 8;
    for (signed, value) in [(0, 138), (1, 138 - 256)] {
        let mut set = slice(Explicit, 0);
        for (element, word) in [(0x101, 16), (0x102, 15), (0x103, signed)] {
            let at = find(&set.bytes, &[0x28, 0, element as u8, 1]);
            set.bytes[at + 8..at + 10].copy_from_slice(&u16::to_le_bytes(word));
        }
        set.fragments(&[], &[stream.clone()]);
        assert_eq!(decoded(&file("1.2.840.10008.1.2.4.50", &set.bytes)), Ok(vec![value; 12]));
    }
}

/// Some writers put the boxes of a JP2 file round the codestream, which PS3.5 A.4.4 does not allow.
#[verifies("FR-001")]
#[test]
fn jpeg_2000_boxes_are_looked_into() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/jpeg_2000.dcm");
    let whole = fs::read(path).unwrap();
    let expected = decoded(&whole).unwrap();
    // The first fragment that begins with SOC and SIZ: its length is in the four bytes before.
    let start = find(&whole, &[0xFF, 0x4F, 0xFF, 0x51]);
    let length = u32::from_le_bytes(whole[start - 4..start].try_into().unwrap());
    let boxes = b"\0\0\0\x0CjP  \r\n\x87\n\0\0\0\0jp2c";
    let mut bytes = whole.clone();
    bytes.splice(start..start, *boxes);
    bytes[start - 4..start].copy_from_slice(&(length + boxes.len() as u32).to_le_bytes());
    // The offset table no longer fits; one fragment per frame needs none.
    assert_eq!(decoded(&bytes), Ok(expected));
}

/// 60 kB that declare 16,384 x 16,384 pixels: the decoder is not even asked.
#[verifies("FR-001")]
#[test]
fn a_small_file_does_not_unfold_into_a_giant_frame() {
    let mut set = slice(Explicit, 0);
    set.words((0x28, 0x10), "US", &[16_384]);
    set.words((0x28, 0x11), "US", &[16_384]);
    set.fragments(&[], &[[made::jpeg12(), vec![0; 60_000]].concat()]);
    assert_eq!(decoded(&file(JPEG_EXTENDED, &set.bytes)), Err("frame-too-large".to_owned()));
}

/// The marker between tile-parts tells their true length; OpenJPEG refuses a stream where Psot says another.
#[verifies("FR-001")]
#[test]
fn a_slightly_wrong_tile_part_length_in_jpeg_2000_is_mended() {
    let Some(data) = std::env::var_os("LUNGAI_REFERENCE_DATA").map(PathBuf::from) else {
        return lungai_trace::not_evidenced("reference data absent: JPEG 2000");
    };
    let name = "CTImage_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm";
    let whole = fs::read(data.join("dicom/ts_chest_slice").join(name)).unwrap();
    let expected = decoded(&whole).unwrap();
    let psot = find(&whole, &[0xFF, 0x90, 0, 10]) + 6;
    let length = u32::from_be_bytes(whole[psot..psot + 4].try_into().unwrap());
    let with_psot = |value: u32| {
        let mut bytes = whole.clone();
        bytes[psot..psot + 4].copy_from_slice(&value.to_be_bytes());
        decoded(&bytes)
    };
    for allowed in [0, length - 14, length - 2, length + 1, length + 2] {
        assert_eq!(with_psot(allowed).as_ref(), Ok(&expected), "Psot {allowed} instead of {length}");
    }
    for lost in [1, length - 1000, length + 1000, u32::MAX] {
        assert_eq!(with_psot(lost), Err("damaged-pixels".to_owned()), "Psot {lost} instead of {length}");
    }
}
