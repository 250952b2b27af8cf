//! Journeys through the whole system, on its programs as users start them.

mod chain;
mod programs;
