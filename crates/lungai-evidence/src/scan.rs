//! Where the tags are: a walk through the sources of every target, module by module, as the compiler would go.
use crate::failure::{Failure, fail};
use crate::regulatory::Regulatory;
use crate::workspace::{Package, Target};
use lungai_trace::implements;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use syn::spanned::Spanned;
use syn::{Attribute, ImplItem, Item, LitStr, TraitItem, punctuated::Punctuated};

// The macros compile the same file over `proc_macro`: what they bake into a test is found again here.
#[path = "../../lungai-trace-macros/src/normal.rs"]
mod normal;

/// One `#[verifies(..)]` or `#[implements(..)]`.
#[derive(Debug, Clone, Serialize)]
pub struct Tag {
    #[serde(skip)]
    pub is_test_tag: bool,
    pub ids: Vec<String>,
    pub package: String,
    /// As cargo-nextest names the executable, such as `lungai-dicom`, `lungai-dicom::real` or `lungai-cli::bin/lungai`.
    pub binary: String,
    /// As `module_path!()` says, with the crate's name first.
    pub module: String,
    pub name: String,
    /// Relative to the workspace, with `/`.
    pub file: String,
    pub line: usize,
    /// SHA-256 of its tokens without comments and tags: layout and documentation do not change it.
    pub sha256: String,
    /// What a record of this very test holds.
    #[serde(skip)]
    pub source: SourceHash,
    /// A test whose body calls nothing: it cannot fail.
    pub empty: bool,
    /// `#[test]` or a relative of it follows the tag, or it sits inside a macro that may make a test of it.
    pub is_test: bool,
    pub ignored: bool,
    /// Conditions other than `test` under which it is compiled at all.
    pub condition: Vec<String>,
    /// Of a test of this tool: the texts in it.
    #[serde(skip)]
    pub literals: Vec<String>,
}

/// A file of the sources as a unit of the design: what it says of itself in its first sentence.
#[derive(Debug, Clone, Serialize)]
pub struct Unit {
    pub package: String,
    pub binary: String,
    /// As `module_path!()` says, with the crate's name first.
    pub module: String,
    /// Relative to the workspace, with `/`.
    pub file: String,
    /// Empty where it says nothing.
    pub about: String,
}

/// What a walk through the sources finds, each sorted by place.
#[derive(Debug, Default)]
pub struct Scanned {
    pub tags: Vec<Tag>,
    pub units: Vec<Unit>,
}

/// By which text a test that ran is known to be the one in the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceHash {
    Tokens(String),
    /// Of its whole file: another macro writes the test, and gives it other tokens than the source has.
    File(String),
}

