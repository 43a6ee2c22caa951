//! `handover source authorize`.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{Context, args::AuthorizeArgs, fail, show};
use crate::{
    config,
    gate::keys::{self, Binding, Error, Outcome, PublicKey, To},
    manifest::Channel,
    report::Exit,
    source,
    store::handover_point::HandoverPoint,
    sys::{self, program, trusted, users},
};

/// Lets a sink in.
pub(super) fn run(context: &Context, source: &config::Source, args: &AuthorizeArgs) -> Exit {
    match authorize(context, source, args) {
        Ok(()) => Exit::Ok,
        Err((exit, text)) => fail(exit, &text),
    }
}

fn authorize(context: &Context, source: &config::Source, args: &AuthorizeArgs) -> Result<(), (Exit, String)> {
    let configuration = |e: &dyn std::fmt::Display| (Exit::Configuration, e.to_string());
    let key = PublicKey::parse(&read(&args.key).map_err(|e| (Exit::Usage, e))?)
        .map_err(|e| (Exit::Usage, e.to_string()))?;
    let (channel, channel_home) = channel(source, args)?;
    let user = transport_user(channel, channel_home).map_err(|e| configuration(&e))?;
    let home = (channel_home != Path::new(&user.home)).then(|| channel_home.to_path_buf());
    let to = To::Gate(channel.as_str());
    let file = match &args.authorized_keys {
        Some(file) => file.clone(),
        None => Path::new(&user.home).join(".ssh/authorized_keys"),
    };
    if args.remove {
        return remove(context, (&file, channel), &key, to, args.dry_run);
    }
    let handover = trusted_path().map_err(|e| configuration(&e))?;
    let binding = Binding { handover, to, home, from: args.from.clone() };
    let outcome = keys::allow(&file, &key, &binding, args.dry_run).map_err(|e| match &e {
        Error::Sys(inner) if inner.is_storage() => (Exit::Storage, e.to_string()),
        _ => configuration(&e),
    })?;
    let shown = sys::show(file.as_os_str().as_encoded_bytes());
    let text = match (outcome, args.dry_run) {
        (Outcome::Already, _) => format!("nothing to do: the key has its line in {shown}"),
        (Outcome::Added, false) => {
            format!("the key is let in, to the gate alone: a line was added to {shown}")
        }
        (Outcome::Replaced, false) => format!("the key's line in {shown} was replaced"),
        (Outcome::Added, true) => format!("would add a line to {shown}"),
        (Outcome::Replaced, true) => format!("would replace the key's line in {shown}"),
    };
    let line = binding.line(&key).map_err(|e| configuration(&e))?;
    if context.json {
        let word = match outcome {
            Outcome::Already => "already",
            Outcome::Added => "added",
            Outcome::Replaced => "replaced",
        };
        tell(word, channel, &key, (&file, Some(&line)), args.dry_run);
        return Ok(());
    }
    if args.dry_run && outcome != Outcome::Already {
        show::data(&line);
    }
    if !context.quiet {
        show::talk(&text);
    }
    Ok(())
}

/// What became of a key, for programs.
#[derive(Serialize)]
struct Authorized<'a> {
    /// `added`, `replaced`, `already`; or `removed`, `absent`. In a dry run what it would be.
    outcome: &'a str,
    channel: Channel,
    /// The key, as `ssh-keygen -l` shows it.
    fingerprint: String,
    /// The file in which its line is.
    file: String,
    /// The line that lets it in.
    line: Option<&'a str>,
    dry_run: bool,
}

fn tell(
    outcome: &str,
    channel: Channel,
    key: &PublicKey,
    (file, line): (&Path, Option<&str>),
    dry_run: bool,
) {
    let (fingerprint, file) = (key.fingerprint(), sys::show(file.as_os_str().as_encoded_bytes()));
    show::json(&Authorized { outcome, channel, fingerprint, file, line, dry_run });
}

