//! What was to be shown, and whether it is.

use super::{Context, whole};
use crate::coherence::{Kind, Statement, Verdict};
use crate::protocol::{Metric, Multiplicity, On};
use crate::report::document::{Block, Cell, Table, Tone, claim};
use crate::report::language::say;
use crate::report::words;
use crate::results::{CriterionResult, Figure, Role};

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let mut blocks = vec![c.heading("verdict", "Verdict", "结论"), banner(c, Role::Primary)];
    let has = |role: Role| c.results.criteria.iter().any(|criterion| criterion.role == role);
    if has(Role::Secondary) {
        blocks.push(banner(c, Role::Secondary));
    }
    for role in [Role::Primary, Role::Secondary].into_iter().filter(|role| has(*role)) {
        blocks.push(Block::Table(table(c, role)));
        blocks.push(Block::Text(rule(c, role)));
    }
    blocks.push(Block::Text(basis(c)));
    blocks
}

/// On what verdicts stand.
fn basis(c: &Context<'_>) -> String {
    let by_value: Vec<&str> =
        c.results.criteria.iter().filter(|criterion| criterion.on == On::Value).map(|c| c.id.as_str()).collect();
    let mut text = match by_value[..] {
        [] => c
            .word(
                "A verdict stands on the bound that the protocol names, never on the point estimate",
                "结论依据方案指定的置信界而不是点估计",
            )
            .to_owned(),
        _ => say!(
            c.language,
            "A verdict stands on the bound that the protocol names; of {} the protocol judges the point estimate, which chance \
             may have moved across the limit",
            "结论依据方案指定的置信界；{} 按方案以点估计判定，可能因偶然越过限值",
            by_value.join(c.word(", ", "、"))
        ),
    };
    text += c.word(
        "; how small groups are named descriptive is in the section on strata.",
        "；小样本分组仅作描述，见分层一节。",
    );
    text
}

fn banner(c: &Context<'_>, role: Role) -> Block {
    let all: Vec<&CriterionResult> = c.results.criteria.iter().filter(|criterion| criterion.role == role).collect();
    let shown = all.iter().filter(|criterion| criterion.decision.shown).count();
    let (n, language) = (all.len(), c.language);
    let text = match (role, shown == n) {
        (Role::Primary, true) => {
            say!(language, "Primary endpoints: MET ({shown} of {n} shown)", "主要终点：达到（{n} 项中 {shown} 项成立）")
        }
        (Role::Primary, false) => say!(
            language,
            "Primary endpoints: NOT MET ({shown} of {n} shown)",
            "主要终点：未达到（{n} 项中 {shown} 项成立）"
        ),
        (Role::Secondary, _) => {
            say!(language, "Secondary endpoints: {shown} of {n} shown", "次要终点：{n} 项中 {shown} 项成立")
        }
    };
    let tone = match (role, shown == n) {
        (_, true) => Tone::Good,
        (Role::Primary, false) => Tone::Bad,
        (Role::Secondary, false) => Tone::Plain,
    };
    Block::Banner(text, tone)
}

fn table(c: &Context<'_>, role: Role) -> Table {
    let (name, caption) = match role {
        Role::Primary => {
            ("endpoints-primary", c.word("Primary endpoints, in the order of the hierarchy", "主要终点（按层级顺序）"))
        }
        Role::Secondary => ("endpoints-secondary", c.word("Secondary endpoints", "次要终点")),
    };
    let head = [
        c.word("endpoint", "终点"),
        c.word("verdict", "结论"),
        c.word("figure", "指标"),
        c.word("of", "人群"),
        c.word("value (interval)", "结果（区间）"),
        "n",
        c.word("must hold", "要求"),
    ];
    let mut table = Table::new(name, caption, &head);
    for criterion in c.results.criteria.iter().filter(|criterion| criterion.role == role) {
        let figure = Figure { value: criterion.value, ci: criterion.ci, n: criterion.n };
        let verdict = match (criterion.decision.shown, criterion.decision.tested) {
            (true, _) => Cell::toned(c.word("met", "达到"), Tone::Good),
            (false, true) => Cell::toned(c.word("NOT met", "未达到"), Tone::Bad),
            (false, false) => Cell::toned(c.word("not tested", "未检验"), Tone::Quiet),
        };
        let must = format!("{} {} {}", words::on(criterion.on, c.language), criterion.op.sign(), criterion.limit);
        table.row(vec![
            Cell::text(&criterion.id),
            verdict,
            Cell::text(words::metric(criterion.metric, c.language)),
            Cell::text(words::population(criterion.diameter_at_least_mm, &criterion.population, c.language)),
            Cell::figure(c.language, &figure, digits(criterion.metric), Some(claimed(name, criterion))),
            Cell::count(criterion.n, None),
            Cell::text(must),
        ]);
    }
    table
}

