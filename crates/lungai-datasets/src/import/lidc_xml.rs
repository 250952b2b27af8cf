//! LIDC-IDRI's XML (`LidcReadMessage`, namespace `http://www.nih.gov`): what each of the readers marked after having
//! seen the others' marks.
//!
//! Documented in "LIDC XML file documentation" (The Cancer Imaging Archive) and McNitt-Gray et al., Acad Radiol 2007;14:1464.
//! Pixel coordinates count columns and rows of the stored slice from 0; `imageZposition` is in mm.

use crate::DatasetError;
use crate::error::name;
use crate::write::read_whole;
use roxmltree::{Document, Node, ParsingOptions};
use std::path::Path;

/// Nodes at most: a closed outline has some hundred points of three elements each.
const MAX_NODES: u32 = 8_000_000;

/// One file: all readings of one series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub series_uid: String,
    pub file: String,
    pub readers: Vec<Reader>,
}

/// What one reader marked.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reader {
    /// 3 mm and more, outlined and rated.
    pub nodules: Vec<Outlined>,
    /// Below 3 mm: one point.
    pub small: Vec<Point>,
    /// 3 mm and more, no nodule: one point.
    pub non_nodules: Vec<Point>,
}

/// A mark.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub column: f64,
    pub row: f64,
    pub z_mm: f64,
    pub line: usize,
}

/// An outlined nodule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outlined {
    pub contours: Vec<Contour>,
    pub ratings: Ratings,
    pub line: usize,
}

/// One closed outline on one slice; its own pixels are the first *outside* of the nodule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Contour {
    pub z_mm: f64,
    /// False: what it encloses is cut out.
    pub inclusion: bool,
    /// Column and row.
    pub points: Vec<[i32; 2]>,
}

/// The readers' ratings, where given: 1 to 5, calcification 1 to 6 (6: absent).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Ratings {
    pub malignancy: Option<u8>,
    /// 1 none to 5 marked (TCIA's correction of March 2010; about 100 of the first 399 cases may be turned round).
    pub spiculation: Option<u8>,
    /// 1 ground glass, 3 part-solid, 5 solid.
    pub texture: Option<u8>,
    pub calcification: Option<u8>,
}

/// Reads a file; `None` where it is an XML file of another kind (the archive's radiographs have `IdriReadMessage`).
pub(crate) fn read(path: &Path) -> Result<Option<Reading>, DatasetError> {
    let bytes = read_whole(path)?;
    // Free text of readers may be in another encoding; nothing that is looked at is.
    let text = String::from_utf8_lossy(&bytes);
    // No document type declarations: they could ask for other files or grow without bound.
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&text, options)
        .map_err(|error| refuse(path, error.pos().row as usize, format!("not well-formed XML ({error})")))?;
    let root = document.root_element();
    if root.tag_name().name() != "LidcReadMessage" {
        return Ok(None);
    }
    let at = Xml { path, document: &document };
    let header = at.child(root, "ResponseHeader")?;
    let readers: Result<Vec<Reader>, _> = children(root, "readingSession").map(|session| at.reader(session)).collect();
    Ok(Some(Reading {
        series_uid: at.text(header, "SeriesInstanceUid")?.to_owned(),
        file: name(path),
        readers: readers?,
    }))
}

struct Xml<'a> {
    path: &'a Path,
    document: &'a Document<'a>,
}

impl<'a> Xml<'a> {
    fn line(&self, node: Node) -> usize {
        self.document.text_pos_at(node.range().start).row as usize
    }

    fn child(&self, node: Node<'a, 'a>, tag: &str) -> Result<Node<'a, 'a>, DatasetError> {
        children(node, tag)
            .next()
            .ok_or_else(|| refuse(self.path, self.line(node), format!("{} has no {tag}", node.tag_name().name())))
    }

