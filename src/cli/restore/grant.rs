//! `handover restore grant`.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    cli::{Context, args::RestoreGrantArgs, authorize, fail, show},
    config,
    gate::keys::{self, Binding, Error, Grant, Outcome, PublicKey, Revoke, To, Until},
    manifest::Channel,
    report::Exit,
    sys::{self, child, clock, program},
};

/// A way in that is open longer is forgotten.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);

type Failed = (Exit, String);

/// A grant, as it is shown.
#[derive(Serialize)]
struct Row {
    fingerprint: String,
    comment: String,
    until: Timestamp,
    from: Option<String>,
}

#[derive(Serialize)]
struct Report {
    file: String,
    dry_run: bool,
    granted: Option<Row>,
    revoked: Vec<Row>,
    expired: Vec<Row>,
    grants: Vec<Row>,
}

impl From<&Grant> for Row {
    fn from(grant: &Grant) -> Self {
        Self {
            fingerprint: grant.key.fingerprint(),
            comment: sys::show(grant.key.comment().as_bytes()),
            until: grant.until,
            from: grant.from.as_deref().map(|from| sys::show(from.as_bytes())),
        }
    }
}

/// Grants, lists or revokes; what is over is swept whatever is asked.
pub(super) fn run(context: &Context, args: &RestoreGrantArgs) -> Exit {
    match act(context, args) {
        Ok(()) => Exit::Ok,
        Err((exit, text)) => fail(exit, &text),
    }
}

fn configuration(e: &dyn std::fmt::Display) -> Failed {
    (Exit::Configuration, e.to_string())
}

fn of_keys(e: &Error) -> Failed {
    let exit = match e {
        Error::Sys(inner) if inner.is_storage() => Exit::Storage,
        Error::Key(_) | Error::Text { .. } => Exit::Usage,
        Error::Busy(_) => Exit::Busy,
        Error::Interrupted(_) => Exit::Interrupted,
        Error::Taken { .. } | Error::Sys(_) => Exit::Configuration,
    };
    (exit, e.to_string())
}

fn rows(grants: &[Grant]) -> Vec<Row> {
    grants.iter().map(Row::from).collect()
}

fn act(context: &Context, args: &RestoreGrantArgs) -> Result<(), Failed> {
    let config =
        context.load(config::Role::Restore).map_err(|exit| (exit, "nothing was changed".to_owned()))?;
    let home = &config.restore.home;
    let user = authorize::transport_user(Channel::Data, home).map_err(|e| configuration(&e))?;
    let file = match &args.authorized_keys {
        Some(file) => file.clone(),
        None => Path::new(&user.home).join(".ssh/authorized_keys"),
    };
    let now = clock::now();
    let sweep = || keys::revoke(&file, &Revoke::Expired(now), args.dry_run).map_err(|e| of_keys(&e));
    let mut report = Report {
        file: sys::show(file.as_os_str().as_encoded_bytes()),
        dry_run: args.dry_run,
        granted: None,
        revoked: Vec::new(),
        expired: rows(&sweep()?),
        grants: Vec::new(),
    };
    if let Some(key) = &args.key {
        let home = (*home != Path::new(&user.home)).then(|| home.clone());
        report.granted = Some(grant(context, args, key, &file, home, now)?);
    }
    if let Some(which) = &args.revoke {
        let which = which_of(which)?;
        report.revoked = rows(&keys::revoke(&file, &which, args.dry_run).map_err(|e| of_keys(&e))?);
        if report.revoked.is_empty() && which != Revoke::All {
            return Err((
                Exit::Usage,
                format!("{} has no grant of this key: `handover restore grant --list`", report.file),
            ));
        }
    }
    report.grants = rows(&keys::grants(&file).map_err(|e| of_keys(&e))?);
    if context.json {
        show::json(&report);
    } else {
        tell(context, args, &report);
    }
    Ok(())
}

fn grant(
    context: &Context,
    args: &RestoreGrantArgs,
    key: &Path,
    file: &Path,
    home: Option<PathBuf>,
    now: Timestamp,
) -> Result<Row, Failed> {
    let key =
        PublicKey::parse(&authorize::read(key).map_err(|e| (Exit::Usage, e))?).map_err(|e| of_keys(&e))?;
    let time = SignedDuration::try_from(args.time).unwrap_or(SignedDuration::MAX);
    if time > LONGEST {
        let text = "--for is longer than a week: grant it anew when it is needed again".to_owned();
        return Err((Exit::Usage, text));
    }
    let until = now.checked_add(time).map_err(|e| (Exit::Usage, e.to_string()))?;
    // sshd counts in seconds.
    let until = Timestamp::from_second(until.as_second()).map_err(|e| (Exit::Usage, e.to_string()))?;
    let handover = authorize::trusted_path().map_err(|e| configuration(&e))?;
    let binding = Binding {
        handover,
        to: To::Restore(Until::new(until, &sshd_version())),
        home,
        from: args.from.clone(),
    };
    let outcome = keys::allow(file, &key, &binding, args.dry_run).map_err(|e| of_keys(&e))?;
    if args.dry_run && outcome != Outcome::Already && !context.json {
        show::data(&binding.line(&key).map_err(|e| of_keys(&e))?);
    }
    Ok(Row::from(&Grant { key, until, from: args.from.clone() }))
}

/// What this host's sshd says of itself: old ones do not know how, and say it all the same. Nothing if there is none.
fn sshd_version() -> String {
    let Some(sshd) = program::find_fixed("sshd") else { return String::new() };
    let said = child::command(sshd).arg("-V").stdin(std::process::Stdio::null()).output();
    said.map_or_else(
        |_| String::new(),
        |said| String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned(),
    )
}

/// A key may be given as a file too.
fn which_of(text: &str) -> Result<Revoke, Failed> {
    if text == "all" {
        return Ok(Revoke::All);
    }
    let path = Path::new(text);
    if text != "-" && !path.is_file() {
        return Ok(Revoke::Key(text.to_owned()));
    }
    let key =
        PublicKey::parse(&authorize::read(path).map_err(|e| (Exit::Usage, e))?).map_err(|e| of_keys(&e))?;
    Ok(Revoke::Key(key.fingerprint()))
}

fn tell(context: &Context, args: &RestoreGrantArgs, report: &Report) {
    let would = if report.dry_run { "would be " } else { "" };
    let say =
        |what: &str, row: &Row| show::talk(&format!("{would}{what}: {} {}", row.fingerprint, row.comment));
    if args.list {
        let row = |row: &Row| {
            let from = row.from.clone().unwrap_or_else(|| "anywhere".to_owned());
            vec![row.fingerprint.clone(), row.comment.clone(), row.until.to_string(), from]
        };
        if report.grants.is_empty() {
            show::talk("nobody may deliver to this host");
        } else {
            show::data(&show::table(
                &["key", "of", "until", "from"],
                report.grants.iter().map(row).collect(),
            ));
        }
    }
    if context.quiet {
        return;
    }
    report.expired.iter().for_each(|row| say("removed, as its time was over", row));
    report.revoked.iter().for_each(|row| say("revoked", row));
    if !report.revoked.is_empty() {
        show::talk("a connection that is open stays open until it ends; a new one is not let in");
    }
    if let Some(row) = &report.granted {
        show::talk(&format!(
            "{would}granted until {}: {} {} may deliver to restore/, and nothing else, by {}",
            row.until, row.fingerprint, row.comment, report.file
        ));
    }
}
