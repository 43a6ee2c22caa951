//! The ways out: what is agreed with a mail server, and what is said where it fails.

use std::fs;

use super::server::{LOGIN, Server, Speaks, configure};
use crate::harness::{Lab, Ran, names};

fn test_mail(lab: &Lab) -> Ran {
    lab.run(&["check", "--send-test-mail"])
}

#[test]
fn a_mail_goes_out_by_starttls_with_a_login_to_several_recipients() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::StartTls);
    configure(&lab, "", "", &format!("smtp://localhost:{}", server.port), LOGIN);
    let text = lab
        .text("handover.toml")
        .replace("[\"ops@example.org\"]", "[\"Ops <ops@example.org>\", \"b@example.org\"]");
    lab.config_text(&text);
    test_mail(&lab).exits(0).says(&[
        "encrypted by STARTTLS, logged in as backup",
        "Ops <ops@example.org>, b@example.org: 250 kept as 0000",
    ]);
    let mail = &server.mails()[0];
    assert_eq!(mail["to"], serde_json::json!(["ops@example.org", "b@example.org"]));
    assert_eq!((&mail["user"], &mail["from"]), (&"backup".into(), &"handover@shop.example.org".into()));
    assert_eq!(mail["headers"]["Auto-Submitted"], "auto-generated");
    assert!(mail["body"].as_str().unwrap().contains("Alarms of this host arrive where this mail arrived"));
}

#[test]
fn a_mail_goes_out_by_tls_and_on_this_host_without() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::Tls);
    configure(&lab, "", "", &format!("smtps://localhost:{}", server.port), LOGIN);
    test_mail(&lab).exits(0).says(&["encrypted, logged in as backup"]);
    drop(server);
    let server = Server::start(&lab, Speaks::Plain);
    for host in ["localhost", "127.0.0.1"] {
        configure(&lab, "", "", &format!("smtp+plain://{host}:{}", server.port), "");
        test_mail(&lab).exits(0).says(&["on this host"]);
    }
    configure(&lab, "", "", "smtp+plain://mail.example.org:25", "");
    test_mail(&lab).exits(10).says(&["everybody on the way could read", "smtps://"]);
}

#[test]
fn the_password_comes_from_the_environment_too() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::StartTls);
    let login = LOGIN.replace("password_file = \"{lab}/tmp/password\"", "password_env = \"SMTP_PASSWORD\"");
    configure(&lab, "", "", &format!("smtp://localhost:{}", server.port), &login);
    test_mail(&lab)
        .exits(16)
        .says(&["the variable SMTP_PASSWORD of the environment cannot be used: it is not set"]);
    let output =
        lab.handover(&["check", "--send-test-mail"]).env("SMTP_PASSWORD", "hunter2").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(server.mails().len(), 1);
}

#[test]
fn a_program_takes_the_mail_on_its_input() {
    let lab = Lab::new();
    lab.fake("sendmail", "echo \"$@\" > {lab}/tmp/arguments; cat > {lab}/tmp/mail");
    configure(&lab, "", "", "x", "");
    let program = format!("sendmail = \"{}\"", lab.path("bin/sendmail").display());
    lab.config_text(&lab.text("handover.toml").replace("server = \"x\"", &program));
    test_mail(&lab).exits(0).says(&["the program took it"]);
    assert_eq!(lab.text("tmp/arguments"), "-i -f handover@shop.example.org -- ops@example.org\n");
    let mail = lab.text("tmp/mail");
    assert!(mail.contains("\nTo: ops@example.org\n") && !mail.contains('\r'), "{mail}");
    lab.fake("sendmail", "cat > /dev/null; echo the queue is full >&2; exit 75");
    test_mail(&lab).exits(16).says(&["ended with", "the queue is full", "correct `sendmail`"]);
}

