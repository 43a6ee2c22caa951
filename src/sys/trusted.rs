//! Whether a path is root's alone: what root's cron, its units or a key's command name must not be another's to change.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Error, Result, show};

/// A place on the way to a path that somebody else than its owner could change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The file, or a folder on the way to it.
    pub path: PathBuf,
    /// Why somebody could.
    pub why: String,
    /// What to type.
    pub fix: String,
}

/// What of a path, of every folder on the way to it, and of what its links lead to, is not `owner`'s alone to change. In a
/// folder with the sticky bit nobody can exchange what is the owner's.
pub fn exposed(path: &Path, owner: u32) -> Result<Vec<Exposed>> {
    let failed = |e| Error::new("look at", path, e);
    let named = std::path::absolute(path).map_err(failed)?;
    named.canonicalize().map_err(failed)?;
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for whole in &followed(named).map_err(failed)? {
        let mut chain: Vec<&Path> = whole.ancestors().collect();
        chain.reverse();
        for (at, place) in chain.iter().enumerate() {
            if seen.insert(place.to_path_buf()) {
                all.extend(look(place, chain.get(at + 1).copied(), owner)?);
            }
        }
    }
    Ok(all)
}

/// A path as it is named, and after each link on its way, one by one: who can exchange a link of a chain leads it elsewhere.
fn followed(named: PathBuf) -> std::io::Result<Vec<PathBuf>> {
    let mut all = vec![named];
    while let Some(current) = all.last() {
        let mut chain: Vec<&Path> = current.ancestors().collect();
        chain.reverse();
        let Some(link) = chain.into_iter().find(|place| place.is_symlink()) else { break };
        let rest = current.strip_prefix(link).unwrap_or(Path::new(""));
        let target = link.parent().unwrap_or(link).join(link.read_link()?);
        // A path that ends with a separator would be that of a folder.
        let next = if rest.as_os_str().is_empty() { target } else { target.join(rest) };
        // As the kernel has it: what was found to lead somewhere does so within so many links.
        if all.len() > 40 {
            return Err(rustix::io::Errno::LOOP.into());
        }
        all.push(next);
    }
    Ok(all)
}

fn look(place: &Path, child: Option<&Path>, owner: u32) -> Result<Option<Exposed>> {
    let meta = std::fs::metadata(place).map_err(|e| Error::new("look at", place, e))?;
    let shown = show(place.as_os_str().as_encoded_bytes());
    let found = |why, fix| Ok(Some(Exposed { path: place.to_path_buf(), why, fix }));
    if meta.uid() != owner {
        let whose = if owner == 0 { "root:".to_owned() } else { owner.to_string() };
        return found(format!("{shown} belongs to user {}", meta.uid()), format!("chown {whose} {shown}"));
    }
    let mode = meta.mode() & 0o7777;
    let is_kept = |child: &Path| std::fs::symlink_metadata(child).is_ok_and(|meta| meta.uid() == owner);
    if mode & 0o022 == 0 || (mode & 0o1000 != 0 && child.is_some_and(is_kept)) {
        return Ok(None);
    }
    found(format!("{shown} can be changed by others (mode {mode:04o})"), format!("chmod go-w {shown}"))
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::sys::{Dir, durable, users};

    #[test]
    fn every_link_of_a_chain_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let dir = Dir::open(&root).unwrap();
        for name in ["bin", "bob", "opt"] {
            dir.create_dir(name, 0o755).unwrap();
        }
        durable::write_file(&Dir::open(root.join("opt")).unwrap(), "handover", b"x", 0o755).unwrap();
        std::os::unix::fs::symlink("../bob/current/handover", root.join("bin/handover")).unwrap();
        std::os::unix::fs::symlink(root.join("opt"), root.join("bob/current")).unwrap();
        let inside = || {
            let all = exposed(&root.join("bin/handover"), users::euid()).unwrap();
            all.into_iter().filter(|one| one.path.canonicalize().unwrap().starts_with(&root)).count()
        };
        assert_eq!(inside(), 0);
        std::fs::set_permissions(root.join("bob"), Permissions::from_mode(0o777)).unwrap();
        assert!(inside() > 0, "who owns the folder of the link in the middle leads it elsewhere");
    }

    #[test]
    fn whoever_could_exchange_a_file_or_a_folder_on_the_way_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let below = dir.create_dir("below", 0o755).unwrap();
        durable::write_file(&below, "file", b"x", 0o644).unwrap();
        std::os::unix::fs::symlink("below", folder.path().join("link")).unwrap();
        let mode = |name: &str, mode| {
            std::fs::set_permissions(folder.path().join(name), Permissions::from_mode(mode)).unwrap();
        };
        // Only what is below the folder for temporary files is ours to say.
        let found = |name: &str| -> Vec<String> {
            let all = exposed(&folder.path().join(name), users::euid()).unwrap();
            let inside = all.into_iter().filter_map(|one| {
                let inside = one.path.strip_prefix(folder.path().canonicalize().unwrap()).ok()?.to_owned();
                Some(format!("{} {}", inside.display(), one.fix.split(' ').next().unwrap()))
            });
            inside.filter(|one| !one.starts_with("link")).collect()
        };
        mode("below", 0o755);
        mode("below/file", 0o644);
        assert_eq!(found("below/file"), [""; 0]);
        assert_eq!(found("link/file"), [""; 0]);
        mode("below/file", 0o664);
        assert_eq!(found("link/file"), ["below/file chmod"]);
        mode("below/file", 0o644);
        mode("below", 0o777);
        assert_eq!(found("link/file"), ["below chmod"]);
        mode("below", 0o1777);
        assert_eq!(found("link/file"), [""; 0], "what is ours in it stays");
        let another = exposed(&folder.path().join("below/file"), users::euid() + 1).unwrap();
        assert!(another.iter().any(|one| one.path.ends_with("file") && one.fix.starts_with("chown ")));
    }
}
