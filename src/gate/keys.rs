//! Letting somebody in: a public key, bound to one of the gates, in the `authorized_keys` of the transport user.
//!
//! The file and its folder are root's, so that the transport user cannot loosen what a key is bound to. sshd takes the
//! first line of a key and no other, so a key has one line, and is bound to one gate.

mod grants;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::grants::{Grant, Revoke, Until, grants, revoke};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};

use crate::{
    manifest::Digest,
    sys::{self, Dir, durable, lock, show, signals, users},
};

/// The kinds of keys that are taken.
const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];
const FILE_LIMIT: u64 = 1 << 20;
/// What the commands of the two gates begin with, after the program.
const GATE: &str = " source gate --channel ";
const RESTORE: &str = " restore gate";
/// How long another handover may hold the folder while it changes the file.
const PATIENCE: (u32, Duration) = (500, Duration::from_millis(20));
/// No key that is in use is longer.
pub const KEY_LIMIT: usize = 16 * 1024;

/// Why a key was not let in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no public key.
    #[error("this is not one public key as `ssh-keygen` writes it to a file ending in .pub: {0}")]
    Key(&'static str),
    /// Something would change the meaning of the line.
    #[error("{what} cannot stand in authorized_keys: {}", show(.text.as_bytes()))]
    Text {
        /// What it is.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// The key has another meaning already.
    #[error(
        "{} has another line for this key (line {line}), and sshd takes only the first: use another key, or remove that line",
        show(.path.as_os_str().as_encoded_bytes())
    )]
    Taken {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// Another handover changes the file.
    #[error("{} is being changed by another handover: try again", show(.0.as_os_str().as_encoded_bytes()))]
    Busy(PathBuf),
    /// The run was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] signals::Interrupted),
    /// The system refused something.
    #[error(transparent)]
    Sys(#[from] sys::Error),
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: &'static str,
    blob: String,
    comment: String,
}

impl PublicKey {
    /// Reads exactly one key: one line, a known kind, no options, nothing that a terminal or sshd could misread.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let line = text.trim_end_matches(['\n', '\r']);
        if text.len() > KEY_LIMIT || line.contains('\n') {
            return Err(Error::Key("it has more than one line"));
        }
        let mut words = line.splitn(3, ' ');
        let (kind, blob) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let comment = words.next().unwrap_or_default().trim();
        let kind = TYPES
            .into_iter()
            .find(|known| *known == kind)
            .ok_or(Error::Key("it does not begin with a known kind, as ssh-ed25519"))?;
        let inner = STANDARD.decode(blob).map_err(|_| Error::Key("its second word is not base64"))?;
        let named = u32::try_from(kind.len()).unwrap_or_default().to_be_bytes();
        if !inner.starts_with(&[&named, kind.as_bytes()].concat()) {
            return Err(Error::Key("its two words are not of the same kind"));
        }
        if comment.chars().any(|c| c.is_control()) || comment.chars().count() > 200 {
            return Err(Error::Key("its comment is too long or holds control characters"));
        }
        Ok(Self { kind, blob: blob.to_owned(), comment: comment.to_owned() })
    }

    /// Its fingerprint, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        let inner = STANDARD.decode(&self.blob).unwrap_or_default();
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Digest::of(&inner).0))
    }

    /// What its owner wrote behind it.
    pub fn comment(&self) -> &str {
        &self.comment
    }
}

/// The gate that a key is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The gate of a channel, by its name: a sink fetches and acknowledges.
    Gate(&'static str),
    /// The restore gate, until then: a sink delivers.
    Restore(Until),
}

impl To {
    fn marker(self) -> &'static str {
        match self {
            Self::Gate(_) => GATE,
            Self::Restore(_) => RESTORE,
        }
    }
}

