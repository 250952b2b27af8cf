//! The two languages of a report.

use serde::Serialize;

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    En,
    /// Simplified Chinese.
    Zh,
}

impl Language {
    /// Both, English first.
    pub const ALL: [Self; 2] = [Self::En, Self::Zh];

    /// One of two texts that mean the same.
    pub fn of<'a>(self, en: &'a str, zh: &'a str) -> &'a str {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }

    /// What stands between a file's name and its ending: English is the plain name, which other tools know.
    pub fn suffix(self) -> &'static str {
        self.of_static("", ".zh")
    }

    /// For HTML.
    pub fn tag(self) -> &'static str {
        self.of_static("en", "zh-CN")
    }

    fn of_static(self, en: &'static str, zh: &'static str) -> &'static str {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }
}

/// `say!(language, "{n} scans", "{n} 例扫描")`: one of two texts with the same values in it.
macro_rules! say {
    ($language:expr, $en:literal, $zh:literal $(, $($argument:tt)*)?) => {
        match $language {
            $crate::report::language::Language::En => format!($en $(, $($argument)*)?),
            $crate::report::language::Language::Zh => format!($zh $(, $($argument)*)?),
        }
    };
}
pub(crate) use say;
