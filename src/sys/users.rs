//! Users and groups of this host.

use std::path::Path;

use super::{Dir, Error, Result, durable};

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The effective user id, which no process of ours changes: it is asked once, as it is compared with each file's.
pub fn euid() -> u32 {
    static EUID: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *EUID.get_or_init(|| rustix::process::geteuid().as_raw())
}

/// The effective group id.
pub fn egid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// A user as `/etc/passwd` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Id of the primary group.
    pub gid: u32,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// Names of users and groups as the two files of this host give them, read once. Directory services are not asked:
/// a backup must not hang on one, and ids are what is restored where a name is unknown.
#[derive(Debug, Default, Clone)]
pub struct Names {
    users: std::collections::BTreeMap<u32, String>,
    groups: std::collections::BTreeMap<u32, String>,
}

impl Names {
    /// Reads `/etc/passwd` and `/etc/group`; what cannot be read gives no names.
    pub fn load() -> Self {
        Self { users: ids("/etc/passwd"), groups: ids("/etc/group") }
    }

    /// The name of a user id.
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }

    /// The name of a group id.
    pub fn group(&self, gid: u32) -> Option<&str> {
        self.groups.get(&gid).map(String::as_str)
    }

    /// The id of a user name.
    pub fn uid(&self, name: &str) -> Option<u32> {
        self.users.iter().find(|(_, n)| *n == name).map(|(id, _)| *id)
    }

    /// The id of a group name.
    pub fn gid(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|(_, n)| *n == name).map(|(id, _)| *id)
    }
}

fn ids(file: &str) -> std::collections::BTreeMap<u32, String> {
    let text = std::fs::read(file).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let mut map = std::collections::BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(id)) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok())) {
            map.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    map
}

/// Finds a user of this host by name in `/etc/passwd`.
pub fn find(name: &str) -> Result<Option<User>> {
    Ok(all()?.into_iter().find(|user| user.name == name))
}

/// Finds the first user of this host with that id in `/etc/passwd`.
pub fn find_id(uid: u32) -> Result<Option<User>> {
    Ok(all()?.into_iter().find(|user| user.uid == uid))
}

/// Gives this process's user a name where it has none: in `passwd` in a folder that the system reads besides
/// `/etc/passwd`, as libnss-extrausers does. ssh starts for nobody without one, and a container runs as any user.
pub fn name_ourselves(folder: &Path) -> Result<()> {
    let us = euid();
    let known = |path: &Path| of_file(path).is_ok_and(|all| all.iter().any(|user| user.uid == us));
    if known(Path::new(PASSWD)) || known(&folder.join("passwd")) {
        return Ok(());
    }
    let line = format!("handover:x:{us}:{}:handover:/home:/usr/sbin/nologin\n", egid());
    durable::write_file(&Dir::create_all(folder, 0o755)?, "passwd", line.as_bytes(), 0o644)
}

const PASSWD: &str = "/etc/passwd";

fn all() -> Result<Vec<User>> {
    of_file(Path::new(PASSWD))
}

fn of_file(path: &Path) -> Result<Vec<User>> {
    let text = std::fs::read(path).map_err(|e| Error::new("read", path, e))?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(user).collect())
}

fn user(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell, ..] = fields.as_slice() else { return None };
    Some(User {
        name: (*name).to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: (*home).to_owned(),
        shell: (*shell).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_name_gets_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("users");
        name_ourselves(&folder).unwrap();
        assert_eq!(folder.exists(), find_id(euid()).unwrap().is_none());
    }
}
