//! A gate that lies, over a real sshd. For each lie: nothing wrong is stored, nothing outside of that source's staging is
//! touched, memory stays bounded, the honest source of the same run is stored, and what was seen is said.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use super::{
    forge::Lie,
    gate::{Hosts, findings_of, is_plain},
};
use crate::{harness::names, proof::proof};

/// No process of a run takes more: an answer of 64 MiB is read whole, and several at once.
const MOST_MEMORY_KIB: u64 = 500 << 10;

/// What is told of a lie does not grow with the lie.
const LONGEST_TEXT: usize = 64 << 10;

fn with(text: String, find: &str, replace: &str) -> Vec<u8> {
    assert!(text.contains(find), "{text}");
    text.replacen(find, replace, 1).into_bytes()
}

/// Wrong lines of a manifest that is sealed with them.
fn manifests() -> Vec<Lie> {
    let put_aside = |name, says| Lie::new(name, "quarantined", says);
    vec![
        put_aside("dotdot", "").manifest(|text| with(text, "./www/a ", "./www/../../../a ")),
        put_aside("above", "").manifest(|text| with(text, "./www/a ", "../a ")),
        put_aside("absolute", "").manifest(|text| with(text, "./www/a ", "/etc/cron.d/a ")),
        put_aside("escape", "")
            .manifest(|text| with(text, "./www/a ", "./www/\u{1b}[2J\u{1b}]0;owned\u{7} ")),
        put_aside("octal-slash", "").manifest(|text| with(text, "./www/a ", "./www/a\\057..\\057b ")),
        put_aside("twice", "").manifest(|text| {
            let line = text.lines().last().unwrap().to_owned();
            format!("{text}{line}\n").into_bytes()
        }),
        put_aside("file-as-folder", "").manifest(|text| {
            let below = text.lines().last().unwrap().replace("./www/a ", "./www/a/b ");
            format!("{text}{below}\n").into_bytes()
        }),
        put_aside("size-huge", "").manifest(|text| with(text, "size=9 ", "size=9223372036854775807 ")),
        put_aside("size-small", "").manifest(|text| with(text, "size=9 ", "size=1 ")).generation(|g| {
            g.bytes = 1;
            g.elements[0].bytes = 1;
        }),
        put_aside("device", "").manifest(|text| with(text, "type=file", "type=char device=native,1,1")),
        put_aside("more-entries-than-said", "").manifest(|text| {
            let line = text.lines().last().unwrap().to_owned();
            let more: String =
                (0..3_000).map(|n| line.replace("./www/a ", &format!("./www/b{n:06} ")) + "\n").collect();
            (text + &more).into_bytes()
        }),
        put_aside("a-billion-entries", "1000000000 entries").generation(|g| g.entries = 1_000_000_000),
        put_aside("bytes-beyond-the-limit", "bytes").generation(|g| g.bytes = 1 << 60),
        put_aside("another-name", "").generation(|g| g.source = "shop".parse().unwrap()),
        put_aside("another-id", "").generation(|g| g.id = "20261102T000000Z".parse().unwrap()),
        put_aside("another-sequence", "").generation(|g| g.sequence = 7),
    ]
}

/// A file that no compression makes small.
fn long(path: &std::path::Path) {
    let mut noise = std::io::Read::take(fs::File::open("/dev/urandom").unwrap(), 100 << 20);
    std::io::copy(&mut noise, &mut fs::File::create(path).unwrap()).unwrap();
}

/// A file of nothing, which is small on the line and without end here.
fn bomb(path: &std::path::Path) {
    fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
}

