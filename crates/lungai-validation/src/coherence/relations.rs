//! What statements say of each other.

use super::{Checked, Kind, Statement};
use std::collections::{BTreeMap, BTreeSet};

/// From how many members on two populations of one size look like one population.
const UNLIKELY_TWINS: u64 = 100;

/// A population has one size and one value of a figure wherever it is named; and two of one size are asked about.
pub fn same_population(statements: &[Statement], checked: &mut Checked) {
    let mut of_population: BTreeMap<&str, Vec<&Statement>> = BTreeMap::new();
    for statement in statements {
        of_population.entry(&statement.population).or_default().push(statement);
    }
    let mut of_size: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for (population, all) in &of_population {
        let sized: Vec<(&Statement, u64)> = all.iter().filter_map(|s| Some((*s, s.size()?))).collect();
        if let Some((first, size)) = sized.first() {
            of_size.entry(*size).or_default().insert(population);
            for (other, n) in &sized[1..] {
                checked.rule("population-of-two-sizes", n == size, || {
                    format!("`{population}` has {size} members in `{}` and {n} in `{}`", first.table, other.table)
                });
            }
        }
        let mut of_figure: BTreeMap<&str, Vec<&Statement>> = BTreeMap::new();
        for statement in all.iter().filter(|s| s.x.is_none() && s.kind != Kind::Size) {
            of_figure.entry(&statement.figure).or_default().push(statement);
        }
        for said in of_figure.values() {
            for (a, b) in said.iter().zip(&said[1..]) {
                if let (Some(first), Some(second)) = (a.value, b.value) {
                    checked.rule("figure-of-two-values", first.agrees(&second), || {
                        format!("{} is {first}, and in `{}` {second}", a.place(), b.table)
                    });
                }
            }
        }
    }
    let wholes = |population: &str| -> BTreeSet<&str> {
        let all = of_population.get(population).into_iter().flatten();
        all.flat_map(|s| s.part_of.iter().chain(&s.among)).map(String::as_str).collect()
    };
    for (size, twins) in of_size.into_iter().filter(|(size, _)| *size >= UNLIKELY_TWINS) {
        let twins: Vec<&str> = twins.into_iter().collect();
        for (i, a) in twins.iter().enumerate() {
            for b in twins[i + 1..].iter().filter(|b| !wholes(a).contains(*b) && !wholes(b).contains(a)) {
                checked.ask(
                    "two-populations-of-one-size",
                    format!("`{a}` and `{b}` both have {size} members and are not said to be one another's part"),
                );
            }
        }
    }
}

/// Parts add up to their whole, and its figure is theirs together.
pub fn parts_and_wholes(statements: &[Statement], checked: &mut Checked) {
    let mut size_of: BTreeMap<&str, u64> = BTreeMap::new();
    for statement in statements {
        if let Some(size) = statement.size() {
            size_of.entry(&statement.population).or_insert(size);
        }
    }
    let mut partitions: BTreeMap<(&str, &str, &str), Vec<&Statement>> = BTreeMap::new();
    for statement in statements.iter().filter(|s| s.x.is_none()) {
        for whole in &statement.part_of {
            partitions.entry((&statement.table, &statement.figure, whole)).or_default().push(statement);
        }
        for whole in &statement.among {
            if let (Some(part), Some(all)) = (statement.size(), size_of.get(whole.as_str())) {
                checked.rule("part-above-its-whole", part <= *all, || {
                    format!("{part} of `{}` among {all} of `{whole}`", statement.population)
                });
            }
        }
    }
    for ((table, figure, whole), parts) in partitions {
        let sizes: Option<Vec<u64>> = parts.iter().map(|p| size_of.get(p.population.as_str()).copied()).collect();
        if let (Some(sizes), Some(all)) = (&sizes, size_of.get(whole)) {
            let sum: u64 = sizes.iter().sum();
            checked.rule("parts-do-not-add-up", sum == *all, || {
                format!("the parts of `{whole}` in `{table}` have {sum} members, the whole has {all}")
            });
        }
        // The whole of the same table first: another one may be of another operating point, which its own figure's
        // name or the rule of two values says.
        let of_whole = |s: &&Statement| s.population == whole && s.figure == figure && s.x.is_none();
        let here = statements.iter().filter(of_whole);
        let Some(total) = here.clone().find(|s| s.table == table).or_else(|| here.clone().next()) else { continue };
        pooled(figure, total, &parts, sizes.as_deref(), checked);
    }
}