/// What a key is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// handover, by its absolute path.
    pub handover: PathBuf,
    /// Which gate.
    pub to: To,
    /// The home, where it is not the one of the transport user.
    pub home: Option<PathBuf>,
    /// The addresses that may use it.
    pub from: Option<String>,
}

impl Binding {
    /// The line of `authorized_keys`.
    pub fn line(&self, key: &PublicKey) -> Result<String, Error> {
        let from = match &self.from {
            None => String::new(),
            Some(from) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || ".:,*?!/_-".contains(c);
                let from = checked("this list of addresses", from, plain)?;
                format!("from=\"{from}\",")
            }
        };
        let (expiry, gate) = match self.to {
            To::Gate(channel) => (String::new(), format!("{GATE}{channel}")),
            To::Restore(until) => (format!("expiry-time=\"{until}\","), RESTORE.to_owned()),
        };
        let mut command = format!("{}{gate}", word(&self.handover)?);
        if let Some(home) = &self.home {
            command = format!("{command} --home {}", word(home)?);
        }
        let PublicKey { kind, blob, comment } = key;
        Ok(format!("restrict,{expiry}{from}command=\"{command}\" {kind} {blob} {comment}")
            .trim_end()
            .to_owned())
    }
}

/// A path that is one plain word for sshd and for the shell that runs it.
fn word(path: &Path) -> Result<String, Error> {
    let text = path.to_string_lossy().into_owned();
    checked("this path", &text, |c| c.is_ascii_alphanumeric() || "/._+-@".contains(c))
}

fn checked(what: &'static str, text: &str, plain: impl Fn(char) -> bool) -> Result<String, Error> {
    if text.is_empty() || !text.chars().all(plain) {
        return Err(Error::Text { what, text: text.to_owned() });
    }
    Ok(text.to_owned())
}

/// What became, or would become, of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The line was there.
    Already,
    /// It was added.
    Added,
    /// An earlier line of ours for this key was replaced.
    Replaced,
}

/// Puts the key's line into the file, durably: the old content is there or the new, whenever it is cut. An earlier line
/// of the same gate for this key is replaced; any other line stays as it is.
pub fn allow(file: &Path, key: &PublicKey, binding: &Binding, dry_run: bool) -> Result<Outcome, Error> {
    let line = binding.line(key)?;
    edit(file, dry_run, |old| {
        let (text, outcome) = added(old, file, key, &line, binding.to)?;
        Ok((text, outcome))
    })
}

/// Takes the key's line for a gate out of the file, durably; false if it has none. Every other line stays as it is, also
/// one of the same key that is bound to something else.
pub fn remove(file: &Path, key: &PublicKey, to: To, dry_run: bool) -> Result<bool, Error> {
    let is_it = |line: &str| {
        line.starts_with("restrict,")
            && line.contains(to.marker())
            && match to {
                To::Gate(channel) => line.contains(&format!("{GATE}{channel}")),
                To::Restore(_) => true,
            }
            && line.split_whitespace().any(|word| word == key.blob)
    };
    edit(file, dry_run, |old| {
        let stay: String = old.split_inclusive('\n').filter(|line| !is_it(line.trim_end())).collect();
        let gone = stay != old;
        Ok((stay, gone))
    })
}

/// Reads the file, and writes what comes of it; nobody else of us changes it meanwhile. Without a change the file is
/// still put right where its owner or mode is wrong.
fn edit<T>(
    file: &Path,
    dry_run: bool,
    change: impl FnOnce(&str) -> Result<(String, T), Error>,
) -> Result<T, Error> {
    let (folder, name) = match (file.parent(), file.file_name()) {
        (Some(folder), Some(name)) => (folder, name),
        _ => return Err(Error::Text { what: "this path", text: file.to_string_lossy().into_owned() }),
    };
    let there = match Dir::open(folder) {
        Err(e) if e.is_not_found() => None,
        other => Some(other?),
    };
    let _changing = there.as_ref().filter(|_| !dry_run).map(|dir| hold(dir, file)).transpose()?;
    let bytes = there.map_or(Ok(None), |dir| dir.read_if_any(name, FILE_LIMIT))?.unwrap_or_default();
    let old = String::from_utf8(bytes)
        .map_err(|_| Error::Text { what: "what is not UTF-8", text: file.to_string_lossy().into_owned() })?;
    let (text, outcome) = change(&old)?;
    if !dry_run && (text != old || !text.is_empty()) {
        write(folder, name, &text, text == old)?;
    }
    Ok(outcome)
}