    fn text(&self, node: Node<'a, 'a>, tag: &str) -> Result<&'a str, DatasetError> {
        Ok(self.child(node, tag)?.text().unwrap_or_default().trim())
    }

    fn number<T: std::str::FromStr>(&self, node: Node<'a, 'a>, tag: &str) -> Result<T, DatasetError> {
        let text = self.text(node, tag)?;
        text.parse()
            .map_err(|_| refuse(self.path, self.line(node), format!("{tag} `{text:.20}` is not a number of its kind")))
    }

    fn z(&self, node: Node<'a, 'a>) -> Result<f64, DatasetError> {
        let z: f64 = self.number(node, "imageZposition")?;
        if z.is_finite() {
            Ok(z)
        } else {
            Err(refuse(self.path, self.line(node), "imageZposition is not finite".into()))
        }
    }

    fn reader(&self, session: Node<'a, 'a>) -> Result<Reader, DatasetError> {
        let mut reader = Reader::default();
        for nodule in children(session, "unblindedReadNodule") {
            let line = self.line(nodule);
            let contours: Vec<Contour> =
                children(nodule, "roi").map(|roi| self.contour(roi)).collect::<Result<_, _>>()?;
            match &contours[..] {
                [] => return Err(refuse(self.path, line, "a nodule without a roi".into())),
                // Below 3 mm the readers set one point and rate nothing.
                [one] if one.points.len() == 1 => {
                    let [column, row] = one.points[0].map(f64::from);
                    reader.small.push(Point { column, row, z_mm: one.z_mm, line });
                }
                _ => reader.nodules.push(Outlined { contours, ratings: self.ratings(nodule)?, line }),
            }
        }
        for mark in children(session, "nonNodule") {
            let at = self.child(mark, "locus")?;
            reader.non_nodules.push(Point {
                column: self.number(at, "xCoord")?,
                row: self.number(at, "yCoord")?,
                z_mm: self.z(mark)?,
                line: self.line(mark),
            });
        }
        Ok(reader)
    }

    fn contour(&self, roi: Node<'a, 'a>) -> Result<Contour, DatasetError> {
        let inclusion = match self.text(roi, "inclusion")?.to_ascii_uppercase().as_str() {
            "TRUE" => true,
            "FALSE" => false,
            other => {
                let reason = format!("inclusion `{other:.20}` is neither TRUE nor FALSE");
                return Err(refuse(self.path, self.line(roi), reason));
            }
        };
        let point = |edge| Ok([self.number(edge, "xCoord")?, self.number(edge, "yCoord")?]);
        let points: Vec<[i32; 2]> = children(roi, "edgeMap").map(point).collect::<Result<_, DatasetError>>()?;
        // A slice has at most 65,536 rows; the limit keeps areas within numbers.
        if points.is_empty() || points.iter().flatten().any(|v| !(0..=65_535).contains(v)) {
            return Err(refuse(self.path, self.line(roi), "an outline needs points within 0..=65535 pixels".into()));
        }
        Ok(Contour { z_mm: self.z(roi)?, inclusion, points })
    }

    fn ratings(&self, nodule: Node<'a, 'a>) -> Result<Ratings, DatasetError> {
        // Some early files have an empty element, some none.
        let Some(given) = children(nodule, "characteristics").next().filter(|n| n.has_children()) else {
            return Ok(Ratings::default());
        };
        let rating = |tag, highest| {
            let Some(node) = children(given, tag).next() else { return Ok(None) };
            let text = node.text().unwrap_or_default().trim();
            // 0 stands for "not rated" in a few files.
            match text.parse::<u8>() {
                Ok(0) => Ok(None),
                Ok(value) if value <= highest => Ok(Some(value)),
                _ if text.is_empty() => Ok(None),
                _ => Err(refuse(self.path, self.line(node), format!("{tag} `{text:.20}` is not within 1..={highest}"))),
            }
        };
        Ok(Ratings {
            malignancy: rating("malignancy", 5)?,
            spiculation: rating("spiculation", 5)?,
            texture: rating("texture", 5)?,
            calcification: rating("calcification", 6)?,
        })
    }
}

fn children<'a>(node: Node<'a, 'a>, tag: &str) -> impl Iterator<Item = Node<'a, 'a>> {
    node.children().filter(move |child| child.tag_name().name() == tag)
}

fn refuse(path: &Path, line: usize, reason: String) -> DatasetError {
    DatasetError::Config { file: name(path), line, reason }
}
