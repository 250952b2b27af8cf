//! Journeys through the whole system, on its programs as users start them.

#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod chain;
mod programs;
mod reference_model;
mod validation;
