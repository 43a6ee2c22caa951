//! The ssh server of a source that is a container: sinks reach the gates by it, and nothing else.
//!
//! ```text
//! <state>/source/ssh/ssh_host_ed25519_key   made once; the sink has pinned it
//! <state>/source/ssh/sshd_config            written at each start
//! <home>/.ssh/sink_keys                     the mounted public keys, each bound to its gate; written at each start
//! <home>/.ssh/authorized_keys               what `restore grant` adds
//! ```

use std::{
    ffi::OsString,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::log;
use crate::{
    cli::{Context, args::SourceDaemonArgs, authorize, host},
    config::Config,
    gate::keys::{Binding, PublicKey, To},
    manifest::Channel,
    sink::key,
    source,
    sys::{self, Dir, durable, program, syslog, users, worker::Worker},
};

/// The file beside `authorized_keys`, all of which is ours.
const KEYS: &str = "sink_keys";
/// More keys than this are none of sinks.
const LIMIT: u64 = 1 << 20;
/// A server that ended is started again after this time.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// What sshd wants to be there.
const EMPTY: &str = "/run/sshd";

/// The server, and what it is started with.
pub(super) struct Sshd {
    program: PathBuf,
    config: PathBuf,
    files: [(Channel, PathBuf); 2],
    worker: Option<(Worker, log::Voice)>,
    down: Option<(Timestamp, Timestamp)>,
    hello: String,
}

impl Sshd {
    /// Makes the host key if there is none, and writes configuration and keys.
    pub(super) fn prepare(
        context: &Context,
        args: &SourceDaemonArgs,
        config: &Config,
        state: &Path,
    ) -> Result<Self, String> {
        if !users::is_root() {
            return Err(
                "an ssh server for two transport users must be root's: leave --ssh out, or run this as root"
                    .to_owned(),
            );
        }
        let program = program::find_fixed("sshd")
            .ok_or("there is no sshd: install openssh-server, or leave --ssh out")?;
        let folder = state.join("ssh");
        let host_key = folder.join("ssh_host_ed25519_key");
        key::ensure(&host_key, &format!("root@{}", host()), (0, 0)).map_err(|e| e.to_string())?;
        let public = key::public(&host_key).map_err(|e| e.to_string())?;
        let fingerprint = PublicKey::parse(&public).map_err(|e| e.to_string())?.fingerprint();
        let files = [(Channel::Data, args.sink_keys.clone()), (Channel::Logs, args.logsink_keys.clone())];
        let sshd = Self {
            program,
            config: folder.join("sshd_config"),
            files,
            worker: None,
            down: None,
            hello: format!("ssh: port {}, host key {fingerprint}", args.ssh_port),
        };
        let users = sshd.reload(context, config)?;
        let failed = |e: sys::Error| e.to_string();
        Dir::create_all(EMPTY, 0o755).map_err(failed)?;
        let text = configuration(args.ssh_port, &host_key, &users);
        durable::write_file(&Dir::open(&folder).map_err(failed)?, "sshd_config", text.as_bytes(), 0o600)
            .map_err(failed)?;
        Ok(sshd)
    }

    /// Lets in those whose keys are in the files now, and nobody else. The transport users.
    pub(super) fn reload(&self, context: &Context, config: &Config) -> Result<Vec<String>, String> {
        let section = config.source().map_err(|e| e.to_string())?;
        let mut users = Vec::new();
        for (channel, home) in source::channels(section) {
            let user = authorize::transport_user(channel, home)
                .map_err(|e| format!("{e}; run `handover source init` once"))?;
            if home != Path::new(&user.home) {
                return Err(format!(
                    "{} is not the home of {} in /etc/passwd, where sshd looks for its keys: leave `home` out",
                    sys::show(home.as_os_str().as_encoded_bytes()),
                    user.name
                ));
            }
            let file = self.files.iter().find(|(of, _)| *of == channel).map(|(_, file)| file);
            let lines = file.map_or_else(|| Ok(String::new()), |file| lines(context, file, channel))?;
            let folder = Dir::create_all(home.join(".ssh"), 0o755).map_err(|e| e.to_string())?;
            durable::write_file(&folder, KEYS, lines.as_bytes(), 0o644).map_err(|e| e.to_string())?;
            users.push(user.name);
        }
        Ok(users)
    }

    /// Starts it when it is not there. Since when it is down.
    pub(super) fn keep_up(&mut self, context: &Context, now: Timestamp) -> Option<Timestamp> {
        if let Some((worker, _)) = &mut self.worker {
            let code = match worker.ended() {
                Ok(None) => {
                    let since = self.down.filter(|(_, last)| now.duration_since(*last) < AGAIN);
                    self.down = since;
                    return since.map(|(since, _)| since);
                }
                Ok(Some(code)) => format!("exit code {code}"),
                Err(e) => e.to_string(),
            };
            if let Some((_, voice)) = self.worker.take() {
                voice.end();
            }
            log::line(context, now, &format!("ssh: the server ended: {code}; it is started again"));
            let since = self.down.map_or(now, |(since, _)| since);
            self.down = Some((since, now));
        }
        match self.down {
            Some((since, last)) if now.duration_since(last).abs() < AGAIN => return Some(since),
            _ => {}
        }
        let args: Vec<OsString> = vec!["-D".into(), "-e".into(), "-f".into(), self.config.clone().into()];
        match Worker::start_heard(&self.program, &args, b"") {
            Ok((worker, said)) => {
                self.worker = Some((worker, log::Voice::new(context.json, "sshd".to_owned(), said)));
                log::line(context, now, &self.hello);
            }
            Err(e) => log::trouble(context, &format!("error: sshd cannot be started: {e}")),
        }
        // Until it has stayed for a while it counts as down.
        let since = self.down.map_or(now, |(since, _)| since);
        self.down = Some((since, now));
        Some(since)
    }

    /// How long until it is to be looked at again.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.down.and_then(|_| Duration::try_from(AGAIN).ok())
    }

    /// Ends it; a session that sends is ended with it, and goes on with the next one of the sink.
    pub(super) fn end(self) {
        if let Some((worker, voice)) = self.worker {
            worker.stop();
            worker.kill();
            voice.end();
        }
    }
}

