//! What a source needs of its host.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Doctor, shown};
use crate::{
    cli::show,
    config::{self, Config, ElementKind},
    manifest::Channel,
    source,
    store::{self, handover_point::HandoverPoint},
    sys::{self, Dir, accounts, program, room::Room, users},
};

/// Checks home, transport user, room and elements.
pub(super) fn check(doctor: &mut Doctor, config: &Config, source: &config::Source) {
    if !users::is_root() {
        doctor.warn("user", "not run as root: only what this user may see was looked at", "run this as root");
        let closed = |home: &Path| Dir::open(home).is_err_and(|e| e.errno() == Some(libc::EACCES));
        if source::channels(source).iter().any(|(_, home)| closed(home)) {
            return;
        }
    }
    for (channel, home) in source::channels(source) {
        // What is asked of both is told apart by its name.
        let called = |check: &str| match channel {
            Channel::Data => check.to_owned(),
            Channel::Logs => format!("{check} of the logs"),
        };
        match HandoverPoint::open_known(home, channel, &config.state.join("source")) {
            Ok(point) => {
                doctor.ok(called("home"), format!("{}: owners, modes, one file system", shown(home)));
                transport_user(doctor, channel, home, point.transport_user().0);
                if channel == Channel::Data {
                    let (waiting, stored) =
                        (point.waiting().map(|l| l.items.len()), point.stored().map(|l| l.items.len()));
                    check_room(doctor, source, matches!((waiting, stored), (Ok(0), Ok(0))));
                }
            }
            Err(e @ store::Error::HomeGone { .. }) => {
                doctor.error(called("home"), e.to_string(), store::Error::HOME_GONE);
            }
            Err(e) => doctor.error(called("home"), e.to_string(), "handover source init"),
        }
    }
    match std::fs::read_to_string("/proc/sys/fs/protected_hardlinks") {
        Ok(text) if text.trim() == "1" => doctor.ok("hard links", "protected"),
        _ => doctor.error(
            "hard links",
            "fs.protected_hardlinks is not 1: any user could keep files of others alive by linking them",
            "sysctl -w fs.protected_hardlinks=1, and the same in /etc/sysctl.d",
        ),
    }
    if !Path::new(sys::syslog::SOCKET).exists() {
        doctor.warn(
            "log",
            "nobody listens on /dev/log: what the gate refuses is told to the sink alone",
            "run a syslog or journald",
        );
    }
    source.elements.iter().for_each(|element| check_element(doctor, element));
    if let Some(logs) = &source.logs {
        check_logs(doctor, logs, &config.own);
    }
}

fn check_logs(doctor: &mut Doctor, logs: &config::Logs, own: &[PathBuf]) {
    match source::logs::matching(logs, own) {
        Ok(files) if files.is_empty() && !logs.paths.is_empty() => {
            doctor.warn("logs", "nothing matches the globs", "correct `paths` of [source.logs]");
        }
        Ok(files) => doctor.ok("logs", show::count(files.len() as u64, "file matches", "files match")),
        Err(e) => doctor.error("logs", e.to_string(), "correct `paths` of [source.logs]"),
    }
    if logs.journald && program::find("journalctl").is_none() {
        doctor.error("journal", "journalctl is not installed", "install systemd, or remove `journald`");
    } else if logs.journald {
        doctor.ok("journal", "journalctl is installed");
    }
}

