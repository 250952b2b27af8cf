//! What one input may cost.

use serde::{Deserialize, Serialize};

/// Bounds on untrusted input; [`Limits::default`] fits chest CT with room to spare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Files in a folder, and entries in an archive. Default 20,000.
    pub files: usize,
    /// Frames of all files of one input, and entries of all its archives, together: what is kept in memory of each before any
    /// pixel is read. Default 200,000.
    pub frames: usize,
    /// Levels of folders below the input. Default 16.
    pub folder_depth: usize,
    /// Bytes of one file, packed or unpacked. Default 512 MiB.
    pub file_bytes: u64,
    /// Bytes that one archive may unpack to. Default 8 GiB; entries are unpacked one at a time.
    pub archive_bytes: u64,
    /// Unpacked over packed bytes of one archive, applied above 64 MiB unpacked. Default 200; CT packs to 1/2 to 1/10.
    pub archive_ratio: u64,
    /// Nested sequences in one file. Default 16.
    pub depth: usize,
    /// Data elements in one file, where a sequence's item counts for eight, and one more per 32 bytes of the file:
    /// a parsed element takes some 200 bytes, an item 1,200. Default 200,000.
    pub elements: usize,
    /// Rows x columns x frames of one file. Default 2^28.
    pub file_pixels: u64,
    /// Voxels of one series. Default 2^29 (2048 slices of 512 x 512).
    pub series_voxels: u64,
    /// Voxels of all series of one input together; the smallest series are refused first. Default 2^31 (4 GiB of HU).
    pub input_voxels: u64,
    /// Seconds of CPU time that one file may take, and one more per MiB of it; wall time is bounded by five times
    /// that. Default 4. Copying uncompressed pixels is not counted.
    pub file_seconds: u64,
    /// Memory that decoding one file may take is 64 MiB and eight times the file's size, and never more than this.
    /// Default 4 GiB.
    pub worker_bytes: u64,
    /// Decoding processes. Default: one per core, at most 16.
    pub workers: usize,
}

impl Limits {
    /// Bytes that reading `input` bytes may take besides what the process needs to run.
    pub(crate) fn memory(&self, input: u64) -> u64 {
        (64u64 << 20).saturating_add(input.saturating_mul(8)).min(self.worker_bytes)
    }

    /// Bytes that `packed` bytes may unpack to: less than [`Limits::memory`], the rest is for what is made of them.
    pub(crate) fn unpacked(&self, packed: u64) -> u64 {
        (32u64 << 20).saturating_add(packed.saturating_mul(6)).min(self.file_bytes)
    }

    /// Seconds of CPU time for `input` bytes.
    pub(crate) fn seconds(&self, input: u64) -> u64 {
        self.file_seconds.saturating_add(input >> 20)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 20_000,
            frames: 200_000,
            folder_depth: 16,
            file_bytes: 512 << 20,
            archive_bytes: 8 << 30,
            archive_ratio: 200,
            depth: 16,
            elements: 200_000,
            file_pixels: 1 << 28,
            series_voxels: 1 << 29,
            input_voxels: 1 << 31,
            file_seconds: 4,
            worker_bytes: 4 << 30,
            workers: std::thread::available_parallelism().map_or(1, |n| n.get().min(16)),
        }
    }
}
