//! What remains to be done on the other side after `init`, with the commands to be typed there.

use std::path::{Path, PathBuf};

use super::Steps;
use crate::{
    cli::{authorize, host},
    config::{self, SinkRole},
    gate::keys::PublicKey,
    manifest::Channel,
    sink::key,
    source::channels,
    sys,
};

const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key.pub";

/// Of a source: whom it lets in, and how the sink comes to know it. Nothing where a sink is let in already.
pub(super) fn of_source(steps: &mut Steps<'_>, source: &config::Source) {
    for (channel, home) in channels(source) {
        if steps.context.quiet || lets_in(channel, home) {
            continue;
        }
        let (sink, more) = match channel {
            Channel::Data => ("sink", ""),
            Channel::Logs => ("logsink", " --channel logs"),
        };
        let fingerprint = std::fs::read_to_string(HOST_KEY)
            .ok()
            .and_then(|text| PublicKey::parse(&text).ok())
            .map_or_else(|| "SHA256:…".to_owned(), |key| key.fingerprint());
        let name = &source.name;
        for line in [
            format!("{channel}: no sink is let in yet. On the backup host, as root:"),
            format!("  handover {sink} init"),
            format!("here, with the key that it shows there: handover source authorize{more} FILE"),
            "then on the backup host:".to_owned(),
            format!("  handover {sink} enroll {name} {} --fingerprint {fingerprint}", host()),
        ] {
            steps.next(&line);
        }
    }
}

/// Whether the gate of a channel has a key. What cannot be read is taken for none.
fn lets_in(channel: Channel, home: &Path) -> bool {
    let user = authorize::transport_user(channel, home).ok();
    let keys = user
        .and_then(|user| std::fs::read_to_string(Path::new(&user.home).join(".ssh/authorized_keys")).ok());
    keys.is_some_and(|keys| keys.contains(&format!(" source gate --channel {channel}")))
}

/// Of a sink: the line for each source, and how sources are enrolled.
pub(super) fn of_sink(steps: &mut Steps<'_>, sink: &config::Sink, keys: &[PathBuf]) {
    if steps.context.quiet {
        return;
    }
    let channel = match sink.role {
        SinkRole::Data => "",
        SinkRole::Logs => " --channel logs",
    };
    for identity in keys {
        // In a dry run there may be none.
        let Ok(public) = key::public(identity) else { continue };
        steps.next("on each source, as root:");
        steps.next_line(&format!(
            "echo '{}' | handover source authorize{channel} -",
            sys::show(public.as_bytes())
        ));
    }
    if keys.is_empty() {
        return;
    }
    steps.next(&format!(
        "then here, for each source, with what `ssh-keygen -lf {HOST_KEY}` shows there:\n  handover {} enroll NAME HOST --fingerprint SHA256:…",
        sink.role
    ));
    if sink.role == SinkRole::Data {
        steps.next(
            "it delivers backups by another key, which a host grants when it is needed: `handover sink deliver NAME --show-key`",
        );
    }
}
