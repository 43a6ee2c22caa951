//! A conversation with a mail server, step by step, so that each failure says which step it was and what to do.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

use lettre::{
    Address,
    message::Mailbox,
    transport::smtp::{
        authentication::{Credentials, Mechanism},
        client::{Certificate, SmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::ClientId,
        response::Response,
    },
};

use super::{
    mail::Sent,
    mailer::{Login, Security, Server},
};
use crate::sys::{self, child, show};

/// Why a mail did not leave this host: what is wrong, and what to do. Safe to show, and without any secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct Error {
    pub(super) why: String,
    pub(super) fix: String,
    /// Whether only this mail is concerned: the next one can be tried over the same line.
    pub(super) of_one_mail: bool,
}

impl Error {
    fn new(why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { why: why.into(), fix: fix.into(), of_one_mail: false }
    }

    pub(super) fn secret(place: &str, why: &str) -> Self {
        let fix = "write the password there, readable by the user who runs this and by nobody else";
        Self::new(format!("{} cannot be used: {}", show(place.as_bytes()), show(why.as_bytes())), fix)
    }

    pub(super) fn ours(why: &dyn std::fmt::Display) -> Self {
        Self::new(format!("the mail cannot be made: {why}"), "look at `to` and `from` in [mail]")
    }

    pub(super) fn program(failure: &child::Failure) -> Self {
        Self::new(failure.to_string(), "correct `sendmail` in [mail], or look at the log of that program")
    }
}

/// An open line to a mail server, logged in.
pub(super) struct Connection {
    line: SmtpConnection,
    name: String,
    agreed: String,
}

impl Connection {
    pub(super) fn open(server: &Server, host: &str, timeout: Duration) -> Result<Self, Error> {
        let name = format!("{}:{}", server.host, server.port);
        let password = server.login.as_ref().map(|login| login.password.open()).transpose()?;
        let addresses = resolve(server, &name)?;
        let hello = ClientId::Domain(
            host.chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).collect(),
        );
        let tls = (server.security != Security::Plain).then(|| tls(server)).transpose()?;
        let from_the_start = tls.as_ref().filter(|_| server.security == Security::Tls);
        let failed = |e: &lettre::transport::smtp::Error| connect_failed(e, server, &name);
        let mut line =
            SmtpConnection::connect(addresses.as_slice(), Some(timeout), &hello, from_the_start, None)
                .map_err(|e| failed(&e))?;
        if let Some(tls) = tls.as_ref().filter(|_| server.security == Security::StartTls) {
            if !line.can_starttls() {
                return Err(Error::new(
                    format!("{name} does not offer STARTTLS, and nothing is sent without encryption"),
                    "write the port at which it does (587 mostly), or smtps:// if it speaks TLS from the first byte",
                ));
            }
            line.starttls(tls, &hello).map_err(|e| failed(&e))?;
        }
        let mut agreed = match server.security {
            Security::StartTls => format!("{name}, encrypted by STARTTLS"),
            Security::Tls => format!("{name}, encrypted"),
            Security::Plain => format!("{name}, on this host"),
        };
        if let (Some(login), Some(password)) = (&server.login, password) {
            log_in(&mut line, login, password, &name)?;
            agreed.push_str(&format!(", logged in as {}", show(login.user.as_bytes())));
        }
        Ok(Self { line, name, agreed })
    }

    /// What was agreed, for people.
    pub(super) fn describe(&self) -> String {
        self.agreed.clone()
    }

    /// Sends one mail. A recipient who is refused does not keep it from the others.
    pub(super) fn send(
        &mut self,
        from: &Address,
        to: &[(String, Mailbox)],
        mail: &[u8],
    ) -> Result<Sent, Error> {
        let name = self.name.clone();
        if let Err(e) = self.line.command(Mail::new(Some(from.clone()), Vec::new())) {
            return Err(self.refused(&e, &format!("{name} refuses the sender {from}")));
        }
        let (mut delivered_to, mut refused, mut last) = (Vec::new(), Vec::new(), None);
        for (written, to) in to {
            match self.line.command(Rcpt::new(to.email.clone(), Vec::new())) {
                Ok(_) => delivered_to.push(written.clone()),
                Err(e) if e.status().is_some() => {
                    refused.push((written.clone(), said(&e), e.is_permanent()));
                    last = Some(e);
                }
                Err(e) => return Err(self.refused(&e, &format!("the line to {name} broke"))),
            }
        }
        if let (true, Some(e)) = (delivered_to.is_empty(), last) {
            let all: Vec<&str> = to.iter().map(|(to, _)| to.as_str()).collect();
            return Err(self.refused(&e, &format!("{name} refuses {}", all.join(", "))));
        }
        let sent = self.line.command(Data).and_then(|_| self.line.message(mail));
        match sent {
            Ok(answer) => Ok(Sent { answer: answer_of(&answer), delivered_to, refused }),
            Err(e) => Err(self.refused(&e, &format!("{name} does not take the mail"))),
        }
    }

    /// The server's word about one mail; if it still speaks, the next one can be tried.
    fn refused(&mut self, e: &lettre::transport::smtp::Error, what: &str) -> Error {
        let fix =
            if e.status().is_some_and(|status| status.to_string() == "530" || status.to_string() == "535") {
                "it wants a login: write username and password_file in [mail]"
            } else if e.is_transient() {
                "it may pass by itself: it is tried again in the next runs"
            } else {
                "correct `to` or `from` in [mail], or ask who runs the mail server"
            };
        let speaks =
            e.status().is_some() && self.line.command(lettre::transport::smtp::commands::Rset).is_ok();
        Error { of_one_mail: speaks, ..Error::new(format!("{what}: {}", said(e)), fix) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.line.quit().is_err() {
            // It has all it should have: each mail was answered for.
        }
    }
}

