//! `[mail]`: whom alarms are sent to, and how.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{
    table::{Given, Read, Table},
    value,
};

pub(super) const HEADER: &str = "[mail]";
pub(super) const KEYS: &[&str] =
    &["to", "from", "server", "sendmail", "username", "password_file", "password_env", "ca_file", "timeout"];
const OF_SERVER: &[&str] = &["username", "password_file", "password_env", "ca_file"];

/// Whom alarms are sent to, and how. No secret is in here, only where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Recipients; at least one.
    pub to: Vec<String>,
    /// The sender.
    pub from: String,
    /// How mail leaves this host.
    pub way: MailWay,
    /// No answer of the server, and no run of the program, takes longer.
    pub timeout: Duration,
}

/// How mail leaves this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailWay {
    /// A program that takes a mail on its input, as sendmail does.
    Sendmail(PathBuf),
    /// A mail server.
    Server(MailServer),
}

/// A mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the line is protected.
    pub security: Security,
    /// Who logs in, and where the password is.
    pub login: Option<(String, Secret)>,
    /// A further authority that may vouch for the server: a file in PEM.
    pub ca_file: Option<PathBuf>,
}

/// How the line to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// `smtp://`: TLS by STARTTLS, never without.
    StartTls,
    /// `smtps://`: TLS from the first byte.
    Tls,
    /// `smtp+plain://`: none; only to this host itself.
    Plain,
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
}

impl Mail {
    /// Reads the section; none if what it needs is wrong or missing, which is reported.
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let to = table.list("to", "[\"ops@example.org\"]", |given| address(given, "\"ops@example.org\""));
        if !table.has("to") || table.is_empty_list("to") {
            table.wrong("`to` is missing: it says who is told; write for example to = [\"ops@example.org\"]");
        }
        let why = "it is the sender; write for example from = \"handover@shop.example.org\"";
        let from = table.required("from", why, |given| address(given, "\"handover@shop.example.org\""));
        let way = way(table);
        let timeout = table.or("timeout", Duration::from_secs(30), value::deadline("30s"));
        Some(Self { to: Some(to).filter(|to| !to.is_empty())?, from: from?, way: way?, timeout })
    }
}

fn address(given: &Given<'_>, example: &str) -> Read<String> {
    let parsed = given.value.as_str().map(|text| (text, text.parse::<lettre::message::Mailbox>()));
    match parsed {
        Some((text, Ok(_))) if text.is_ascii() => Ok(text.to_owned()),
        _ => given.expected("a mail address", example),
    }
}

fn way(table: &Table<'_>) -> Option<MailWay> {
    let server = table.optional("server", server);
    let sendmail = table.optional("sendmail", value::path);
    match (table.has("server"), table.has("sendmail")) {
        (true, true) => {
            table.wrong_key(
                "sendmail",
                "mail leaves by a server or by a program: write either server or sendmail",
            );
            None
        }
        (false, false) => {
            table.wrong(
                "`server` is missing: write for example server = \"smtp://mail.example.org:587\", or sendmail = \"/usr/sbin/sendmail\"",
            );
            None
        }
        (false, true) => {
            table.refuse(
                OF_SERVER,
                "only with `server`; the program of `sendmail` has a configuration of its own",
            );
            sendmail.map(MailWay::Sendmail)
        }
        (true, false) => {
            let login = login(table);
            let ca_file = table.optional("ca_file", value::path);
            let (host, port, security) = server?;
            if security == Security::Plain {
                table.refuse(
                    &["ca_file"],
                    "nothing is encrypted with smtp+plain://, so nobody vouches for the server",
                );
            }
            Some(MailWay::Server(MailServer { host, port, security, login, ca_file }))
        }
    }
}

fn login(table: &Table<'_>) -> Option<(String, Secret)> {
    let user = table.optional("username", |given| value::text(given, "\"backup\""));
    let file = table.optional("password_file", value::path).map(Secret::File);
    let variable = table.optional("password_env", variable).map(Secret::Env);
    match (table.has("username"), table.has("password_file"), table.has("password_env")) {
        (_, true, true) => {
            table.wrong_key(
                "password_env",
                "there is one password: write either password_file or password_env",
            );
        }
        (true, false, false) => table.wrong_key(
            "username",
            "its password is missing: write for example password_file = \"/etc/handover/smtp-password\"",
        ),
        (false, true, _) => {
            table.wrong_key("password_file", "whose password it is is missing: write username = \"..\"")
        }
        (false, _, true) => {
            table.wrong_key("password_env", "whose password it is is missing: write username = \"..\"")
        }
        (true, _, _) | (false, false, false) => {}
    }
    user.zip(file.or(variable))
}

fn variable(given: &Given<'_>) -> Read<String> {
    match given.value.as_str() {
        Some(name) if value::is_word(name, "_") => Ok(name.to_owned()),
        _ => given.expected("the name of a variable of the environment", "\"SMTP_PASSWORD\""),
    }
}

/// `scheme://host[:port]`, and nothing else: a name and a password in it would be copied wherever the address goes.
fn server(given: &Given<'_>) -> Read<(String, u16, Security)> {
    let what = "smtp://HOST:PORT (STARTTLS), smtps://HOST:PORT, or smtp+plain://localhost:PORT";
    let example = "\"smtp://mail.example.org:587\"";
    let Some((scheme, rest)) = given.value.as_str().and_then(|text| text.split_once("://")) else {
        return given.expected(what, example);
    };
    let (security, usual) = match scheme {
        "smtp" => (Security::StartTls, 587),
        "smtps" => (Security::Tls, 465),
        "smtp+plain" => (Security::Plain, 25),
        _ => return given.expected(what, example),
    };
    if rest.contains('@') {
        return Err(
            "no user or password belongs into the address; write username and password_file".to_owned()
        );
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
        Some(_) => return given.expected(what, example),
        None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => Some(usual),
        None => None,
        Some(port) => port.parse().ok().filter(|port| *port > 0),
    };
    let is_host = value::is_word(host, "-.:") || host.parse::<IpAddr>().is_ok();
    let Some(port) = port.filter(|_| is_host) else { return given.expected(what, example) };
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if security == Security::Plain && !is_here {
        return Err("everybody on the way could read and change what is sent without encryption, so it goes to this host alone; \
                    write smtp:// (STARTTLS) or smtps://, or smtp+plain://localhost"
            .to_owned());
    }
    Ok((host.to_owned(), port, security))
}