/// Digits after the point that a limit of this figure is given with, and one more.
fn digits(metric: Metric) -> usize {
    match metric {
        Metric::DiceRight | Metric::DiceLeft => 4,
        Metric::Segment | Metric::Detect | Metric::Classify | Metric::Total => 2,
        _ => 3,
    }
}

fn claimed(table: &str, criterion: &CriterionResult) -> Statement {
    let (kind, whole) = match criterion.metric {
        Metric::Sensitivity => (Kind::Proportion, whole::NODULES),
        Metric::FalsePositives => (Kind::Rate, whole::SCANS),
        Metric::DiceRight | Metric::DiceLeft => (Kind::Mean, whole::LUNGS),
        Metric::Auc => (Kind::Other, whole::DIAGNOSED),
        Metric::AucFound | Metric::CalibrationError => (Kind::Other, whole::FOUND),
        _ => (Kind::Other, whole::SCANS),
    };
    let population = part(whole, criterion.diameter_at_least_mm, &criterion.population);
    let verdict = Verdict { limit: criterion.limit, op: criterion.op, on: criterion.on, met: criterion.met };
    let english = words::metric(criterion.metric, crate::report::language::Language::En);
    let said = claim(table, english, kind, &population).concludes(verdict);
    // Without a figure there is no size that it would be of; and times are of scans that were timed, or had a mark.
    let sized = kind != Kind::Other || whole != whole::SCANS;
    if criterion.value.is_some() && sized { said.n(criterion.n) } else { said }
}

/// What a claim calls the population of a criterion.
pub fn part(whole: &str, diameter_at_least_mm: f64, conditions: &[String]) -> String {
    let mut name = whole.to_owned();
    if diameter_at_least_mm > 0.0 {
        name += &format!(" >= {diameter_at_least_mm} mm");
    }
    conditions.iter().for_each(|condition| name += &format!("; {condition}"));
    name
}

/// How the criteria of a family share one probability of error.
fn rule(c: &Context<'_>, role: Role) -> String {
    let endpoints = &c.protocol.endpoints;
    let family = match role {
        Role::Primary => &endpoints.primary,
        Role::Secondary => &endpoints.secondary,
    };
    let how = match family.multiplicity {
        Multiplicity::AllMustHold => {
            c.word("all must hold together, so that each has the whole alpha", "须全部成立，故每项使用完整的 alpha")
        }
        Multiplicity::FixedSequence => c.word(
            "tested in this order; after the first that fails none is tested",
            "按此顺序检验；首个不成立者之后不再检验",
        ),
        Multiplicity::Holm => c.word("Holm's step-down procedure", "Holm 逐步法"),
        Multiplicity::Unadjusted => c.word(
            "each has the whole alpha and nothing is made of their number: for description",
            "每项使用完整的 alpha，未作多重性校正：仅作描述",
        ),
    };
    // Without the digits that only binary arithmetic puts there.
    let (alpha, level) = (family.alpha, (1e6 * (1.0 - 2.0 * family.alpha)).round() / 1e4);
    let mut text = say!(
        c.language,
        "One-sided alpha {alpha}: intervals in this table are two-sided at {level} %; {how}.",
        "单侧 alpha {alpha}：本表区间为双侧 {level} % 区间；{how}。"
    );
    if role == Role::Secondary && endpoints.secondary_after_primary {
        text += c.word(" They are tested only after every primary endpoint was shown.", "仅在全部主要终点成立后检验。");
    }
    text
}
