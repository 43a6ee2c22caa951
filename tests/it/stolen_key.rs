//! Whoever has stolen the sink's key may ask the gate whatever they like: only what `docs/protocol.md` lists is ever
//! answered, and nothing else in the homes moves or changes.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;

use crate::harness::{HANDOVER, Lab, NOBODY, Ran, TREE, names};

/// The source's home with one generation that is stored and one that waits, and what the thief planted.
struct Target {
    lab: Lab,
    stored: String,
    waiting: String,
}

/// What the gate did with a request.
struct Answer {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Target {
    /// The gate runs as another user than the one who seals, if the tests may do so.
    fn new() -> Self {
        let lab = Lab::of_user(NOBODY);
        lab.write("page", "hello\n");
        lab.init();
        let stored = lab.both();
        lab.source(0);
        let waiting = lab.waiting().pop().unwrap();
        fs::write(lab.path("secret"), "not in any home\n").unwrap();
        fs::set_permissions(lab.path("secret"), fs::Permissions::from_mode(0o644)).unwrap();
        let target = Self { lab, stored, waiting };
        // A thief who had a shell for a moment: links where generations lie, under names that are ids.
        for (n, place) in ["transport-outgoing", "store", "condemned"].iter().enumerate() {
            let home = target.lab.path("home").join(place);
            std::os::unix::fs::symlink(target.lab.path(""), home.join(format!("2026010{n}T000000Z")))
                .unwrap();
            std::os::unix::fs::symlink("/etc", home.join(format!("2026020{n}T000000Z"))).unwrap();
        }
        target
    }

    /// The gate as sshd starts it: with the line of the key, as the transport user, the request in the environment.
    fn ask(&self, request: impl Into<OsString>, stdin: &[u8]) -> Answer {
        let mut command = Command::new("setpriv");
        let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        command.args(ids).args([
            "--clear-groups",
            "--",
            HANDOVER,
            "source",
            "gate",
            "--channel",
            "data",
            "--home",
        ]);
        command.arg(self.lab.path("home")).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("SSH_ORIGINAL_COMMAND", request.into()).env("SSH_CONNECTION", "192.0.2.7 1 192.0.2.1 22");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = stdin.to_vec();
        // A gate that has refused does not read on: what is written then goes nowhere.
        let writer = thread::spawn(move || input.write_all(&bytes).ok());
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).unwrap();
            text
        });
        let mut answer = Vec::new();
        out.read_to_end(&mut answer).unwrap();
        let code = child.wait().unwrap().code();
        writer.join().unwrap();
        Answer { code, out: answer, err: String::from_utf8_lossy(&errors.join().unwrap()).into_owned() }
    }

    /// Everything below the lab: type, mode, owner, size, time and content.
    fn picture(&self) -> BTreeMap<PathBuf, (u32, u32, i64, Vec<u8>)> {
        let mut all = BTreeMap::new();
        for place in ["home", "sink", "state", "tree", "secret"] {
            look(&self.lab.path(place), &mut all);
        }
        assert!(all.len() > 40, "{}", all.len());
        all
    }
}

fn look(path: &Path, all: &mut BTreeMap<PathBuf, (u32, u32, i64, Vec<u8>)>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let content = if meta.is_file() {
        fs::read(path).unwrap()
    } else if meta.is_symlink() {
        fs::read_link(path).unwrap().into_os_string().into_vec()
    } else {
        Vec::new()
    };
    all.insert(path.to_owned(), (meta.mode(), meta.uid(), meta.mtime(), content));
    if meta.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| look(&entry.unwrap().path(), all));
    }
}

/// What is appended to, or put in the place of, a word of a request.
const SHELL: &[&str] = &[
    ";id",
    "; id",
    "&& id",
    "| id",
    "|id",
    "`id`",
    "$(id)",
    "${IFS}id",
    "\nid",
    "\r\nid",
    "> /tmp/x",
    "< /etc/passwd",
    "& id &",
    "'",
    "\"",
    "\\",
    "#",
    "*",
    "?",
    "[a]",
    "{a,b}",
    "~",
    "~root",
    "!",
    "!!",
    "%s%n",
    "\t",
    " ",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{202e}",
    "é",
    "--",
    "-",
    "=",
    ":",
    "\u{0}\u{1}".split_at(1).1,
];

/// Paths in the place of an id.
const PATHS: &[&str] = &[
    ".",
    "..",
    "/",
    "/etc",
    "../..",
    "../../../../etc/passwd",
    "../gate",
    "../store",
    "../transport-outgoing",
    "../../secret",
    "./",
    "~/.ssh",
    "../.ssh/authorized_keys",
    "collecting",
    "condemned",
    "gate",
    "restore",
    "store",
    "/proc/self/environ",
    "/proc/self/root",
    "/dev/zero",
    "..%2f..",
    "....//",
    "*",
    "2026*",
    "",
];

