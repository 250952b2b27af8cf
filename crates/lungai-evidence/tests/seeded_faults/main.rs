//! The tool's own validation: a small workspace with everything in order, then one fault at a time, each of which must be caught
//! with the right message. The untouched workspace is the control.
#![allow(clippy::unwrap_used)] // test helpers
mod demo;

mod binding;
mod checklists;
mod components;
mod coverage;
mod difference;
mod documents;
mod input;
mod links;
mod mutation;
mod package;
mod people;
mod results;
