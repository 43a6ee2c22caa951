//! A mail: what it says, and how it leaves this host.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::Path,
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
    deliver::About,
    mailer::{Mailer, Way},
    smtp,
};
use crate::{
    report::Exit,
    sys::{self, child, dir, random},
};

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
}
