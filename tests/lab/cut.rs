//! The line is cut, or the far end freezes, in the middle of a transfer.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    hosts::{Host, Image, Lab},
    pair::{self, SINK_USER, WWW},
    proof::proof,
};

const MEGA: u64 = 1 << 20;
/// What may cross the line a second time.
const TWICE: u64 = 64 * MEGA;

#[test]
fn a_line_that_is_cut_and_hosts_that_freeze_in_the_middle_are_given_up_and_the_next_run_goes_on() {
    let lab = Lab::new();
    // Both wait for minutes, so they do it at the same time, on hosts of their own.
    thread::scope(|scope| {
        scope.spawn(|| hosts_that_freeze_are_given_up(&lab));
        a_line_that_is_cut_costs_little_when_it_is_back(&lab);
    });
}

/// One host freezes altogether, so that ssh sees it; of the other only what sends, and its sshd goes on answering.
fn hosts_that_freeze_are_given_up(lab: &Lab) {
    let cellar = pair::sink(lab, "cellar", "stall_timeout = \"155s\"\nbandwidth = \"4MiB\"\n");
    let sources = ["still", "mute"].map(|name| pair::source(lab, name, Image::Host, WWW));
    for source in &sources {
        pair::enroll(&cellar, source);
        source.must("mkdir -p /srv/www && head -c 64M /dev/urandom > /srv/www/large");
    }
    let ids = sources.each_ref().map(pair::collect);
    let [still, mute] = &sources;
    let begun = sources.each_ref().map(Host::packets);
    let (given_up, first) = thread::scope(|scope| {
        let run = scope.spawn(|| cellar.run_as(SINK_USER, "handover --json sink run"));
        let deadline = Instant::now() + Duration::from_secs(120);
        while sources.iter().zip(begun).any(|(source, begun)| source.packets() - begun < 4 * MEGA) {
            assert!(!run.is_finished() && Instant::now() < deadline, "it never came to the middle");
        }
        still.pause();
        mute.must("pkill -STOP -x -u dataBackupSource rsync");
        let clock = Instant::now();
        let first = run.join().unwrap();
        (clock.elapsed(), first)
    });
    println!("two hosts that froze in the middle of 64 MiB were given up after {given_up:?}");
    assert_eq!(first.code, 12, "{first:?}");
    let report = first.json();
    for (source, says) in report["sources"].as_array().unwrap().iter().zip(["cannot connect", "still holds"])
    {
        let last = source["findings"].as_array().unwrap().last().unwrap();
        let text = last["text"].as_str().unwrap();
        assert!(last["kind"] == "unreachable" && text.contains(says), "{report:#}");
    }
    assert!(given_up < Duration::from_secs(155 + 45), "{first:?}");
    let stored = || ["still", "mute"].map(|name| pair::stored(&cellar, name));
    assert!(stored().concat().is_empty(), "{first:?}");
    still.unpause();
    mute.must("pkill -CONT -x -u dataBackupSource rsync");
    let clock = Instant::now();
    while cellar.run_as(SINK_USER, "handover --json sink run").code != 0 {
        assert!(clock.elapsed() < Duration::from_secs(240), "it does not go on");
        thread::sleep(Duration::from_secs(2));
    }
    let lost = stored().concat().len().abs_diff(ids.len());
    proof("a bad day: a host, or its sender alone, is frozen until it is given up", ids.len(), lost);
    assert_eq!(stored().concat(), ids);
    cellar.must_as(SINK_USER, "handover sink verify");
}

fn a_line_that_is_cut_costs_little_when_it_is_back(lab: &Lab) {
    let shop = pair::source(lab, "shop", Image::Host, WWW);
    let vault = pair::sink(lab, "vault", "stall_timeout = \"3m\"\n");
    pair::enroll(&vault, &shop);
    // One large file, and many that are not.
    shop.must(
        "mkdir -p /srv/www && cd /srv/www && head -c 600M /dev/urandom > film && \
         for i in $(seq 53); do head -c 8M /dev/urandom > part-$i; done",
    );
    let content: u64 = 1024 * MEGA;
    assert_eq!(shop.must("cat /srv/www/* | wc -c").text().trim(), content.to_string());
    let id = pair::collect(&shop);

    let start = vault.packets();
    let (cut_at, first) = thread::scope(|scope| {
        let run = scope.spawn(|| vault.run_as(SINK_USER, "handover --json sink run"));
        let deadline = Instant::now() + Duration::from_secs(120);
        while vault.packets() - start < 350 * MEGA {
            assert!(!run.is_finished() && Instant::now() < deadline, "it never came to the middle");
        }
        shop.disconnect();
        (vault.packets() - start, run.join().unwrap())
    });
    assert_eq!(first.code, 12, "{first:?}");
    assert!(cut_at < content * 9 / 10, "it was cut too late: {cut_at}");
    let after_first = vault.packets() - start;
    assert!(pair::stored(&vault, "shop").is_empty());

    shop.connect();
    let clock = Instant::now();
    // The next run of cron; the source may need a while to see that the first one is gone.
    let report = loop {
        let done = vault.run_as(SINK_USER, "handover --json sink run");
        let report = done.json();
        if done.code == 0 && report["sources"][0]["stored"][0]["id"] == id.as_str() {
            break report;
        }
        assert!(clock.elapsed() < Duration::from_secs(240), "it does not go on: {done:?}");
        thread::sleep(Duration::from_secs(2));
    };
    let total = vault.packets() - start;
    let second = total - after_first;
    let counted = report["sources"][0]["stored"][0]["wire"].as_u64().unwrap();
    println!(
        "cut after {} MiB; {} MiB in the first run, {} MiB in the second: {} MiB crossed twice or were overhead\n\
         second run: {} MiB as the sink counts, {} MiB as the kernel counts packets",
        cut_at / MEGA,
        after_first / MEGA,
        second / MEGA,
        total.saturating_sub(content) / MEGA,
        counted / MEGA,
        second / MEGA,
    );
    assert!(total.saturating_sub(content) <= TWICE, "{} bytes crossed the line twice", total - content);
    assert!(counted.abs_diff(second) * 10 <= second, "the sink counted {counted}, the kernel {second}");
    vault.must_as(SINK_USER, "handover sink verify shop");
    assert_eq!(pair::kept(&shop), [id]);
}

#[test]
fn a_source_that_stops_answering_is_unreachable_and_the_others_are_fetched() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Host, WWW);
    let blog = pair::source(&lab, "blog", Image::Host, WWW);
    let vault = pair::sink(&lab, "vault", "connect_timeout = \"3s\"\n");
    for source in [&shop, &blog] {
        pair::enroll(&vault, source);
        source.must("mkdir -p /srv/www && hostname > /srv/www/name");
        pair::collect(source);
    }
    shop.pause();
    let done = vault.run_as(SINK_USER, "handover --json sink run");
    shop.unpause();
    assert_eq!(done.code, 12, "{done:?}");
    assert_eq!((pair::stored(&vault, "shop").len(), pair::stored(&vault, "blog").len()), (0, 1), "{done:?}");
    // It answers again, and comes back after a restart too: nothing is lost.
    shop.restart();
    pair::fetch(&vault);
    assert_eq!(pair::stored(&vault, "shop").len(), 1);
}
