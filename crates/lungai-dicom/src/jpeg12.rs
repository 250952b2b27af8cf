//! JPEG extended (process 4): sequential DCT with 12-bit samples, which the codec library lacks.
//!
//! ISO 10918-1; one component, as CT has. The inverse DCT is computed in floating point, so samples may
//! differ by one from decoders with an integer DCT; the standard allows that.

use std::f32::consts::PI;

/// Samples of a stream with one component, row by row, or `None` where the stream is damaged or of another kind.
/// The caller has checked that the stream declares `rows` x `columns`.
pub fn decode(stream: &[u8], rows: usize, columns: usize) -> Option<Vec<u16>> {
    let mut decoder = Decoder::default();
    let mut at = 2; // after SOI
    loop {
        if *stream.get(at)? != 0xFF {
            return None;
        }
        let marker = *stream.get(at + 1)?;
        if marker == 0xFF {
            at += 1; // fill byte
            continue;
        }
        let length = usize::from(u16::from_be_bytes([*stream.get(at + 2)?, *stream.get(at + 3)?]));
        let segment = stream.get(at + 4..at + 2 + length)?;
        at += 2 + length;
        match marker {
            0xC0 | 0xC1 => decoder.frame(segment)?,
            0xC4 => decoder.huffman_tables(segment)?,
            0xDB => decoder.quantisation_tables(segment)?,
            0xDD => decoder.restart = usize::from(u16::from_be_bytes([*segment.first()?, *segment.get(1)?])),
            0xDA => return decoder.scan(segment, &stream[at..], rows, columns),
            0xE0..=0xEF | 0xFE => {}
            _ => return None,
        }
    }
}

#[derive(Default)]
struct Decoder {
    /// Sample precision in bits.
    precision: u32,
    /// Number of the component's quantisation table.
    table: usize,
    /// In zigzag order.
    quantisation: [Option<[f32; 64]>; 4],
    /// DC tables, then AC tables.
    huffman: [Option<Huffman>; 8],
    /// Blocks between restart markers; 0 for none.
    restart: usize,
}

/// Canonical codes, B.2.4.2 and F.2.2.3.
struct Huffman {
    /// By code length 1..=16: first code, number of codes, index of the first symbol.
    lengths: [(u32, u32, usize); 16],
    symbols: Vec<u8>,
}

impl Decoder {
    fn frame(&mut self, segment: &[u8]) -> Option<()> {
        let &[precision, _, _, _, _, 1, _, _, table] = segment else { return None };
        self.precision = u32::from(precision);
        self.table = usize::from(table);
        (precision == 12).then_some(())
    }

    fn quantisation_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [head, rest @ ..] = segment {
            let wide = head >> 4 == 1;
            let bytes = rest.get(..if wide { 128 } else { 64 })?;
            let entry = |i: usize| match wide {
                true => f32::from(u16::from_be_bytes([bytes[2 * i], bytes[2 * i + 1]])),
                false => f32::from(bytes[i]),
            };
            *self.quantisation.get_mut(usize::from(head & 15))? = Some(std::array::from_fn(entry));
            segment = &rest[bytes.len()..];
        }
        Some(())
    }

    fn huffman_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [head, rest @ ..] = segment {
            let (class, number) = (usize::from(head >> 4), usize::from(head & 15));
            let counts = rest.get(..16)?;
            let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let symbols = rest.get(16..16 + total)?.to_vec();
            let (mut code, mut first) = (0, 0);
            let mut lengths = [(0, 0, 0); 16];
            for (length, count) in lengths.iter_mut().zip(counts) {
                *length = (code, u32::from(*count), first);
                first += usize::from(*count);
                code = (code + u32::from(*count)) << 1;
            }
            if class > 1 || number > 3 {
                return None;
            }
            self.huffman[4 * class + number] = Some(Huffman { lengths, symbols });
            segment = &rest[16 + total..];
        }
        Some(())
    }

    fn scan(&self, header: &[u8], coded: &[u8], rows: usize, columns: usize) -> Option<Vec<u16>> {
        let &[1, _, tables, ..] = header else { return None };
        let dc_table = self.huffman.get(usize::from(tables >> 4)).filter(|_| tables >> 4 < 4)?.as_ref()?;
        let ac_table = self.huffman.get(4 + usize::from(tables & 15))?.as_ref()?;
        let quantisation = self.quantisation.get(self.table)?.as_ref()?;
        if self.precision == 0 {
            return None;
        }
        let (middle, top) = (1i32 << (self.precision - 1), (1i32 << self.precision) - 1);
        let cosines = cosines();
        let mut bits = Bits { coded, at: 0, word: 0, count: 0 };
        let mut samples = vec![0; rows * columns];
        let (block_rows, block_columns) = (rows.div_ceil(8), columns.div_ceil(8));
        let mut dc = 0i32;
        for index in 0..block_rows * block_columns {
            if self.restart > 0 && index > 0 && index % self.restart == 0 {
                bits.restart()?;
                dc = 0;
            }
            let mut block = [0.0; 64];
            let size = u32::from(bits.symbol(dc_table)?);
            dc = bits.signed(size)?.saturating_add(dc);
            block[0] = dc as f32 * quantisation[0];
            let mut k = 1;
            while k < 64 {
                let symbol = bits.symbol(ac_table)?;
                let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
                match (run, size) {
                    (15, 0) => k += 16,
                    (_, 0) => break,
                    _ => {
                        k += run;
                        let place = usize::from(*ZIGZAG.get(k)?);
                        block[place] = bits.signed(size)? as f32 * quantisation[k];
                        k += 1;
                    }
                }
            }
            let block = inverse_dct(&block, &cosines);
            let (y0, x0) = (index / block_columns * 8, index % block_columns * 8);
            for (y, row) in block.chunks_exact(8).enumerate().take(rows - y0) {
                for (x, value) in row.iter().enumerate().take(columns - x0) {
                    samples[(y0 + y) * columns + x0 + x] =
                        (value.round() as i32).saturating_add(middle).clamp(0, top) as u16;
                }
            }
        }
        Some(samples)
    }
}