impl Tag {
    /// The name that the test runner prints: the module path without the crate's name.
    pub fn runner_name(&self) -> String {
        match self.module.split_once("::") {
            Some((_, modules)) => format!("{modules}::{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// All tags and units of the workspace.
#[implements("RR-001")]
pub fn scan(root: &Path, packages: &[Package]) -> Result<Scanned, Failure> {
    let targets = packages.iter().flat_map(|package| package.targets.iter().map(move |target| (package, target)));
    let targets: Vec<_> = targets.filter_map(|(p, t)| Some((p, t, binary(p, t)?))).collect();
    // Parsing takes most of the time of a package. What is found does not depend on who finds it: it is sorted.
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((package, target, binary)) = targets.get(number) else { return done };
            done.push((number, one(root, package, target, binary)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let mut done: Vec<(usize, Result<Scanned, Failure>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(crate::workspace::finished).collect()
    });
    done.sort_by_key(|(number, _)| *number);
    let mut all = Scanned::default();
    for (_, found) in done {
        let found = found?;
        all.tags.extend(found.tags);
        all.units.extend(found.units);
    }
    all.tags.sort_by(|a, b| (&a.file, a.line, &a.binary, &a.name).cmp(&(&b.file, b.line, &b.binary, &b.name)));
    all.units.sort_by(|a, b| (&a.package, &a.binary, &a.module).cmp(&(&b.package, &b.binary, &b.module)));
    Ok(all)
}

/// As cargo-nextest names the executable; none for build scripts.
fn binary(package: &Package, target: &Target) -> Option<String> {
    let kind = target.kind.first().map_or("", String::as_str);
    match kind {
        "lib" | "rlib" | "proc-macro" | "cdylib" | "dylib" | "staticlib" => Some(package.name.clone()),
        "bin" => Some(format!("{}::bin/{}", package.name, target.name)),
        "test" => Some(format!("{}::{}", package.name, target.name)),
        "bench" => Some(format!("{}::bench/{}", package.name, target.name)),
        "example" => Some(format!("{}::example/{}", package.name, target.name)),
        _ => None,
    }
}

fn one(root: &Path, package: &Package, target: &Target, binary: &str) -> Result<Scanned, Failure> {
    let mut walk = Walk { root, package: &package.name, binary, found: Scanned::default() };
    let folder = target.src_path.parent().unwrap_or(root).to_owned();
    let place = Place { module: target.name.replace('-', "_"), condition: Vec::new() };
    walk.file(&target.src_path, &folder, &place)?;
    Ok(walk.found)
}

/// A tag that names no requirement and no risk breaks the chain of evidence: nothing is built on it.
pub fn check_ids(tags: &[Tag], regulatory: &Regulatory) -> Result<(), Failure> {
    for tag in tags {
        if let Some(unknown) = tag.ids.iter().find(|id| !regulatory.knows(id)) {
            let nearest = regulatory.nearest(unknown);
            return fail(
                "unknown-id",
                format!(
                    "{}:{}: `{unknown}` is neither a requirement nor a risk; nearest: {nearest}",
                    tag.file, tag.line
                ),
            );
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Place {
    module: String,
    condition: Vec<String>,
}

impl Place {
    fn under(&self, attributes: &[Attribute], module: Option<&str>) -> Self {
        let mut inner = self.clone();
        if let Some(name) = module {
            inner.module = format!("{}::{name}", self.module);
        }
        inner.condition.extend(conditions(attributes));
        inner
    }
}

struct Walk<'a> {
    root: &'a Path,
    package: &'a str,
    binary: &'a str,
    found: Scanned,
}

/// A file as the compiler reads it, and the hash of its bytes.
struct SourceFile<'a> {
    path: &'a Path,
    text: String,
    sha256: String,
}

impl Walk<'_> {
    /// `folder` is where the file's own `mod x;` are looked for.
    fn file(&mut self, path: &Path, folder: &Path, place: &Place) -> Result<(), Failure> {
        let shown = self.relative(path);
        let raw = std::fs::read_to_string(path).map_err(|e| Failure::new("unreadable", format!("{shown}: {e}")))?;
        let text = raw.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        self.found.units.push(Unit {
            package: self.package.to_owned(),
            binary: self.binary.to_owned(),
            module: place.module.clone(),
            about: first_sentence(&text),
            file: shown.clone(),
        });
        // Half of all sources hold nothing to be found, and parsing takes most of the time of a package.
        if !text.contains("verifies") && !text.contains("implements") && !declares_files(&text) {
            return Ok(());
        }
        let file = syn::parse_file(&text).map_err(|error| {
            Failure::new("source-malformed", format!("{shown}:{}: {error}", error.span().start().line))
        })?;
        let source = SourceFile { path, text, sha256: crate::regulatory::sha256(raw.as_bytes()) };
        self.items(&file.items, &source, folder, place)
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).to_string_lossy().replace('\\', "/")
    }

    fn items(&mut self, items: &[Item], source: &SourceFile<'_>, folder: &Path, place: &Place) -> Result<(), Failure> {
        for item in items {
            match item {
                Item::Fn(item) => self.tagged(&item.attrs, &item.sig.ident.to_string(), item, source, place)?,
                Item::Mod(item) => self.module(item, source, folder, place)?,
                Item::Impl(item) => {
                    let inner = place.under(&item.attrs, None);
                    for member in &item.items {
                        if let ImplItem::Fn(method) = member {
                            self.tagged(&method.attrs, &method.sig.ident.to_string(), method, source, &inner)?;
                        }
                    }
                }
                Item::Trait(item) => {
                    self.tagged(&item.attrs, &item.ident.to_string(), item, source, place)?;
                    for member in &item.items {
                        if let TraitItem::Fn(method) = member {
                            self.tagged(&method.attrs, &method.sig.ident.to_string(), method, source, place)?;
                        }
                    }
                }
                Item::Struct(item) => self.tagged(&item.attrs, &item.ident.to_string(), item, source, place)?,
                Item::Enum(item) => self.tagged(&item.attrs, &item.ident.to_string(), item, source, place)?,
                Item::Const(item) => self.tagged(&item.attrs, &item.ident.to_string(), item, source, place)?,
                Item::Static(item) => self.tagged(&item.attrs, &item.ident.to_string(), item, source, place)?,
                Item::Type(item) => self.tagged(&item.attrs, &item.ident.to_string(), item, source, place)?,
                Item::Macro(item) => self.macro_tokens(item.mac.tokens.clone(), source, place),
                _ => (),
            }
        }
        Ok(())
    }

    fn module(
        &mut self,
        item: &syn::ItemMod,
        source: &SourceFile<'_>,
        folder: &Path,
        place: &Place,
    ) -> Result<(), Failure> {
        let name = item.ident.to_string();
        self.tagged(&item.attrs, &name, item, source, place)?;
        let inner = place.under(&item.attrs, Some(&name));
        if let Some((_, items)) = &item.content {
            return self.items(items, source, &folder.join(&name), &inner);
        }
        let given = item.attrs.iter().find_map(|attribute| match &attribute.meta {
            syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
                syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
        let candidates: Vec<PathBuf> = match given {
            Some(given) => vec![source.path.parent().unwrap_or(folder).join(given)],
            None => vec![folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")],
        };
        match candidates.iter().find(|candidate| candidate.is_file()) {
            Some(file) => self.file(file, &folder.join(&name), &inner),
            None => Ok(()), // made by a build script, or compiled elsewhere
        }
    }

    fn tagged(
        &mut self,
        attributes: &[Attribute],
        name: &str,
        item: &impl ToTokens,
        source: &SourceFile<'_>,
        place: &Place,
    ) -> Result<(), Failure> {
        for (at, attribute) in attributes.iter().enumerate() {
            let last = attribute.path().segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
            if last != "verifies" && last != "implements" {
                continue;
            }
            let line = attribute.span().start().line;
            let ids =
                attribute.parse_args_with(Punctuated::<LitStr, syn::Token![,]>::parse_terminated).map_err(|error| {
                    Failure::new("source-malformed", format!("{}:{line}: {error}", self.relative(source.path)))
                })?;
            let named = |attributes: &[Attribute], wanted: &str| {
                attributes.iter().any(|a| a.path().segments.last().is_some_and(|segment| segment.ident == wanted))
            };
            let sha256 = fingerprint(source, item.span(), &attributes[..at]);
            let mut texts = Vec::new();
            if last == "verifies" && self.package == env!("CARGO_PKG_NAME") {
                literals(item.to_token_stream(), &mut texts);
            }
            let tag = Tag {
                is_test_tag: last == "verifies",
                ids: ids.iter().map(LitStr::value).collect(),
                package: self.package.to_owned(),
                binary: self.binary.to_owned(),
                module: place.module.clone(),
                name: name.to_owned(),
                file: self.relative(source.path),
                line,
                source: SourceHash::Tokens(sha256.clone()),
                sha256,
                empty: last == "verifies" && !calls_anything(item.to_token_stream()),
                is_test: named(&attributes[at..], "test"),
                ignored: named(attributes, "ignore"),
                condition: place.under(attributes, None).condition,
                literals: texts,
            };
            self.found.tags.push(tag);
        }
        Ok(())
    }

    /// Inside a macro such as `proptest!` only tokens are known: `#[verifies(..)] .. fn name`.
    fn macro_tokens(&mut self, tokens: TokenStream, source: &SourceFile<'_>, place: &Place) {
        let mut waiting: Vec<(bool, Vec<String>, usize)> = Vec::new();
        let mut ignored = false;
        let sha256 = crate::regulatory::sha256(normal::normal(tokens.clone()).as_bytes());
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(p) if p.as_char() == '#' => {
                    let Some(TokenTree::Group(group)) = tokens.peek() else { continue };
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    let words: Vec<String> = inner.iter().map(ToString::to_string).collect();
                    ignored |= words.first().is_some_and(|word| word == "ignore");
                    let kind = words.iter().find(|word| *word == "verifies" || *word == "implements");
                    if let (Some(kind), Some(TokenTree::Group(list))) = (kind, inner.last())
                        && list.delimiter() == Delimiter::Parenthesis
                    {
                        let ids = list.stream().into_iter().filter_map(|t| syn::parse2::<LitStr>(t.into()).ok());
                        waiting.push((kind == "verifies", ids.map(|id| id.value()).collect(), p.span().start().line));
                    }
                }
                TokenTree::Ident(word) if word == "fn" => {
                    let Some(TokenTree::Ident(name)) = tokens.peek() else { continue };
                    for (is_test_tag, ids, line) in waiting.drain(..) {
                        self.found.tags.push(Tag {
                            is_test_tag,
                            ids,
                            package: self.package.to_owned(),
                            binary: self.binary.to_owned(),
                            module: place.module.clone(),
                            name: name.to_string(),
                            file: self.relative(source.path),
                            line,
                            sha256: sha256.clone(),
                            source: SourceHash::File(source.sha256.clone()),
                            empty: false,
                            is_test: true,
                            ignored,
                            condition: place.condition.clone(),
                            literals: Vec::new(),
                        });
                    }
                    ignored = false;
                }
                TokenTree::Group(group) if waiting.is_empty() => self.macro_tokens(group.stream(), source, place),
                _ => (),
            }
        }
    }
}

/// Of the documentation at the head of a file; empty where it has none.
fn first_sentence(text: &str) -> String {
    let head = text
        .lines()
        .map(str::trim)
        .take_while(|line| ["//", "#!"].iter().any(|c| line.starts_with(c)) || line.is_empty());
    let lines = head.filter_map(|line| line.strip_prefix("//!")).map(str::trim);
    let paragraph: Vec<&str> = lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    paragraph.split_once(". ").map_or(paragraph.clone(), |(first, _)| format!("{first}."))
}

/// Whether a `mod name;` may be in the text, which leads to another file.
fn declares_files(text: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices("mod").any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + 3..]);
        let name = after.trim_start();
        let rest = name.trim_start_matches(word).trim_start();
        !before.ends_with(word) && name.len() < after.len() && rest.len() < name.len() && rest.starts_with(';')
    })
}

/// String literals of an item, in their order: what a test of this tool plants and what it expects.
fn literals(tokens: TokenStream, found: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => literals(group.stream(), found),
            TokenTree::Literal(literal) => {
                found.extend(syn::parse2::<LitStr>(TokenTree::Literal(literal).into()).ok().map(|text| text.value()));
            }
            _ => (),
        }
    }
}

