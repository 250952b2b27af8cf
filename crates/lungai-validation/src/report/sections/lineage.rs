//! From what the results come, each by its hash.

use super::Context;
use crate::lock::Standing;
use crate::report::document::{Block, Cell, Table};
use crate::report::language::say;

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let f = c.facts;
    let synthetic = |yes: bool| if yes { c.word(", SYNTHETIC", "，合成数据（SYNTHETIC）") } else { "" };
    let trained = if f.model_synthetic {
        c.word(", trained on SYNTHETIC data", "，用合成数据（SYNTHETIC）训练")
    } else {
        ""
    };
    let standing = match &f.standing {
        Standing::Exploratory => {
            c.word("EXPLORATORY: the protocol was not locked before the run", "探索性：方案在运行前未锁定").to_owned()
        }
        Standing::Locked { ledger, opened } => say!(
            c.language,
            "locked before the run; {ledger}, line {}, {}",
            "运行前已锁定；{ledger} 第 {} 行，{}",
            opened.number,
            &opened.hash[..16]
        ),
    };
    let named = |name: &str, value: String| (name.to_owned(), value);
    let mut rows = vec![
        named(c.word("protocol", "方案"), f.protocol.clone()),
        named(c.word("standing of the protocol", "方案状态"), standing),
        named(c.word("protocol file, SHA-256", "方案文件 SHA-256"), f.protocol_sha256.clone()),
        named(c.word("protocol as locked, SHA-256", "锁定内容 SHA-256"), f.canonical_sha256.clone()),
        named(c.word("data set", "数据集"), format!("{}{}", f.data_set, synthetic(f.synthetic))),
        named(c.word("data fingerprint", "数据指纹"), f.data_fingerprint.clone()),
        named(c.word("manifest with the split, SHA-256", "清单（含划分）SHA-256"), f.manifest_sha256.clone()),
    ];
    rows.extend(
        f.tables
            .iter()
            .map(|(name, sha256)| (say!(c.language, "{name}, SHA-256", "{name} 的 SHA-256"), sha256.clone())),
    );
    rows.extend([
        named(c.word("model", "模型"), format!("{}{trained}", f.model)),
        named(c.word("model, SHA-256", "模型 SHA-256"), f.model_sha256.clone()),
        named(c.word("predictions, SHA-256", "预测 SHA-256"), f.predictions_sha256.clone()),
        named(c.word("program that analysed", "分析程序"), format!("lungai-validation {}", env!("CARGO_PKG_VERSION"))),
        named(c.word("program, SHA-256", "程序 SHA-256"), f.program_sha256.clone()),
        named(c.word("device", "运行设备"), f.device.clone()),
        named(
            c.word("operating point", "工作点"),
            say!(
                c.language,
                "{} (score {:.4})",
                "{}（分数 {:.4}）",
                f.operating_point,
                c.results.detection.operating_threshold
            ),
        ),
        named(
            c.word("bootstrap", "重抽样"),
            say!(
                c.language,
                "{} draws of patients, seed {}",
                "按患者重抽样 {} 次，种子 {}",
                c.protocol.bootstrap.replicates,
                c.protocol.bootstrap.seed
            ),
        ),
    ]);
    let head = [c.word("what", "项目"), c.word("value", "值")];
    let mut table =
        Table::new("lineage", c.word("Data, split, model, protocol and code", "数据、划分、模型、方案与代码"), &head);
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        table.row(vec![Cell::text(name), Cell::text(value)]);
    }
    vec![c.heading("lineage", "Lineage", "溯源"), Block::Table(table)]
}
