//! Why a figure cannot be computed.

/// Why a figure cannot be computed. Messages name the rule and the value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricsError {
    /// A score, coordinate or diameter is not a finite number.
    #[error("{what} is {value}; a finite number is needed")]
    NotFinite {
        /// What was not finite.
        what: &'static str,
        /// The refused value.
        value: f64,
    },
    /// Two lists that belong together differ in length.
    #[error("{what}: {left} against {right} entries")]
    Length {
        /// Which lists.
        what: &'static str,
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// Too few cases for the figure.
    #[error("{what}: {found} found, at least {needed} needed")]
    TooFew {
        /// What is lacking.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many the figure needs.
        needed: usize,
    },
    /// Ratings of more categories than a table of them may have.
    #[error(
        "{found} different ratings, at most {most} are categories; a measurement is compared by an ICC or limits of agreement"
    )]
    TooManyCategories {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A parameter outside its range.
    #[error("{what} is {value}; it must lie {range}")]
    Range {
        /// The parameter.
        what: &'static str,
        /// The refused value.
        value: f64,
        /// The allowed range in words.
        range: &'static str,
    },
    /// An entry contradicts an earlier one: a patient at two centres, a mark given twice.
    #[error("{what}: entry {place} contradicts an earlier one")]
    Contradiction {
        /// What contradicts.
        what: &'static str,
        /// Its place in the list, from 0.
        place: usize,
    },
    /// A method that is not defined for this figure.
    #[error("{what} is not defined for {of}")]
    Unsuited {
        /// The method.
        what: &'static str,
        /// The figure.
        of: &'static str,
    },
    /// Positions that cannot be millimetres.
    #[error("positions do not look like millimetres: {what}; are they voxel indices?")]
    Units {
        /// How one can tell.
        what: &'static str,
    },
    /// All ratings are equal, or two scores order the cases alike: agreement beyond chance or a test of their difference
    /// is not defined.
    #[error("no variation: agreement beyond chance, or a difference of two scores, is not defined")]
    NoVariation,
}

impl MetricsError {
    /// A stable name of the broken rule, for programs.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotFinite { .. } => "not-finite",
            Self::Length { .. } => "unequal-length",
            Self::TooFew { .. } => "too-few-cases",
            Self::TooManyCategories { .. } => "too-many-categories",
            Self::Range { .. } => "out-of-range",
            Self::Contradiction { .. } => "contradiction",
            Self::Unsuited { .. } => "unsuited-method",
            Self::Units { .. } => "not-millimetres",
            Self::NoVariation => "no-variation",
        }
    }
}

/// `value`, if it is finite.
pub(crate) fn finite(what: &'static str, value: f64) -> Result<f64, MetricsError> {
    if value.is_finite() { Ok(value) } else { Err(MetricsError::NotFinite { what, value }) }
}

/// Fails unless at least `needed` were `found`.
pub(crate) fn at_least(what: &'static str, found: usize, needed: usize) -> Result<(), MetricsError> {
    if found >= needed { Ok(()) } else { Err(MetricsError::TooFew { what, found, needed }) }
}

/// The normal deviate of a two-sided confidence `level`, 1.96 for 0.95.
pub(crate) fn deviate(level: f64) -> Result<f64, MetricsError> {
    if level > 0.0 && level < 1.0 {
        Ok(crate::normal_quantile(0.5 + level / 2.0))
    } else {
        Err(MetricsError::Range { what: "confidence level", value: level, range: "between 0 and 1" })
    }
}
