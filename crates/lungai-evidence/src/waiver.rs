//! Waivers: a finding that may stand for a while, for a reason, with an owner and an end. It stays visible.
use crate::finding::{Finding, Severity};
use crate::regulatory::Waiver;
use lungai_trace::implements;

/// `today` is the date of the commit (`2026-11-24T..`): the package must not change with the clock.
#[implements("RR-001")]
pub fn apply(findings: &mut Vec<Finding>, waivers: &[Waiver], today: &str) {
    let mut new = Vec::new();
    for waiver in waivers {
        let item = format!("{} {}", waiver.rule, waiver.item);
        let mut say = |severity, rule, message: String| new.push(Finding::new(severity, rule, &item, message));
        let today = today.get(..10).unwrap_or_default();
        if today.is_empty() {
            say(Severity::Red, "waiver-undated", "the sources have no commit date: no waiver counts".to_owned());
            continue;
        }
        if waiver.expires.to_string().as_str() < today {
            say(Severity::Red, "waiver-expired", format!("ended on {}; owner: {}", waiver.expires, waiver.owner));
            continue;
        }
        let hit = |finding: &&mut Finding| finding.rule == waiver.rule && finding.item == waiver.item;
        let mut used = false;
        for finding in findings.iter_mut().filter(hit) {
            used = true;
            if finding.severity == Severity::Red {
                say(Severity::Red, "waiver-refused", "what is broken cannot be waived".to_owned());
            } else {
                finding.severity = Severity::Grey;
                let Waiver { expires, owner, reason, .. } = waiver;
                finding.message = format!("waived until {expires} by {owner} ({reason}): {}", finding.message);
            }
        }
        if !used {
            say(Severity::Amber, "waiver-idle", "no such finding: remove the waiver".to_owned());
        }
    }
    findings.extend(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regulatory::Date;
    use lungai_trace::verifies;

    fn check(severity: Severity, waived_item: &str, today: &str) -> Vec<(Severity, &'static str)> {
        let date = |text: &str| Date::try_from(text.to_owned()).unwrap();
        let waiver = Waiver {
            rule: "unlinked".to_owned(),
            item: waived_item.to_owned(),
            reason: "next sprint".to_owned(),
            owner: "QA".to_owned(),
            approved: date("2026-01-01"),
            expires: date("2026-06-30"),
        };
        let mut findings = vec![Finding::new(severity, "unlinked", "FR-001", "no test".to_owned())];
        apply(&mut findings, &[waiver], today);
        findings.into_iter().map(|finding| (finding.severity, finding.rule)).collect()
    }

    #[verifies("RR-001")]
    #[test]
    fn a_waiver_greys_its_finding_until_the_day_it_ends() {
        let (amber, grey, red) = (Severity::Amber, Severity::Grey, Severity::Red);
        assert_eq!(check(amber, "FR-001", "2026-06-30T23:59:59+08:00"), [(grey, "unlinked")]);
        assert_eq!(check(amber, "FR-001", "2026-07-01T00:00:00Z"), [(amber, "unlinked"), (red, "waiver-expired")]);
        assert_eq!(check(amber, "FR-002", "2026-02-01T"), [(amber, "unlinked"), (amber, "waiver-idle")]);
        assert_eq!(check(red, "FR-001", "2026-02-01T"), [(red, "unlinked"), (red, "waiver-refused")]);
        assert_eq!(check(amber, "FR-001", ""), [(amber, "unlinked"), (red, "waiver-undated")]);
    }
}