/// Takes a key's line out of the file.
fn remove(
    context: &Context,
    (file, channel): (&Path, Channel),
    key: &PublicKey,
    to: To,
    dry_run: bool,
) -> Result<(), (Exit, String)> {
    let shown = sys::show(file.as_os_str().as_encoded_bytes());
    let gone = keys::remove(file, key, to, dry_run).map_err(|e| match &e {
        Error::Sys(inner) if inner.is_storage() => (Exit::Storage, e.to_string()),
        _ => (Exit::Configuration, e.to_string()),
    })?;
    if context.json {
        tell(if gone { "removed" } else { "absent" }, channel, key, (file, None), dry_run);
    } else if !context.quiet {
        show::talk(&match (gone, dry_run) {
            (true, false) => format!("the key is let in no more: its line in {shown} is gone"),
            (true, true) => format!("would remove the key's line in {shown}"),
            (false, _) => format!("nothing to do: the key has no line of this gate in {shown}"),
        });
    }
    Ok(())
}

/// The channel that was asked for, or the one that there is, data before logs.
fn channel<'a>(
    source: &'a config::Source,
    args: &AuthorizeArgs,
) -> Result<(Channel, &'a Path), (Exit, String)> {
    let all = source::channels(source);
    let wanted = args.channel.map(Channel::from);
    let found = all.into_iter().find(|(channel, _)| wanted.is_none_or(|wanted| wanted == *channel));
    found.ok_or_else(|| {
        let missing = if wanted == Some(Channel::Logs) { "[source.logs]" } else { "[[source.element]]" };
        (Exit::Configuration, format!("there is no {missing} in the configuration: add it first"))
    })
}

/// Reads a public key from a file, or from standard input for `-`.
pub(super) fn read(key: &Path) -> Result<String, String> {
    let shown = sys::show(key.as_os_str().as_encoded_bytes());
    let limit = keys::KEY_LIMIT as u64 + 1;
    let mut text = String::new();
    let read = if key == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(key).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    read.map(|_| text).map_err(|e| format!("the key cannot be read from {shown}: {e}"))
}

/// The owner of the Handover Point: whom the sink logs in as.
pub(super) fn transport_user(channel: Channel, home: &Path) -> Result<users::User, String> {
    // As root everything is checked; without root, the folders that are ours.
    let point = if users::is_root() {
        HandoverPoint::open(home, channel)
    } else {
        HandoverPoint::open_for_gate(home)
    };
    let (uid, _) = point.map_err(|e| e.to_string())?.transport_user();
    users::find_id(uid)
        .map_err(|e| e.to_string())?
        .ok_or_else(|| format!("the folders belong to user {uid}, whom /etc/passwd does not know"))
}

/// Where a program from the Nix store has a path that survives upgrades and garbage collection.
const PROFILES: [&str; 2] =
    ["/run/current-system/sw/bin/handover", "/nix/var/nix/profiles/default/bin/handover"];

/// The same, for what root writes down: nobody but root can change what it names.
pub(super) fn trusted_path() -> Result<PathBuf, String> {
    let path = own_path()?;
    roots_alone(&path)?;
    Ok(path)
}

/// Refuses a path that others than root could exchange, or what is on the way to it: whoever can would be root by it, or the
/// user whose key it is bound to. What is not root's own work concerns its user alone.
pub(super) fn roots_alone(path: &Path) -> Result<(), String> {
    if !users::is_root() {
        return Ok(());
    }
    let exposed = trusted::exposed(path, 0).map_err(|e| e.to_string())?;
    if exposed.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = exposed.iter().map(|one| format!("{}\n  -> {}", one.why, one.fix)).collect();
    Err(format!(
        "{} must be root's alone to change, with every folder on the way to it, before what root runs may name it:\n{}",
        sys::show(path.as_os_str().as_encoded_bytes()),
        lines.join("\n")
    ))
}

/// The path by which sshd is to start this program: one that stays when handover is upgraded, if there is one.
pub(super) fn own_path() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
    let here = this.canonicalize().ok();
    if this.starts_with("/nix/store") {
        // A wrapper stands beside the program, under the name by which it is called.
        let folder = |path: &Path| path.parent().map(Path::to_path_buf);
        let own = here.as_deref().and_then(folder);
        let mut profiles = PROFILES.iter().map(PathBuf::from);
        return profiles.find(|path| path.canonicalize().ok().as_deref().and_then(folder) == own).ok_or_else(
            || {
                let looked = PROFILES.join(" nor ");
                format!(
                    "{} is in the Nix store, from where garbage collection takes it, and it is neither {looked}: install it into \
                     one of these profiles, and type this again",
                    sys::show(this.as_os_str().as_encoded_bytes())
                )
            },
        );
    }
    Ok(program::find_fixed("handover").filter(|path| path.canonicalize().ok() == here).unwrap_or(this))
}