/// Hash of an item's tokens as the compiler gives them to the macro: as written, for syn's own tokens differ from them in places
/// (`x.0.1`), and without the conditions in front of the tag, which are settled before.
fn fingerprint(source: &SourceFile<'_>, item: proc_macro2::Span, before_tag: &[Attribute]) -> String {
    let conditions = before_tag.iter().filter(|a| a.path().is_ident("cfg")).map(|a| a.span().byte_range());
    let mut text = String::new();
    let mut from = item.byte_range().start;
    for condition in conditions {
        text.push_str(&source.text[from..condition.start]);
        from = condition.end;
    }
    text.push_str(&source.text[from..item.byte_range().end]);
    // It is a part of a file that was parsed, at the borders of tokens.
    let tokens = TokenStream::from_str(&text).unwrap_or_default();
    crate::regulatory::sha256(normal::normal(tokens).as_bytes())
}

/// Does the body, the last braces, hold any call or macro? Without one a test asserts nothing.
fn calls_anything(item: TokenStream) -> bool {
    fn holds_arguments(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Parenthesis || holds_arguments(group.stream()),
            _ => false,
        })
    }
    match item.into_iter().last() {
        Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => holds_arguments(body.stream()),
        _ => true,
    }
}

/// `#[cfg(..)]` other than plain `test`, as written.
fn conditions(attributes: &[Attribute]) -> Vec<String> {
    let cfgs = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    cfgs.filter_map(|attribute| match &attribute.meta {
        syn::Meta::List(list) => Some(list.tokens.to_string().replace(" = ", "=").replace(' ', "")),
        _ => None,
    })
    .filter(|condition| condition != "test")
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn scanned(files: &[(&str, &str)]) -> Vec<Tag> {
        all(files).tags
    }

    fn all(files: &[(&str, &str)]) -> Scanned {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let target =
            Target { name: "a-b".into(), kind: vec!["lib".into()], src_path: folder.path().join("src/lib.rs") };
        let package = Package {
            name: "a-b".into(),
            version: "1.0.0".into(),
            targets: vec![target],
            dependencies: vec![],
            manifest_path: "Cargo.toml".into(),
        };
        scan(folder.path(), &[package]).unwrap()
    }

    #[verifies("RR-001")]
    #[test]
    fn modules_methods_and_tests_are_found_with_their_paths() {
        let tags = scanned(&[
            (
                "src/lib.rs",
                "mod froc;\n#[cfg(feature = \"cuda\")]\nmod gpu { #[implements(\"FR-001\")] pub fn go() {} }\n",
            ),
            (
                "src/froc.rs",
                "mod deep;\nimpl X { #[implements(\"FR-004\", \"R-001\")] fn run(&self) {} }\n\
                 #[cfg(test)]\nmod tests {\n    #[lungai_trace::verifies(\"FR-004\")]\n    #[tokio::test]\n    #[ignore]\n    async fn ties() {}\n}\n",
            ),
            (
                "src/froc/deep.rs",
                "/// #[verifies(\"FR-009\")] in a comment is no tag.\n#[implements(\"FR-003\")]\nfn d() {}\n",
            ),
        ]);
        let found: Vec<_> =
            tags.iter().map(|t| (t.module.as_str(), t.name.as_str(), t.file.as_str(), t.line)).collect();
        assert_eq!(
            found,
            [
                ("a_b::froc", "run", "src/froc.rs", 2),
                ("a_b::froc::tests", "ties", "src/froc.rs", 5),
                ("a_b::froc::deep", "d", "src/froc/deep.rs", 2),
                ("a_b::gpu", "go", "src/lib.rs", 3),
            ]
        );
        let ties = &tags[1];
        assert!(ties.is_test && ties.ignored && ties.is_test_tag && ties.condition.is_empty());
        assert_eq!(ties.runner_name(), "froc::tests::ties");
        assert_eq!(tags[3].condition, ["feature=\"cuda\""]);
    }

    #[verifies("RR-001")]
    #[test]
    fn a_unit_is_described_by_the_first_sentence_of_its_file() {
        let files = [
            (
                "src/lib.rs",
                "//! Finds\n//! nodules. And more.\n//!\n//! Then again.\nmod a;\nmod b;\nmod c { //! No file.\n}\n",
            ),
            ("src/a.rs", "// Only a comment.\nfn f() {}\n"),
            ("src/b.rs", "#![allow(x)]\n// A note.\n\n//! Without an end\nmod d ;\n"),
            ("src/b/d.rs", "\n"),
        ];
        let units = all(&files).units;
        let found: Vec<_> = units.iter().map(|u| (u.module.as_str(), u.file.as_str(), u.about.as_str())).collect();
        let expected = [
            ("a_b", "src/lib.rs", "Finds nodules."),
            ("a_b::a", "src/a.rs", ""),
            ("a_b::b", "src/b.rs", "Without an end"),
            ("a_b::b::d", "src/b/d.rs", ""),
        ];
        assert_eq!(found, expected);
    }

    #[verifies("RR-001", "SW-1105")]
    #[test]
    fn layout_comments_and_tags_do_not_change_a_fingerprint_and_a_number_does() {
        let hash = |text: &str| scanned(&[("src/lib.rs", text)])[0].sha256.clone();
        let one = hash("#[verifies(\"FR-001\")]\n#[test]\nfn t() { assert_eq!(f(), 3); }\n");
        let same = "/// Says more.\n#[verifies(\"FR-001\", \"R-001\")]\n#[test]\nfn t() {\n    // why\n    assert_eq!( f(),3 ) ;\n}\n";
        assert_eq!(one, hash(same));
        assert_ne!(one, hash(&same.replace(",3", ",4")));
        assert_ne!(one, hash(&same.replace("#[test]", "#[test]\n#[ignore]")));
    }

    #[verifies("RR-001", "SW-1101")]
    #[test]
    fn a_condition_in_front_of_the_tag_does_not_change_a_fingerprint_and_one_behind_it_does() {
        let hash = |text: &str| scanned(&[("src/lib.rs", text)])[0].sha256.clone();
        let one = hash("#[verifies(\"FR-001\")]\n#[test]\nfn t() { x.0.1.f(); }\n");
        let before = "#[cfg(unix)]\r\n/// Of Unix.\n#[cfg(feature = \"a\")]\n#[verifies(\"FR-001\")]\n#[test]\nfn t() { x.0.1.f(); }\n";
        assert_eq!(one, hash(before));
        assert_ne!(one, hash("#[verifies(\"FR-001\")]\n#[cfg(unix)]\n#[test]\nfn t() { x.0.1.f(); }\n"));
    }

    #[verifies("RR-001", "SW-1101")]
    #[test]
    fn a_tag_behind_the_test_attribute_is_none_of_a_test() {
        let tags = scanned(&[("src/lib.rs", "#[test]\n#[verifies(\"FR-001\")]\nfn t() { f(); }\n")]);
        assert!(!tags[0].is_test, "what the macro sees there is no longer what is written");
    }

    #[verifies("RR-001", "SW-1101")]
    #[test]
    fn a_body_without_a_call_is_empty() {
        let empty = |body: &str| {
            scanned(&[("src/lib.rs", &format!("#[verifies(\"FR-001\")]\n#[test]\nfn t() {{ {body} }}\n"))])[0].empty
        };
        assert!(empty("") && empty("let x = 3;"));
        assert!(!empty("check(3);") && !empty("assert!(true)") && !empty("if x { y.f() }"));
    }

    #[verifies("RR-001")]
    #[test]
    fn a_test_inside_a_macro_is_found() {
        let tags = scanned(&[(
            "src/lib.rs",
            "proptest! {\n    #![proptest_config(c)]\n    #[verifies(\"FR-002\")]\n    #[test]\n    fn holds(x in 0..1) { f(x); }\n    #[test]\n    fn other(x in 0..1) {}\n}\n",
        )]);
        assert_eq!(tags.len(), 1);
        assert_eq!((tags[0].name.as_str(), tags[0].line, tags[0].is_test), ("holds", 3, true));
        assert!(matches!(tags[0].source, SourceHash::File(_)), "proptest writes the test that is compiled");
    }
}