/// What rsync brings is not what was sealed.
fn content() -> Vec<Lie> {
    let put_aside = |name, says| Lie::new(name, "quarantined", says);
    let unbelieved = |name| Lie::new(name, "failed", "");
    vec![
        put_aside("wrong-hash", "").after(|g| fs::write(g.join("data/www/a"), "harmful!\n").unwrap()),
        put_aside("longer", "").after(|g| fs::write(g.join("data/www/a"), "harmless\nand more\n").unwrap()),
        unbelieved("missing").after(|g| fs::remove_file(g.join("data/www/a")).unwrap()),
        put_aside("other-seal", "").after(|g| fs::write(g.join("generation.toml"), "format = 1\n").unwrap()),
        put_aside("other-manifest", "").after(|g| fs::write(g.join("manifest.mtree"), "#mtree\n").unwrap()),
        put_aside("link-to-etc", "").after(|g| {
            fs::remove_file(g.join("data/www/a")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", g.join("data/www/a")).unwrap();
        }),
        unbelieved("links-and-devices").after(|g| {
            fs::remove_file(g.join("data/www/a")).unwrap();
            std::os::unix::fs::symlink("/etc", g.join("data/www/a")).unwrap();
            let _ = std::process::Command::new("mknod").arg(g.join("data/www/null")).args(["c", "1", "3"]).status();
        }).script("send-DATA", "cd gen/data && exec rsync --server --sender -IRSrlptgoD$(echo $6 | sed s/^z//) --timeout=300 . www"),
        unbelieved("not-asked-for").after(|g| fs::write(g.join("data/www/evil"), "x").unwrap()).script("send-DATA", "cd gen/data && exec rsync --server --sender \"-IRSr$6\" --timeout=300 . www /etc/passwd"),
        // Far more than was announced.
        Lie::new("far-more", "failed", "File too large").after(|g| long(&g.join("data/www/a"))),
        Lie::new("manifest-far-more", "failed", "File too large").after(|g| long(&g.join("manifest.mtree"))),
        Lie::new("floods", "failed", "").script("send-DATA", "exec cat /dev/zero"),
        Lie::new("garbles", "failed", "").script("send-META", "exec head -c 50000000 /dev/urandom"),
    ]
}

/// Answers that are none.
fn answers() -> Vec<Lie> {
    let failed = |name, says| Lie::new(name, "failed", says);
    vec![
        failed("endless-answer", "larger than").script("offers", "exec cat /dev/zero"),
        failed("no-json", "cannot be read").script("offers", "printf '\\033[2J\\033]0;owned\\007'"),
        failed("deep", "cannot be read").script("offers", "head -c 20000000 /dev/zero | tr '\\0' '['"),
        failed("huge-name", "calls itself").offers(|o| o["name"] = json!("\u{1b}[2J".repeat(1 << 20))),
        failed("huge-clock", "cannot be read").offers(|o| o["clock"] = json!("\u{1b}[2J".repeat(1 << 20))),
        failed("huge-id", "cannot be read")
            .offers(|o| o["offers"][0]["id"] = json!("\u{1b}[2J".repeat(1 << 20))),
        failed("huge-channel", "cannot be read")
            .offers(|o| o["channel"] = json!("\u{202e}x".repeat(1 << 20))),
        failed("huge-lineage", "lineage").offers(|o| o["lineage"] = json!("x".repeat(1 << 20))),
        failed("wrong-id", "cannot be read").offers(|o| o["offers"][0]["id"] = json!("../../../etc")),
        failed("same-id-twice", "twice").offers(|o| {
            let one = o["offers"][0].clone();
            o["offers"].as_array_mut().unwrap().push(one);
        }),
        failed("too-many-offers", "more than 10000 generations").offers(|o| {
            let one = o["offers"][0].clone();
            let of = |n: u32| {
                let mut one = one.clone();
                one["id"] = json!(format!("20261101T000000Z-{}", n + 2));
                one
            };
            o["offers"] = (0..20_000).map(of).collect::<Vec<Value>>().into();
        }),
        Lie::new("announces-too-much", "failed", "limits.max_bytes")
            .offers(|o| o["offers"][0]["bytes"] = json!(1_u64 << 60)),
        Lie::new("another-source", "configuration", "calls itself shop")
            .offers(|o| o["name"] = json!("shop")),
        Lie::new("another-channel", "configuration", "it hands over logs")
            .offers(|o| o["channel"] = json!("logs")),
        failed("refuses-in-colour", "the gate there refused")
            .script("offers", "printf '\\033[31mno\\033[0m\\033]0;owned\\007\\n' >&2; exit 99"),
        failed("shouts", "")
            .script("send-META", "yes \"$(printf '\\033[31mpay me')\" | head -c 300000000 >&2; exit 99"),
        failed("hangs-up", "").script("send-META", "exit 0"),
        failed("dies", "").script("send-DATA", "kill -9 $$"),
        // Stored, whatever is answered then: only the receipt is lost, and given again.
        failed("accepts-with-garbage", "cannot be read")
            .script("accept", "cat >/dev/null; printf '\\033[2J'"),
    ]
}

/// What is as it must be, however odd.
fn odd() -> Vec<Lie> {
    vec![
        Lie::taken("ugly")
            .files(&[
                (b"www/\x1b[2J\x1b]0;owned\x07", b"x"),
                (b"www/new\nline\r", b"y"),
                ("www/\u{202e}fdp.exe\u{9b}2J".as_bytes(), b"z"),
            ])
            .generation(|g| {
                g.host = "\u{1b}[2Jhost\u{7}".to_owned();
                g.version = "\u{1b}]0;owned\u{7}".to_owned();
                g.config = "\u{1b}[31m# run me\n".to_owned();
                g.elements[0].reason = Some("\u{1b}[31m\u{202e}reason".to_owned());
            })
            .script(
                "history",
                r#"printf '{"id": "%s", "events": [{"at": "2026-11-01T00:00:00Z", "what": "\\u001b[2J", "detail": "\\u009b2J\\u202e"}]}' "$4""#,
            ),
        Lie::taken("reuse"),
        Lie::taken("future").id("20990101T000000Z"),
    ]
}

/// Everything that a person or a program is shown, and every mail.
fn outputs(hosts: &Hosts) {
    let mut commands: Vec<Vec<&str>> = [
        &["sink", "status"][..],
        &["sink", "status", "--json"],
        &["sink", "list"],
        &["sink", "list", "--json"],
        &["sink", "quarantine", "list"],
        &["sink", "watch"],
        &["sink", "run", "--dry-run", "ugly"],
        &["sink", "ls", "ugly", "20261101T000000Z"],
        &["sink", "ls", "ugly", "20261101T000000Z", "--json"],
        &["sink", "find", "ugly", "*"],
        &["sink", "verify", "ugly"],
    ]
    .map(<[_]>::to_vec)
    .to_vec();
    commands.extend(["ugly", "dotdot", "huge-name"].map(|name| vec!["explain", name, "20261101T000000Z"]));
    for command in &commands {
        let ran = hosts.lab.run(command);
        assert!(![1, 101].contains(&ran.code) && ran.code < 128, "{command:?}: {ran:?}");
        is_plain(&format!("stdout of {command:?}"), &ran.out);
        is_plain(&format!("stderr of {command:?}"), &ran.err);
    }
    is_plain("the mails", &hosts.lab.text("mails"));
}

/// Runs over all lies; gives what became of them that must not.
fn tell(hosts: &Hosts, lies: &[Lie], code: i32) -> Vec<String> {
    let before = hosts.around();
    let run = hosts.run(code);
    assert!(run.peak < MOST_MEMORY_KIB, "{} KiB", run.peak);
    let (report, after) = (run.ran.json(), hosts.around());
    is_plain("the report", &run.ran.out);
    is_plain("the text", &run.ran.err);
    let mut wrong = Vec::new();
    for lie in lies {
        let (findings, stored) = (findings_of(&report, lie.name), hosts.stored(lie.name));
        let seen = match lie.kind {
            None => findings.iter().all(|f| f["kind"] == "clock-skew") && stored == [lie.id],
            Some(kind) => {
                let told = |f: &Value| f["kind"] == kind && f["text"].as_str().unwrap().contains(lie.says);
                let right = lie.name.starts_with("accepts-") || stored.is_empty();
                findings.iter().any(|f| told(f)) && right
            }
        };
        let short = findings.iter().all(|f| f["text"].as_str().unwrap().len() <= LONGEST_TEXT);
        if !seen || !short {
            let asked = hosts.asked(lie.name);
            wrong.push(format!("{}: stored {stored:?}; asked {asked:?}; {findings:#?}", lie.name));
        }
    }
    let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = all.into_iter().filter(|path| before.get(*path) != after.get(*path));
    wrong.extend(
        changed
            .map(|path| format!("{}: {:?} became {:?}", path.display(), before.get(path), after.get(path))),
    );
    wrong
}

#[test]
fn a_gate_that_lies_gets_nothing_in_touches_nothing_and_holds_up_nobody() {
    let lies: Vec<Lie> = [manifests(), content(), answers(), odd()].into_iter().flatten().collect();
    let limits = "limits = { max_entries = 1000, max_bytes = \"10MB\", max_manifest_bytes = \"2MiB\" }";
    let hosts = Hosts::new(&lies, &format!("{limits}\nconcurrency = 8\ntimeout = \"300s\""));
    let wrong = tell(&hosts, &lies, 13);
    outputs(&hosts);
    // What was put aside stays one for each source, and nothing piles up in staging.
    for lie in &lies {
        assert!(names(&hosts.lab.path("sink/quarantine").join(lie.name)).len() <= 1, "{}", lie.name);
        assert!(names(&hosts.lab.path("sink/incoming").join(lie.name)).len() <= 1, "{}", lie.name);
    }
    // The same id with other content, after it was stored.
    let stored = hosts.lab.path("sink/store/reuse/20261101T000000Z");
    let before = fs::read(stored.join("generation.toml")).unwrap();
    Lie::taken("reuse").files(&[(b"www/a", b"other\n")]).forge(&hosts.lab.path("evil"));
    let ran = hosts.lab.run(&["sink", "run", "reuse", "--json"]).exits(13);
    let text = findings_of(&ran.json(), "reuse")[0]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("with another seal than the one that is stored here"), "{text}");
    assert_eq!(fs::read(stored.join("generation.toml")).unwrap(), before);
    hosts.lab.run(&["sink", "verify", "reuse"]).exits(0);
    proof("a gate that lies", lies.len() + 1, wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_gate_that_is_silent_drips_or_never_ends_is_given_up_and_holds_up_nobody() {
    let slow = |name| Lie::new(name, "unreachable", "");
    let lies = [
        slow("silent").script("offers", "exec sleep 1000"),
        slow("drips").script("offers", "while :; do printf ' '; sleep 0.2; done"),
        slow("silent-meta").script("send-META", "exec sleep 1000"),
        slow("drips-meta").script(
            "send-META",
            "cd gen; rsync --server --sender \"-IRS$6\" $LINE | while :; do dd bs=1 count=1 2>/dev/null; sleep 0.3; done",
        ),
        slow("silent-data").script("send-DATA", "exec sleep 1000"),
        slow("bomb").after(|g| bomb(&g.join("data/www/a"))),
        slow("manifest-bomb").after(|g| bomb(&g.join("manifest.mtree"))),
        slow("accepts-silently").script("accept", "exec sleep 1000"),
    ];
    let hosts = Hosts::new(&lies, "concurrency = 8\ntimeout = \"10s\"");
    let wrong = tell(&hosts, &lies, 12);
    proof("a gate that lies", lies.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
