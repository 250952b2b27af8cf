//! What a result is worth: pure functions from detections, scores, masks and ratings to figures with intervals.
//!
//! Reading order: [`matching`] says which mark found which nodule, [`froc`] turns that into a curve, [`bootstrap`]
//! into intervals; [`overlap`] compares masks; [`roc`], [`calibration`], [`agreement`], [`measurements`], [`proportion`] and
//! [`centres`] are the classical statistics; [`reader_study`] and [`mrmc`] compare treatments over readers; [`decision`] and [`multiplicity`] say what an interval or several tests decide.
//!
//! This crate refuses files, printing, defaults that hide a rule (a rule is an argument), and figures that the data
//! cannot carry: too few cases are an error, never a zero. Every function names its source.

pub mod agreement;
pub mod bootstrap;
pub mod calibration;
pub mod centres;
pub mod decision;
pub mod detection_maps;
mod distributions;
mod error;
pub mod froc;
pub mod matching;
pub mod measurements;
pub mod mrmc;
pub mod multiplicity;
pub mod overlap;
pub mod proportion;
pub mod reader_study;
pub mod roc;
pub mod roc_band;
pub mod sample_size;

pub use distributions::{
    chi_squared_upper_tail, f_quantile, f_upper_tail, noncentral_f_upper_tail, normal_quantile, normal_two_sided_p,
    sample_quantile, t_quantile, t_two_sided_p,
};
pub use error::MetricsError;

/// Lower and upper confidence limit.
pub type Interval = [f64; 2];
