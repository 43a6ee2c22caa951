//! Bad days on real hosts: after each of them one run more on both sides, and everything is whole and no alarm is left.
//!
//! What needs no hosts of its own is shown elsewhere, more finely than here:
//! - each durable step that fails, fills up or is killed: `tests/it/crash`, `tests/it/kill`, `tests/it/power`;
//! - silence of a sender until `stall_timeout` (which is no shorter than 150 s): `tests/it/remote`, `tests/it/ssh`;
//! - a source that does not answer at all: `tests/lab/cut`; a gate that lies in 59 ways: `tests/it/enemy`;
//! - files that change or vanish at a chosen instant of the collecting: `tests/it/source`;
//! - a disk that is not mounted, or another one in its place: `tests/it/sink/room`; clocks: `tests/it/mail/days`;
//! - damage of every kind, and all ways of healing: `tests/it/heal`, `tests/it/sink/damage`.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    hosts::{Done, Home, Host, Image, Lab},
    pair::{self, SINK_USER, STORE},
    proof::proof,
};

const HOME: &str = "/home/dataBackupSource";
const MEGA: u64 = 1 << 20;
/// What a large file takes some seconds to cross at the line's `bandwidth`, so that there is a middle.
const LARGE: &str = "head -c 24M /dev/urandom > /srv/www/large";
const SLOW: &str = "bandwidth = \"8MiB\"\nconnect_timeout = \"5s\"\nkeep_for = \"1d\"\n";
/// A tree, and a dump that takes as long as it is told.
const ELEMENTS: &str = r#"
[[source.element]]
name = "www"
kind = "tree"
paths = ["/srv/www"]

[[source.element]]
name = "db"
kind = "dump"
file = "rows"
command = ["sh", "-c", "sleep $(cat /srv/delay); cat /srv/rows"]
"#;
const MAIL: &str = "\n[mail]\nto = [\"ops@example.org\"]\nfrom = \"handover@vault.example.org\"\nsendmail = \"/usr/local/bin/mailed\"\n";

fn fill(host: &Host) {
    host.must(
        "mkdir -p /srv/www/sub; echo 0 > /srv/delay; seq 5000 > /srv/rows; echo hello > /srv/www/index.html
         for i in $(seq 30); do head -c 20000 /dev/urandom > /srv/www/sub/$i; done",
    );
}

/// A source and its sink, and what was ever sealed.
struct Days {
    shop: Host,
    vault: Host,
    sealed: Vec<String>,
}

impl Days {
    fn new(shop: Host, vault: Host) -> Self {
        fill(&shop);
        // A mail is a file here.
        vault.put("/usr/local/bin/mailed", b"#!/bin/sh\ncat >> /srv/mails\necho >> /srv/mails\n", 0o755);
        let config = [vault.get("/etc/handover/handover.toml"), MAIL.as_bytes().to_vec()].concat();
        vault.put("/etc/handover/handover.toml", &config, 0o644);
        vault.must(&format!("install -o {SINK_USER} -m 600 /dev/null /srv/mails"));
        pair::enroll(&vault, &shop);
        let mut days = Self { shop, vault, sealed: Vec::new() };
        days.collect();
        days.sink().ends(&[0]);
        days
    }

    fn collect(&mut self) -> String {
        let id = pair::collect(&self.shop);
        self.sealed.push(id.clone());
        id
    }

    /// A run of the sink.
    fn sink(&self) -> Ended {
        Ended(self.vault.run_as(SINK_USER, "handover --json sink run"))
    }

    /// Begins a run of the sink, does something to a host when so much has crossed the line, and gives what became of it.
    fn in_the_middle(&self, act: impl FnOnce()) -> Ended {
        let start = self.vault.packets();
        thread::scope(|scope| {
            let run = scope.spawn(|| self.sink());
            let deadline = Instant::now() + Duration::from_secs(60);
            while self.vault.packets() - start < 8 * MEGA {
                assert!(!run.is_finished() && Instant::now() < deadline, "it never came to the middle");
            }
            act();
            run.join().unwrap()
        })
    }

