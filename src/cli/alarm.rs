//! Telling those who do not look: mail and pings, at the end of whatever ran. A mail server or a ping that fails never
//! fails a backup: it is a finding of its own.

use std::path::Path;

use super::{Context, fail, host, show};
use crate::{
    config::{self, Config, MailWay, PingRole},
    notify::{self, About, Looked, Scope, Signal},
    report::{Exit, Finding, Kind, exit_of},
    sys::{Dir, clock, users},
};

/// The scope of what keeps a run from beginning.
const START: &str = "configuration";

/// Whose run it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct What {
    /// The role, and the name of its state folder.
    pub(super) role: &'static str,
    /// What it did, as `run`.
    pub(super) action: &'static str,
}

impl What {
    fn tell<T>(self, exit: Exit, act: impl FnOnce(&About<'_>) -> T) -> T {
        let what = format!("{} {}", self.role, self.action);
        act(&About { role: self.role, what: &what, host: &host(), exit, now: clock::now() })
    }
}

/// Delivers what has changed with a run that ended so, and what earlier runs could not deliver; after the run has let
/// go of its locks. Gives what went wrong with that, to be told with the run's own findings.
pub(super) fn deliver(config: &Config, what: What, exit: Exit, scopes: Vec<Scope<'_>>) -> Vec<Finding> {
    told(config, what, exit, scopes).findings
}

/// As [`deliver`]; tells also whether there was something new.
pub(super) fn told(config: &Config, what: What, exit: Exit, mut scopes: Vec<Scope<'_>>) -> notify::Delivered {
    let Some(mailer) = config.mail.as_ref().filter(|_| exit != Exit::Busy).map(mailer) else {
        return notify::Delivered::default();
    };
    // It ran, so the configuration is good.
    let start = Looked::nothing().and(Kind::Configuration);
    scopes.push(Scope { name: START, findings: &[], generation: None, looked: start });
    let state = config.state.join(what.role);
    let post = notify::Post { mailer: &mailer, state: ours(&state) };
    what.tell(exit, |about| notify::deliver(&post, about, &scopes))
}

/// Tells of a run that could not begin, if the file says whom to tell. What could not be told is printed.
pub(super) fn refused(context: &Context, what: What, text: &str) {
    let Ok(config) = config::load(&context.config, &config::Surroundings::here(), config::Role::Mail) else {
        return;
    };
    let Some(mailer) = config.mail.as_ref().map(mailer) else { return };
    let findings = [Finding::new(Kind::Configuration, START, text)
        .with_fix("mend what is named, then run `handover check`")];
    let scope = Scope { name: START, findings: &findings, generation: None, looked: Looked::nothing() };
    let state = config.state.join(what.role);
    let post = notify::Post { mailer: &mailer, state: ours(&state) };
    let told = what.tell(Exit::Configuration, |about| notify::deliver(&post, about, &[scope]));
    show::findings(what.role, &told.findings, context.quiet);
}

/// The state folder, unless it is another user's: a file of root's in it would stop every later run of that user.
fn ours(state: &Path) -> Option<&Path> {
    let owner = Dir::open(state).and_then(|dir| dir.stat_self()).map(|stat| stat.st_uid);
    owner.map_or(true, |owner| owner == users::euid()).then_some(state)
}

/// What `notify` needs of the configuration.
fn mailer(mail: &config::Mail) -> notify::Mailer {
    let way = match &mail.way {
        MailWay::Sendmail(path) => notify::Way::Sendmail(path.clone()),
        MailWay::Server(server) => notify::Way::Server(notify::Server {
            host: server.host.clone(),
            port: server.port,
            security: match server.security {
                config::Security::StartTls => notify::Security::StartTls,
                config::Security::Tls => notify::Security::Tls,
                config::Security::Plain => notify::Security::Plain,
            },
            login: server.login.as_ref().map(|(user, secret)| notify::Login {
                user: user.clone(),
                password: match secret {
                    config::Secret::File(path) => notify::Secret::File(path.clone()),
                    config::Secret::Env(name) => notify::Secret::Env(name.clone()),
                },
            }),
            ca_file: server.ca_file.clone(),
        }),
    };
    notify::Mailer { to: mail.to.clone(), from: mail.from.clone(), way, timeout: mail.timeout }
}

/// `handover check --send-test-mail`.
pub(super) fn test(context: &Context, config: &Config) -> Exit {
    let Some(mail) = &config.mail else {
        return fail(
            Exit::Configuration,
            &"there is no [mail] section, so no mail is sent; add it with to, from and server",
        );
    };
    let what = What { role: "check", action: "--send-test-mail" };
    match what.tell(Exit::Ok, |about| notify::test(&mailer(mail), about)) {
        Ok(lines) => {
            if context.json {
                return show::json(&serde_json::json!({ "exit": Exit::Ok, "said": lines }));
            }
            lines.iter().filter(|_| !context.quiet).for_each(|line| show::talk(&format!("mail: {line}")));
            Exit::Ok
        }
        Err((why, fix)) => {
            let exit = Exit::AlarmNotDelivered;
            if context.json {
                show::json(&serde_json::json!({ "exit": exit, "why": why, "fix": fix }));
            }
            fail(exit, &format!("mail: {why}\n  -> {fix}"))
        }
    }
}

/// One line about `[mail]` for `handover check`.
pub(super) fn summary(config: &Config) -> String {
    let Some(mail) = &config.mail else {
        return "mail: none is sent (there is no [mail]); exit codes and text tell".to_owned();
    };
    let way = match &mail.way {
        MailWay::Sendmail(path) => path.display().to_string(),
        MailWay::Server(server) => format!("{}:{}", server.host, server.port),
    };
    format!("mail to {} by {way}; `handover check --send-test-mail` tries it", mail.to.join(", "))
}

/// Calls the pings of a role. One that fails is a warning.
pub(super) fn ping(config: &Config, role: PingRole, signal: Signal, text: &str) -> Vec<Finding> {
    let of_role = config.pings.iter().filter(|ping| ping.role == role);
    let call = |ping: &config::Ping| {
        let ping = notify::Ping { url: ping.url.0.clone(), timeout: ping.timeout };
        let why = ping.call(signal, text).err()?;
        let text = format!("the ping to {} failed: {why}", ping.host());
        let fix = "is `url` of [[ping]] right, and that host up? The backup itself does not need it";
        Some(Finding::new(Kind::Warning, "ping", text).with_fix(fix))
    };
    of_role.filter_map(call).collect()
}

/// Calls the pings of a role at the end of a run. One that found another at work says nothing: the other one does.
pub(super) fn ping_end(config: &Config, role: PingRole, exit: Exit, findings: &[&[Finding]]) -> Vec<Finding> {
    let signal = match exit {
        Exit::Busy => return Vec::new(),
        Exit::Ok | Exit::AlarmNotDelivered => Signal::Success,
        _ => Signal::Fail,
    };
    let alarms = findings.concat();
    let lines: Vec<String> = alarms
        .iter()
        .filter(|f| exit_of(std::slice::from_ref(f)) != Exit::Ok)
        .take(20)
        .map(notify::body)
        .collect();
    ping(config, role, signal, &format!("exit {} {}\n{}\n", exit.code(), exit.name(), lines.join("\n")))
}
