//! Enrolling a source: its host key, pinned; its place in the configuration, with every comment kept.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::{
    config::SinkRole,
    gate::keys::PublicKey,
    sys::{self, Dir, child, durable, name::Name, show},
};

const FILE_LIMIT: u64 = 1 << 20;
/// The kinds of host keys, the one that is preferred first.
const KINDS: [&str; 3] = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"];

/// Why a source was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// A program of ssh failed.
    #[error("{0}")]
    Program(#[from] child::Failure),
    /// The host shows no key.
    #[error("{0} shows no host key: is its name right, and does its ssh server listen there?")]
    NoKey(String),
    /// Another key is pinned.
    #[error("another host key is pinned for {host} in {}", show(.file.as_os_str().as_encoded_bytes()))]
    OtherPinned {
        /// The host as `known_hosts` names it.
        host: String,
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be changed so that all else in it stays.
    #[error("{0}")]
    Config(String),
}

/// A host key with its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Kind and key, as `known_hosts` has them.
    pub key: String,
    /// As `SHA256:…`.
    pub fingerprint: String,
}

/// Asks a host for its keys, the preferred first. What comes is what the network says: somebody must compare.
pub fn scan(host: &str, port: u16, timeout: Duration) -> Result<Vec<HostKey>, Error> {
    let argv: Vec<String> = [
        "ssh-keyscan",
        "-T",
        &timeout.as_secs().max(1).to_string(),
        "-t",
        "ed25519,ecdsa,rsa",
        "-p",
        &port.to_string(),
        "--",
        host,
    ]
    .map(str::to_owned)
    .to_vec();
    let scanned = match output(&argv, timeout * 4) {
        // A host that shows nothing is a failure of newer versions.
        Err(Error::Program(child::Failure::Exit { .. })) => String::new(),
        other => other?,
    };
    let mut keys: Vec<(usize, String)> = scanned.lines().filter_map(key_of).collect();
    keys.sort();
    keys.into_iter()
        .map(|(_, key)| Ok(HostKey { fingerprint: fingerprint(&key)?, key }))
        .collect::<Result<Vec<_>, Error>>()
        .and_then(|keys| if keys.is_empty() { Err(Error::NoKey(show(host.as_bytes()))) } else { Ok(keys) })
}

/// A line of a scan: only kinds that we know, and nothing that does not belong into `known_hosts`.
fn key_of(line: &str) -> Option<(usize, String)> {
    let mut words = line.split(' ').skip(1);
    let (kind, blob) = (words.next()?, words.next()?);
    let rank = KINDS.iter().position(|known| *known == kind)?;
    let plain = blob.len() < 8192 && blob.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    (plain && words.next().is_none()).then(|| (rank, format!("{kind} {blob}")))
}

/// As `ssh-keygen -l` shows it.
fn fingerprint(key: &str) -> Result<String, Error> {
    let key = PublicKey::parse(key)
        .map_err(|e| Error::Config(format!("the host shows a key that is none: {e}")))?;
    Ok(key.fingerprint())
}

fn output(argv: &[String], timeout: Duration) -> Result<String, Error> {
    let mut said = Vec::new();
    let mut keep = |bytes: &[u8]| {
        said.extend_from_slice(bytes);
        Ok(())
    };
    child::run(&child::Job { argv, user: None, env: &[], timeout }, None, Some(&mut keep))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Whether a host has pinned keys: those, as kind and key.
pub fn pinned(file: &Path, known_as: &str) -> Result<Vec<String>, Error> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let name = file.to_string_lossy();
    let argv: Vec<String> = ["ssh-keygen", "-F", known_as, "-f", &name].map(str::to_owned).to_vec();
    let said = match output(&argv, Duration::from_secs(20)) {
        Err(Error::Program(child::Failure::Exit { .. })) => return Ok(Vec::new()),
        other => other?,
    };
    let lines = said.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|l| l.split_once(' '))
        .map(|(_, key)| key.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect())
}

/// Pins a host key, durably; false if it was. Another key of that host is an error, not a second choice.
pub fn pin(file: &Path, known_as: &str, key: &HostKey) -> Result<bool, Error> {
    let there = pinned(file, known_as)?;
    if there.contains(&key.key) {
        return Ok(false);
    }
    if !there.is_empty() {
        return Err(Error::OtherPinned { host: show(known_as.as_bytes()), file: file.to_path_buf() });
    }
    let (dir, name) = place(file)?;
    let mut bytes = dir.read_if_any(&name, FILE_LIMIT)?.unwrap_or_default();
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(format!("{known_as} {}\n", key.key).as_bytes());
    durable::write_file(&dir, name, &bytes, 0o644)?;
    Ok(true)
}

