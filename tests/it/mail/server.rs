//! A real mail server on loopback, with certificates of an authority of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::harness::{Lab, TREE};

/// What a mail server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    StartTls,
    Tls,
    Plain,
}

/// A running mail server; dropped, it is gone, and its mails stay.
pub struct Server {
    child: Child,
    pub port: u16,
    mails: PathBuf,
}

impl Server {
    /// Starts one with a certificate for `localhost`.
    pub fn start(lab: &Lab, speaks: Speaks) -> Self {
        Self::with_name(lab, speaks, "localhost", 0)
    }

    /// Starts one with a certificate for another name, or at a port (0: any).
    pub fn with_name(lab: &Lab, speaks: Speaks, name: &str, port: u16) -> Self {
        let mails = lab.path("mails");
        fs::create_dir_all(&mails).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mail/smtpd.py");
        let mut command = Command::new("/usr/bin/python3");
        let mode = match speaks {
            Speaks::StartTls => "starttls",
            Speaks::Tls => "tls",
            Speaks::Plain => "plain",
        };
        command.arg(script).arg(mode).arg(&mails).env("PORT", port.to_string()).stdout(Stdio::piped());
        if speaks != Speaks::Plain {
            let (certificate, key) = certificate(lab, name);
            command.args([certificate, key]);
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|e| panic!("python3-aiosmtpd is missing: {e}"));
        Self { child, port, mails }
    }

    /// The mails that arrived, in their order.
    pub fn mails(&self) -> Vec<Value> {
        mails(&self.mails)
    }

    /// Their subjects.
    pub fn subjects(&self) -> Vec<String> {
        self.mails().iter().map(|mail| mail["subject"].as_str().unwrap().to_owned()).collect()
    }
}

fn mails(folder: &Path) -> Vec<Value> {
    let names = crate::harness::names(folder).into_iter().filter(|name| name.ends_with(".json"));
    names.map(|name| serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn openssl(lab: &Lab, args: &str) {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(lab.path("tmp")).output().unwrap();
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate for a name, of the lab's own authority, whose certificate is `tmp/ca.pem`.
fn certificate(lab: &Lab, name: &str) -> (PathBuf, PathBuf) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    if !lab.path("tmp/ca.pem").exists() {
        openssl(lab, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=lab"));
    }
    openssl(lab, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
    fs::write(lab.path("tmp/extensions"), format!("subjectAltName=DNS:{name}\n")).unwrap();
    let authority = "-CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions";
    openssl(lab, &format!("x509 -req -in {name}.csr {authority} -out {name}.pem -days 2"));
    (lab.path(format!("tmp/{name}.pem")), lab.path(format!("tmp/{name}.key")))
}

/// The keys of `[mail]` for a login at a server with TLS.
pub const LOGIN: &str =
    "username = \"backup\"\npassword_file = \"{lab}/tmp/password\"\nca_file = \"{lab}/tmp/ca.pem\"\n";

/// Writes the usual configuration with more keys of `[source]` and `[sink]`, and with `[mail]` by this server.
pub fn configure(lab: &Lab, source: &str, sink: &str, server: &str, more: &str) {
    fs::write(lab.path("tmp/password"), "hunter2\n").unwrap();
    lab.config(source, TREE, sink);
    let rest = lab.text("handover.toml");
    lab.config_text(&format!(
        "{rest}\n[mail]\nto = [\"ops@example.org\"]\nfrom = \"handover@shop.example.org\"\nserver = \"{server}\"\n\
         timeout = \"10s\"\n{more}"
    ));
}
