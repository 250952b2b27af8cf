//! Which members of the workspace the product ships, and requirements of the product that only others implement.
use crate::finding::{Finding, Severity};
use crate::regulatory::{Allocation, Regulatory};
use crate::scan::Tag;
use crate::workspace::Package;
use lungai_trace::implements;
use std::collections::{BTreeMap, BTreeSet};

/// A requirement of the product that only tools implement is shown by none of their tests.
#[implements("RR-001", "SW-1101")]
pub fn outside_the_product(tags: &[Tag], packages: &[Package], regulatory: &Regulatory) -> Vec<Finding> {
    let shipped = members(packages, &regulatory.profile.shipped);
    let mut places: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for tag in tags.iter().filter(|tag| !tag.is_test_tag) {
        for id in &tag.ids {
            places.entry(id).or_default().insert(&tag.package);
        }
    }
    let of_the_product = regulatory.requirements.values().filter(|r| r.allocation == Allocation::InScope && !r.tools);
    let outside = of_the_product.filter_map(|requirement| {
        let places = places.get(requirement.id.as_str())?;
        if places.iter().any(|package| shipped.contains(package)) {
            return None;
        }
        let names = places.iter().copied().collect::<Vec<_>>().join(", ");
        let message = format!(
            "implemented in {names} alone, which {} does not ship: their tests show nothing of the product",
            regulatory.profile.shipped
        );
        Some(Finding::new(Severity::Red, "implemented-outside-product", &requirement.id, message))
    });
    outside.collect()
}

/// The package and all members of the workspace that are linked into it.
fn members<'a>(packages: &'a [Package], shipped: &str) -> BTreeSet<&'a str> {
    let by_name: BTreeMap<&str, &Package> = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut found = BTreeSet::new();
    let mut open = vec![shipped];
    while let Some(package) = open.pop().and_then(|name| by_name.get(name)) {
        if found.insert(package.name.as_str()) {
            let linked = package.dependencies.iter().filter(|d| d.kind.is_none() && d.path.is_some());
            open.extend(linked.map(|d| d.name.as_str()));
        }
    }
    found
}
