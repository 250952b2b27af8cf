//! The program as users start it: on run folders as training leaves them, against a stub of MLflow that fails when told
//! to, and against the real MLflow where there is one.

#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod compare;
mod fake;
mod faults;
mod folder;
mod program;
mod real;
mod stub;
mod sync;
mod tls;
