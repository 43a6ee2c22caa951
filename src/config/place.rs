//! Where a source is, and how it is reached.

use std::{net::Ipv6Addr, path::PathBuf};

use super::{
    Sink, SinkRole,
    table::{Given, Read, Table},
    value::{self, is_word},
};

const OF_HOST: &[&str] = &["port", "user", "jump", "identity", "known_hosts"];

/// Where a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this machine: its home.
    Path(PathBuf),
    /// On another one, reached by ssh.
    Host(Host),
}

/// Another machine, reached by ssh. No part of it is ever taken for an option by ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A host name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port of its ssh server.
    pub port: u16,
    /// The transport user there.
    pub user: String,
    /// Hosts on the way there, as ssh's `-J` takes them: `user@host:port`, several with commas.
    pub jump: Option<String>,
    /// The private key that its gate knows.
    pub identity: PathBuf,
    /// The pinned host keys: another key is refused.
    pub known_hosts: PathBuf,
}

impl Place {
    /// Reads where a source is; the key and the pinned host keys may be the sink's.
    pub(super) fn read(table: &Table<'_>, sink: &Sink) -> Option<Self> {
        match (table.has("host"), table.has("path")) {
            (true, true) => {
                table.wrong_key("path", "it is on this machine or on another one: write either path or host");
                None
            }
            (false, false) => {
                let host = "write for example host = \"shop.example.org\"";
                let home = sink.role.source_user();
                let path = format!("path = \"/home/{home}\" for a source on this machine");
                table.wrong(format!("`host` is missing: {host}, or {path}"));
                None
            }
            (false, true) => {
                table.refuse(
                    OF_HOST,
                    "only a source with `host` has this key; one on this machine is read without ssh",
                );
                table.optional("path", value::home).map(Self::Path)
            }
            (true, false) => Host::read(table, sink).map(Self::Host),
        }
    }
}

impl Host {
    /// Whether all of it is what ssh takes for what it is; the text says what is not.
    pub fn check(&self) -> Result<(), String> {
        let shown = |text: &str| crate::sys::show(text.as_bytes());
        if !is_host(&self.host) {
            return Err(format!("{} is no host name and no address", shown(&self.host)));
        }
        if !is_word(&self.user, "._-") {
            return Err(format!("{} is no user", shown(&self.user)));
        }
        match &self.jump {
            Some(jump) if !jump.split(',').all(is_hop) => {
                Err(format!("{} are no hosts on the way, as user@host:port with commas", shown(jump)))
            }
            _ => Ok(()),
        }
    }

    fn read(table: &Table<'_>, sink: &Sink) -> Option<Self> {
        let role = sink.role;
        let host = table.optional("host", |given| host(given, role));
        let file = |key, inherited: &Option<PathBuf>, why: &str| {
            if table.has(key) || inherited.is_none() {
                return table.required(key, why, value::path);
            }
            inherited.clone()
        };
        let no_identity = format!(
            "it is the private key for this host; write for example identity = \"/etc/handover/{role}_ed25519\" here or in {}",
            role.header()
        );
        let no_known_hosts = format!(
            "the keys of hosts must be pinned; write for example known_hosts = \"/etc/handover/known_hosts\" here or in {}",
            role.header()
        );
        let identity = file("identity", &sink.identity, &no_identity);
        let known_hosts = file("known_hosts", &sink.known_hosts, &no_known_hosts);
        let port = |given: &_| value::count(given, 1..=u16::MAX, "not a port", 22);
        let place = Self {
            port: table.or("port", 22, port),
            user: table.or("user", role.source_user().to_owned(), |given| {
                value::user(given, &format!("\"{}\"", role.source_user()))
            }),
            jump: table.optional("jump", jump),
            host: host?,
            identity: identity?,
            known_hosts: known_hosts?,
        };
        Some(place)
    }
}

fn host(given: &Given<'_>, role: SinkRole) -> Read<String> {
    let text = given.value.as_str().unwrap_or_default();
    let example = given.written("\"shop.example.org\"");
    if is_host(text) {
        Ok(text.to_owned())
    } else if text.contains('@') {
        let user = role.source_user();
        Err(format!("the user has a key of its own; write for example {example} and user = \"{user}\""))
    } else if text.contains(':') && !text.ends_with(']') && is_hop(text) {
        Err(format!("the port has a key of its own; write for example {example} and port = 22"))
    } else {
        given.expected("a host name, or an address without brackets", "\"shop.example.org\"")
    }
}

/// Letters, digits, `.`, `_` and `-`, beginning with a letter, a digit or `_`; or an IPv6 address, which may name an
/// interface.
fn is_host(text: &str) -> bool {
    let (address, interface) = text.split_once('%').map_or((text, None), |(a, i)| (a, Some(i)));
    if address.parse::<Ipv6Addr>().is_ok() {
        return interface.is_none_or(|interface| is_word(interface, "._-"));
    }
    text.len() <= 253 && is_word(text, "._-")
}

fn jump(given: &Given<'_>) -> Read<String> {
    match given.value.as_str() {
        Some(text) if text.split(',').all(is_hop) => Ok(text.to_owned()),
        _ => {
            let what =
                "hosts on the way, each as user@host:port (user and port may be left out), with commas";
            given.expected(what, "\"ops@gate.example.org:22\"")
        }
    }
}

/// `user@host:port`, the user and the port perhaps left out; an IPv6 address in brackets.
fn is_hop(hop: &str) -> bool {
    let (user, place) = hop.split_once('@').map_or((None, hop), |(user, place)| (Some(user), place));
    let (is_place, rest) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let (host, rest) = place.split_at(place.find(':').unwrap_or(place.len()));
            (is_word(host, "._-"), rest)
        }
    };
    let is_port = |port: &str| !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_place
        && user.is_none_or(|user| is_word(user, "._-"))
        && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_host_or_hop_can_be_taken_for_an_option_or_for_something_of_a_shell() {
        for bad in
            ["-oProxyCommand=x", "", "a b", "a;b", "a\nb", "$(x)", "a/b", "[::1]", ".a", "a%b", "fe80::1%-x"]
        {
            assert!(!is_host(bad), "{bad}");
        }
        for bad in ["-oX", "u@-h", "-u@h", "h:0", "h:", "h:+1", "@h", "a,,b", "a,-b", "[::1]x", "u@v@h"] {
            assert!(!bad.split(',').all(is_hop), "{bad}");
        }
        for good in ["shop.example.org", "10.0.0.7", "::1", "fe80::1%eth0", "a_b-c"] {
            assert!(is_host(good), "{good}");
        }
        for good in ["h", "u@h:22", "[::1]", "u@[::1]:22", "10.0.0.7:2222"] {
            assert!(is_hop(good), "{good}");
        }
    }
}