fn place(file: &Path) -> Result<(Dir, std::ffi::OsString), Error> {
    match (file.parent(), file.file_name()) {
        (Some(folder), Some(name)) => Ok((Dir::create_all(folder, 0o755)?, name.to_owned())),
        _ => Err(Error::Config(format!("{} is no file", show(file.as_os_str().as_encoded_bytes())))),
    }
}

/// What is written down of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name that the source gives itself.
    pub name: Name,
    /// Host name or address.
    pub host: String,
    /// The port, if it is not 22.
    pub port: u16,
    /// The user, if it is not the usual one.
    pub user: Option<String>,
    /// Hosts on the way.
    pub jump: Option<String>,
}

/// The text of a configuration with one more source at the end of the sources of a sink; `None` if just this entry is
/// there.
pub fn added(text: &str, role: SinkRole, entry: &Entry) -> Result<Option<String>, Error> {
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| Error::Config(show(e.message().as_bytes())))?;
    let sink = document.get_mut(role.name()).and_then(Item::as_table_mut).ok_or_else(|| {
        Error::Config(format!("there is no {} section to add the source to", role.header()))
    })?;
    let sources = sink.entry("source").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let sources = sources.as_array_of_tables_mut().ok_or_else(|| {
        let (section, header) = (role.header(), role.source_header());
        Error::Config(format!("`source` in {section} is not a list of {header}"))
    })?;
    let text_of = |table: &Table, key: &str| table.get(key).and_then(Item::as_str).map(str::to_owned);
    if let Some(there) = sources.iter().find(|t| text_of(t, "name").as_deref() == Some(entry.name.as_str())) {
        let port = there.get("port").and_then(Item::as_integer).unwrap_or(22);
        let same = text_of(there, "host").as_deref() == Some(&entry.host) && port == i64::from(entry.port);
        if same && text_of(there, "user") == entry.user && text_of(there, "jump") == entry.jump {
            return Ok(None);
        }
        return Err(Error::Config(format!(
            "there is a source {} with another place: change it there by hand",
            entry.name
        )));
    }
    let mut table = Table::new();
    table.insert("name", value(entry.name.as_str()));
    table.insert("host", value(&entry.host));
    if entry.port != 22 {
        table.insert("port", value(i64::from(entry.port)));
    }
    for (key, given) in [("user", &entry.user), ("jump", &entry.jump)] {
        if let Some(given) = given {
            table.insert(key, value(given));
        }
    }
    sources.push(table);
    Ok(Some(document.to_string()))
}

/// The text of a configuration in which a source of a sink has another name; `None` if none has the old one.
pub fn renamed(text: &str, role: SinkRole, old: &Name, new: &Name) -> Result<Option<String>, Error> {
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| Error::Config(show(e.message().as_bytes())))?;
    let sink = document.get_mut(role.name()).and_then(Item::as_table_mut);
    let Some(sources) = sink.and_then(|sink| sink.get_mut("source")).and_then(Item::as_array_of_tables_mut)
    else {
        return Ok(None);
    };
    let is = |table: &Table, name: &Name| table.get("name").and_then(Item::as_str) == Some(name.as_str());
    let both = sources.iter().any(|table| is(table, old)) && sources.iter().any(|table| is(table, new));
    if both {
        return Err(Error::Config(format!("{old} and {new} are both configured: they are two sources")));
    }
    let Some(table) = sources.iter_mut().find(|table| is(table, old)) else { return Ok(None) };
    if let Some(name) = table.get_mut("name").and_then(Item::as_value_mut) {
        let decor = name.decor().clone();
        *name = new.as_str().into();
        *name.decor_mut() = decor;
    }
    Ok(Some(document.to_string()))
}

