//! Who is told, and how mail leaves this host: values of the configuration, and the one place where a secret is opened.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::smtp;
use crate::sys::Dir;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

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