/// Lines that a real rsync, scp, sftp or borg would send, and others.
const COMMANDS: &[&str] = &[
    "",
    " ",
    "id",
    "sh",
    "sh -i",
    "bash -c id",
    "/bin/sh",
    "cat /etc/passwd",
    "ls -la",
    "exec id",
    "env",
    "true",
    "rsync --server --sender -logDtpre.iLsfxCIvu . /",
    "rsync --server --sender -IRSe.LsfxCIvu . .",
    "rsync --server -logDtpre.iLsfxCIvu . /tmp",
    "rsync --server -vlogDtprze.iLsfxCIvu --delete . store/",
    "rsync --server --sender --rsync-path=/bin/sh . .",
    "rsync --daemon --config=/dev/stdin .",
    "rsync --server --sender -e.LsfxCIvu --remove-source-files . .",
    "rsync --server --sender --copy-links . .",
    "rsync --server --sender --files-from=/etc/passwd . .",
    "rsync --server --write-batch=/tmp/x . .",
    "rsync --server --log-file=/tmp/x . .",
    "rsync --server --sender --temp-dir=/tmp . .",
    "scp -f /etc/passwd",
    "scp -t /tmp",
    "internal-sftp",
    "/usr/lib/openssh/sftp-server",
    "borg serve",
    "git-upload-pack 'x'",
    "handover",
    "handover source gate",
    "handover source run",
    "handover source init",
    "handover source discard x",
    "handover restore",
    "handover 1",
    "handover 1 ",
    "handover  1 offers",
    " handover 1 offers",
    "handover 1 offers ",
    "handover 1 offers offers",
    "handover 2 offers",
    "handover 0 offers",
    "handover 01 offers",
    "handover -1 offers",
    "handover 1 Offers",
    "handover 1 OFFERS",
    "HANDOVER 1 offers",
    "handover 1 offer",
    "handover 1 help",
    "handover 1 --help",
    "handover 1 offers --json",
    "handover 1 delete",
    "handover 1 prune",
    "handover 1 undo",
    "handover 1 write",
    "handover 1 send",
    "handover 1 history",
    "handover 1 accept",
    "handover 1 reject",
    "handover\t1\toffers",
    "handover 1 offers\n",
    "/usr/bin/handover 1 offers",
    "handover 1 stored;handover 1 offers",
    "handover 1 receive x",
    "handover 1 put x",
    "PATH=/tmp handover 1 offers",
];

/// Capability letters that are none.
const CAPS: &[&str] = &[
    "",
    "e",
    "-e.L",
    "e.L ",
    "e.L --delete",
    "--server",
    "-e.LsfxCIvu",
    "e.LsfxCIvu=1",
    "e.LsfxCIvu/etc",
    "e.LsfxCIvu;id",
    "ee.L",
    "e.L,g",
    "e.L\n",
    "e.Lé",
    "e.LsfxCIvuLsfxCIvuLsfxCIvuLsfxCIvu",
    "zze.L",
    "e..L",
    "L",
    ".",
    "z",
    "e.L$(id)",
    "e.L`id`",
    "e.L*",
    "e.L'",
    "e.L\"",
];

