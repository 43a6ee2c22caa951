//! Where a gate is, and how ssh is told: every option is ours, none is a user's or the system's.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Error, Result};
use crate::{
    manifest::Channel,
    sys::{name::Name, show},
};

/// What a connection is for: what a person must do so that it works differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To fetch from the gate of a channel.
    Fetch(Channel),
    /// To deliver to a restore gate.
    Deliver,
}

/// A gate on another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name of the source, for messages.
    pub name: Name,
    /// What for, for messages.
    pub purpose: Purpose,
    /// A host name or an address.
    pub host: String,
    /// The port of its ssh server.
    pub port: u16,
    /// The transport user there.
    pub user: String,
    /// Hosts on the way there, as ssh's `-J` takes them. The same key and the same pinned host keys serve for them.
    pub jump: Option<String>,
    /// The private key.
    pub identity: PathBuf,
    /// The pinned host keys.
    pub known_hosts: PathBuf,
    /// A host that has not answered by then is unreachable.
    pub connect_timeout: Duration,
}

impl Host {
    /// The text of a configuration for this connection, which ssh also gives to hosts on the way.
    ///
    /// Strict and pinned host keys, one key and no other, no agent, nothing interactive, nothing forwarded. The fastest
    /// cipher first: on most processors AES-GCM is several times as fast as the default. A dead line ends after a minute,
    /// and the connection a minute after its last session, should nobody be left to end it.
    pub(super) fn config(&self) -> Result<OsString> {
        let mut text = OsString::from("Host *\n");
        for (key, path) in [("UserKnownHostsFile", &self.known_hosts), ("IdentityFile", &self.identity)] {
            text.push(key);
            text.push(" ");
            text.push(quoted(path)?);
            text.push("\n");
        }
        text.push(format!("ConnectTimeout {}\n", self.connect_timeout.as_secs().max(1)));
        text.push(OPTIONS);
        Ok(text)
    }

    /// The arguments that are for the host itself and not for those on the way.
    pub(super) fn args(&self, config: &Path, log: &Path) -> Result<Vec<OsString>> {
        let mut args: Vec<OsString> =
            vec!["-p".into(), self.port.to_string().into(), "-l".into(), self.user.clone().into()];
        if let Some(jump) = &self.jump {
            args.extend(["-o".into(), proxy(jump, config, log)?]);
        }
        args.extend(["--".into(), self.host.clone().into()]);
        Ok(args)
    }

    /// The name of this host in `known_hosts`.
    pub fn known_as(&self) -> String {
        if self.port == 22 { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) }
    }
}

const OPTIONS: &str = "\
StrictHostKeyChecking yes
GlobalKnownHostsFile /dev/null
UpdateHostKeys no
VerifyHostKeyDNS no
CheckHostIP no
CanonicalizeHostname no
BatchMode yes
IdentitiesOnly yes
IdentityAgent none
PreferredAuthentications publickey
ConnectionAttempts 1
ServerAliveInterval 15
ServerAliveCountMax 4
ControlPersist 60
Ciphers ^aes128-gcm@openssh.com
Compression no
ForwardAgent no
ForwardX11 no
PermitLocalCommand no
RequestTTY no
LogLevel INFO
";

/// As `-J`, but the last host on the way writes what it says into the log, where it would be lost.
fn proxy(jump: &str, config: &Path, log: &Path) -> Result<OsString> {
    let (before, last) = jump.rsplit_once(',').map_or((None, jump), |(before, last)| (Some(before), last));
    let mut text = OsString::from("ProxyCommand=ssh");
    for (option, path) in [(" -F ", config), (" -E ", log)] {
        if path.as_os_str().as_bytes().contains(&b'\'') {
            return Err(Error::us("connect", "the path of the state folder has a quote in it"));
        }
        text.push(option);
        text.push(quoted(path)?);
    }
    if let Some(before) = before {
        text.push(format!(" -J {before}"));
    }
    text.push(format!(" -W '[%h]:%p' -- ssh://{last}"));
    Ok(text)
}

/// A path as ssh reads it back: in quotes, percent signs doubled. ssh has no way to write some characters.
pub(super) fn quoted(path: &Path) -> Result<OsString> {
    let bytes = path.as_os_str().as_bytes();
    if !path.is_absolute() || bytes.iter().any(|b| matches!(b, b'"' | b'\\' | b'$' | b'\n' | b'\r' | 0)) {
        let why = "ssh takes only an absolute path without quotes, backslashes and dollar signs";
        return Err(Error::us("connect", format_args!("{}: {why}", show(bytes))));
    }
    let doubled: Vec<u8> =
        bytes.iter().flat_map(|b| std::iter::repeat_n(*b, if *b == b'%' { 2 } else { 1 })).collect();
    let mut text = OsString::from("\"");
    text.push(OsStr::from_bytes(&doubled));
    text.push("\"");
    Ok(text)
}

#[cfg(test)]
pub(super) fn example() -> Host {
    Host {
        name: "shop".parse().unwrap(),
        purpose: Purpose::Fetch(Channel::Data),
        host: "shop.example.org".to_owned(),
        port: 22,
        user: "dataBackupSource".to_owned(),
        jump: None,
        identity: "/etc/handover/sink key".into(),
        known_hosts: "/etc/handover/known%hosts".into(),
        connect_timeout: Duration::from_secs(30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_elses_option_decides_and_host_keys_are_strict() {
        let text = example().config().unwrap().into_string().unwrap();
        for line in [
            "UserKnownHostsFile \"/etc/handover/known%%hosts\"",
            "IdentityFile \"/etc/handover/sink key\"",
            "StrictHostKeyChecking yes",
            "GlobalKnownHostsFile /dev/null",
            "IdentitiesOnly yes",
            "BatchMode yes",
            "ConnectTimeout 30",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_path_that_ssh_would_read_as_something_else_is_refused() {
        for bad in ["/a\"b", "/a\nProxyCommand x", "/${HOME}", "/a\\", "a"] {
            let host = Host { identity: bad.into(), ..example() };
            assert!(host.config().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_on_the_way_get_the_same_options_and_their_words_are_heard() {
        let proxy =
            |jump: &str| proxy(jump, Path::new("/s/c"), Path::new("/s/100%")).unwrap().into_string().unwrap();
        assert_eq!(
            proxy("ops@gate:2222"),
            "ProxyCommand=ssh -F \"/s/c\" -E \"/s/100%%\" -W '[%h]:%p' -- ssh://ops@gate:2222"
        );
        assert!(proxy("a,b@c,d").ends_with(" -J a,b@c -W '[%h]:%p' -- ssh://d"));
    }

    #[test]
    fn another_port_is_part_of_the_name_in_known_hosts() {
        assert_eq!(example().known_as(), "shop.example.org");
        assert_eq!(Host { port: 2222, ..example() }.known_as(), "[shop.example.org]:2222");
    }
}