/// The figure of a whole follows from those of its parts.
fn pooled(figure: &str, total: &Statement, parts: &[&Statement], sizes: Option<&[u64]>, checked: &mut Checked) {
    let whole = &total.population;
    if total.kind == Kind::Count {
        let values: Option<Vec<f64>> = parts.iter().map(|p| p.value.map(|v| v.value)).collect();
        if let (Some(values), Some(all)) = (values, total.value) {
            let sum: f64 = values.iter().sum();
            checked.rule("parts-do-not-add-up", (sum - all.value).abs() < 1e-9, || {
                format!("{figure} of the parts of `{whole}` adds up to {sum}, not {all}")
            });
        }
        return;
    }
    let with_n = |p: &Statement, n: Option<u64>| Statement { n: p.n.or(n), ..p.clone() };
    let known: Option<Vec<[f64; 2]>> =
        parts.iter().enumerate().map(|(i, p)| with_n(p, sizes.map(|s| s[i])).counts()).collect();
    if let (Some(counts), Some(sizes)) = (known, sizes) {
        let n: u64 = sizes.iter().sum();
        let [low, high] = counts.iter().fold([0.0, 0.0], |sum, c| [sum[0] + c[0], sum[1] + c[1]]);
        if let Some(all) = total.count {
            checked.rule("parts-do-not-add-up", low <= all as f64 + 1e-9 && all as f64 <= high + 1e-9, || {
                format!("the parts of `{whole}` count {low:.0} to {high:.0}, the whole {all}, in `{}`", total.table)
            });
        }
        if let (Some(value), true) = (total.value, n > 0) {
            let [least, most] = [low / n as f64, high / n as f64];
            let [from, to] = value.range();
            checked.rule("parts-pool-to-another-figure", least <= to + 1e-9 && from <= most + 1e-9, || {
                let decimals = value.to_string().bytes().rev().take_while(|b| *b != b'.').count().max(3);
                let pooled = if least == most {
                    format!("{least:.decimals$}")
                } else {
                    format!("{least:.decimals$} to {most:.decimals$}")
                };
                let of_part = parts.iter().find(|p| p.value.is_some_and(|v| v.agrees(&value)));
                let copied = of_part
                    .map_or(String::new(), |p| format!("; {value} is the figure of its part `{}`", p.population));
                format!("{} is {value}, but its parts pool to {pooled}{copied}", total.place())
            });
        }
        return;
    }
    // Without sizes a pooled figure still lies among those of the parts.
    let values: Option<Vec<[f64; 2]>> = parts.iter().map(|p| p.value.map(|v| v.inner_range())).collect();
    if let (Some(values), Some(value), Kind::Proportion | Kind::Rate | Kind::Mean) = (values, total.value, total.kind) {
        let lowest = values.iter().map(|v| v[0]).fold(f64::INFINITY, f64::min);
        let highest = values.iter().map(|v| v[1]).fold(f64::NEG_INFINITY, f64::max);
        let [from, to] = value.inner_range();
        checked.rule("figure-outside-its-parts", lowest <= to && from <= highest, || {
            format!("{} is {value}, outside of every part, {lowest:.3} to {highest:.3}", total.place())
        });
    }
}

/// Points along x do not fall.
pub fn curves(statements: &[Statement], checked: &mut Checked) {
    let mut curves: BTreeMap<[&str; 3], Vec<(f64, &Statement)>> = BTreeMap::new();
    for statement in statements {
        if let Some(x) = statement.x {
            let key = [&statement.table, &statement.figure, &statement.population].map(String::as_str);
            curves.entry(key).or_default().push((x, statement));
        }
    }
    for ([table, figure, population], mut points) in curves {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (a, b) in points.iter().zip(&points[1..]) {
            let (Some(before), Some(after)) = (a.1.value, b.1.value) else { continue };
            checked.rule("curve-falls", before.at_most(&after), || {
                format!("{figure} of `{population}` in `{table}` falls from {before} at {} to {after} at {}", a.0, b.0)
            });
        }
    }
}