    /// Begins a run of the sink, does something else in the middle of it, and gives what became of that.
    fn in_the_middle_also<T>(&self, act: impl FnOnce() -> T) -> T {
        let mut done = None;
        self.in_the_middle(|| done = Some(act())).ends(&[0]);
        done.unwrap()
    }

    /// One run more on both sides: all is whole, nothing is lost, and nobody has anything to tell.
    #[track_caller]
    fn are_over(&mut self, day: &str) {
        // The far end of a cut line may need a moment to see that nobody is there.
        let end = Instant::now() + Duration::from_secs(60);
        let mut last = self.sink();
        while last.0.code != 0 {
            assert!(Instant::now() < end, "{day}: {:?}", last.0);
            thread::sleep(Duration::from_secs(1));
            last = self.sink();
        }
        self.collect();
        self.sink().ends(&[0]);
        let places = [
            self.shop.must(&format!("ls {HOME}/transport-outgoing {HOME}/store {HOME}/condemned")).text(),
            self.vault.must(&format!("ls {STORE}/shop {STORE}/../condemned/shop")).text(),
        ];
        let is_lost = |id: &&String| !places.iter().any(|place| place.contains(id.as_str()));
        let lost: Vec<&String> = self.sealed.iter().filter(is_lost).collect();
        proof(&format!("a bad day: {day}"), 1, lost.len().min(1));
        assert!(lost.is_empty(), "{day}: lost {lost:?}");
        for quiet in ["sink verify", "sink watch"] {
            Ended(self.vault.run_as(SINK_USER, &format!("handover {quiet}"))).ends(&[0]);
        }
        Ended(self.shop.run("handover source watch")).ends(&[0]);
        let status = self.vault.must_as(SINK_USER, "handover --json sink status").text();
        assert!(
            status.contains("\"level\": \"ok\"") || status.contains("\"level\":\"ok\""),
            "{day}: {status}"
        );
    }

    /// Subjects of the mails since the last call.
    fn mails(&self) -> Vec<String> {
        let text = self.vault.must("cat /srv/mails; : > /srv/mails").text();
        text.lines().filter_map(|line| line.strip_prefix("Subject: ")).map(str::to_owned).collect()
    }
}

/// How a command ended.
struct Ended(Done);

impl Ended {
    #[track_caller]
    fn ends(self, codes: &[i64]) -> Self {
        assert!(codes.contains(&self.0.code), "not one of {codes:?}: {:?}", self.0);
        self
    }

    #[track_caller]
    fn says(self, words: &str) -> Self {
        assert!(self.0.text().contains(words) || self.0.stderr.contains(words), "{words}: {:?}", self.0);
        self
    }
}

/// Turns a bit of the first file of this name below a folder, as a failing disk does: nothing but the content tells.
fn flip(host: &Host, folder: &str, name: &str) {
    host.must(&format!(
        "file=$(find {folder} -type f -name {name} | head -n 1); test -n \"$file\"; touch -r \"$file\" /tmp/times
         printf X | dd of=\"$file\" bs=1 seek=7 conv=notrunc status=none; touch -r /tmp/times \"$file\""
    ));
}

#[test]
fn after_a_bad_day_of_the_line_or_of_a_host_one_run_more_and_everything_is_whole() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Host, ELEMENTS);
    let vault = pair::sink(&lab, "vault", SLOW);
    let mut days = Days::new(shop, vault);
    the_line(&mut days);
    the_hosts(&mut days);
    the_application(&mut days);
    read_only(&lab, &mut days);
    two_at_once(&lab, &mut days);
    a_hostile_source_beside(&lab, &mut days);
}

fn the_line(days: &mut Days) {
    days.shop.must(LARGE);
    days.collect();
    days.in_the_middle(|| days.shop.disconnect()).ends(&[12]);
    days.shop.connect();
    // The far end has another address now, and would see only after minutes that nobody is there: `tests/lab/cut` waits.
    days.shop.run("pkill -KILL -u dataBackupSource");
    days.are_over("the network is cut in the middle of a fetch");

    days.shop.must(LARGE);
    days.collect();
    days.in_the_middle(|| {
        days.shop.pause();
        thread::sleep(Duration::from_secs(5));
        days.shop.unpause();
    })
    .ends(&[0]);
    days.are_over("the source is frozen for a while in the middle of a fetch");

    days.shop.must(LARGE);
    days.collect();
    // The listening sshd, and all sessions of the transport user with it.
    let ended =
        days.in_the_middle(|| drop(days.shop.run("pkill -KILL sshd; pkill -KILL -u dataBackupSource")));
    ended.ends(&[0, 12]);
    days.shop.must("/usr/sbin/sshd");
    days.are_over("sshd is killed in the middle of a fetch");
}

