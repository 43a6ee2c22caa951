//! What ssh says, read in this one place: who failed, and what a person has to do. ssh has one exit code for all of it,
//! so its words are all there is; what is not known is passed on as it is, and tried again later.

use std::path::Path;

use super::{Error, Host, Purpose};
use crate::{manifest::Channel, remote::said::Said, sys::show};

/// Why there is no connection.
pub(super) fn failed(log: &str, host: &Host) -> Error {
    let at = show(host.host.as_bytes());
    let has = |text: &str| log.contains(text);
    let access = |why: String, fix: String| Error::Access { why, fix };
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED")
        || has("has changed and you have requested strict checking")
    {
        let offered = fingerprint(log).map_or_else(String::new, |print| format!(" (it offers {print})"));
        return Error::HostKey {
            why: format!(
                "{at} is not the host that was enrolled: its host key is another one{offered}; nothing was sent to it"
            ),
            fix: format!(
                "ask who runs it. Only if it was set up anew: compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on it, \
                 then here `ssh-keygen -R '{}' -f {}`; {}",
                show(host.known_as().as_bytes()),
                path(&host.known_hosts),
                pin_line(host)
            ),
        };
    }
    if has("host key is known for") || has("Host key verification failed") {
        let which = if host.jump.is_some() { format!("{at}, or a host on the way to it,") } else { at };
        return access(
            format!("the host key of {which} is not in {}: nothing was sent to it", path(&host.known_hosts)),
            pin_line(host),
        );
    }
    if let Some(line) = line_with(log, &["Load key ", "UNPROTECTED PRIVATE KEY", "are too open"]) {
        return no_key(host, &line);
    }
    if let Some(line) = line_with(log, &["Permission denied ("]) {
        return access(
            format!("{at} does not let {} in with the key {}: {line}", host.user, path(&host.identity)),
            format!("there, as root: {}", authorize_line(host)),
        );
    }
    Error::Connect(broken(log, &format!("ssh to {at} failed and does not say why")))
}

/// The private key cannot be used.
pub(super) fn no_key(host: &Host, why: &dyn std::fmt::Display) -> Error {
    Error::Access {
        why: format!("the key {} cannot be used: {why}", path(&host.identity)),
        fix: format!(
            "it must be there, readable by the user who runs this, and by nobody else (mode 0600); `{} init` makes one if \
             none is there",
            sink(host)
        ),
    }
}

/// The words for a connection that failed or broke: what ssh said, or `otherwise`.
pub(super) fn broken(log: &str, otherwise: &str) -> String {
    let mut said = Said::default();
    said.add(log.trim().trim_start_matches("ssh: ").as_bytes());
    let text = said.text();
    match (text.is_empty(), otherwise.is_empty()) {
        (false, _) => text,
        (true, false) => show(otherwise.as_bytes()),
        (true, true) => "the connection broke".to_owned(),
    }
}

/// The first line that holds one of these.
fn line_with(log: &str, words: &[&str]) -> Option<String> {
    let mut lines = log.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    lines.next().map(|line| show(line.trim().trim_matches('@').trim().as_bytes()))
}

fn fingerprint(log: &str) -> Option<String> {
    let print = log.split("sent by the remote host is").nth(1)?.split_whitespace().next()?;
    print.starts_with("SHA256:").then(|| show(print.trim_end_matches('.').as_bytes()))
}

/// The command by which the key gets its place on the other host.
pub(super) fn authorize_line(host: &Host) -> String {
    let mut public = host.identity.clone().into_os_string();
    public.push(".pub");
    let command = |key: &str| match host.purpose {
        Purpose::Fetch(Channel::Data) => format!("handover source authorize {key}"),
        Purpose::Fetch(Channel::Logs) => format!("handover source authorize --channel logs {key}"),
        Purpose::Deliver => format!("handover restore grant --key {key} --for 2h"),
    };
    match std::fs::read_to_string(&public) {
        Ok(key) if !key.trim().contains(['\'', '\n']) && key.len() < 4096 => {
            format!("echo '{}' | {}", show(key.trim().as_bytes()), command("-"))
        }
        _ => format!("{}, where FILE has the content of {}", command("FILE"), path(Path::new(&public))),
    }
}