fn transport_user(doctor: &mut Doctor, channel: Channel, home: &Path, uid: u32) {
    let (user_row, sinks_row, option) = match channel {
        Channel::Data => ("transport user", "sinks", "--user"),
        Channel::Logs => ("transport user of the logs", "sinks of the logs", "--logs-user"),
    };
    let Ok(Some(user)) = users::find_id(uid) else {
        doctor.error(
            user_row,
            format!("user {uid} is not in /etc/passwd"),
            &format!("handover source init {option} NAME"),
        );
        return;
    };
    if uid == 0 {
        doctor.warn(
            user_row,
            "the Handover Point belongs to root: a sink on another host would log in as root",
            &format!("handover source init {option} NAME; a sink on this host needs none"),
        );
    } else if accounts::plan(&user.name, Path::new(&user.home), true).is_ok_and(|steps| !steps.is_empty()) {
        doctor.error(
            user_row,
            format!("{} has no shell in which its key's command can run", user.name),
            "handover source init",
        );
    } else {
        doctor.ok(user_row, &user.name);
    }
    let file = Path::new(&user.home).join(".ssh/authorized_keys");
    // Those of the ssh server that a daemon runs are in a file of their own.
    let read = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
    let text = read(&file) + &read(&file.with_file_name("sink_keys"));
    let let_in =
        text.lines().filter(|line| line.contains(&format!(" source gate --channel {channel}"))).count();
    match std::fs::metadata(&file) {
        Ok(meta) if meta.mode() & 0o022 != 0 || (users::is_root() && meta.uid() != 0) => doctor.error(
            sinks_row,
            format!(
                "{} can be changed by others than root: the key's command is no fence then",
                shown(&file)
            ),
            "handover source authorize FILE puts it right",
        ),
        Ok(_) if let_in == 1 => doctor.ok(sinks_row, "one key is let in, to the gate"),
        Ok(_) if let_in > 1 => doctor.warn(
            sinks_row,
            format!("{let_in} keys are let in"),
            "one sink for each source: remove the others",
        ),
        Err(_) if let_in > 0 => doctor.ok(sinks_row, show::count(let_in as u64, "key is let in", "keys are let in")),
        _ if home != Path::new(&user.home) => {
            doctor.ok(sinks_row, "no key is let in: the sink is on this host")
        }
        _ => doctor.warn(
            sinks_row,
            "no key is let in yet",
            &format!("handover source authorize --channel {channel} FILE, with the public key that the sink's `init` prints"),
        ),
    }
}

fn check_room(doctor: &mut Doctor, source: &config::Source, first: bool) {
    let Ok(room) = Dir::open(&source.home).and_then(|dir| Room::of(&dir)) else { return };
    let free = room.bytes_free.saturating_sub(source.reserve.of(room.bytes_total));
    let text = format!("{} free beyond the reserve", show::size(free));
    if !first {
        doctor.ok("room", text);
        return;
    }
    let paths = source.elements.iter().filter_map(|element| match &element.kind {
        ElementKind::Tree(files) => Some(&files.paths),
        ElementKind::Archive(_) | ElementKind::Dump(_) => None,
    });
    let mut counted = Counted::default();
    paths.flatten().for_each(|path| counted.count(path, None));
    let least = if counted.cut { "at least " } else { "" };
    let text = format!(
        "{text}; the first run needs {least}{}, the size of the trees once more",
        show::size(counted.bytes)
    );
    if counted.bytes > free {
        doctor.error("room", text, "make room, or put the home on a larger file system");
    } else {
        doctor.ok("room", text);
    }
}

/// What trees take up, as far as it can be seen in moderate time.
#[derive(Default)]
struct Counted {
    bytes: u64,
    entries: u64,
    cut: bool,
}

impl Counted {
    const MOST: u64 = 2_000_000;

    fn count(&mut self, path: &Path, device: Option<u64>) {
        if self.entries >= Self::MOST {
            self.cut = true;
            return;
        }
        self.entries += 1;
        let Ok(meta) = std::fs::symlink_metadata(path) else { return };
        if meta.is_file() {
            self.bytes += meta.size();
        } else if meta.is_dir() && device.is_none_or(|device| device == meta.dev()) {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.for_each(|entry| self.count(&entry.path(), Some(meta.dev())));
        }
    }
}

fn check_element(doctor: &mut Doctor, element: &config::Element) {
    let name = format!("element {}", element.name);
    match &element.kind {
        ElementKind::Tree(files) | ElementKind::Archive(files) => {
            let unreadable = files.paths.iter().filter_map(|path| match std::fs::symlink_metadata(path) {
                Ok(meta) if meta.is_dir() => std::fs::read_dir(path).err().map(|e| (path, e)),
                Ok(meta) if meta.is_file() => std::fs::File::open(path).err().map(|e| (path, e)),
                Ok(_) => None,
                Err(e) => Some((path, e)),
            });
            let bad: Vec<String> = unreadable.map(|(path, e)| format!("{}: {e}", shown(path))).collect();
            if bad.is_empty() {
                doctor.ok(name, "all paths can be read");
            } else {
                doctor.error(name, bad.join("; "), "correct `paths`, or make them");
            }
        }
        ElementKind::Dump(dump) => {
            let program = dump.command.first().map_or("", String::as_str);
            if !program.starts_with('/') && program::find(program).is_none()
                || program.starts_with('/') && !Path::new(program).exists()
            {
                doctor.error(
                    name,
                    format!("{} is not installed", sys::show(program.as_bytes())),
                    "install it, or correct `command`",
                );
            } else {
                doctor.ok(name, format!("{} is installed", sys::show(program.as_bytes())));
            }
        }
    }
}