/// Every request of the thief, with what comes on stdin. None is one of the table's, or none fits what is here.
fn requests(target: &Target) -> Vec<(OsString, Vec<u8>)> {
    let (waiting, stored) = (target.waiting.as_str(), target.stored.as_str());
    let seal = "0".repeat(64);
    let caps = "e.LsfxCIvu";
    let mut all: Vec<String> = COMMANDS.iter().map(|c| (*c).to_owned()).collect();
    for odd in SHELL {
        all.push(format!("handover 1 offers{odd}"));
        all.push(format!("handover 1 send {waiting}{odd} DATA {caps}"));
        all.push(format!("handover 1 send {waiting} DATA {caps}{odd}"));
        all.push(format!("handover 1 accept {waiting} {seal}{odd}"));
    }
    for path in PATHS {
        all.push(format!("handover 1 send {path} META {caps}"));
        all.push(format!("handover 1 send {path} DATA {caps}"));
        all.push(format!("handover 1 send {path} DELTA {caps}"));
        all.push(format!("handover 1 history {path}"));
        all.push(format!("handover 1 accept {path} {seal}"));
        all.push(format!("handover 1 reject {path} {seal}"));
        all.push(format!("handover 1 send {waiting} {path} {caps}"));
        all.push(format!("handover 1 send {waiting}/{path} DATA {caps}"));
    }
    all.extend(CAPS.iter().map(|caps| format!("handover 1 send {waiting} DATA {caps}")));
    // There are no deltas beside these.
    all.extend([waiting, stored].map(|id| format!("handover 1 send {id} DELTA {caps}")));
    // Ids of what is not here, of links that were planted, and seals of other content.
    for id in [
        "20990101T000000Z",
        "20260100T000000Z",
        "20260100T000000Z-2",
        "20261332T000000Z",
        "20260101T000000Z-999999",
    ] {
        all.push(format!("handover 1 send {id} DATA {caps}"));
        all.push(format!("handover 1 reject {id} {seal}x"));
    }
    for n in 0..3 {
        for planted in [format!("2026010{n}T000000Z"), format!("2026020{n}T000000Z")] {
            all.push(format!("handover 1 send {planted} META {caps}"));
            all.push(format!("handover 1 send {planted} DATA {caps}"));
            all.push(format!("handover 1 accept {planted} {seal}"));
            all.push(format!("handover 1 reject {planted} {seal}"));
            all.push(format!("handover 1 history {planted}"));
        }
    }
    for id in [waiting, stored] {
        for seal in [
            seal.clone(),
            seal.to_uppercase(),
            "f".repeat(64),
            "0".repeat(63),
            "0".repeat(65),
            "g".repeat(64),
        ] {
            all.push(format!("handover 1 accept {id} {seal}"));
            all.push(format!("handover 1 reject {id} {seal}"));
        }
    }
    all.retain(|line| !line.contains('\0'));
    let mut all: Vec<(OsString, Vec<u8>)> = all.into_iter().map(|line| (line.into(), Vec::new())).collect();
    // Bytes that are no text, and far too much of everything.
    for byte in [0x01_u8, 0x80, 0xc0, 0xff] {
        all.push((OsString::from_vec([b"handover 1 offers", &[byte][..]].concat()), Vec::new()));
        all.push((OsString::from_vec([&[byte][..], b"handover 1 offers"].concat()), Vec::new()));
    }
    for huge in ["a", " ", "handover 1 offers ", "/"] {
        all.push((huge.repeat(100_000 / huge.len()).into(), Vec::new()));
        all.push((format!("handover 1 history {}", huge.repeat(5000)).into(), Vec::new()));
    }
    for (verb, bytes) in [("accept", 5000), ("reject", 5 << 20)] {
        let line = format!("handover 1 {verb} {waiting} {seal}");
        all.push((line.clone().into(), vec![b'x'; bytes]));
        all.push((line.clone().into(), vec![0; bytes]));
        all.push((line.into(), b"../../etc/passwd\0".to_vec()));
    }
    all
}

