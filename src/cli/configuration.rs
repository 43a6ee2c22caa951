//! `handover configuration`: the reference of the configuration, on the host where it is needed.

use super::{Context, fail, show};
use crate::{
    config::reference::{self, Key},
    report::Exit,
};

/// Prints the keys that a word names, or all.
pub(super) fn run(context: &Context, word: Option<&str>) -> Exit {
    let keys = reference::keys();
    let named: Vec<_> = keys.iter().filter(|key| word.is_none_or(|word| key.is_named(word))).collect();
    if let (true, Some(word)) = (named.is_empty(), word) {
        let nearest = keys.iter().map(|key| (strsim::damerau_levenshtein(&key.key, word), &key.key)).min();
        let hint = nearest.map_or_else(String::new, |(_, key)| format!("; the nearest one is `{key}`"));
        return fail(Exit::Usage, &format!("the configuration has no section and no key {word}{hint}"));
    }
    if context.json {
        return show::json(&named);
    }
    let blocks: Vec<_> = named.into_iter().map(block).collect();
    show::data(&blocks.join("\n\n"));
    Exit::Ok
}

/// One key for people. The marks of the page are left out of its words and kept in what is typed.
fn block(key: &Key) -> String {
    let plain = |text: &str| text.replace('`', "");
    let default = match plain(&key.default) {
        required if required == "required" => required,
        default => format!("default: {default}"),
    };
    let Key { section, key: name, form, meaning, example, .. } = key;
    format!("{section} {name}: {}; {default}\n    {}\n    {example}", plain(form), plain(meaning))
}
