//! A mail: what it says, and how it leaves this host.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use lettre::{
    Message,
    address::Envelope,
    message::{
        Mailbox, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    alarms::{Lasting, News},
    deliver::About,
    smtp,
};
use crate::{
    report::Exit,
    sys::{self, Dir, child, dir, random},
};

/// So many alarms are told in one mail; the others are counted.
const MOST: usize = 50;
/// A password is no longer than this.
const SECRET_LIMIT: u64 = 4096;

/// Who is told, and how mail leaves this host. No secret is in here, only where it is.
#[derive(Debug, Clone)]
pub struct Mailer {
    /// Recipients.
    pub to: Vec<String>,
    /// The sender.
    pub from: String,
    /// How mail leaves this host.
    pub way: Way,
    /// No answer of the server, and no run of the program, takes longer.
    pub timeout: Duration,
}

/// How mail leaves this host.
#[derive(Debug, Clone)]
pub enum Way {
    /// A program that takes a mail on its input.
    Sendmail(PathBuf),
    /// A mail server.
    Server(Server),
}

/// A mail server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the line is protected.
    pub security: Security,
    /// Who logs in.
    pub login: Option<Login>,
    /// A further authority that may vouch for the server.
    pub ca_file: Option<PathBuf>,
}

/// How the line to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// TLS by STARTTLS, never without.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// None: to this host alone.
    Plain,
}

/// Who logs in.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Where the password is.
    pub password: Secret,
}

/// Where a secret is; it is opened when it is used, and forgotten after that.
#[derive(Debug, Clone)]
pub enum Secret {
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
}

impl Secret {
    pub(super) fn open(&self) -> Result<String, smtp::Error> {
        let (found, place) = match self {
            Self::File(path) => (read_file(path), format!("the password file {}", path.display())),
            Self::Env(name) => (
                std::env::var(name).map_err(|_| "it is not set, or not UTF-8".to_owned()),
                format!("the variable {name} of the environment"),
            ),
        };
        let line = |text: String| text.lines().next().unwrap_or_default().to_owned();
        match found.map(line) {
            Ok(password) if !password.is_empty() => Ok(password),
            Ok(_) => Err(smtp::Error::secret(&place, "it is empty")),
            Err(why) => Err(smtp::Error::secret(&place, &why)),
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err("it is no file".to_owned());
    };
    // Through links, as files of secrets are often provided.
    let real = std::fs::canonicalize(path).map_err(|e| e.to_string())?;
    let (parent, name) = (real.parent().unwrap_or(parent), real.file_name().unwrap_or(name));
    let bytes = Dir::open(parent).and_then(|dir| dir.read(name, SECRET_LIMIT)).map_err(|e| e.to_string())?;
    // Its bytes are never repeated.
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// A mail in the spool. Sender and recipients are those of the configuration when it is sent, so that a mistake there
/// can be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mail {
    /// The same in a duplicate, so that mail programs can tell.
    pub(super) id: String,
    pub(super) at: Timestamp,
    pub(super) subject: String,
    pub(super) body: String,
    pub(super) exit: Exit,
    pub(super) host: String,
    /// Whether it only repeats what was told before.
    pub(super) reminder: bool,
    /// Who has it already, where others have not.
    pub(super) delivered_to: Vec<String>,
}

impl Mail {
    pub(super) fn new(about: &About<'_>, subject: String, body: String) -> Self {
        let at = about.now;
        // Unique enough without randomness too: then a duplicate is the worst.
        let id = random::hex(8).unwrap_or_else(|_| std::process::id().to_string());
        let id = format!("{}.{id}", at.as_millisecond());
        let host = about.host.to_owned();
        Self { id, at, subject, body, exit: about.exit, host, reminder: false, delivered_to: Vec::new() }
    }

    /// One mail for all that has changed with a run; its subject names the gravest.
    pub(super) fn of_news(about: &About<'_>, news: &[(News, Lasting)]) -> Option<Self> {
        let (first, gravest) = gravest(news)?;
        let state = match first {
            News::New => "",
            News::Still => "still ",
            News::Well => "well again: ",
        };
        let more = match news.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let named =
            if gravest.subject == gravest.scope { String::new() } else { format!("{}: ", gravest.subject) };
        let subject = format!("[handover] {}: {named}{state}{}{more}", gravest.scope, gravest.kind.word());
        let mut mail = Self::new(about, subject, body(about, news));
        mail.reminder = news.iter().all(|(news, _)| *news == News::Still);
        Some(mail)
    }

    fn message(&self, from: &Mailbox, to: &[Mailbox]) -> Result<Vec<u8>, lettre::error::Error> {
        let domain = from.email.domain();
        let header = |name: &'static str, value: &str| {
            let safe: String = value.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
            HeaderValue::new(HeaderName::new_from_ascii_str(name), safe)
        };
        let mut builder = Message::builder()
            .from(from.clone())
            .subject(&self.subject)
            .date(SystemTime::from(self.at))
            .message_id(Some(format!("<{}@{domain}>", self.id)))
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("X-Handover-Host", &self.host))
            .raw_header(header("X-Handover-Exit", &format!("{} {}", self.exit.code(), self.exit.name())));
        for to in to {
            builder = builder.to(to.clone());
        }
        let envelope =
            Envelope::new(Some(from.email.clone()), to.iter().map(|to| to.email.clone()).collect())?;
        builder
            .envelope(envelope)
            .singlepart(SinglePart::plain(self.body.clone()))
            .map(|message| message.formatted())
    }
}

