//! Who has files open below a path.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// A process that has something open there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its number.
    pub process: u32,
    /// Its name.
    pub name: String,
    /// Files and folders that it has open, mapped or as its working folder.
    pub files: u64,
}

/// The processes that have something open at or below a path, as far as this user may look.
pub fn of(path: &Path) -> Vec<Holder> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<Holder> = entries
        .flatten()
        .filter_map(|entry| {
            let process: u32 = entry.file_name().to_str()?.parse().ok()?;
            let files = if process == std::process::id() { 0 } else { count(&entry.path(), path) };
            let name = std::fs::read(entry.path().join("comm")).unwrap_or_default();
            (files > 0).then(|| Holder { process, name: super::show(name.trim_ascii()), files })
        })
        .collect();
    found.sort_by_key(|holder| holder.process);
    found
}

fn count(process: &Path, path: &Path) -> u64 {
    let leads_there = |link: &Path| std::fs::read_link(link).is_ok_and(|to| to.starts_with(path));
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let open = open.filter(|entry| leads_there(&entry.path())).count();
    let mapped = std::fs::read_dir(process.join("map_files")).into_iter().flatten().flatten();
    let mapped = usize::from(mapped.take(4096).any(|entry| leads_there(&entry.path())));
    let folder = usize::from(leads_there(&process.join("cwd")));
    (open + mapped + folder) as u64
}
