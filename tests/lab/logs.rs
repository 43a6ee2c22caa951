//! Logs that are written and rotated all the time, fetched and read as one.

use std::time::Duration;

use crate::{
    hosts::{Done, Host, Image, Lab},
    pair::{self, LOGSINK_USER, SINK_USER},
};

const LOGS: &str = "[source.logs]\npaths = [\"/srv/log/*.log*\"]\nmax_waiting = 3\n";

/// Writes numbered lines in bursts of every size, each in two parts that meet in the middle of a line. A burst goes to
/// the file that has the name at that moment.
const WRITER: &str = r#"#!/bin/sh
cd /srv/log
n=1
while [ $n -le 200000 ]; do
    burst=$(( n * 7919 % 1400 + 1 )); last=$(( n + burst - 1 ))
    [ $last -gt 200000 ] && last=200000
    seq -f 'line %.0f of the shop, written while everything else goes on' $n $last > /srv/burst
    half=$(( $(wc -c < /srv/burst) / 3 ))
    head -c $half /srv/burst >> app.log
    tail -c +$(( half + 1 )) /srv/burst >> app.log
    n=$(( last + 1 ))
    sleep 0.05
done
touch /srv/written
"#;

/// Rotates as logrotate does with `delaycompress`: numbers go up by one, the second is packed, a new one is begun.
const ROTATOR: &str = r#"#!/bin/sh
cd /srv/log
while [ ! -e /srv/written ]; do
    sleep 0.7
    for i in $(seq 99 -1 1); do
        for end in '' .gz; do
            [ -e app.log.$i$end ] && mv app.log.$i$end app.log.$(( i + 1 ))$end
        done
    done
    mv app.log app.log.1
    : >> app.log
    [ -e app.log.2 ] && gzip app.log.2
done
touch /srv/rotated
"#;

const READ: &str = "handover logsink cat shop --path /srv/log/app.log";

fn start(host: &Host, name: &str, script: &str) {
    host.put(&format!("/srv/{name}"), script.as_bytes(), 0o755);
    host.must(&format!("nohup /srv/{name} >/srv/{name}.said 2>&1 &"));
}

/// Generations that a run of the log sink has stored.
fn fetched(done: &Done) -> usize {
    assert_eq!(done.code, 0, "{done:?}");
    done.json()["sources"][0]["stored"].as_array().unwrap().len()
}

#[test]
fn two_hundred_thousand_lines_come_out_complete_once_each_and_in_order() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Host, LOGS);
    let vault = pair::sink(&lab, "vault", "");
    pair::enroll_logs(&vault, &shop);
    shop.must("mkdir -p /srv/log && : > /srv/log/app.log");
    start(&shop, "writer", WRITER);
    start(&shop, "rotator", ROTATOR);
    let (mut runs, mut generations) = (0, 0);
    while shop.run("test -e /srv/rotated").code != 0 {
        shop.must("handover --quiet source run || test $? = 4");
        runs += 1;
        // The sink does not come after every run: some wait, and are fetched together.
        if runs % 3 != 1 {
            generations += fetched(&vault.run_as(LOGSINK_USER, "handover --json logsink run"));
        }
        assert!(runs < 1000, "the writer never ends: {}", shop.must("cat /srv/*.said").text());
    }
    shop.must("handover --quiet source run || test $? = 4");
    generations += fetched(&vault.run_as(LOGSINK_USER, "handover --json logsink run"));
    let files: u32 = shop.must("ls /srv/log | wc -l").text().trim().parse().unwrap();
    println!("200000 lines, {files} files, {runs} runs of the source, {generations} generations");
    assert!(generations >= 5, "what was taken at once proves nothing");
    assert!(files >= 8, "what was hardly rotated proves nothing");

    let done = vault.run(&format!("{READ} > /srv/out"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let expected = shop
        .must("seq -f 'line %.0f of the shop, written while everything else goes on' 1 200000 | sha256sum")
        .text();
    let is = vault.must("sha256sum < /srv/out").text();
    if is != expected {
        let first = vault.must("awk '$2 != NR { print NR \": \" $0; exit }' /srv/out; wc -l /srv/out").text();
        panic!(
            "not what was written, first here: {first}{}",
            vault.must("handover logsink cat shop --list").text()
        );
    }
    // Nothing waits, and all that is here is whole.
    assert_eq!(shop.must("ls /home/logBackupSource/transport-outgoing").text(), "");
    vault.must_as(LOGSINK_USER, "handover --quiet logsink verify shop");
}

#[test]
fn the_key_for_logs_opens_no_data_and_the_key_for_data_opens_no_logs() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Host, &format!("{}{LOGS}", pair::WWW));
    let vault = pair::sink(&lab, "vault", "");
    shop.must(
        "mkdir -p /srv/www /srv/log && echo a page > /srv/www/index.html && echo a line > /srv/log/app.log",
    );
    pair::enroll(&vault, &shop);
    pair::enroll_logs(&vault, &shop);
    shop.must("handover source run");
    let ask = |user: &str, key: &str, to: &str| {
        vault.run_as(
            user,
            &format!(
                "timeout 20 ssh -i /etc/handover/{key} -o IdentitiesOnly=yes -o BatchMode=yes \
                 -o UserKnownHostsFile=/etc/handover/known_hosts {to}@shop.example.org 'handover 1 offers' </dev/null"
            ),
        )
    };
    let roles = [
        ("data", SINK_USER, "sink_ed25519", "dataBackupSource"),
        ("logs", LOGSINK_USER, "logsink_ed25519", "logBackupSource"),
    ];
    for (own, other) in [(roles[0], roles[1]), (roles[1], roles[0])] {
        let (channel, user, key, at) = own;
        let offers = ask(user, key, at);
        assert_eq!((offers.code, offers.json()["channel"].as_str()), (0, Some(channel)), "{offers:?}");
        let refused = ask(user, key, other.3);
        assert!(refused.code == 255 && refused.stderr.contains("Permission denied"), "{refused:?}");
        // Nor does the one see the other where it lives: key and store here, what waits there.
        assert_ne!(vault.run_as(user, &format!("cat /etc/handover/{}", other.2)).code, 0);
        assert_ne!(vault.run_as(user, &format!("ls /home/{}/store", other.1)).code, 0);
        let waiting = format!("/home/{}/transport-outgoing", other.3);
        assert_eq!(shop.must(&format!("ls {waiting} | wc -l")).text(), "1\n");
        assert_ne!(shop.run_as(at, &format!("ls {waiting}")).code, 0);
    }
    vault.must_as(LOGSINK_USER, "handover --quiet logsink run");
    vault.must_as(SINK_USER, "handover --quiet sink run");
    assert_eq!(vault.must("handover logsink cat shop").text(), "a line\n");
    shop.wait_for("test -z \"$(ls /home/logBackupSource/transport-outgoing)\"", Duration::from_secs(5));
    for host in [&shop, &vault] {
        host.must("handover check --live");
    }
}
