//! The reference of the configuration: the tables of docs/configuration.md, which is part of the program.
//!
//! The page is the one home of these texts. A test holds it against the reader of the file: every key is there and no
//! other, every default means what leaving the key out means, and every example is accepted where it belongs.

use serde::Serialize;

/// The page.
const PAGE: &str = include_str!("../../docs/configuration.md");

/// One key of the file, as its row says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Key {
    /// The header above it, as `[sink]`; of a key that is a table, `keep = { .. }`.
    pub section: String,
    /// Its name.
    pub key: String,
    /// How its value is written.
    #[serde(rename = "type")]
    pub form: String,
    /// What holds where it is left out; `required`, `none` and the like are words, values are written as in the file.
    pub default: String,
    /// What it does.
    pub meaning: String,
    /// A line as it stands in the file.
    pub example: String,
}

impl Key {
    /// Whether a word names it: its section (`sink`, `[sink]`), its key (`keep`), or both (`sink.keep`).
    pub fn is_named(&self, word: &str) -> bool {
        let word = word.trim_matches(['[', ']']);
        let section = self.section.trim_matches(['[', ']']);
        let section = section.strip_suffix(" = { .. }").unwrap_or(section);
        word == section
            || word == self.key
            || word.strip_suffix(&self.key).is_some_and(|w| w == format!("{section}."))
    }
}

/// All keys, in the order of the page.
pub fn keys() -> Vec<Key> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("##") {
            section = heading.trim_start_matches('#').trim().replace('`', "");
        } else if line.starts_with("| `") {
            keys.extend(row(&section, line));
        }
    }
    keys
}

fn row(section: &str, line: &str) -> Option<Key> {
    let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let mut cells = line.split(" | ").map(|cell| cell.replace("\\|", "|"));
    let mut cell = || cells.next();
    let (key, form, default, meaning, example) = (cell()?, cell()?, cell()?, cell()?, cell()?);
    let key = key.trim_matches('`').to_owned();
    let example = example.trim_matches('`').to_owned();
    Some(Key { section: section.to_owned(), key, form, default, meaning, example })
}