fn hold(dir: &Dir, file: &Path) -> Result<Dir, Error> {
    let held = dir.open_dir(".")?;
    for _ in 0..PATIENCE.0 {
        if lock::try_exclusive_on(&held, held.path())? {
            return Ok(held);
        }
        signals::check()?;
        std::thread::sleep(PATIENCE.1);
    }
    Err(Error::Busy(file.to_path_buf()))
}

fn added(old: &str, file: &Path, key: &PublicKey, line: &str, to: To) -> Result<(String, Outcome), Error> {
    let mut lines: Vec<&str> = old.lines().collect();
    let of_key = |l: &str| !l.trim_start().starts_with('#') && l.split_whitespace().any(|w| w == key.blob);
    let outcome = match lines.iter().position(|l| of_key(l)) {
        None => {
            lines.push(line);
            Outcome::Added
        }
        Some(at) if lines[at] == line => Outcome::Already,
        Some(at) if lines[at].starts_with("restrict,") && lines[at].contains(to.marker()) => {
            lines[at] = line;
            Outcome::Replaced
        }
        Some(at) => return Err(Error::Taken { path: file.to_path_buf(), line: at + 1 }),
    };
    Ok((lines.join("\n") + "\n", outcome))
}

/// As root, folder and file become root's and readable, so that sshd takes them and the transport user cannot change
/// them; an ordinary user keeps both to itself.
fn write(folder: &Path, name: &OsStr, text: &str, unchanged: bool) -> Result<(), Error> {
    let (folder_mode, mode) = if users::is_root() { (0o755, 0o644) } else { (0o700, 0o600) };
    let dir = Dir::create_all(folder, folder_mode)?;
    if users::is_root() && dir.stat_self()?.st_uid != 0 {
        dir.give_to(0, 0)?;
    }
    if dir.stat_self()?.st_mode & 0o022 != 0 {
        dir.set_mode(folder_mode)?;
    }
    let right = |stat: rustix::fs::Stat| stat.st_uid == users::euid() && stat.st_mode & 0o7777 == mode;
    if !unchanged || !dir.stat_if_any(name)?.is_some_and(right) {
        durable::write_file(&dir, name, text.as_bytes(), mode)?;
    }
    Ok(durable::sync_dir(&dir)?)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write by hand what others have put into the file")]
mod tests {
    use super::*;

    pub(super) const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPm8Jb8gvCc7h5v2fQp8W2nDlKTXUiJZ3tq5sZ8bX1c handover sink on vault";

    pub(super) fn key() -> PublicKey {
        PublicKey::parse(KEY).unwrap()
    }

    pub(super) fn binding() -> Binding {
        Binding { handover: "/usr/bin/handover".into(), to: To::Gate("data"), home: None, from: None }
    }

    #[test]
    fn only_one_plain_public_key_is_taken() {
        assert!(PublicKey::parse(&format!("{KEY}\n")).is_ok());
        let blob = KEY.split(' ').nth(1).unwrap();
        for bad in [
            String::new(),
            format!("{KEY}\n{KEY}"),
            format!("no-pty {KEY}"),
            format!("command=\"x\" {KEY}"),
            format!("ssh-rsa {blob}"),
            format!("ssh-dss {blob}"),
            format!("ssh-ed25519 {}", &blob[1..]),
            "ssh-ed25519 ####".to_owned(),
            format!("{KEY}\x1b[2J"),
            "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
        ] {
            assert!(PublicKey::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_bound_to_the_gate_and_nothing_else() {
        assert_eq!(
            binding().line(&key()).unwrap(),
            format!("restrict,command=\"/usr/bin/handover source gate --channel data\" {KEY}")
        );
        let narrow = Binding {
            from: Some("10.0.0.0/8,2001:db8::1".to_owned()),
            home: Some("/srv/x".into()),
            ..binding()
        };
        assert_eq!(
            narrow.line(&key()).unwrap(),
            format!(
                "restrict,from=\"10.0.0.0/8,2001:db8::1\",command=\"/usr/bin/handover source gate --channel data --home /srv/x\" {KEY}"
            )
        );
        for bad in ["", "\"", "a b", "a\nb", "$(x)"] {
            assert!(Binding { from: Some(bad.to_owned()), ..binding() }.line(&key()).is_err(), "{bad:?}");
            assert!(
                Binding { handover: format!("/x{bad}\"").into(), ..binding() }.line(&key()).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_key_gets_one_line_however_often_it_is_let_in_and_other_lines_stay() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".ssh/authorized_keys");
        assert_eq!(allow(&file, &key(), &binding(), true).unwrap(), Outcome::Added);
        assert!(!file.exists());
        assert_eq!(allow(&file, &key(), &binding(), false).unwrap(), Outcome::Added);
        assert_eq!(allow(&file, &key(), &binding(), false).unwrap(), Outcome::Already);
        let narrow = Binding { from: Some("10.0.0.1".to_owned()), ..binding() };
        assert_eq!(allow(&file, &key(), &narrow, false).unwrap(), Outcome::Replaced);
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, narrow.line(&key()).unwrap() + "\n");
        let mode = if users::is_root() { 0o644 } else { 0o600 };
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, mode);
    }

    #[test]
    fn a_key_is_let_in_no_more_and_all_other_lines_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("authorized_keys");
        let others = "# mine\nssh-ed25519 AAAAother x\n";
        std::fs::write(&file, others).unwrap();
        allow(&file, &key(), &binding(), false).unwrap();
        let with = std::fs::read_to_string(&file).unwrap();
        assert!(!remove(&file, &key(), To::Gate("logs"), false).unwrap(), "another gate");
        assert!(remove(&file, &key(), To::Gate("data"), true).unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), with);
        assert!(remove(&file, &key(), To::Gate("data"), false).unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), others);
        assert!(!remove(&file, &key(), To::Gate("data"), false).unwrap());
    }

    #[test]
    fn a_line_of_somebody_else_for_the_key_is_not_touched() {
        let other = format!("# mine\n{KEY}\n");
        let error = added(&other, Path::new("/x"), &key(), "line", To::Gate("data")).unwrap_err();
        assert!(matches!(error, Error::Taken { line: 2, .. }), "{error}");
        let (text, outcome) =
            added("# a comment without an end", Path::new("/x"), &key(), "line", To::Gate("data")).unwrap();
        assert_eq!((text.as_str(), outcome), ("# a comment without an end\nline\n", Outcome::Added));
    }

    #[test]
    fn a_fingerprint_is_the_one_that_ssh_keygen_shows() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pub");
        std::fs::write(&file, format!("{KEY}\n")).unwrap();
        let argv: Vec<String> =
            ["ssh-keygen", "-l", "-f", file.to_str().unwrap()].map(str::to_owned).to_vec();
        let job = sys::child::Job { argv: &argv, user: None, env: &[], timeout: Duration::from_secs(20) };
        let mut said = Vec::new();
        let mut keep = |bytes: &[u8]| {
            said.extend_from_slice(bytes);
            Ok(())
        };
        sys::child::run(&job, None, Some(&mut keep)).unwrap();
        assert!(String::from_utf8(said).unwrap().contains(&key().fingerprint()));
    }
}