fn gravest(news: &[(News, Lasting)]) -> Option<(News, &Lasting)> {
    let mut gravest: Option<(News, &Lasting)> = None;
    for (news, lasting) in news {
        let is_graver = gravest.is_none_or(|(of, known)| {
            let (old, new) = (known.kind.exit(), lasting.kind.exit());
            of == *news && old != new && old.worst(new) == new
        });
        if is_graver {
            gravest = Some((*news, lasting));
        }
    }
    gravest
}

fn body(about: &About<'_>, news: &[(News, Lasting)]) -> String {
    let mut text = format!(
        "handover {} on {}, {}. Exit code {} ({}).\n",
        about.what,
        about.host,
        about.now.strftime("%Y-%m-%d %H:%M:%S UTC"),
        about.exit.code(),
        about.exit.name()
    );
    for (news, lasting) in news.iter().take(MOST) {
        text.push('\n');
        text.push_str(&paragraph(*news, lasting, about.now));
    }
    if news.len() > MOST {
        text.push_str(&format!("\nAnd {} more: see `handover {} status`.\n", news.len() - MOST, about.role));
    }
    text
}

fn paragraph(news: News, lasting: &Lasting, now: Timestamp) -> String {
    let head = match news {
        News::New => lasting.kind.word().to_owned(),
        News::Still => format!("still: {}", lasting.kind.word()),
        News::Well => format!("well again: {}", lasting.kind.word()),
    };
    let mut rows = vec![("source", lasting.scope.clone())];
    if lasting.subject != lasting.scope {
        rows.push(("of", lasting.subject.clone()));
    }
    rows.push(("step", lasting.kind.step().to_owned()));
    rows.extend(lasting.generation.iter().map(|id| ("generation", id.clone())));
    let found = if news == News::Well { "it was" } else { "found" };
    rows.extend(lasting.lines.iter().map(|line| (found, line.clone())));
    if news != News::New {
        let hours = now.duration_since(lasting.since).as_hours();
        rows.push(("since", format!("{} ({hours} hours)", lasting.since.strftime("%Y-%m-%d %H:%M UTC"))));
    }
    if news == News::Still && lasting.seen < now {
        rows.push(("last found", lasting.seen.strftime("%Y-%m-%d %H:%M UTC").to_string()));
    }
    if news != News::Well {
        rows.push(("safe", lasting.kind.safe().to_owned()));
        rows.extend(lasting.fix.iter().map(|fix| ("do next", super::alarms::shown(fix))));
    }
    let rows: String = rows.iter().map(|(name, value)| format!("  {name:<11} {value}\n")).collect();
    format!("{head}\n{rows}")
}

/// What became of one mail.
#[derive(Debug)]
pub(super) struct Sent {
    /// The server's answer.
    pub(super) answer: String,
    /// Who has it.
    pub(super) delivered_to: Vec<String>,
    /// Who was refused, why, and whether for good.
    pub(super) refused: Vec<(String, String, bool)>,
}

/// An open way out.
pub(super) enum Postman<'a> {
    Sendmail(&'a Mailer, &'a Path),
    Server(&'a Mailer, Box<smtp::Connection>),
}

impl<'a> Postman<'a> {
    pub(super) fn open(mailer: &'a Mailer, host: &str) -> Result<Self, smtp::Error> {
        match &mailer.way {
            Way::Sendmail(path) => Ok(Self::Sendmail(mailer, path)),
            Way::Server(server) => smtp::Connection::open(server, host, mailer.timeout)
                .map(|line| Self::Server(mailer, Box::new(line))),
        }
    }

    /// What has been agreed with the server, for people.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Sendmail(_, path) => format!("by the program {}", path.display()),
            Self::Server(_, line) => line.describe(),
        }
    }

    pub(super) fn send(&mut self, mail: &Mail) -> Result<Sent, smtp::Error> {
        let (Self::Sendmail(mailer, _) | Self::Server(mailer, _)) = self;
        let parse = |text: &String| text.parse::<Mailbox>().map_err(|e| smtp::Error::ours(&e));
        let from = parse(&mailer.from)?;
        let to: Vec<&String> = mailer.to.iter().filter(|to| !mail.delivered_to.contains(to)).collect();
        let all: Vec<Mailbox> = mailer.to.iter().map(parse).collect::<Result<_, _>>()?;
        let boxes: Vec<(String, Mailbox)> =
            to.iter().map(|to| Ok(((*to).clone(), parse(to)?))).collect::<Result<_, smtp::Error>>()?;
        let bytes = mail.message(&from, &all).map_err(|e| smtp::Error::ours(&e))?;
        match self {
            Self::Sendmail(mailer, path) => by_program(path, mailer.timeout, &from, &boxes, &bytes),
            Self::Server(_, line) => line.send(&from.email, &boxes, &bytes),
        }
    }
}

