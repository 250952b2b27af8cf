//! Which letters can be drawn: the shipped font has Latin ones, a font with Chinese ones is looked for on the machine.

use ab_glyph::{Font, FontRef};
use plotters::style::{FontStyle, register_font};
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};

/// Family of the shipped font. It is part of the program, so that a figure looks alike on every machine.
pub const FONT: &str = "sans-serif";
/// Family of the font that was found on the machine.
const FOUND: &str = "lungai-found";
/// What a browser is asked for where the labels are not Latin.
const BROWSERS: &str = "'Noto Sans CJK SC','Noto Sans SC','Source Han Sans SC','PingFang SC','Microsoft YaHei',\
    'WenQuanYi Micro Hei','WenQuanYi Zen Hei',sans-serif";
const SHIPPED: &[u8] = include_bytes!("../fonts/DejaVuSans-latin.ttf");
/// Names a font file, or is `none`: then none is looked for.
const VARIABLE: &str = "LUNGAI_CJK_FONT";
/// Files that hold simplified Chinese, best first: what Linux, macOS and Windows call them, in lower case and without
/// ending.
const NAMES: [&str; 16] = [
    "notosanssc-regular",
    "notosanscjksc-regular",
    "sourcehansanssc-regular",
    "sourcehansanscn-regular",
    "notosanscjk-regular",
    "wqy-microhei",
    "wqy-zenhei",
    "pingfang",
    "hiragino sans gb",
    "stheiti light",
    "msyh",
    "simhei",
    "droidsansfallbackfull",
    "droidsansfallback",
    "uming",
    "ukai",
];

/// The font that a text can be drawn with: the shipped one, else the one that was found; none where neither has all of its
/// letters.
pub fn family_for(text: &str) -> Option<&'static str> {
    register();
    if has_all(SHIPPED, text) {
        return Some(FONT);
    }
    found().filter(|bytes| has_all(bytes, text)).map(|_| FOUND)
}

/// The SVG with families that browsers know.
pub fn for_browsers(svg: &str, latin: bool) -> String {
    let family = if latin { FONT } else { BROWSERS };
    let svg = svg.replace(&format!("font-family=\"{FOUND}\""), &format!("font-family=\"{FONT}\""));
    svg.replace(&format!("font-family=\"{FONT}\""), &format!("font-family=\"{family}\""))
}

/// Makes the shipped font known to plotters.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        assert!(register_font(FONT, FontStyle::Normal, SHIPPED).is_ok(), "the shipped font is a font");
    });
}

/// The machine's font, looked for once and kept as long as the program runs.
fn found() -> Option<&'static [u8]> {
    static FONT_OF_MACHINE: OnceLock<Option<&'static [u8]>> = OnceLock::new();
    *FONT_OF_MACHINE.get_or_init(|| {
        let bytes = match std::env::var_os(VARIABLE) {
            Some(path) => usable(Path::new(&path)),
            None => best(&folders()),
        }?;
        let bytes: &'static [u8] = Box::leak(bytes.into_boxed_slice());
        register_font(FOUND, FontStyle::Normal, bytes).is_ok().then_some(bytes)
    })
}

/// The first usable font in the order of [`NAMES`].
fn best(folders: &[PathBuf]) -> Option<Vec<u8>> {
    let mut files: Vec<(usize, PathBuf)> = Vec::new();
    folders.iter().for_each(|folder| collect(folder, 0, &mut files));
    files.sort();
    files.iter().find_map(|(_, file)| usable(file))
}

fn usable(file: &Path) -> Option<Vec<u8>> {
    // Words of every report; a font that lacks one of them is none for Chinese.
    std::fs::read(file).ok().filter(|bytes| has_all(bytes, "灵敏度假阳性结节肺中心置信区间参考标准合成数据"))
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<(usize, PathBuf)>) {
    /// Deep enough for /usr/share/fonts/opentype/noto; a loop of links ends there, too.
    const DEPTH: usize = 5;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if depth < DEPTH {
                collect(&path, depth + 1, files);
            }
            continue;
        }
        let name = path.file_stem().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        if let (Some(place), "ttf" | "otf" | "ttc" | "otc") = (NAMES.iter().position(|n| *n == name), &*ending) {
            files.push((place, path));
        }
    }
}

fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:\\Windows\\Fonts"]
            .map(PathBuf::from)
            .to_vec();
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        folders.extend([".fonts", ".local/share/fonts", "Library/Fonts"].map(|folder| home.join(folder)));
    }
    folders
}

/// Whether the font (of a collection: the first) has a glyph for every letter.
fn has_all(font: &[u8], text: &str) -> bool {
    FontRef::try_from_slice(font)
        .is_ok_and(|font| text.chars().filter(|c| !c.is_control()).all(|c| font.glyph_id(c).0 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shipped_font_has_is_drawn_with_it_on_every_machine() {
        assert_eq!(family_for("Sensitivity at 1/8 FP per scan: 0.85 (95 %), tau2 = 0.1, >= 6 mm"), Some(FONT));
    }

    #[test]
    fn a_letter_that_no_font_has_is_drawn_by_none() {
        // A private-use code point.
        assert_eq!(family_for("abc\u{f8d0}"), None);
        assert_eq!(best(&[tempfile::tempdir().unwrap().path().to_owned()]), None);
    }

    #[test]
    fn a_file_that_only_has_the_name_of_a_font_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("NotoSansSC-Regular.otf"), b"no font").unwrap();
        // A font, but without Chinese letters.
        std::fs::write(folder.path().join("wqy-zenhei.ttc"), SHIPPED).unwrap();
        assert_eq!(best(&[folder.path().to_owned()]), None);
    }

    #[test]
    fn browsers_get_families_that_they_know() {
        let svg = "<text font-family=\"lungai-found\"/><text font-family=\"sans-serif\"/>";
        assert!(!for_browsers(svg, false).contains("lungai-found") && for_browsers(svg, false).contains("PingFang SC"));
        assert_eq!(for_browsers("<text font-family=\"sans-serif\"/>", true), "<text font-family=\"sans-serif\"/>");
    }
}