#[test]
fn each_failure_says_what_is_wrong_and_what_to_do() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::StartTls);
    let at = |host: &str| format!("smtp://{host}:{}", server.port);
    let without_ca = LOGIN.replace("ca_file = \"{lab}/tmp/ca.pem\"\n", "");
    let says = |words: &[&str]| {
        test_mail(&lab).exits(16).says(words).says(&["  -> "]);
        let failed = lab.run(&["--json", "check", "--send-test-mail"]).exits(16).json();
        assert_eq!(failed["exit"], "alarm-not-delivered");
    };
    configure(&lab, "", "", &at("localhost"), &without_ca);
    says(&["the certificate of localhost", "UnknownIssuer", "ca_file"]);
    configure(&lab, "", "", &at("127.0.0.1"), LOGIN);
    says(&["the certificate of 127.0.0.1", "not valid for name", "the name in `server`"]);
    configure(&lab, "", "", &at("localhost"), LOGIN);
    fs::write(lab.path("tmp/password"), "wrong-one").unwrap();
    says(&["refuses the login of backup: ", "535", "correct username, or the password"]);
    configure(&lab, "", "", &at("localhost"), "ca_file = \"{lab}/tmp/ca.pem\"\n");
    says(&["530", "it wants a login"]);
    configure(&lab, "", "", &at("localhost"), &LOGIN.replace("/tmp/password", "/tmp/missing"));
    says(&["the password file", "tmp/missing cannot be used"]);
    configure(&lab, "", "", &at("localhost"), &LOGIN.replace("ca.pem", "missing.pem"));
    says(&["the ca_file", "missing.pem cannot be used"]);
    configure(&lab, "", "", &at("no-such-host.invalid"), LOGIN);
    says(&["the name no-such-host.invalid is not found", "name server"]);
    configure(&lab, "", "", &at("localhost").replace("smtp:", "smtps:"), LOGIN);
    says(&["does not speak TLS", "smtp://"]);
    let port = server.port;
    drop(server);
    says(&["no connection to localhost", "refused", "is it up"]);
    let plain = Server::with_name(&lab, Speaks::Plain, "localhost", port);
    configure(&lab, "", "", &format!("smtp://localhost:{}", plain.port), "");
    says(&["does not offer STARTTLS, and nothing is sent without encryption"]);
    configure(
        &lab,
        "",
        "",
        &format!("smtp+plain://localhost:{}", plain.port),
        LOGIN.split("ca_file").next().unwrap(),
    );
    says(&["offers no login"]);
    assert_eq!(plain.mails().len(), 0);
    drop(plain);
    // A server of another name than the one that answers.
    let other = Server::with_name(&lab, Speaks::Tls, "mail.example.org", 0);
    configure(&lab, "", "", &format!("smtps://localhost:{}", other.port), LOGIN);
    says(&["certificate", "not valid for name", "mail.example.org"]);
    assert_eq!(other.mails().len(), 0);
}

#[test]
fn one_recipient_who_is_refused_keeps_the_mail_from_nobody_else() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::Plain);
    configure(&lab, "", "", &format!("smtp+plain://localhost:{}", server.port), "");
    let text = lab.text("handover.toml");
    let to = "[\"refused@example.org\", \"later@example.org\", \"ops@example.org\"]";
    lab.config_text(&text.replace("[\"ops@example.org\"]", to));
    test_mail(&lab).exits(16).says(&["refused@example.org: ", "550 ", "sent to ops@example.org"]);
    lab.run(&["source", "init"]).exits(0);
    let failing = "[[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [\"{lab}/missing\"]";
    lab.config_text(&lab.text("handover.toml").replace(
        &crate::harness::TREE.replace("{lab}", lab.path("").to_str().unwrap().trim_end_matches('/')),
        failing,
    ));
    lab.run(&["source", "run"])
        .exits(3)
        .says(&["the mail server refuses later@example.org", "it is tried again"]);
    assert_eq!(names(&lab.path("state/source/spool")).len(), 1);
    fs::write(lab.path("mails/now"), "").unwrap();
    lab.run(&["source", "run"]).exits(3);
    assert_eq!(names(&lab.path("state/source/spool")), [""; 0]);
    let to: Vec<_> = server.mails()[1..].iter().map(|mail| mail["to"].clone()).collect();
    assert_eq!(to, [serde_json::json!(["ops@example.org"]), serde_json::json!(["later@example.org"])]);
    assert_eq!(server.mails()[1]["headers"]["Message-ID"], server.mails()[2]["headers"]["Message-ID"]);
}

#[test]
fn no_secret_is_in_anything_that_is_said_or_written() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::StartTls);
    let ping = "[[ping]]\nurl = \"http://127.0.0.1:1/hunter2\"\nfor = \"source\"\ntimeout = \"1s\"\n";
    configure(&lab, "", "", &format!("smtp://localhost:{}", server.port), &format!("{LOGIN}{ping}"));
    lab.write("file", "x");
    lab.init();
    drop(server);
    let mut said = String::new();
    for args in [
        &["check"][..],
        &["check", "--send-test-mail"],
        &["--json", "source", "run"],
        &["source", "run"],
        &["--verbose", "source", "watch"],
    ] {
        let ran = lab.run(args);
        said.push_str(&format!("{}{}", ran.out, ran.err));
    }
    assert!(
        said.contains("the ping to 127.0.0.1 failed") && said.contains("no connection to localhost"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    assert!(!names(&lab.path("state/source/spool")).is_empty());
    for folder in ["state", "home"] {
        let found = std::process::Command::new("grep")
            .args(["-r", "hunter2"])
            .arg(lab.path(folder))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{folder}");
    }
    let config = handover::config::load(
        &lab.path("handover.toml"),
        &handover::config::Surroundings::here(),
        handover::config::Role::All,
    );
    assert!(!format!("{config:?}").replace("without_secrets", "").contains("/hunter2"));
}
