//! Mistakes in the configuration: each with file, line, section, key, what is wrong and the fix; all at once.

use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
};

use toml::de::DeValue;

use super::{Role, secrets};
use crate::sys::show;

/// One mistake: where it is, what is wrong, and the fix. Its text is safe to show: nothing of the file reaches a
/// terminal unescaped, and no secret at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file.
    pub file: PathBuf,
    /// The line, from 1; none where the mistake is the file itself.
    pub line: Option<usize>,
    /// The section as it is written, as `[sink]`; empty at the top of the file.
    pub section: &'static str,
    /// The key, with its value where that may be shown: `keep = 0`; empty where it is the whole section.
    pub key: String,
    /// What is wrong, and the fix.
    pub text: String,
}

impl Problem {
    /// A mistake that is of the file as a whole.
    pub(super) fn of_file(file: &Path, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, section: "", key: String::new(), text: text.into() }
    }

    /// Whether a role has to care: it reads only its own sections, so that a mistake in another one's never stops it.
    pub(super) fn concerns(&self, role: Role) -> bool {
        let root = self.section.trim_start_matches('[').split(['.', ']']).next().unwrap_or_default();
        let own: &[&str] = match role {
            Role::All => return true,
            Role::Source => &["source"],
            Role::Sink => &["sink"],
            Role::Logsink => &["logsink"],
            Role::Restore => &["source", "restore"],
        };
        own.contains(&root) || !["source", "sink", "logsink", "restore"].contains(&root)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", show(self.file.as_os_str().as_encoded_bytes()))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(":")?;
        for part in [self.section, &self.key].into_iter().filter(|part| !part.is_empty()) {
            write!(f, " {part}")?;
        }
        let colon = if self.section.is_empty() && self.key.is_empty() { "" } else { ":" };
        write!(f, "{colon} {}", self.text)
    }
}

/// All mistakes that were found in a configuration file, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Errors(pub Vec<Problem>);

impl From<Problem> for Errors {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// Collects mistakes while a file is read, so that one look at the output is enough to mend them all.
pub(super) struct Problems<'a> {
    file: &'a Path,
    text: &'a str,
    found: RefCell<Vec<(usize, Problem)>>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, found: RefCell::default() }
    }

    /// Notes a mistake at an offset in the text.
    pub(super) fn add(&self, at: usize, section: &'static str, key: String, text: impl Into<String>) {
        let line = self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        let file = self.file.to_owned();
        let problem = Problem { file, line: Some(line), section, key, text: text.into() };
        self.found.borrow_mut().push((at, problem));
    }

    /// Notes a mistake that is of the file as a whole.
    pub(super) fn add_of_file(&self, text: impl Into<String>) {
        self.found.borrow_mut().push((0, Problem::of_file(self.file, text)));
    }

    /// `key = value` as it stands in the file, shortened; lists and tables without their content, secrets never.
    pub(super) fn shown(&self, key: &str, value: &super::table::Spanned<'_>) -> String {
        let written = self.text.get(value.span()).unwrap_or_default();
        let short = |text: &str| match text.char_indices().nth(60) {
            Some((end, _)) => show(text.as_bytes().get(..end).unwrap_or_default()) + "..",
            None => show(text.as_bytes()),
        };
        let name = key.rsplit('.').next().unwrap_or(key);
        let value = match value.get_ref() {
            _ if secrets::is_secret_key(name) => "\"***\"".to_owned(),
            DeValue::String(text) if secrets::holds_secret(text) => "\"***\"".to_owned(),
            DeValue::String(text) => format!("\"{}\"", short(text)),
            DeValue::Array(_) => "[..]".to_owned(),
            DeValue::Table(_) => "{..}".to_owned(),
            _ => short(written),
        };
        format!("{key} = {value}")
    }

    /// What was found, in the order of the lines.
    pub(super) fn into_vec(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, problem)| problem).collect()
    }
}