fn resolve(server: &Server, name: &str) -> Result<Vec<SocketAddr>, Error> {
    let found = (server.host.as_str(), server.port).to_socket_addrs();
    let addresses: Vec<SocketAddr> = found
        .map_or_else(|e| Err(show(e.to_string().as_bytes())), |all| Ok(all.collect()))
        .map_err(|why| {
            let fix = "is the name right (`server` in [mail]), and does this host have a name server?";
            Error::new(format!("the name {} is not found: {why}", server.host), fix)
        })?;
    if server.security == Security::Plain && !addresses.iter().all(|address| address.ip().is_loopback()) {
        let why = format!("{name} is not this host, and nothing is sent without encryption");
        return Err(Error::new(why, "write smtp:// (STARTTLS) or smtps://"));
    }
    Ok(addresses)
}

fn tls(server: &Server) -> Result<TlsParameters, Error> {
    let mut builder = TlsParameters::builder(server.host.clone());
    if let Some(file) = &server.ca_file {
        let shown = show(file.as_os_str().as_encoded_bytes());
        let wrong = |why: &dyn std::fmt::Display| {
            Error::new(
                format!("the ca_file {shown} cannot be used: {why}"),
                "name a file with a certificate in PEM",
            )
        };
        let pem = std::fs::read(file).map_err(|e| wrong(&e))?;
        builder =
            builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|e| wrong(&sys::chain(&e)))?);
    }
    builder
        .build()
        .map_err(|e| Error::new(format!("TLS cannot be used: {}", said(&e)), "look at ca_file in [mail]"))
}

fn log_in(line: &mut SmtpConnection, login: &Login, password: String, name: &str) -> Result<(), Error> {
    let user = show(login.user.as_bytes());
    let credentials = Credentials::new(login.user.clone(), password);
    let Err(e) = line.auth(&[Mechanism::Plain, Mechanism::Login], &credentials) else { return Ok(()) };
    Err(if e.is_client() {
        Error::new(
            format!("{name} offers no login, and [mail] has a username"),
            "leave username out, or write the port at which it offers one (587 mostly)",
        )
    } else if e.status().is_some() {
        Error::new(
            format!("{name} refuses the login of {user}: {}", said(&e)),
            "correct username, or the password where password_file or password_env says it is",
        )
    } else {
        Error::new(
            format!("the line to {name} broke at the login: {}", said(&e)),
            "it is tried again in the next runs",
        )
    })
}

/// Why there is no connection, told by what the libraries say.
fn connect_failed(e: &lettre::transport::smtp::Error, server: &Server, name: &str) -> Error {
    let text = said(e);
    let has = |word: &str| text.contains(word);
    if has("certificate") {
        let fix = if has("not valid for name") {
            "write the name in `server` for which the certificate was made"
        } else if has("UnknownIssuer") || has("CaUsedAsEndEntity") {
            "if it is an authority of your own, name its certificate: ca_file = \"/etc/handover/ca.pem\" in [mail]"
        } else if has("xpired") {
            "the certificate has to be renewed there; or is the clock here wrong?"
        } else {
            "ask who runs the mail server; nothing was sent to it"
        };
        return Error::new(format!("the certificate of {name} is not to be trusted: {text}"), fix);
    }
    if e.is_timeout() || has("timed out") || has("temporarily unavailable") {
        let fix = "is it up, and does a firewall let this host through? It is tried again in the next runs";
        return Error::new(format!("{name} does not answer in time: {text}"), fix);
    }
    if has("corrupt message") || has("InvalidContentType") {
        let fix = "does it speak STARTTLS? Then write smtp:// instead of smtps://";
        return Error::new(format!("{name} does not speak TLS: {text}"), fix);
    }
    let fix = match server.security {
        Security::Tls => "is it up, and are name and port right? It is tried again in the next runs",
        Security::StartTls | Security::Plain => {
            "is it up, and are name and port right (smtps:// for TLS from the first byte)? It is tried again in the next runs"
        }
    };
    Error::new(format!("no connection to {name}: {text}"), fix)
}

/// What the server or the system said, with its causes, on one line.
fn said(e: &lettre::transport::smtp::Error) -> String {
    use std::error::Error as _;
    let text = match (e.status(), e.source()) {
        (Some(code), Some(words)) => format!("{code} {words}"),
        (None, Some(cause)) => sys::chain(cause),
        (_, None) => sys::chain(e),
    };
    show(text.trim().as_bytes()).chars().take(1000).collect()
}

fn answer_of(response: &Response) -> String {
    let text = format!("{} {}", response.code(), response.message().collect::<Vec<_>>().join(" "));
    show(text.as_bytes()).chars().take(500).collect()
}