/// What shows the fingerprint of the host's key, and pins it.
fn pin_line(host: &Host) -> String {
    let port = if host.port == 22 { String::new() } else { format!(" --port {}", host.port) };
    let jump = host.jump.as_ref().map_or_else(String::new, |jump| format!(" --jump {jump}"));
    let (name, at) = (&host.name, show(host.host.as_bytes()));
    match host.purpose {
        Purpose::Fetch(_) => {
            let sink = sink(host);
            format!("`{sink} enroll {name} {at}{port}{jump}` shows its fingerprint and pins it")
        }
        Purpose::Deliver => format!(
            "on it, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows its fingerprint; then here `handover sink deliver {name} \
             --to {at}{port}{jump} --fingerprint SHA256:…`"
        ),
    }
}

/// The command that uses the connection.
fn sink(host: &Host) -> &'static str {
    match host.purpose {
        Purpose::Fetch(Channel::Data) | Purpose::Deliver => "handover sink",
        Purpose::Fetch(Channel::Logs) => "handover logsink",
    }
}

fn path(path: &Path) -> String {
    show(path.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::ssh::host::example;

    const CHANGED: &str = "\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
The fingerprint for the ED25519 key sent by the remote host is\r
SHA256:deOE+xzMJfZcXcUhPGS5nVJ7/QLobwtzvVmVvJGyuY4.\r
Host key for shop.example.org has changed and you have requested strict checking.\r
Host key verification failed.\r
";

    fn both(log: &str) -> (String, String) {
        let error = failed(log, &example());
        assert!(error.is_unreachable() && !error.is_transient(), "{error}");
        (error.to_string(), error.fix().unwrap().to_owned())
    }

    #[test]
    fn what_a_person_must_do_is_said_with_the_commands() {
        let (why, fix) = both(CHANGED);
        assert!(
            why.contains("another one (it offers SHA256:deOE+xzMJfZcXcUhPGS5nVJ7/QLobwtzvVmVvJGyuY4)"),
            "{why}"
        );
        assert!(fix.contains("ssh-keygen -R 'shop.example.org' -f /etc/handover/known%hosts"), "{fix}");
        let (why, fix) = both(
            "No ED25519 host key is known for shop.example.org and you have requested strict checking.\r\nHost key verification failed.",
        );
        assert!(why.contains("is not in /etc/handover/known%hosts"), "{why}");
        assert!(fix.contains("`handover sink enroll shop shop.example.org`"), "{fix}");
        let (why, fix) = both("dataBackupSource@shop.example.org: Permission denied (publickey).\r\n");
        assert!(why.starts_with("shop.example.org does not let dataBackupSource in with the key"), "{why}");
        assert!(fix.contains("handover source authorize FILE"), "{fix}");
        let logs = Host { purpose: Purpose::Fetch(Channel::Logs), ..example() };
        assert!(authorize_line(&logs).starts_with("handover source authorize --channel logs FILE"));
        assert!(pin_line(&logs).starts_with("`handover logsink enroll shop shop.example.org` shows"));
        let (why, _) = both("Load key \"/etc/x\": error in libcrypto\r\nx@y: Permission denied (publickey).");
        assert!(why.ends_with("cannot be used: Load key \"/etc/x\": error in libcrypto"), "{why}");
    }

    #[test]
    fn what_may_pass_by_itself_is_tried_again() {
        for (log, text) in [
            (
                "ssh: connect to host 127.0.0.1 port 2223: Connection refused\r\n",
                "cannot connect: connect to host 127.0.0.1 port 2223: Connection refused",
            ),
            (
                "ssh: Could not resolve hostname x: Name or service not known",
                "cannot connect: Could not resolve hostname x: Name or service not known",
            ),
            ("a\x1b[2J\nb", "cannot connect: a\\u{1b}[2J; b"),
            ("", "cannot connect: ssh to shop.example.org failed and does not say why"),
        ] {
            let error = failed(log, &example());
            assert_eq!(error.to_string(), text);
            assert!(error.is_transient());
        }
    }
}
