//! A generation goes back: granted on the host, delivered by the sink, over a real sshd and by the restore gate.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use crate::ssh::{Pair, Ran, big, user, walk, within};

const ID_LESS: &str = "20261123T030000Z";

/// A pair of which the sink has one generation, and no grant.
fn pair() -> Pair {
    let pair = Pair::new();
    pair.handover(&["sink", "run"]).ok();
    pair
}

fn grant(pair: &Pair, more: &[&str]) -> Ran {
    let (key, file) = (pair.sshd.path("restore_ed25519.pub"), pair.sshd.path("authorized_keys"));
    let mut args = vec!["restore", "grant", "--authorized-keys", file.to_str().unwrap()];
    let key = key.to_str().unwrap().to_owned();
    if more.iter().all(|word| !["--list", "--revoke"].contains(word)) {
        args.extend(["--key", &key]);
    }
    args.extend(more);
    pair.handover(&args)
}

fn deliver(pair: &Pair, more: &[&str]) -> Ran {
    let mut args = vec!["--json", "sink", "deliver", "shop"];
    args.extend(more);
    pair.handover(&args)
}

fn json(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.0.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.said()))
}

fn restore(pair: &Pair) -> PathBuf {
    pair.path("source/restore")
}

/// All names in the drop point, hidden ones too.
fn drop_point(pair: &Pair) -> Vec<String> {
    let entries = fs::read_dir(restore(pair)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Asks the restore gate as a hacked sink would.
fn ask(pair: &Pair, words: &str) -> Ran {
    pair.ssh_by("restore_ed25519", &[], &[words], Stdio::null())
}

#[test]
fn a_generation_is_delivered_proven_there_and_found_by_the_restore() {
    let pair = pair();
    let id = pair.stored().pop().unwrap();
    let said = grant(&pair, &["--for", "2h"]).ok().said();
    assert!(said.contains("may deliver to restore/, and nothing else"), "{said}");
    // Nothing but `source init` has been run there: the gate asks for no more.
    fs::remove_dir_all(pair.path("source/gate")).unwrap();
    let report = json(&deliver(&pair, &["--dry-run"]).ok());
    assert_eq!(report["delivered"]["outcome"], "would send", "{report}");
    assert!(drop_point(&pair).is_empty());
    let report = json(&deliver(&pair, &[]).ok());
    assert_eq!(report["delivered"]["outcome"], "published", "{report}");
    assert_eq!(report["delivered"]["id"], id.as_str());
    assert_eq!(drop_point(&pair), [id.as_str()]);
    let folder = restore(&pair).join(&id);
    let whole = pair.handover(&["sink", "verify", "--path", folder.to_str().unwrap()]).ok();
    assert!(!whole.said().contains("warning"), "{}", whole.said());
    let to = pair.path("out");
    pair.handover(&["restore", "--to", to.to_str().unwrap()]).ok();
    let page = walk(&to).into_iter().find(|path| path.ends_with("page")).unwrap();
    assert_eq!(fs::read(page).unwrap(), b"hello\n");
    // The same again is proven again, and sends nothing.
    let report = json(&deliver(&pair, &[&id]).ok());
    assert_eq!(
        (&report["delivered"]["outcome"], &report["delivered"]["wire"]),
        (&"already".into(), &0.into())
    );
    let said = pair.handover(&["sink", "deliver", "shop"]).ok().said();
    assert!(said.contains("next, on 127.0.0.1, as root: handover restore"), "{said}");
    assert!(pair.handover(&["-q", "sink", "deliver", "shop"]).ok().said().is_empty());
}

#[test]
fn without_a_grant_the_line_to_type_there_is_said_and_it_does_what_it_says() {
    let pair = pair();
    let public = pair.sshd.text("restore_ed25519.pub");
    let line = format!("echo '{}' | handover restore grant --key - --for 2h", public.trim());
    let ran = pair.handover(&["sink", "deliver", "shop"]);
    ran.fails(12, &["does not let", &line]);
    let shown = pair.handover(&["sink", "deliver", "shop", "--show-key"]).ok();
    assert_eq!(String::from_utf8_lossy(&shown.0.stdout), public);
    let mut command = pair.command(&["restore", "grant", "--key", "-", "--for", "2h", "--authorized-keys"]);
    command.arg(pair.sshd.path("authorized_keys"));
    command.stdin(File::open(pair.sshd.path("restore_ed25519.pub")).unwrap());
    Ran(command.output().unwrap()).ok();
    deliver(&pair, &[]).ok();
    // The key of fetching is another one, and is not let in twice.
    let (sink, file) = (pair.sshd.path("id.pub"), pair.sshd.path("authorized_keys"));
    let args =
        ["restore", "grant", "--key", sink.to_str().unwrap(), "--authorized-keys", file.to_str().unwrap()];
    pair.handover(&args).fails(10, &["another line for this key (line 1)", "use another key"]);
}

#[test]
fn a_grant_ends_by_its_time_or_by_a_word_and_is_swept() {
    let pair = pair();
    let file = pair.sshd.path("authorized_keys");
    grant(&pair, &["--dry-run"]).ok();
    assert!(!pair.sshd.text("authorized_keys").contains("restore gate"));
    grant(&pair, &["--for", "90m", "--from", "127.0.0.0/8"]).ok();
    let list = json(&grant(&pair, &["--list", "--json"]).ok());
    let print = list["grants"][0]["fingerprint"].as_str().unwrap().to_owned();
    assert!(print.starts_with("SHA256:") && list["grants"][0]["from"] == "127.0.0.0/8", "{list}");
    ask(&pair, "handover 1 restore status").ok();
    // Its time is over: sshd says so by itself.
    let text = pair.sshd.text("authorized_keys");
    let at = text.find("expiry-time=\"").unwrap() + "expiry-time=\"".len();
    let over = format!("{}20200101000000Z{}", &text[..at], &text[at + 15..]);
    fs::write(&file, over).unwrap();
    deliver(&pair, &[]).fails(12, &[]);
    grant(&pair, &["--list", "--dry-run"]).ok();
    assert!(pair.sshd.text("authorized_keys").contains("20200101000000Z"));
    let swept = json(&grant(&pair, &["--list", "--json"]).ok());
    assert_eq!(
        (&swept["expired"][0]["fingerprint"], &swept["grants"]),
        (&print.clone().into(), &Value::Array(vec![]))
    );
    assert!(!pair.sshd.text("authorized_keys").contains("restore gate"));
    assert!(pair.sshd.text("authorized_keys").contains("source gate"), "the sink's own line stays");
    // Taken away by its fingerprint, by its file, and all.
    let key = pair.sshd.path("restore_ed25519.pub");
    for which in [print.as_str(), key.to_str().unwrap(), "all"] {
        grant(&pair, &[]).ok();
        ask(&pair, "handover 1 restore status").ok();
        grant(&pair, &["--revoke", which]).ok();
        assert_eq!(ask(&pair, "handover 1 restore status").code(), 255, "{which}");
    }
    grant(&pair, &["--revoke", &print]).fails(2, &["has no grant of this key"]);
    grant(&pair, &["--for", "9d"]).fails(2, &["longer than a week"]);
    grant(&pair, &["--for", "soon"]).fails(2, &["not a time"]);
    grant(&pair, &["--from", "x\" y"]).fails(2, &["cannot stand in authorized_keys"]);
}

#[test]
fn a_delivery_that_is_cut_goes_on_where_it_was_cut() {
    let pair = pair();
    big(&pair, 12 << 20);
    pair.configure("bandwidth = \"4MiB\"");
    pair.handover(&["sink", "run"]).ok();
    grant(&pair, &[]).ok();
    let arrived =
        || walk(&restore(&pair)).iter().map(|f| fs::metadata(f).map_or(0, |m| m.len())).sum::<u64>();
    // The line breaks: the same run takes it up again.
    let running = pair
        .command(&["--json", "sink", "deliver", "shop"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut running = running.unwrap();
    assert!(within(Duration::from_secs(40), || arrived() > 4 << 20));
    pair.sshd.cut();
    // The sink is killed.
    assert!(within(Duration::from_secs(40), || arrived() > 7 << 20));
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(drop_point(&pair).iter().all(|name| name.starts_with(".incoming-")), "{:?}", drop_point(&pair));
    let quiet = || {
        let listing = String::from_utf8(
            std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap().stdout,
        );
        !listing.unwrap().lines().any(|line| line.contains(pair.path("source").to_str().unwrap()))
    };
    within(Duration::from_secs(20), quiet);
    pair.configure("");
    let report = json(&deliver(&pair, &[]).ok());
    assert_eq!(report["delivered"]["outcome"], "published", "{report}");
    let wire = report["delivered"]["wire"].as_u64().unwrap();
    assert!(wire < 8 << 20, "{report}");
    assert_eq!(drop_point(&pair).len(), 1);
}

#[test]
fn what_is_damaged_here_is_not_sent_and_the_one_before_it_is_named() {
    let pair = pair();
    let first = pair.stored().pop().unwrap();
    big(&pair, 100_000);
    pair.handover(&["sink", "run"]).ok();
    let second = pair.stored().pop().unwrap();
    grant(&pair, &[]).ok();
    let stored =
        walk(&pair.path("sink/store/shop").join(&second)).into_iter().find(|p| p.ends_with("big")).unwrap();
    spoil(&stored);
    let next = format!("handover sink deliver shop {first}");
    pair.handover(&["sink", "deliver", "shop"])
        .fails(13, &["is damaged here, and was not sent", "big", &next]);
    assert!(drop_point(&pair).is_empty());
    // Known damage is not sent unread either, unless somebody says so; and then it is not published there.
    pair.handover(&["sink", "deliver", "shop", &second, "--no-verify"])
        .fails(13, &["is damaged here, and was not sent", "big", &next]);
    assert!(drop_point(&pair).is_empty());
    pair.handover(&["sink", "deliver", "shop", "--dry-run"])
        .fails(13, &["is damaged here, and was not sent: 1 file, data/www", "big", &next]);
    let ran = pair
        .handover(&["sink", "deliver", "shop", &second, "--no-verify", "--allow-damaged", "--dry-run"])
        .ok();
    assert!(ran.said().contains("damage is known in it here: 1 file"), "{}", ran.said());
    assert!(drop_point(&pair).is_empty());
    pair.handover(&["sink", "deliver", "shop", &second, "--no-verify", "--allow-damaged"])
        .fails(13, &["is not whole there, so it was not published: 1 file", "big"]);
    assert!(drop_point(&pair).iter().all(|name| name.starts_with(".incoming-")));
    pair.handover(&["sink", "deliver", "shop", &first]).ok();
    pair.handover(&["sink", "deliver", "shop", ID_LESS])
        .fails(2, &["there is no generation to deliver", &first]);
}

fn spoil(file: &Path) {
    let bytes = fs::read(file).unwrap().len();
    fs::remove_file(file).unwrap();
    fs::write(file, vec![b'x'; bytes]).unwrap();
}

#[test]
fn what_is_spoilt_at_the_far_end_is_sent_again_before_anybody_sees_it() {
    let pair = pair();
    let id = pair.stored().pop().unwrap();
    grant(&pair, &[]).ok();
    let seal = seal(&pair, &id);
    ask(&pair, &format!("handover 1 restore begin {id} {seal} 100000 20")).ok();
    // Of the right size and wrong, under the name of content; and what belongs to no generation.
    let coming = restore(&pair).join(format!(".incoming-{id}"));
    let stored = pair.path("sink/store/shop").join(&id);
    let page = walk(&stored).into_iter().find(|path| path.ends_with("page")).unwrap();
    let there = coming.join(page.strip_prefix(&stored).unwrap());
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    fs::write(&there, "HELLO\n").unwrap();
    fs::write(coming.join("data/extra"), "x").unwrap();
    symlink("/etc/passwd", coming.join("data/planted")).unwrap();
    let report = json(&deliver(&pair, &[]).ok());
    assert!(
        report["findings"][0]["text"].as_str().unwrap().contains("missing or wrong there: 1 file"),
        "{report}"
    );
    assert_eq!(drop_point(&pair), [id.as_str()]);
    let published = restore(&pair).join(&id);
    assert!(
        !published.join("data/extra").exists()
            && fs::symlink_metadata(published.join("data/planted")).is_err()
    );
    // What an operator put there stays, whatever it is.
    fs::remove_file(published.join("manifest.mtree")).unwrap();
    pair.handover(&["sink", "deliver", "shop"]).fails(3, &["is in the way", "move it away there"]);
}

fn seal(pair: &Pair, id: &str) -> String {
    let list = json(&pair.handover(&["--json", "sink", "list", "shop"]).ok());
    let row = list.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap();
    row["seal"].as_str().unwrap().to_owned()
}

#[test]
fn a_granted_key_reaches_the_drop_point_and_nothing_else() {
    let pair = pair();
    let id = pair.stored().pop().unwrap();
    let seal = seal(&pair, &id);
    grant(&pair, &[]).ok();
    for words in [
        "",
        "id",
        "handover 1 offers",
        "handover 1 stored",
        &format!("handover 1 send {id} DATA e.LsfxCIvu"),
        "handover 1 restore status; id",
        "handover 1 restore status\nid",
        &format!("handover 1 restore begin ../../x {seal} 1 1"),
        &format!("handover 1 restore receive {id} DATA e.L --delete"),
        "rsync --server -logDtpre.iLsfxCIvu . /etc",
        "rsync --server --sender -logDtpre.iLsfxCIvu . /etc",
        "/usr/bin/handover restore gate --home /",
    ] {
        ask(&pair, words).fails(99, &["not a request of `handover 1 restore`"]);
    }
    // What was not announced, another seal, what has no room.
    ask(&pair, &format!("handover 1 restore receive {id} DATA e.LsfxCIvu"))
        .fails(99, &["no delivery of generation"]);
    ask(&pair, &format!("handover 1 restore publish {id} {seal}")).fails(99, &["no delivery of generation"]);
    ask(&pair, &format!("handover 1 restore begin {id} {seal} {} 1", u64::MAX))
        .fails(99, &["there is room for"]);
    ask(&pair, &format!("handover 1 restore begin {id} {seal} 4096 20")).ok();
    let other = "0".repeat(64);
    ask(&pair, &format!("handover 1 restore publish {id} {other}"))
        .fails(99, &["announced with another seal"]);
    // Nothing can be read by it, sent as its own.
    let ran = ask(&pair, "handover 1 restore status").ok();
    assert!(!String::from_utf8_lossy(&ran.0.stdout).contains("hello"));
    // Links in the place of its folders are not followed.
    let coming = restore(&pair).join(format!(".incoming-{id}"));
    let outside = pair.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(coming.join("data")).unwrap();
    symlink(&outside, coming.join("data")).unwrap();
    deliver(&pair, &[]).fails(3, &[]);
    fs::remove_file(coming.join("data")).unwrap();
    fs::create_dir(coming.join("data")).unwrap();
    symlink(&outside, coming.join("data/www")).unwrap();
    let ran = deliver(&pair, &[]);
    assert!(fs::read_dir(&outside).unwrap().next().is_none(), "{}", ran.said());
    fs::remove_dir_all(&coming).unwrap();
    symlink(&outside, &coming).unwrap();
    assert_ne!(deliver(&pair, &[]).code(), 0);
    assert!(fs::read_dir(&outside).unwrap().next().is_none());
    // And the key of fetching cannot deliver.
    pair.ssh_by("id", &[], &["handover 1 restore status"], Stdio::null())
        .fails(99, &["not a request of `handover 1`: offers"]);
    let ran = pair.ssh_by("restore_ed25519", &["-tt"], &["handover 1 restore status"], Stdio::null());
    assert!(ran.said().contains("PTY allocation request failed"), "{}", ran.said());
}

/// An rsync as a hacked sink would run it: through the gate, with what it likes.
fn push(pair: &Pair, id: &str, from: &Path, more: &[&str]) -> Ran {
    let script = pair.path("push");
    // rsync's own line for the far end is thrown away: the gate takes a request alone.
    let text = format!(
        "#!/bin/sh\nexec ssh -F none -o BatchMode=yes -o IdentityAgent=none -i {} -o UserKnownHostsFile={} -p {} {}@127.0.0.1 \
         handover 1 restore receive {id} DATA e.LsfxCIvu\n",
        pair.sshd.path("restore_ed25519").display(),
        pair.sshd.path("known_hosts").display(),
        pair.sshd.port,
        user()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new("rsync");
    command.args(["-R", "-S", "--no-s", "--size-only", "--no-implied-dirs", "-e"]).arg(&script).args(more);
    command.args([".", "far:."]).current_dir(from).stdin(Stdio::null());
    Ran(command.output().unwrap())
}

#[test]
fn a_hostile_sender_leaves_nothing_outside_and_no_file_larger_than_announced() {
    let pair = pair();
    let id = pair.stored().pop().unwrap();
    let seal = seal(&pair, &id);
    grant(&pair, &[]).ok();
    ask(&pair, &format!("handover 1 restore begin {id} {seal} 65536 20")).ok();
    let data = restore(&pair).join(format!(".incoming-{id}/data"));
    let evil = pair.path("evil");
    fs::create_dir_all(evil.join("sub")).unwrap();
    fs::write(evil.join("sub/ok"), "fine").unwrap();
    push(&pair, &id, &evil, &["-r"]).ok();
    assert_eq!(fs::read(data.join("sub/ok")).unwrap(), b"fine", "the way itself works");
    // Larger than announced.
    fs::write(evil.join("huge"), vec![b'x'; 1 << 20]).unwrap();
    assert_ne!(push(&pair, &id, &evil, &["-r"]).code(), 0);
    let largest = walk(&data).iter().map(|path| fs::metadata(path).unwrap().len()).max().unwrap();
    assert!(largest <= 65536, "{largest}");
    fs::remove_file(evil.join("huge")).unwrap();
    // Links, devices and deletions that the sender would like do not arise.
    symlink("/etc", evil.join("link")).unwrap();
    push(&pair, &id, &evil, &["-rlD", "--delete"]);
    assert!(fs::symlink_metadata(data.join("link")).is_err());
    // Through a link that is there: not followed out of the drop point.
    let outside = pair.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, data.join("way")).unwrap();
    fs::create_dir(evil.join("way")).unwrap();
    fs::write(evil.join("way/file"), "x").unwrap();
    push(&pair, &id, &evil, &["-r", "-K"]);
    assert!(fs::read_dir(&outside).unwrap().next().is_none());
    // And nothing of it is ever published.
    let ran = ask(&pair, &format!("handover 1 restore publish {id} {seal}")).ok();
    let text = String::from_utf8_lossy(&ran.0.stdout).into_owned();
    assert!(text.contains("\"damaged\""), "{text}");
    let report = json(&deliver(&pair, &[]).ok());
    assert_eq!(report["delivered"]["outcome"], "published", "{report}");
    let names: Vec<PathBuf> = walk(&restore(&pair).join(&id));
    assert!(names.iter().all(|name| !name.ends_with("ok") && !name.ends_with("file")), "{names:?}");
}

#[test]
fn a_new_host_is_reached_by_its_fingerprint_and_pins_nothing() {
    let pair = pair();
    grant(&pair, &[]).ok();
    let known = pair.sshd.text("known_hosts");
    fs::remove_file(pair.sshd.path("known_hosts")).unwrap();
    let (port, user) = (pair.sshd.port.to_string(), user());
    let to = |more: &[&str]| {
        let mut args = vec!["--to", "127.0.0.1", "--port", &port, "--user", &user];
        args.extend(more);
        deliver(&pair, &args)
    };
    let ran =
        pair.handover(&["sink", "deliver", "shop", "--to", "127.0.0.1", "--port", &port, "--user", &user]);
    ran.fails(12, &["is not in", "ssh-keygen -lf", "--fingerprint SHA256:"]);
    to(&["--fingerprint", "SHA256:other"]).fails(13, &["does not have the key SHA256:other"]);
    let output = std::process::Command::new("ssh-keygen").arg("-lf").arg(pair.sshd.path("host.pub")).output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    let print = said.split(' ').nth(1).unwrap();
    let report = json(&to(&["--fingerprint", print]).ok());
    assert_eq!((&report["delivered"]["outcome"], &report["to"]), (&"published".into(), &"127.0.0.1".into()));
    assert!(!pair.sshd.path("known_hosts").exists());
    fs::write(pair.sshd.path("known_hosts"), known).unwrap();
    to(&[]).ok();
    to(&["--jump", "-oProxyCommand=x"]).fails(2, &[]);
    deliver(&pair, &["--to=-x"]).fails(2, &["is no host name"]);
}

#[test]
fn a_source_on_this_host_gets_its_generation_without_ssh() {
    let lab = crate::harness::Lab::new();
    lab.init().write("page", "hello");
    let id = lab.both();
    let ran = lab.run(&["--json", "sink", "deliver", "shop"]).exits(0);
    assert_eq!(ran.json()["delivered"]["outcome"], "published", "{}", ran.out);
    let folder = lab.path("home/restore").join(&id);
    lab.run(&["sink", "verify", "--path", folder.to_str().unwrap()]).exits(0);
    assert_eq!(
        lab.run(&["--json", "sink", "deliver", "shop"]).exits(0).json()["delivered"]["outcome"],
        "already"
    );
    lab.run(&["sink", "deliver", "shop", "--to", "new.example.org"])
        .exits(10)
        .says(&["needs `identity` and `known_hosts`"]);
}