/// Puts the new text in the place of the file, durably; mode and owner stay. Cut anywhere, there is the old text or the
/// new one.
pub fn write(file: &Path, text: &str) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    let real = file.canonicalize().map_err(|e| sys::Error::new("find", file, e))?;
    let (dir, name) = place(&real)?;
    let meta = std::fs::metadata(&real).map_err(|e| sys::Error::new("look at", &real, e))?;
    let draft = format!(".{}.enrolling", name.to_string_lossy());
    durable::write_file(&dir, &draft, text.as_bytes(), meta.mode() & 0o7777)?;
    if sys::users::is_root() {
        let (uid, gid) = (rustix::fs::Uid::from_raw(meta.uid()), rustix::fs::Gid::from_raw(meta.gid()));
        let given = rustix::fs::fchown(dir.open_file(&draft)?, Some(uid), Some(gid));
        given.map_err(|e| sys::Error::new("give back", &real, e))?;
    }
    Ok(durable::replace(&dir, &draft, name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: SinkRole = SinkRole::Data;

    fn entry() -> Entry {
        Entry {
            name: "blog".parse().unwrap(),
            host: "blog.example.org".to_owned(),
            port: 22,
            user: None,
            jump: None,
        }
    }

    #[test]
    fn a_source_is_added_once_and_every_comment_stays() {
        let text = "# all hosts\n[sink]\nkeep = 3 # three\n\n[[sink.source]]\nname = \"shop\" # the shop\nhost = \"a\"\n";
        let new = added(text, DATA, &entry()).unwrap().unwrap();
        assert_eq!(new, format!("{text}\n[[sink.source]]\nname = \"blog\"\nhost = \"blog.example.org\"\n"));
        assert_eq!(added(&new, DATA, &entry()).unwrap(), None);
        assert!(added(&new, DATA, &Entry { host: "other".to_owned(), ..entry() }).is_err());
        let full = Entry { port: 2222, user: Some("u".to_owned()), jump: Some("j".to_owned()), ..entry() };
        let first = added("[sink]\n", DATA, &full).unwrap().unwrap();
        assert_eq!(
            first,
            "[sink]\n\n[[sink.source]]\nname = \"blog\"\nhost = \"blog.example.org\"\nport = 2222\nuser = \"u\"\njump = \"j\"\n"
        );
        assert!(added("", DATA, &entry()).is_err());
        let logs = added("[sink]\n[logsink]\n", SinkRole::Logs, &entry()).unwrap().unwrap();
        assert!(logs.contains("[logsink]\n\n[[logsink.source]]\nname = \"blog\""), "{logs}");
    }

    #[test]
    fn a_source_is_renamed_and_every_comment_stays() {
        let text = "[sink]\n\n[[sink.source]]\nname = \"shop\" # the shop\nhost = \"a\"\n\n[[sink.source]]\nname = \"blog\"\n";
        let name = |text: &str| text.parse::<Name>().unwrap();
        let new = renamed(text, DATA, &name("shop"), &name("store")).unwrap().unwrap();
        assert_eq!(new, text.replace("\"shop\"", "\"store\""));
        assert_eq!(renamed(&new, DATA, &name("shop"), &name("store")).unwrap(), None);
        assert!(renamed(text, DATA, &name("shop"), &name("blog")).is_err());
    }

    #[test]
    fn only_plain_keys_of_known_kinds_are_taken_from_the_network() {
        assert_eq!(key_of("h ssh-ed25519 AAAA"), Some((0, "ssh-ed25519 AAAA".to_owned())));
        for bad in
            ["# h:22 SSH-2.0", "h ssh-dss AAAA", "h ssh-rsa", "h ssh-rsa AA\tAA", "h ssh-rsa AAAA x", ""]
        {
            assert_eq!(key_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pinned_key_is_not_pinned_twice_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("etc/known_hosts");
        let blob = |last: &str| {
            format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPm8Jb8gvCc7h5v2fQp8W2nDlKTXUiJZ3tq5sZ8bX1{last}")
        };
        let key = HostKey { fingerprint: fingerprint(&blob("c")).unwrap(), key: blob("c") };
        assert!(key.fingerprint.starts_with("SHA256:"));
        assert!(pin(&file, "[h]:2222", &key).unwrap());
        assert!(!pin(&file, "[h]:2222", &key).unwrap());
        let other = HostKey { key: blob("g"), ..key.clone() };
        assert!(matches!(pin(&file, "[h]:2222", &other), Err(Error::OtherPinned { .. })));
        assert!(pin(&file, "i", &other).unwrap());
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            format!("[h]:2222 {}\ni {}\n", key.key, other.key)
        );
    }
}