struct Bits<'a> {
    coded: &'a [u8],
    at: usize,
    word: u32,
    count: u32,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<u32> {
        if self.count == 0 {
            let byte = *self.coded.get(self.at)?;
            self.at += 1;
            if byte == 0xFF {
                // A zero is stuffed after each 0xFF; anything else is a marker: the data ended early.
                if *self.coded.get(self.at)? != 0 {
                    return None;
                }
                self.at += 1;
            }
            self.word = u32::from(byte);
            self.count = 8;
        }
        self.count -= 1;
        Some(self.word >> self.count & 1)
    }

    fn symbol(&mut self, table: &Huffman) -> Option<u8> {
        let mut code = 0;
        for (first, count, index) in table.lengths {
            code = code << 1 | self.bit()?;
            if code >= first && code - first < count {
                return table.symbols.get(index + (code - first) as usize).copied();
            }
        }
        None
    }

    /// F.2.2.1: `size` bits, of which the lower half stands for negative values.
    fn signed(&mut self, size: u32) -> Option<i32> {
        if size > 15 {
            return None;
        }
        let mut value = 0i32;
        for _ in 0..size {
            value = value << 1 | self.bit()? as i32;
        }
        Some(if size > 0 && value < 1 << (size - 1) { value - (1 << size) + 1 } else { value })
    }

    fn restart(&mut self) -> Option<()> {
        self.count = 0;
        let [0xFF, 0xD0..=0xD7] = self.coded.get(self.at..self.at + 2)? else { return None };
        self.at += 2;
        Some(())
    }
}

/// Row-column position of each coefficient in the order of the stream (A.3.6).
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// `[position][frequency]`, with the normalisation of A.3.3 drawn in.
fn cosines() -> [[f32; 8]; 8] {
    std::array::from_fn(|x| {
        std::array::from_fn(|u| {
            let scale = if u == 0 { 0.125f32.sqrt() } else { 0.5 };
            scale * ((2 * x + 1) as f32 * u as f32 * PI / 16.0).cos()
        })
    })
}

fn inverse_dct(block: &[f32; 64], cosines: &[[f32; 8]; 8]) -> [f32; 64] {
    let mut half = [0.0; 64];
    for v in 0..8 {
        for x in 0..8 {
            half[8 * v + x] = (0..8).map(|u| block[8 * v + u] * cosines[x][u]).sum();
        }
    }
    std::array::from_fn(|i| (0..8).map(|v| half[8 * v + i % 8] * cosines[i / 8][v]).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One block of 8 x 8 by hand: quantiser 16, DC difference 5 and nothing else.
    #[test]
    fn a_flat_block_is_its_dc_over_eight() {
        let mut stream = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
        stream.extend([16; 64]);
        stream.extend([0xFF, 0xC1, 0, 11, 12, 0, 8, 0, 8, 1, 1, 0x11, 0]);
        // DC: the one code `0` means 3 bits follow. AC: the one code `0` ends the block.
        for (class, symbol) in [(0x00, 3), (0x10, 0)] {
            stream.extend([0xFF, 0xC4, 0, 20, class, 1]);
            stream.extend([0; 15]);
            stream.push(symbol);
        }
        stream.extend([0xFF, 0xDA, 0, 8, 1, 1, 0x00, 0, 63, 0]);
        // `0`, the bits 101, `0`, and ones to fill the byte.
        stream.extend([0b0101_0111, 0xFF, 0xD9]);
        // 5 * 16 / 8 = 10 above the middle of 12 bits.
        assert_eq!(decode(&stream, 8, 8), Some(vec![2058; 64]));
        let length = stream.len();
        assert_eq!(decode(&stream[..length - 3], 8, 8), None, "cut before the data");
    }
}
