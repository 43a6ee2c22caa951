//! What the sink's key opens on a source: the gate, and nothing else.

use crate::{
    hosts::{Host, Image, Lab},
    pair::{self, SINK_USER, WWW},
};

/// As the sink's host would try it, with the key that it has.
const SSH: &str = "-i /etc/handover/sink_ed25519 -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=5 \
                   -o UserKnownHostsFile=/etc/handover/known_hosts -o StrictHostKeyChecking=yes";
const AT: &str = "dataBackupSource@shop.example.org";

/// Asks the gate as `ssh` does, with a line of our own.
fn ask(vault: &Host, line: &str) -> crate::hosts::Done {
    vault
        .run_as(SINK_USER, &format!("timeout 20 ssh {SSH} {AT} '{}' </dev/null", line.replace('\'', r"'\''")))
}

#[test]
fn the_key_of_a_sink_opens_the_gate_and_nothing_else() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Host, WWW);
    let vault = pair::sink(&lab, "vault", "");
    pair::enroll(&vault, &shop);
    shop.must("mkdir -p /srv/www && echo hello > /srv/www/index.html && echo secret > /srv/secret && chmod 644 /srv/secret");
    let id = pair::collect(&shop);
    let before = shop.must("find /home /srv /tmp -printf '%p %s %T@\\n' | sort").text();

    // What these tests try must be tried at all: the same line with a right question is answered.
    let offers = ask(&vault, "handover 1 offers");
    assert_eq!((offers.code, offers.json()["name"].as_str()), (0, Some("shop")), "{offers:?}");

    no_shell_no_files_no_forwarding(&vault);
    only_what_is_in_the_table(&vault, &shop, &id);
    let after = shop.must("find /home /srv /tmp -printf '%p %s %T@\\n' | sort").text();
    assert_eq!(before, after, "something was changed on the source");
}

fn no_shell_no_files_no_forwarding(vault: &Host) {
    for (what, script) in [
        ("a command", format!("ssh {SSH} {AT} cat /srv/secret")),
        ("a shell", format!("echo 'cat /srv/secret' | ssh {SSH} {AT}")),
        ("a terminal", format!("echo 'cat /srv/secret' | ssh -tt {SSH} {AT} sh -i")),
        ("scp", format!("scp {SSH} {AT}:/srv/secret /tmp/got && cat /tmp/got")),
        ("the older scp", format!("scp -O {SSH} {AT}:/srv/secret /tmp/got && cat /tmp/got")),
        ("scp to it", format!("scp {SSH} /etc/hostname {AT}:/tmp/put")),
        ("sftp", format!("echo 'get /srv/secret /tmp/got' | sftp -b - {SSH} {AT} && cat /tmp/got")),
        ("rsync of another path", format!("rsync -e 'ssh {SSH}' {AT}:/srv/secret /tmp/got && cat /tmp/got")),
        ("rsync to it", format!("rsync -e 'ssh {SSH}' /etc/hostname {AT}:/tmp/put")),
        ("a connection through it", format!("ssh -W 127.0.0.1:22 {SSH} {AT} | grep SSH-")),
        (
            "a port back from it",
            format!("ssh -N -R 9998:127.0.0.1:22 -o ExitOnForwardFailure=yes {SSH} {AT}"),
        ),
        (
            "a socket of it",
            format!("ssh -N -R /tmp/socket:127.0.0.1:22 -o ExitOnForwardFailure=yes {SSH} {AT}"),
        ),
        ("its environment", format!("ssh -o SendEnv=LC_ALL {SSH} {AT} env | grep PATH")),
        ("root", format!("ssh {SSH} root@shop.example.org cat /srv/secret")),
    ] {
        let done = vault.run_as(
            SINK_USER,
            &format!("rm -f /tmp/got; timeout 20 sh -c '{}' </dev/null", script.replace('\'', r"'\''")),
        );
        assert_ne!(done.code, 0, "{what}: {done:?}");
        assert_ne!(done.code, 124, "{what} hangs, so it may have been granted: {done:?}");
        assert!(!done.text().contains("secret\n"), "{what}: {done:?}");
    }
}

fn only_what_is_in_the_table(vault: &Host, shop: &Host, id: &str) {
    let address = vault.must("hostname -i").text().trim().to_owned();
    let lines = [
        "handover 1 offers; cat /srv/secret".to_owned(),
        "handover 1 offers\ncat /srv/secret".to_owned(),
        "handover 1 offers extra".to_owned(),
        "handover 1  offers".to_owned(),
        "handover 2 offers".to_owned(),
        "handover source run".to_owned(),
        "handover 1 history ../../../etc".to_owned(),
        format!("handover 1 send {id}/../../../../etc META e.LsfxCIvu"),
        format!("handover 1 send {id} DATA e.LsfxCIvu --remove-source-files"),
        format!("handover 1 send {id} / e.LsfxCIvu"),
        format!("handover 1 send {id} DATA $(touch${{IFS}}/tmp/x)"),
        format!("handover 1 accept {id} 0000000000000000000000000000000000000000000000000000000000000000"),
        format!("rsync --server --sender -e.LsfxCIvu . /home/dataBackupSource/transport-outgoing/{id}"),
        "x".repeat(5000),
    ];
    let logged = |shop: &Host| {
        shop.must("grep -c 'handover-gate.*refused' /var/log/syslog || true")
            .text()
            .trim()
            .parse::<usize>()
            .unwrap()
    };
    for line in &lines {
        let before = logged(shop);
        let done = ask(vault, line);
        assert_ne!(done.code, 0, "{line}: {done:?}");
        assert!(!done.text().contains("secret"), "{line}: {done:?}");
        assert_eq!(logged(shop), before + 1, "{line}: not logged");
        let last = shop.must("grep 'handover-gate.*refused' /var/log/syslog | tail -1").text();
        assert!(last.contains(&address), "{line}: no address in: {last}");
    }
}

#[test]
fn a_key_that_one_source_lets_in_is_useless_at_another() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Host, WWW);
    let blog = pair::source(&lab, "blog", Image::Host, WWW);
    let vault = pair::sink(&lab, "vault", "");
    let other = pair::sink(&lab, "other", "");
    for source in [&shop, &blog] {
        source.must("mkdir -p /srv/www && echo hello > /srv/www/index.html");
        pair::collect(source);
    }
    // Each source lets its own sink in; each sink knows both.
    pair::authorize(&vault, &shop);
    pair::authorize(&other, &blog);
    for sink in [&vault, &other] {
        for source in [&shop, &blog] {
            let fingerprint = pair::fingerprint(source);
            let name = &source.name;
            // Where the key is not let in, it is enrolled and the way is said to be shut.
            let _ = sink
                .run(&format!("handover sink enroll {name} {name}.example.org --fingerprint {fingerprint}"));
        }
        let done = sink.run_as(SINK_USER, "handover --json sink run");
        assert_ne!(done.code, 0, "{done:?}");
        let (own, foreign) = if sink.name == "vault" { ("shop", "blog") } else { ("blog", "shop") };
        assert_eq!(pair::stored(sink, own).len(), 1, "{done:?}");
        assert!(pair::stored(sink, foreign).is_empty(), "{done:?}");
        assert!(done.text().contains("does not let dataBackupSource in"), "{done:?}");
    }
    // A source has no way to the sink at all: no key, no user, nothing that would let it in.
    for user in ["root", "dataBackupSource"] {
        let done = shop.run_as(user, "timeout 20 ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new dataBackupSink@vault.example.org id");
        assert_ne!(done.code, 0, "{done:?}");
    }
}