fn configuration(port: u16, host_key: &Path, users: &[String]) -> String {
    format!(
        "# Written by handover at each start.\n\
         Port {port}\n\
         HostKey {}\n\
         AuthorizedKeysFile .ssh/{KEYS} .ssh/authorized_keys\n\
         AllowUsers {}\n\
         AuthenticationMethods publickey\n\
         PubkeyAuthentication yes\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PermitRootLogin no\n\
         UsePAM no\n\
         DisableForwarding yes\n\
         PermitTTY no\n\
         PermitUserRC no\n\
         PrintMotd no\n\
         PidFile none\n\
         LoginGraceTime 30\n\
         MaxAuthTries 4\n\
         ClientAliveInterval 30\n\
         ClientAliveCountMax 4\n",
        host_key.display(),
        users.join(" ")
    )
}

/// The lines for the keys of a file, each bound to the gate of its channel. No file is no key.
fn lines(context: &Context, file: &Path, channel: Channel) -> Result<String, String> {
    let shown = sys::show(file.as_os_str().as_encoded_bytes());
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(format!("{shown} is no file"));
    };
    // What is mounted may be a link, as Kubernetes makes them.
    let bytes = match std::fs::metadata(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            log::trouble(context, &format!("warning: {shown} is not there: no sink is let in to {channel}"));
            return Ok(String::new());
        }
        Err(e) => return Err(format!("{shown}: {e}")),
        Ok(meta) if meta.len() > LIMIT => return Err(format!("{shown} is too large for public keys")),
        Ok(_) => std::fs::read(folder.join(name)).map_err(|e| format!("{shown}: {e}"))?,
    };
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
    // What was served yesterday is served today: here a program that others can exchange is a warning.
    let handover = authorize::trusted_path().or_else(|why| {
        log::trouble(context, &format!("warning: {why}"));
        authorize::own_path()
    })?;
    let mut all = String::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let refuse = |e: crate::gate::keys::Error| format!("{shown}:{}: {e}", number + 1);
        let key = PublicKey::parse(line).map_err(refuse)?;
        let binding =
            Binding { handover: handover.clone(), to: To::Gate(channel.as_str()), home: None, from: None };
        all += &(binding.line(&key).map_err(refuse)? + "\n");
    }
    Ok(all)
}

/// Where nobody listens to the log, as in a container, what the gates say is printed here.
pub(super) fn print_what_gates_say(context: &Context) {
    let socket = Path::new(syslog::SOCKET);
    if socket.exists() {
        return;
    }
    let listening = UnixDatagram::bind(socket).and_then(|log| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
        Ok(log)
    });
    let json = context.json;
    let socket = match listening {
        Ok(log) => log,
        Err(e) => {
            let text = format!("warning: what gates refuse is told to the sink alone: /dev/log: {e}");
            return log::trouble(context, &text);
        }
    };
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok(count) = socket.recv(&mut bytes) {
            let said = &bytes[..count];
            // Without the number of the priority.
            let start = said.iter().position(|byte| *byte == b'>').map_or(0, |at| at + 1);
            log::heard(json, "gate", &said[start..]);
        }
    });
}
