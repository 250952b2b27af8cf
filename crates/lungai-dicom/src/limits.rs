//! What one input may cost.

use serde::{Deserialize, Serialize};

/// Bounds on untrusted input; [`Limits::default`] fits chest CT with room to spare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Files in a folder, and entries in an archive. Default 20,000.
    pub files: usize,
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
    /// Data elements in one file. Default 1,000,000.
    pub elements: usize,
    /// Rows x columns x frames of one file. Default 2^28.
    pub file_pixels: u64,
    /// Voxels of one series. Default 2^29 (2048 slices of 512 x 512).
    pub series_voxels: u64,
    /// Voxels of all series of one input together; the smallest series are refused first. Default 2^31 (4 GiB of HU).
    pub input_voxels: u64,
    /// Seconds of wall time and of CPU time that one file may take. Default 30.
    pub file_seconds: u64,
    /// Memory of one decoding process in bytes. It grows from 256 MiB with the size of the file and
    /// of the image that it declares, up to this. Default 4 GiB.
    pub worker_bytes: u64,
    /// Decoding processes. Default: one per core, at most 16.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 20_000,
            folder_depth: 16,
            file_bytes: 512 << 20,
            archive_bytes: 8 << 30,
            archive_ratio: 200,
            depth: 16,
            elements: 1_000_000,
            file_pixels: 1 << 28,
            series_voxels: 1 << 29,
            input_voxels: 1 << 31,
            file_seconds: 30,
            worker_bytes: 4 << 30,
            workers: std::thread::available_parallelism().map_or(1, |n| n.get().min(16)),
        }
    }
}