fn the_hosts(days: &mut Days) {
    days.shop.must(LARGE);
    days.collect();
    let start = days.vault.packets();
    thread::scope(|scope| {
        // Its end is that of the host.
        let run = scope.spawn(|| days.vault.try_run_as(SINK_USER, "handover --json sink run"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while days.vault.packets() - start < 8 * MEGA {
            assert!(!run.is_finished() && Instant::now() < deadline, "it never came to the middle");
        }
        days.vault.kill();
        drop(run.join());
    });
    days.vault.restart();
    days.are_over("the sink's host is killed in the middle of a fetch");

    days.shop.must("echo 30 > /srv/delay; head -c 3M /dev/urandom > /srv/www/more");
    thread::scope(|scope| {
        let run = scope.spawn(|| days.shop.try_run_as("root", "handover --json source run"));
        days.shop.wait_for(&format!("test -n \"$(ls {HOME}/collecting)\""), Duration::from_secs(30));
        days.shop.kill();
        drop(run.join());
    });
    days.shop.restart();
    days.shop.must("echo 0 > /srv/delay");
    days.are_over("the source is rebooted while it collects");
}

fn the_application(days: &mut Days) {
    let busy = "cd /srv/www; while [ ! -e /tmp/enough ]; do
        head -c 2M /dev/urandom > changing; for i in 1 2 3 4 5 6 7 8 9; do echo x > gone-$i; done; rm -f gone-*; done";
    thread::scope(|scope| {
        let run = scope.spawn(|| days.shop.run(busy));
        for _ in 0..3 {
            let done = days.shop.run("handover --json source run");
            assert!([0, 3, 4].contains(&done.code), "{done:?}");
            days.sealed.push(done.json()["generation"]["id"].as_str().unwrap().to_owned());
        }
        days.shop.must("touch /tmp/enough");
        run.join().unwrap();
    });
    days.are_over("files change and vanish while they are collected");

    // The source's clock is a day ahead: said, and the order is the sink's own.
    let done = days.shop.run("HANDOVER_CLOCK=+25h handover --json source run");
    assert_eq!(done.code, 0, "{done:?}");
    days.sealed.push(done.json()["generation"]["id"].as_str().unwrap().to_owned());
    days.sink().ends(&[0]).says("its id lies in the future");
    days.are_over("the source's clock is a day ahead");
    let yesterday = "HANDOVER_CLOCK=$(date -u -d '-25 hours' +%Y-%m-%dT%H:%M:%SZ) handover --json sink run";
    let done = days.vault.run_as(SINK_USER, yesterday);
    assert_eq!(done.code, 0, "{done:?}");
    days.collect();
    let done = days.vault.run_as(SINK_USER, yesterday);
    assert!(done.code == 0 && done.text().contains("ahead of"), "{done:?}");
    days.are_over("the sink's clock is a day behind");
}

fn read_only(lab: &Lab, days: &mut Days) {
    days.collect();
    // The sink's own disks, as they are after the kernel has found an error on them.
    let same = lab.host_with("same", Image::Host, Home::ReadOnly(&days.vault));
    for file in ["handover.toml", "sink_ed25519", "known_hosts"] {
        let path = format!("/etc/handover/{file}");
        same.put(&path, &days.vault.get(&path), 0o644);
    }
    let ids = days.vault.must(&format!("id -u {SINK_USER}; id -g {SINK_USER}")).text();
    let (uid, gid) = ids.trim().split_once('\n').unwrap();
    same.must(&format!(
        "groupadd -o -g {gid} {SINK_USER}; useradd -o -M -u {uid} -g {gid} -d /home/{SINK_USER} {SINK_USER}
         chown {SINK_USER} /etc/handover/sink_ed25519; chmod 600 /etc/handover/sink_ed25519"
    ));
    let done = same.run_as(SINK_USER, "handover --json sink run");
    assert_eq!(done.code, 14, "{done:?}");
    drop(same);
    days.are_over("the sink's disks are read-only");
}

fn two_at_once(lab: &Lab, days: &mut Days) {
    days.shop.must(LARGE);
    days.collect();
    let second = days.in_the_middle_also(|| days.sink());
    second.ends(&[11]).says("another run holds the lock");
    days.shop.must("echo 3 > /srv/delay");
    thread::scope(|scope| {
        let first = scope.spawn(|| days.shop.run("handover --json source run"));
        days.shop.wait_for(&format!("test -n \"$(ls {HOME}/collecting)\""), Duration::from_secs(30));
        let second = days.shop.run("handover --json source run");
        assert_eq!(second.code, 11, "{second:?}");
        let first = first.join().unwrap();
        assert_eq!(first.code, 0, "{first:?}");
        days.sealed.push(first.json()["generation"]["id"].as_str().unwrap().to_owned());
    });
    days.shop.must("echo 0 > /srv/delay");
    days.are_over("two runs at once on both sides");

    // A second sink, let in by mistake: what one has fetched the other does not get, and what one reads the other leaves.
    let other = pair::sink(lab, "other", SLOW);
    pair::enroll(&other, &days.shop);
    days.shop.must(LARGE);
    let contested = days.collect();
    let done = days.in_the_middle_also(|| Ended(other.run_as(SINK_USER, "handover --json sink run")));
    done.ends(&[3]).says("there must be only one sink");
    assert!(pair::stored(&days.vault, "shop").contains(&contested));
    days.are_over("two sinks on one source");

    // The Source-Store has a rotten file, and the other sink has nothing yet: it is noticed, and read afresh.
    flip(&days.shop, &format!("{HOME}/store"), "17");
    let rotten = days.collect();
    Ended(other.run_as(SINK_USER, "handover --json sink run")).ends(&[13]).says(&rotten);
    let done = days.shop.run("handover --json source run");
    assert_eq!(done.code, 13, "{done:?}");
    days.sealed.retain(|id| *id != rotten);
    days.sealed.push(done.json()["generation"]["id"].as_str().unwrap().to_owned());
    Ended(other.run_as(SINK_USER, "handover --json sink run")).ends(&[0]);
    other.must_as(SINK_USER, "handover sink verify shop");
    days.sealed.retain(|id| !pair::stored(&other, "shop").contains(id));
    days.are_over("a file rots in the Source-Store");
}

fn a_hostile_source_beside(lab: &Lab, days: &mut Days) {
    let evil = pair::source(lab, "evil", Image::Host, pair::WWW);
    evil.must("mkdir -p /srv/www; echo evil > /srv/www/index.html");
    pair::collect(&evil);
    pair::enroll(&days.vault, &evil);
    evil.put(
        "/usr/local/bin/evil",
        b"#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in *offers*) yes '{\"name\":\"evil\"' ;; *) cat /dev/zero ;; esac\n",
        0o755,
    );
    let keys = format!("{HOME}/.ssh/authorized_keys");
    evil.must(&format!(
        "cp -p {keys} /root/keys; sed -i 's#command=\"[^\"]*\"#command=\"/usr/local/bin/evil\"#' {keys}"
    ));
    let honest = days.collect();
    let ended = days.sink();
    assert_ne!(ended.0.code, 0, "{:?}", ended.0);
    assert!(pair::stored(&days.vault, "shop").contains(&honest), "{:?}", ended.0);
    assert!(pair::stored(&days.vault, "evil").is_empty());
    evil.must(&format!("cat /root/keys > {keys}"));
    days.are_over("a hostile gate beside an honest one");
}

#[test]
fn after_a_bad_day_of_a_disk_one_run_more_and_everything_is_whole() {
    let lab = Lab::new();
    // Real file systems with an end.
    let shop = lab.host_with("shop", Image::Host, Home::Small(192 << 20));
    let vault = lab.host_with("vault", Image::Host, Home::Small(192 << 20));
    let shop = pair::source_on(shop, "shop", ELEMENTS);
    let vault = pair::sink_on(vault, SLOW);
    let mut days = Days::new(shop, vault);
    full(&mut days);
    somebody_elses(&mut days);
    rotten(&mut days);
}

/// Takes all that is left of the disk at `/home` but so many KiB.
fn leave(host: &Host, kib: u64) {
    host.must(&format!(
        "left=$(df --output=avail -k /home | tail -n 1); head -c $(( (left - {kib}) * 1024 )) /dev/zero > /home/filler || true"
    ));
}

fn full(days: &mut Days) {
    let empty = |host: &Host| drop(host.must("rm -f /home/filler"));
    // The source: while it collects, and while it takes the receipt.
    days.shop.must("head -c 8M /dev/urandom > /srv/www/large");
    leave(&days.shop, 2048);
    let done = days.shop.run("handover --json source run");
    assert!([3, 14].contains(&done.code), "{done:?}");
    if let Some(id) = done.json()["generation"]["id"].as_str() {
        days.sealed.push(id.to_owned());
    }
    empty(&days.shop);
    days.are_over("the source's disk is full while it collects");

    days.collect();
    leave(&days.shop, 0);
    days.sink().ends(&[0, 3, 12, 14]);
    empty(&days.shop);
    days.are_over("the source's disk is full when it gets the receipt");

    // The sink: before it fetches, in the middle, and while it stores.
    for (kib, day) in [
        (64, "the sink's disk is full before it fetches"),
        (6 << 10, "the sink's disk has no room for what comes"),
    ] {
        days.shop.must("head -c 8M /dev/urandom > /srv/www/large");
        days.collect();
        leave(&days.vault, kib);
        days.sink().ends(&[14]);
        empty(&days.vault);
        days.are_over(day);
    }
    days.shop.must("head -c 40M /dev/urandom > /srv/www/large");
    days.collect();
    days.in_the_middle(|| leave(&days.vault, 0)).ends(&[14]);
    empty(&days.vault);
    days.are_over("the sink's disk fills up in the middle of a fetch");
}

fn somebody_elses(days: &mut Days) {
    days.collect();
    days.vault.must(&format!(
        "chown -R root:root {STORE}/shop {STORE}/../incoming; chmod -R go-rwx {STORE}/../incoming"
    ));
    let done = days.sink();
    assert_ne!(done.0.code, 0, "{:?}", done.0);
    days.vault.must(&format!(
        "chown -R {SINK_USER}: {STORE}/shop {STORE}/../incoming; chmod -R u+rwX,g+rX {STORE}/../incoming"
    ));
    days.are_over("the store belongs to somebody else");
}

fn rotten(days: &mut Days) {
    let damaged = "[handover] shop: damaged in the store";
    let well = "[handover] shop: well again: damaged in the store";
    let verify = |days: &Days, more: &str| {
        Ended(days.vault.run_as(SINK_USER, &format!("handover sink verify shop {more}")))
    };
    days.mails();
    days.vault.must(&format!("cp -a {STORE} /srv/provider"));
    flip(&days.vault, &format!("{STORE}/shop"), "11");
    verify(days, "").ends(&[13]);
    assert_eq!(days.mails(), [damaged]);
    verify(days, "--heal").ends(&[0]);
    assert_eq!(days.mails(), [well]);
    days.are_over("a bit is turned in the store, and the source has it");

    // The source cannot be reached, and nobody else has it: it stays marked. Then the provider gives a copy back.
    days.shop.disconnect();
    flip(&days.vault, &format!("{STORE}/shop"), "12");
    verify(days, "--heal").ends(&[13]);
    assert_eq!(days.mails(), [damaged]);
    Ended(days.vault.run_as(SINK_USER, "handover sink watch")).ends(&[13]);
    verify(days, "--heal --from /srv/provider").ends(&[0]);
    assert_eq!(days.mails(), [well]);
    days.shop.connect();
    days.are_over("a bit is turned in the store, and only the provider has it");
}
