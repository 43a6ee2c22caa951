//! A source with a real mail server: exim with STARTTLS and a login.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    hosts::{Host, Image, Lab},
    pair::{self, WWW},
};

const MAIL: &str = "
[mail]
to = [\"ops@example.org\", \"other@example.org\"]
from = \"handover@shop.example.org\"
server = \"smtp://mail.example.org:587\"
username = \"backup\"
password_file = \"/etc/handover/smtp-password\"
ca_file = \"/etc/handover/ca.pem\"
timeout = \"10s\"
";

/// The mails that the server kept, once there are so many; the server takes a moment to write each to its file.
fn kept(mail: &Host, count: usize) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        // By their Message-ID, which begins with the time at which handover wrote them.
        let all = mail
            .must("cd /srv/mails && for f in *.eml; do [ -e $f ] && cat $f && echo ===; done; true")
            .text();
        let mut mails: Vec<String> =
            all.split("===\n").filter(|m| !m.is_empty()).map(str::to_owned).collect();
        mails.sort_by_key(|mail| mail.split("Message-ID: ").nth(1).map(str::to_owned));
        if mails.len() >= count {
            assert_eq!(mails.len(), count, "{mails:#?}");
            return mails;
        }
        assert!(Instant::now() < end, "{} mails of {count}: {mails:#?}", mails.len());
        thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_failed_transport_is_mailed_through_a_server_with_starttls_and_login_and_again_when_it_is_well() {
    let lab = Lab::new();
    let mail = lab.host("mail", Image::Mail);
    mail.must("mail-server");
    let shop = pair::source(&lab, "shop", Image::Host, &format!("{WWW}{MAIL}"));
    let vault = pair::sink(&lab, "vault", "");
    pair::enroll(&vault, &shop);
    shop.must("mkdir -p /srv/www && echo hello > /srv/www/index.html");
    shop.put("/etc/handover/ca.pem", &mail.get("/root/ca.pem"), 0o644);
    shop.put("/etc/handover/smtp-password", b"hunter3\n", 0o600);

    let refused = shop.run("handover check --send-test-mail");
    assert_eq!(refused.code, 16, "{refused:?}");
    assert!(refused.stderr.contains("mail.example.org:587 refuses the login of backup: 535"), "{refused:?}");
    shop.put("/etc/handover/smtp-password", b"hunter2\n", 0o600);
    let sent = shop.must("handover check --send-test-mail").stderr;
    assert!(sent.contains("encrypted by STARTTLS, logged in as backup"), "{sent}");
    let envelope = kept(&mail, 1)[0].split("Received:").next().unwrap().to_owned();
    assert!(envelope.contains("ops@example.org") && envelope.contains("other@example.org"), "{envelope}");

    shop.must("handover --quiet source run");
    let waits = shop.run("handover --quiet source run");
    assert_eq!(waits.code, 4, "{waits:?}");
    let told = &kept(&mail, 2)[1];
    for words in
        ["Subject: [handover] shop: not fetched\n", "handover source run on shop, ", "look at the sink"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }

    // The mail server is gone; nothing else fails.
    mail.disconnect();
    pair::fetch(&vault);
    let later = shop.run("handover --quiet source run");
    assert_eq!(later.code, 16, "{later:?}");
    assert!(later.stderr.contains("a mail waits in /var/lib/handover/source/spool"), "{later:?}");
    mail.connect();
    pair::fetch(&vault);
    assert_eq!(shop.must("HANDOVER_CLOCK=+1h handover --quiet source watch").stderr, "");
    assert!(
        kept(&mail, 3)[2].contains("Subject: [handover] shop: well again: not fetched\n"),
        "{:?}",
        kept(&mail, 3)
    );

    // Another host answers under the name of the source.
    shop.must("rm /etc/ssh/ssh_host_* && ssh-keygen -A && kill -HUP $(cat /run/sshd.pid)");
    let strange = vault.run_as(pair::SINK_USER, "handover --json sink run");
    assert_eq!(strange.code, 12, "{strange:?}");
    assert_eq!(strange.json()["sources"][0]["findings"][0]["kind"], "host-key", "{strange:?}");
}