/// As every mail program of Unix takes a mail: the sender and the recipients as arguments, the mail on its input.
fn by_program(
    path: &Path,
    timeout: Duration,
    from: &Mailbox,
    to: &[(String, Mailbox)],
    bytes: &[u8],
) -> Result<Sent, smtp::Error> {
    let mut argv = vec![path.to_string_lossy().into_owned()];
    argv.extend(["-i", "-f"].map(str::to_owned));
    argv.push(from.email.to_string());
    argv.push("--".to_owned());
    argv.extend(to.iter().map(|(_, to)| to.email.to_string()));
    let job = child::Job { argv: &argv, user: None, env: &[], timeout };
    let input = input(bytes).map_err(|e| smtp::Error::ours(&e))?;
    child::run(&job, Some(input), None).map_err(|e| smtp::Error::program(&e))?;
    Ok(Sent {
        answer: "the program took it".to_owned(),
        delivered_to: to.iter().map(|(to, _)| to.clone()).collect(),
        refused: Vec::new(),
    })
}

/// The mail with the line ends of this system, in memory: the disk may be full.
fn input(bytes: &[u8]) -> sys::Result<File> {
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\r').collect();
    let mut file = dir::file_in_memory()?;
    let written = file.write_all(&text).and_then(|()| file.rewind());
    written.map(|()| file).map_err(|e| sys::Error::new("write", "a mail", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        notify::alarms::{Alarms, Looked, Scope},
        report::{Finding, Kind},
    };

    fn mail(findings: &[Finding]) -> Mail {
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
        let about = About { role: "source", what: "source run", host: "host1", exit: Exit::SomeFailed, now };
        let scope =
            Scope { name: "shop", findings, generation: Some("20261123T030000Z"), looked: Looked::run() };
        Mail::of_news(&about, &Alarms::default().change(&[scope], now)).unwrap()
    }

    fn text(mail: &Mail) -> String {
        let boxes: Vec<Mailbox> =
            ["Ops <ops@example.org>", "me@example.org"].map(|to| to.parse().unwrap()).to_vec();
        let bytes = mail.message(&"handover@shop.example.org".parse().unwrap(), &boxes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_mail_names_source_step_generation_cause_what_is_safe_and_what_to_do() {
        let findings = [
            Finding::new(Kind::ClockSkew, "shop", "its clock is 400 s behind ours"),
            Finding::new(Kind::Failed, "db", "pg_dump ended with 1").with_fix("look at the database"),
        ];
        let mail = mail(&findings);
        assert_eq!(mail.subject, "[handover] shop: db: failed (and 1 more)");
        for part in [
            "handover source run on host1, 2026-11-23 03:00:00 UTC. Exit code 3 (some-failed).\n",
            "\nfailed\n  source      shop\n  of          db\n  step        collect or fetch\n  generation  20261123T030000Z\n",
            "  found       pg_dump ended with 1\n  safe        what did not fail is done",
            "  do next     look at the database\n",
            "\nclock skew\n",
        ] {
            assert!(mail.body.contains(part), "{part} in {}", mail.body);
        }
        let text = text(&mail);
        for line in [
            "From: handover@shop.example.org\r\n",
            "Subject: [handover] shop: db: failed (and 1 more)\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "X-Handover-Exit: 3 some-failed\r\n",
            "Date: Mon, 23 Nov 2026 03:00:00 +0000\r\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.contains(&format!("Message-ID: <{}@shop.example.org>\r\n", mail.id)), "{text}");
    }

    #[test]
    fn no_text_of_a_hostile_host_becomes_a_header_or_moves_a_cursor() {
        let evil = "x\r\nBcc: thief@example.net\r\n\r\n\u{1b}[2J";
        let mail = mail(&[Finding::new(Kind::Failed, evil, evil).with_fix(evil)]);
        assert!(
            !mail.body.contains(['\r', '\u{1b}']) && !mail.subject.contains(['\r', '\n', '\u{1b}']),
            "{mail:?}"
        );
        assert!(mail.body.lines().all(|line| !line.starts_with("Bcc")), "{}", mail.body);
        let text = text(&mail);
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.lines().all(|line| !line.to_lowercase().starts_with("bcc")), "{head}");
    }

    #[test]
    fn where_a_password_is_may_be_shown_and_the_password_itself_is_read_at_its_use_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let secret = Secret::File(file.clone());
        assert!(secret.open().unwrap_err().to_string().contains("password"));
        let dir = Dir::open(folder.path()).unwrap();
        sys::durable::write_file(&dir, "password", b"hunter2\n", 0o600).unwrap();
        assert_eq!(secret.open().unwrap(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        sys::durable::write_file(&dir, "password", b"\xffhunter2\n", 0o600).unwrap();
        let error = secret.open().unwrap_err();
        assert!(!format!("{error}{error:?}").contains("hunter2"));
    }
}