#[test]
fn hundreds_of_requests_with_a_stolen_key_get_nothing_and_change_nothing() {
    let target = Target::new();
    let before = target.picture();
    let requests = requests(&target);
    let asked = requests.len();
    assert!(asked >= 200, "{asked}");
    let (mut refused, mut gone, mut ended) = (0, 0, BTreeMap::<Option<i32>, usize>::new());
    for (line, stdin) in requests {
        let answer = target.ask(line.clone(), &stdin);
        *ended.entry(answer.code).or_default() += 1;
        let said = String::from_utf8_lossy(&answer.out);
        match answer.code {
            Some(99) => {
                assert!(answer.out.is_empty(), "{line:?} was refused and answered: {said}");
                assert!(!answer.err.contains('\u{1b}'), "{line:?}: {:?}", answer.err);
                refused += 1;
            }
            // What is well-formed and of something that is not here is answered so, and does nothing.
            Some(0) => {
                let nothing = [r#""outcome":"gone""#, r#""events":[]"#];
                assert!(nothing.iter().any(|words| said.contains(words)), "{line:?} got {said}");
                gone += 1;
            }
            other => panic!("{line:?} ended with {other:?}: {}", answer.err),
        }
    }
    assert_eq!(target.picture(), before, "something in the homes has changed");
    println!(
        "{asked} requests: {refused} refused, {gone} told that it is not here, 0 let through; exits {ended:?}"
    );
    crate::proof::proof("the stolen key: requests", asked, asked - refused - gone);
    assert!(refused > 200 && gone < 60, "{refused} {gone}");
}

#[test]
fn what_the_table_lists_is_answered_and_stays_within_the_generation() {
    let target = Target::new();
    let (waiting, stored) = (&target.waiting, &target.stored);
    for line in
        ["offers".to_owned(), "stored".to_owned(), format!("history {waiting}"), format!("history {stored}")]
    {
        let answer = target.ask(format!("handover 1 {line}"), b"");
        assert_eq!(answer.code, Some(0), "{line}: {}", answer.err);
        assert!(answer.out.starts_with(b"{"), "{line}");
    }
    // Planted links are no generations.
    let offers = String::from_utf8(target.ask("handover 1 offers", b"").out).unwrap();
    assert!(
        offers.contains(waiting.as_str()) && !offers.contains("202601") && !offers.contains("202602"),
        "{offers}"
    );
    // A real rsync of the thief's gets what it asks for below the folder, and nothing above, whatever its list says.
    let before = target.picture();
    let to = tempfile::tempdir().unwrap();
    fs::set_permissions(to.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let rsh = to.path().join("rsh");
    let gate = format!(
        "#!/bin/sh\nSSH_ORIGINAL_COMMAND='handover 1 send {waiting} META e.LsfxCIvu' exec {HANDOVER} source gate --channel data --home {}\n",
        target.lab.path("home").display()
    );
    fs::write(&rsh, gate).unwrap();
    fs::set_permissions(&rsh, fs::Permissions::from_mode(0o755)).unwrap();
    let list = "generation.toml\n../../gate/gate.toml\n/etc/passwd\n../../../secret\n";
    fs::write(to.path().join("list"), list).unwrap();
    let got = to.path().join("got");
    let output = Command::new("setpriv")
        .args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")])
        .args(["--clear-groups", "--", "rsync", "-IRS", "--no-implied-dirs", "--timeout=30"])
        .arg(format!("--files-from={}", to.path().join("list").display()))
        .arg("-e")
        .arg(&rsh)
        .arg("thief:.")
        .arg(format!("{}/", got.display()))
        .output()
        .unwrap();
    let arrived = if got.is_dir() { names(&got) } else { Vec::new() };
    assert_eq!(arrived, ["generation.toml"], "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(target.picture(), before);
}

#[test]
fn receipts_for_what_was_never_stored_cost_the_source_nothing_that_it_keeps_and_are_noticed_at_the_sink() {
    let lab = Lab::of_user(NOBODY);
    lab.config("keep = 2\nundo_for = \"7d\"", TREE, "alarm_after = \"2d\"");
    lab.write("page", "hello\n");
    lab.init();
    let stored = lab.both();
    let target = Target { lab, stored: stored.clone(), waiting: String::new() };
    let lab = &target.lab;
    let receipt = lab.text(format!("home/store/{stored}/receipt.toml"));
    let on_day = |day: u32, args: &[&str]| {
        let mut command = lab.handover(args);
        Ran::new(&command.env("HANDOVER_CLOCK", format!("+{}h", day * 24)).output().unwrap())
    };
    // Every day the thief is there before the sink, and says that what waits is safe.
    let mut lied = Vec::new();
    for day in 1..=5 {
        lab.write("page", format!("day {day}\n"));
        on_day(day, &["source"]).exits(0);
        let offers: Value = serde_json::from_slice(&target.ask("handover 1 offers", b"").out).unwrap();
        let (id, seal) =
            (offers["offers"][0]["id"].as_str().unwrap(), offers["offers"][0]["seal"].as_str().unwrap());
        let forged = receipt.lines().map(|line| match line.split(' ').next() {
            Some("id") => format!("id = \"{id}\"\n"),
            Some("seal") => format!("seal = \"{seal}\"\n"),
            Some("sequence") => format!("sequence = {}\n", day + 1),
            _ => format!("{line}\n"),
        });
        let forged: String = forged.collect();
        let answer = target.ask(format!("handover 1 accept {id} {seal}"), forged.as_bytes());
        assert!(String::from_utf8_lossy(&answer.out).contains("accepted"), "{day}: {}", answer.err);
        lied.push(id.to_owned());
    }
    on_day(5, &["source"]).exits(0);
    let places = |place: &str| names(&lab.path("home").join(place));
    let everywhere = || [places("store"), places("condemned"), places("transport-outgoing")].concat();
    assert!(lied.iter().all(|id| everywhere().contains(id)), "{lied:?} in {:?}", everywhere());
    assert!(lied[3..].iter().all(|id| places("store").contains(id)), "{:?}", places("store"));
    on_day(5, &["source", "undo", &lied[0]]).exits(0).says(&["is back in the Source-Store"]);
    // The sink's own watch sees what the source cannot: nothing came.
    on_day(5, &["sink", "watch"]).exits(3).says(&["shop"]);
    assert_eq!(names(&lab.path("sink/store/shop")), [stored.as_str()]);
    crate::proof::proof(
        "false receipts",
        lied.len(),
        lied.iter().filter(|id| !everywhere().contains(id)).count(),
    );
}
