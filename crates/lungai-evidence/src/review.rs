//! `evidence review`: a person says that links of the trace are right as they are today.
use crate::build;
use crate::failure::Failure;
use crate::governance;
use crate::links::{Key, LinkState, Lock};
use crate::regulatory::{Date, Regulatory};
use crate::{Answer, SourceArgs, locate};
use chrono::{NaiveDate, TimeDelta};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Without a reviewer only what waits is printed.
pub fn review(args: SourceArgs, reviewer: Option<String>, items: &[String], date: Option<String>) -> Answer {
    let (root, sources) = locate(args)?;
    let folder = root.join("regulatory");
    let (drawn, regulatory) = build::links(&root, &sources)?;
    let mut lock = Lock::read(&folder)?;
    let Some(reviewer) = reviewer else {
        let (links, _) = drawn.compare(&lock);
        return Ok(list(&links, &regulatory));
    };
    let date = day(date)?.to_string();
    let (cleared, dropped) = lock.review(&drawn, items, &reviewer, &date)?;
    lock.write(&folder)?;
    let title = |key: &Key| format!("{} {} {}", key.from, key.kind, key.to);
    let lines = cleared.iter().map(|key| format!("reviewed  {}", title(key)));
    let mut lines: Vec<String> = lines.chain(dropped.iter().map(|key| format!("dropped   {}", title(key)))).collect();
    lines.push(format!(
        "{} links reviewed by {reviewer} on {date}, {} that are gone dropped",
        cleared.len(),
        dropped.len()
    ));
    let value = json!({
        "ok": true,
        "reviewer": reviewer,
        "date": date,
        "reviewed": cleared.iter().map(title).collect::<Vec<_>>(),
        "dropped": dropped.iter().map(title).collect::<Vec<_>>(),
    });
    Ok((lines.join("\n"), value))
}

fn list(links: &[crate::links::Link], regulatory: &Regulatory) -> (String, Value) {
    let waiting: Vec<_> = links.iter().filter(|link| link.state != LinkState::Current).collect();
    let mut lines: Vec<String> = waiting
        .iter()
        .map(|link| match link.state {
            LinkState::Suspect => format!("SUSPECT       {}: {}", link.title(), link.why),
            _ => format!("not reviewed  {}", link.title()),
        })
        .collect();
    let named = regulatory.requirements.keys().chain(regulatory.risks.keys()).chain(regulatory.threats.keys()).cloned();
    let controls = regulatory.risks.values().flat_map(|risk| &risk.controls).map(|control| control.id.clone());
    let named = named.chain(controls).chain(regulatory.documents.keys().map(|name| format!("plans/{name}.md")));
    let hashes: BTreeMap<String, String> =
        named.filter_map(|item| governance::hash_of(regulatory, &item).map(|hash| (item, hash))).collect();
    lines.extend(hashes.iter().map(|(item, hash)| format!("text  {item}: {hash}")));
    lines.push(format!("{} of {} links wait for a review", waiting.len(), links.len()));
    (lines.join("\n"), json!({ "ok": true, "links": links.len(), "waiting": waiting, "texts": hashes }))
}

/// The day that was given, or today in UTC.
pub fn day(given: Option<String>) -> Result<Date, Failure> {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86_400) as i64;
    Date::try_from(given.unwrap_or_else(|| civil(days))).map_err(|message| Failure::new("date", message))
}

fn civil(days: i64) -> String {
    let date = NaiveDate::default() + TimeDelta::days(days); // the default is 1970-01-01
    date.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_since_1970_become_dates() {
        // By `date -u -d @..`.
        assert_eq!(civil(0), "1970-01-01");
        assert_eq!(civil(11_016), "2000-02-29");
        assert_eq!(civil(20_781), "2026-11-24");
    }
}
