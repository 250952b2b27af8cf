//! The two languages of the documents: one source, read twice. Words of the evidence have one translation each, here.
use crate::regulatory::{Language, Text};

impl Language {
    pub const BOTH: [Language; 2] = [Language::En, Language::Zh];

    /// As HTML and file names say it.
    pub fn code(self) -> &'static str {
        self.say("en", "zh")
    }

    pub fn say<'a>(self, en: &'a str, zh: &'a str) -> &'a str {
        match self {
            Language::En => en,
            Language::Zh => zh,
        }
    }

    pub fn of(self, text: &Text) -> &str {
        self.say(&text.en, &text.zh)
    }

    /// A state, verdict or other fixed word; what is no fixed word stays as it is.
    pub fn word(self, word: &str) -> &str {
        let known = TERMS.iter().find(|(en, _)| *en == word).map_or(word, |(_, zh)| zh);
        self.say(word, known)
    }

    /// The head of a Markdown table from `English|中文` for each column.
    pub fn table(self, columns: &[&str]) -> String {
        let names: Vec<&str> =
            columns.iter().map(|c| c.split_once('|').map_or(*c, |(en, zh)| self.say(en, zh))).collect();
        format!("| {} |\n|{}", names.join(" | "), "---|".repeat(names.len()))
    }
}

/// Markdown takes `|` and line ends inside a table for its own.
pub fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

const TERMS: &[(&str, &str)] = &[
    ("failed", "失败"),
    ("criterion not met", "判据未满足"),
    ("criterion not met (synthetic)", "判据未满足（合成数据）"),
    ("unlinked", "未关联"),
    ("linked", "已关联"),
    ("executed", "已执行"),
    ("exercised", "已触及"),
    ("open problem", "有未决问题"),
    ("passed", "通过"),
    ("criterion met (synthetic, exploratory)", "判据满足（合成数据，探索性）"),
    ("criterion met (synthetic)", "判据满足（合成数据）"),
    ("criterion met (exploratory)", "判据满足（探索性）"),
    ("record of a person", "有人员记录"),
    ("criterion met", "判据满足"),
    ("reviewed", "已评审"),
    ("released", "已发布"),
    ("manual - record required", "人工，须有记录"),
    ("not evidenced here", "此处无证据"),
    ("not applicable", "不适用"),
    ("not evaluated", "未评价"),
    ("broken", "失效"),
    ("not shown", "未证明"),
    ("synthetic only", "仅合成数据"),
    ("exploratory only", "仅探索性"),
    ("planned", "计划中"),
    ("shown", "已证明"),
    ("gap", "缺口"),
    ("killed", "被测试发现"),
    ("survived", "未被发现"),
    ("killed by other tests only", "仅被其他测试发现"),
    ("does not build", "无法编译"),
    ("tests fail without it", "未改动时测试即失败"),
    ("text no longer there", "原文已不存在"),
    ("not run", "未运行"),
    ("ignored", "被忽略"),
    ("skipped", "被跳过"),
    ("passed, not evidenced here", "通过，此处无证据"),
    ("passed, records disagree", "通过，记录不一致"),
    ("passed, no record", "通过，无记录"),
    ("value", "数值"),
    ("lower confidence bound", "置信下限"),
    ("upper confidence bound", "置信上限"),
    ("low", "低"),
    ("medium", "中"),
    ("high", "高"),
    ("inherent", "固有安全"),
    ("protective", "防护措施"),
    ("information", "安全信息"),
    ("external", "外部"),
    ("functional", "功能"),
    ("inputs outputs", "输入输出"),
    ("interfaces", "接口"),
    ("alarms", "报警"),
    ("security", "安全"),
    ("usability", "可用性"),
    ("data", "数据"),
    ("installation", "安装"),
    ("operation maintenance", "运行与维护"),
    ("network", "网络"),
    ("user maintenance", "用户维护"),
    ("regulatory", "法规"),
    ("test", "测试"),
    ("validation", "确认运行"),
    ("review", "评审"),
    ("inspection", "检查"),
    ("yes", "是"),
    ("no", "否"),
    ("none", "无"),
    ("met", "满足"),
    ("not met", "未满足"),
    ("proves nothing", "不作证明"),
    ("critical", "严重"),
    ("major", "重大"),
    ("minor", "轻微"),
    ("specification", "规格"),
    ("defect", "缺陷"),
    ("soup", "未知来源软件"),
    ("hardware", "硬件"),
    ("use", "使用"),
    ("suspect", "存疑"),
    ("not reviewed", "未评审"),
    ("current", "有效"),
    ("not earned", "未获得"),
    ("not stated", "未说明"),
    ("unknown", "未知"),
    ("absent", "无"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clauses::ClauseState;
    use crate::results::Outcome;
    use crate::state::State;
    use lungai_trace::verifies;

    #[verifies("RR-001")]
    #[test]
    fn every_state_has_a_word_in_both_languages() {
        let states = State::ALL.map(State::words).into_iter();
        let outcomes = [
            Outcome::NotHere,
            Outcome::NotEvaluated,
            Outcome::NotMet,
            Outcome::NotMetSynthetic,
            Outcome::MetSyntheticExploratory,
            Outcome::MetSynthetic,
            Outcome::MetExploratory,
            Outcome::Met,
        ];
        let clauses = [
            ClauseState::Gap,
            ClauseState::Manual,
            ClauseState::Recorded,
            ClauseState::Shown,
            ClauseState::NotApplicable,
        ];
        for word in states.chain(outcomes.map(Outcome::words)).chain(clauses.map(ClauseState::words)) {
            assert_ne!(Language::Zh.word(word), word, "`{word}` has no Chinese");
            assert_eq!(Language::En.word(word), word);
        }
        let once: std::collections::BTreeSet<_> = TERMS.iter().map(|(en, _)| en).collect();
        assert_eq!(once.len(), TERMS.len(), "one translation each");
    }
}
