//! The files of a `tree` or an `archive`.

use std::path::{Path, PathBuf};

use ignore::gitignore::GitignoreBuilder;

use super::{
    table::{Given, Read, Table},
    value,
};

/// The keys of an element that is made of files.
pub(super) const KEYS: &[&str] = &["paths", "exclude", "one_file_system", "exclude_caches", "allow_empty"];

/// Files and folders with all that is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Absolute, normalised, none within another, none within what is handover's own.
    pub paths: Vec<PathBuf>,
    /// Patterns in gitignore syntax, each proven to compile, relative to each of the paths.
    pub exclude: Vec<String>,
    /// Whether other file systems mounted below are left out.
    pub one_file_system: bool,
    /// Whether the content of folders with a CACHEDIR.TAG is left out.
    pub exclude_caches: bool,
    /// Whether it is well that there is not a single file; otherwise that is a failure, since an unmounted disk looks
    /// the same.
    pub allow_empty: bool,
}

impl Files {
    /// Reads what is to be backed up; `own` are the folders in which handover keeps its own.
    pub(super) fn read(table: &Table<'_>, own: &[PathBuf]) -> Self {
        if !table.has("paths") {
            table.wrong("`paths` is missing: write for example paths = [\"/var/www/shop\"]");
        }
        let paths = table.list("paths", "[\"/var/www/shop\"]", |given| outside(value::path(given)?, own));
        if table.is_empty_list("paths") {
            table.wrong_key(
                "paths",
                "there is nothing to back up; write for example paths = [\"/var/www/shop\"]",
            );
        }
        refuse_twice(table, &paths);
        Self {
            paths,
            exclude: table.list("exclude", "[\"cache/\"]", pattern),
            one_file_system: table.or("one_file_system", true, value::flag),
            exclude_caches: table.or("exclude_caches", false, value::flag),
            allow_empty: table.or("allow_empty", false, value::flag),
        }
    }
}

/// A path that another one of the list holds would be backed up twice.
fn refuse_twice(table: &Table<'_>, paths: &[PathBuf]) {
    for (i, path) in paths.iter().enumerate() {
        if paths.iter().take(i).any(|earlier| earlier == path) {
            table.wrong_key("paths", format!("{} is there twice; remove one", quoted(path)));
        } else if let Some(outer) = paths.iter().find(|outer| path != *outer && path.starts_with(outer)) {
            let text = format!("{} is in {}, which is there as well; remove it", quoted(path), quoted(outer));
            table.wrong_key("paths", text);
        }
    }
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", crate::sys::show(path.as_os_str().as_encoded_bytes()))
}

pub(super) fn outside(path: PathBuf, own: &[PathBuf]) -> Read<PathBuf> {
    match own.iter().find(|own| path.starts_with(own)) {
        Some(own) => Err(format!(
            "it is in {}, which is handover's own: a backup must not contain itself; name another path",
            quoted(own)
        )),
        None => Ok(path),
    }
}

pub(super) fn pattern(given: &Given<'_>) -> Read<String> {
    let pattern = value::text(given, "\"cache/\"")?;
    if pattern.starts_with('#') || pattern.trim().is_empty() || pattern.contains('\n') {
        return Err("in gitignore syntax this is no pattern and leaves nothing out; write \\# for a name that begins with #, or remove it".to_owned());
    }
    let mut builder = GitignoreBuilder::new("/");
    let compiled = builder.add_line(None, &pattern).and_then(|builder| builder.build());
    match compiled {
        Ok(_) => Ok(pattern),
        Err(e) => Err(format!(
            "not a pattern in gitignore syntax ({}); write for example exclude = [\"cache/\"]",
            crate::sys::show(e.to_string().as_bytes())
        )),
    }
}
