//! What a sink needs of its host, and of its sources.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use super::{Doctor, shown};
use crate::{
    cli::{enroll as enrolling, show, sink as commands},
    config::{self, Config, Place, SinkRole},
    remote::Tools,
    sink::{channel, enroll, run},
    sys::{self, Dir, child, clock, program, room::Room, sandbox},
};

/// Checks store, keys and the way to every source.
pub(super) fn check(doctor: &mut Doctor, config: &Config, sink: &config::Sink) {
    match program::find("ssh").map(|_| ssh_version()) {
        None => doctor.error("ssh", "not installed", "install the OpenSSH client"),
        Some(version) => doctor.ok("ssh", version),
    }
    if sink.sandbox == config::Sandbox::Required && sandbox::support().landlock_abi.is_none() {
        doctor.error(
            "sandbox",
            "required, and the kernel has none",
            "use a kernel with Landlock, or sandbox = \"auto\"",
        );
    }
    let (role, state) = (sink.role, config.state.join(sink.role.name()));
    match run::is_noted(&state) {
        Ok(true) => match run::open_store(sink, &state) {
            Ok((store, _)) => doctor.ok("store", format!("{}, marker {}", shown(&sink.home), store.id())),
            Err(e) => doctor.error(
                "store",
                e.to_string(),
                &format!("mount its disk; only where it is gone for good: `handover {role} init --new-home`"),
            ),
        },
        Ok(false) => doctor.error("store", "it was never made", &format!("handover {role} init")),
        Err(e) => doctor.error("store", e.to_string(), "run this as root, or as the sink's user"),
    }
    if let Ok(room) = Dir::open(&sink.home).and_then(|dir| Room::of(&dir)) {
        let free = room.bytes_free.saturating_sub(sink.reserve.of(room.bytes_total));
        doctor.ok("room", format!("{} free beyond the reserve", show::size(free)));
    }
    sink.identities().iter().for_each(|identity| check_identity(doctor, role, identity));
    if sink.sources.is_empty() {
        doctor.warn("sources", "none is enrolled yet", &format!("handover {role} enroll NAME HOST"));
    }
    for source in &sink.sources {
        check_connection(doctor, config, sink, source);
    }
}

fn ssh_version() -> String {
    let said = child::command("ssh").arg("-V").output().map(|output| output.stderr).unwrap_or_default();
    sys::show(String::from_utf8_lossy(&said).trim().as_bytes())
}

fn check_identity(doctor: &mut Doctor, role: SinkRole, identity: &Path) {
    let what = format!("key {}", shown(identity));
    match std::fs::metadata(identity) {
        Err(e) => doctor.error(what, e.to_string(), &format!("handover {role} init makes it")),
        Ok(meta) if meta.mode() & 0o077 != 0 => {
            doctor.error(
                what,
                format!("its mode {:04o} lets others read it", meta.mode() & 0o7777),
                "chmod 600 it, or ssh does not take it",
            );
        }
        Ok(_) => match std::fs::File::open(identity) {
            Ok(_) => doctor.ok(what, "there, and nobody else's"),
            Err(e) => doctor.error(
                what,
                e.to_string(),
                "run this as the sink's user, and give the key to that user",
            ),
        },
    }
}

fn check_connection(doctor: &mut Doctor, config: &Config, sink: &config::Sink, source: &config::SinkSource) {
    let name = format!("source {}", source.name);
    if let Place::Host(place) = &source.place {
        let host = commands::host_of(sink, &source.name, place);
        let file = &host.known_hosts;
        let writable = std::fs::metadata(file).is_ok_and(|meta| meta.mode() & 0o022 != 0);
        match enroll::pinned(file, &host.known_as()) {
            _ if writable => {
                doctor.error(&name, format!("{} can be changed by others", shown(file)), "chmod 644 it")
            }
            Ok(keys) if !keys.is_empty() => doctor.ok(&name, "its host key is pinned"),
            _ => {
                let fix = format!("handover {} enroll {} {}", sink.role, source.name, host.host);
                return doctor.error(&name, format!("its host key is not in {}", shown(file)), &fix);
            }
        }
    }
    let tools = match Tools::find(false) {
        Ok(tools) => tools,
        Err(e) => return doctor.error(&name, e.to_string(), "install it"),
    };
    let mine = commands::Sink::new(config, sink);
    let private = enrolling::private_state(config, &mine);
    match commands::connect(sink, &private, source, &tools).and_then(|remote| remote.offers()) {
        Err(e) => {
            doctor.error(&name, e.to_string(), e.fix().unwrap_or("look at the source, and at the line to it"))
        }
        Ok(offers) if offers.name != source.name.as_str() => {
            doctor.error(
                &name,
                format!("it calls itself {}", offers.name),
                "write the same name on both sides",
            );
        }
        Ok(offers) if offers.channel != channel(sink.role) => {
            doctor.error(
                &name,
                format!("it hands over {} there, and {} is fetched here", offers.channel, channel(sink.role)),
                &format!(
                    "name the home, or the user, of {} in {}",
                    channel(sink.role),
                    sink.role.source_header()
                ),
            );
        }
        Ok(offers) => {
            let waiting = show::count(offers.offers.len() as u64, "generation waits", "generations wait");
            doctor.ok(&name, format!("handover {} answers: {waiting}", offers.version));
            let skew = offers.clock.duration_since(clock::now()).as_secs();
            if skew.abs() > 300 {
                doctor.warn(
                    &name,
                    format!("its clock is {skew} s off ours"),
                    "run a time service on both hosts",
                );
            }
        }
    }
}
