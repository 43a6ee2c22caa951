//! The sink's own key: made where it is missing, in a way that can be cut.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Gid, Mode, Uid};

use crate::sys::{self, Dir, child, durable};

/// What can go wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// ssh-keygen failed.
    #[error("the key could not be made: {0}")]
    Keygen(#[from] child::Failure),
    /// The path is none of a file.
    #[error("the path of the key has no folder")]
    Path,
}

const LIMIT: u64 = 64 * 1024;

/// The key beside a sink's own by which it delivers. It is another one, as sshd takes only the first line of a key: one
/// key cannot be bound to the gate and, for a while, to the restore gate too.
pub fn for_delivery(identity: &Path) -> PathBuf {
    identity.with_file_name("restore_ed25519")
}

/// Makes an ed25519 key without a passphrase at `file` and `file.pub`; false if it is there. The private half appears
/// last and whole, as `owner`'s alone.
pub fn ensure(file: &Path, comment: &str, owner: (u32, u32)) -> Result<bool, Error> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return Err(Error::Path) };
    let dir = Dir::create_all(folder, 0o755)?;
    if dir.stat_if_any(name)?.is_some() {
        return Ok(false);
    }
    let draft = format!(".{}.new", name.to_string_lossy());
    let (public, draft_public) = (format!("{}.pub", name.to_string_lossy()), format!("{draft}.pub"));
    durable::remove_file(&dir, &draft)?;
    durable::remove_file(&dir, &draft_public)?;
    let path = dir.join(&draft).to_string_lossy().into_owned();
    let argv: Vec<String> = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", &path]
        .map(str::to_owned)
        .to_vec();
    child::run(
        &child::Job { argv: &argv, user: None, env: &[], timeout: Duration::from_secs(60) },
        None,
        None,
    )?;
    give(&dir, &draft_public, owner, 0o644)?;
    give(&dir, &draft, owner, 0o600)?;
    durable::replace(&dir, &draft_public, &public)?;
    durable::replace(&dir, &draft, name)?;
    Ok(true)
}

fn give(dir: &Dir, name: &str, (uid, gid): (u32, u32), mode: u32) -> Result<(), Error> {
    let file = dir.open_file(name)?;
    let failed = |e| sys::Error::new("give away", dir.join(name), e);
    rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
    rustix::fs::fchmod(&file, Mode::from(mode)).map_err(failed)?;
    Ok(durable::sync_file(&file, &dir.join(name))?)
}

/// The public half, from the file beside the private one.
pub fn public(file: &Path) -> Result<String, Error> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return Err(Error::Path) };
    let bytes = Dir::open(folder)?.read(format!("{}.pub", name.to_string_lossy()), LIMIT)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("etc/sink key");
        let owner = (sys::users::euid(), sys::users::egid());
        assert!(ensure(&file, "a sink", owner).unwrap());
        let key = public(&file).unwrap();
        assert!(key.starts_with("ssh-ed25519 ") && key.ends_with(" a sink"), "{key}");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        assert!(!ensure(&file, "another", owner).unwrap());
        assert_eq!(public(&file).unwrap(), key);
        assert_eq!(Dir::open(file.parent().unwrap()).unwrap().names().unwrap().len(), 2);
    }
}
