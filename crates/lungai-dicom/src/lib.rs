//! CT series to [`Volume`](lungai_ct::Volume) and back.
//!
//! Everything that was not written by us is hostile until examined: files are parsed and decoded in a
//! process of their own ([`worker`]) after a bounded walk over their structure, and geometry is taken
//! only from positions and orientations that form a regular grid of axial slices. This crate refuses to
//! guess: a series that breaks a rule is refused by that rule's name. No parser and no decoder of others runs in the
//! calling process, which itself only copies and rescales 16-bit pixels that are not compressed.

mod digest;
mod error;
mod header;
mod identity;
mod job;
mod jpeg12;
mod limits;
mod pixels;
mod plain;
mod read;
mod series;
mod structure;
pub mod worker;
mod write;

pub use digest::hu_sha256;
pub use error::DicomError;
pub use identity::{Identities, Identity, YesNo, identifying_attributes};
pub use limits::Limits;
pub use read::{DecodedFile, DicomInput, Refused, SetAside, decode_file, decode_files, read, read_within, survey};
pub use write::{SeriesTags, derived_uid, write_series};
