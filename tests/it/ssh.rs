//! Sources on other hosts: an sshd on loopback, a key bound to the gate, and whole runs over it.

use std::{
    fs::File,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// An sshd of our own: its host key, its port, its list of keys.
pub(crate) struct Sshd {
    pub(crate) port: u16,
    root: tempfile::TempDir,
    running: Option<Child>,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        let root = tempfile::Builder::new().prefix("sshd").tempdir_in("/tmp").unwrap();
        keygen(&root.path().join("host"));
        keygen(&root.path().join("id"));
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut sshd = Self { port, root, running: None };
        std::fs::write(sshd.path("authorized_keys"), "").unwrap();
        sshd.pin("host.pub");
        sshd.again();
        sshd
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Pins this public key as the one of the host.
    fn pin(&self, public: &str) {
        let key = self.text(public).split(' ').take(2).collect::<Vec<_>>().join(" ");
        std::fs::write(self.path("known_hosts"), format!("[127.0.0.1]:{} {key}\n", self.port)).unwrap();
    }

    /// Starts it, with the same key and port.
    fn again(&mut self) {
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nLogLevel VERBOSE\nMaxStartups 100\nSubsystem sftp internal-sftp\n",
            self.port,
            self.path("host").display(),
            self.path("authorized_keys").display()
        );
        std::fs::write(self.path("config"), config).unwrap();
        if user() == "root" {
            // sshd wants the folder that its service would make.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let running = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(self.path("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running = Some(running);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(90), "{}", self.text("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill().unwrap();
            running.wait().unwrap();
        }
    }

    /// Ends the connections that are open, as a line that breaks.
    pub(crate) fn cut(&self) {
        let listener = self.running.as_ref().unwrap().id();
        let cut: Vec<u32> =
            processes().into_iter().filter(|(_, parent)| *parent == listener).map(|(pid, _)| pid).collect();
        for pid in cut {
            Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        }
    }

    /// Lines of the log that hold a text.
    fn count(&self, text: &str) -> usize {
        self.text("log").lines().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.cut();
            self.stop();
        }
    }
}

/// Every process with its parent.
fn processes() -> Vec<(u32, u32)> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent))
    });
    entries.collect()
}

pub(crate) fn keygen(file: &Path) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f"])
        .arg(file)
        .status();
    assert!(status.unwrap().success());
}

/// The name of the user who runs the tests.
pub(crate) fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A source and a sink, each with its configuration, and an sshd between them.
pub(crate) struct Pair {
    pub(crate) sshd: Sshd,
    dir: tempfile::TempDir,
}

impl Pair {
    /// All is set up as an operator would do it, and one generation waits.
    pub(crate) fn new() -> Self {
        let pair = Self {
            sshd: Sshd::start(),
            dir: tempfile::Builder::new().prefix("pair").tempdir_in("/tmp").unwrap(),
        };
        std::fs::create_dir(pair.path("www")).unwrap();
        std::fs::write(pair.path("www/page"), "hello\n").unwrap();
        pair.configure("");
        pair.handover(&["source", "init"]).ok();
        pair.handover(&["sink", "init"]).ok();
        pair.authorize(&[]).ok();
        pair.handover(&["source", "run"]).ok();
        pair
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn configure(&self, sink: &str) {
        let (dir, sshd) = (self.dir.path().display(), &self.sshd);
        let text = format!(
            "state = \"{dir}/state\"\n\
             [source]\nname = \"shop\"\nhome = \"{dir}/source\"\nreserve = \"0%\"\n\
             [[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [\"{dir}/www\"]\n\
             [sink]\nhome = \"{dir}/sink\"\nreserve = \"0%\"\nconnect_timeout = \"10s\"\nstall_timeout = \"200s\"\n\
             identity = \"{}\"\nknown_hosts = \"{}\"\n{sink}\n\
             [[sink.source]]\nname = \"shop\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\n",
            sshd.path("id").display(),
            sshd.path("known_hosts").display(),
            sshd.port,
            user()
        );
        std::fs::write(self.path("handover.toml"), text).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        command.arg("--config").arg(self.path("handover.toml")).args(args);
        command.env_remove("STATE_DIRECTORY").stdin(Stdio::null());
        command
    }

    pub(crate) fn handover(&self, args: &[&str]) -> Ran {
        Ran(self.command(args).output().unwrap())
    }

    fn authorize(&self, more: &[&str]) -> Ran {
        let (key, file) = (self.sshd.path("id.pub"), self.sshd.path("authorized_keys"));
        let mut args =
            vec!["source", "authorize", key.to_str().unwrap(), "--authorized-keys", file.to_str().unwrap()];
        args.extend(more);
        self.handover(&args)
    }

    /// An ssh with the sink's key, as a hacked sink would use it.
    fn ssh(&self, before: &[&str], words: &[&str]) -> Ran {
        self.ssh_by("id", before, words, Stdio::null())
    }

    /// The same with another key, and with something to say.
    pub(crate) fn ssh_by(&self, key: &str, before: &[&str], words: &[&str], stdin: Stdio) -> Ran {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentityAgent=none", "-i"]);
        command.arg(self.sshd.path(key)).arg("-o");
        command.arg(format!("UserKnownHostsFile={}", self.sshd.path("known_hosts").display()));
        command.args(["-p", &self.sshd.port.to_string()]).args(before);
        command.arg(format!("{}@127.0.0.1", user())).args(words).stdin(stdin);
        Ran(command.output().unwrap())
    }

    pub(crate) fn stored(&self) -> Vec<String> {
        names(&self.path("sink/store/shop"))
    }

    fn waiting(&self) -> Vec<String> {
        names(&self.path("source/transport-outgoing"))
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

/// What a program did.
pub(crate) struct Ran(pub(crate) Output);

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code(), 0, "{}", self.said());
        self
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) {
        let said = self.said();
        assert_eq!(self.code(), code, "{said}");
        for word in words {
            assert!(said.contains(word), "{word} in: {said}");
        }
    }
}

#[test]
fn a_generation_crosses_the_line_and_is_acknowledged_in_four_sessions() {
    let pair = Pair::new();
    assert_eq!(pair.waiting().len(), 1);
    pair.handover(&["sink", "run"]).ok();
    assert_eq!((pair.stored().len(), pair.waiting().len()), (1, 0));
    let stored = pair.path("sink/store/shop").join(&pair.stored()[0]);
    let copy = walk(&stored.join("data")).into_iter().find(|path| path.ends_with("page")).unwrap();
    assert_eq!(std::fs::read(copy).unwrap(), b"hello\n");
    assert!(stored.join("receipt.toml").is_file());
    assert_eq!(names(&pair.path("source/store")).len(), 1);
    // offers, send META, send DATA, accept: over one connection.
    assert_eq!((pair.sshd.count("Starting session"), pair.sshd.count("Accepted publickey")), (4, 1));
    // Nothing new: one question. And nothing is left of the connections.
    pair.handover(&["sink", "run"]).ok();
    assert_eq!((pair.sshd.count("Starting session"), pair.sshd.count("Accepted publickey")), (5, 2));
    assert_eq!(names(&pair.path("state/sink/ssh")), Vec::<String>::new());
}

pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_host_whose_key_is_not_pinned_gets_nothing() {
    let pair = Pair::new();
    std::fs::remove_file(pair.sshd.path("known_hosts")).unwrap();
    let enroll = format!("handover sink enroll shop 127.0.0.1 --port {}", pair.sshd.port);
    pair.handover(&["sink", "run"]).fails(12, &["the host key of 127.0.0.1 is not in", &enroll]);
    assert!(!pair.sshd.path("known_hosts").exists(), "nothing is pinned by itself");
}

#[test]
fn a_host_that_has_another_key_than_the_pinned_one_gets_nothing() {
    let pair = Pair::new();
    pair.sshd.pin("id.pub");
    pair.handover(&["sink", "run"]).fails(
        12,
        &[
            "is not the host that was enrolled",
            "it offers SHA256:",
            "ssh-keygen -lf",
            "handover sink enroll shop",
        ],
    );
    assert_eq!(pair.sshd.count("Accepted publickey"), 0);
}

#[test]
fn a_key_that_the_source_does_not_know_is_answered_with_the_line_to_type_there() {
    let pair = Pair::new();
    std::fs::write(pair.sshd.path("authorized_keys"), "").unwrap();
    let public = pair.sshd.text("id.pub");
    let line = format!("echo '{}' | handover source authorize -", public.trim());
    pair.handover(&["sink", "run"]).fails(12, &["does not let", &line]);
    // The line does what it says.
    let mut authorize = pair.command(&["source", "authorize", "-", "--authorized-keys"]);
    authorize.arg(pair.sshd.path("authorized_keys")).stdin(File::open(pair.sshd.path("id.pub")).unwrap());
    Ran(authorize.output().unwrap()).ok();
    pair.handover(&["sink", "run"]).ok();
}

#[test]
fn a_key_that_is_missing_or_open_to_others_is_named() {
    let pair = Pair::new();
    std::fs::set_permissions(pair.sshd.path("id"), std::fs::Permissions::from_mode(0o644)).unwrap();
    pair.handover(&["sink", "run"]).fails(12, &["cannot be used", "mode 0600"]);
    std::fs::remove_file(pair.sshd.path("id")).unwrap();
    pair.handover(&["sink", "run"]).fails(12, &["cannot be used", "No such file"]);
}

#[test]
fn a_host_that_does_not_answer_is_tried_again_and_then_unreachable() {
    let mut pair = Pair::new();
    pair.sshd.stop();
    let begun = Instant::now();
    pair.handover(&["sink", "run"]).fails(12, &["cannot connect", "Connection refused"]);
    assert!((Duration::from_secs(6)..Duration::from_secs(30)).contains(&begun.elapsed()));
    pair.sshd.again();
    pair.handover(&["sink", "run"]).ok();
    assert_eq!(pair.stored().len(), 1);
}

#[test]
fn a_host_behind_another_is_reached_if_the_keys_of_both_are_pinned() {
    let pair = Pair::new();
    let gate = Sshd::start();
    let key = format!("restrict,port-forwarding {}", pair.sshd.text("id.pub"));
    std::fs::write(gate.path("authorized_keys"), key).unwrap();
    let file = pair.path("handover.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}jump = \"{}@127.0.0.1:{}\"\n", user(), gate.port)).unwrap();
    pair.handover(&["sink", "run"]).fails(12, &["or a host on the way to it, is not in"]);
    let both = pair.sshd.text("known_hosts") + &gate.text("known_hosts");
    std::fs::write(pair.sshd.path("known_hosts"), both).unwrap();
    pair.handover(&["sink", "run"]).ok();
    assert_eq!((pair.stored().len(), gate.count("Accepted publickey")), (1, 1));
}

#[test]
fn a_host_that_says_nothing_is_given_up_in_time() {
    let mut pair = Pair::new();
    pair.sshd.stop();
    let _mute = TcpListener::bind(("127.0.0.1", pair.sshd.port)).unwrap();
    pair.configure("timeout = \"2s\"");
    let text = std::fs::read_to_string(pair.path("handover.toml")).unwrap();
    std::fs::write(pair.path("handover.toml"), text.replace("\"10s\"", "\"3s\"")).unwrap();
    let begun = Instant::now();
    pair.handover(&["sink", "run"]).fails(12, &["cannot connect"]);
    assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
}

#[test]
fn a_source_without_handover_is_named() {
    let pair = Pair::new();
    let keys = pair.sshd.text("authorized_keys").replace(env!("CARGO_BIN_EXE_handover"), "/nowhere/handover");
    std::fs::write(pair.sshd.path("authorized_keys"), keys).unwrap();
    pair.handover(&["sink", "run"])
        .fails(12, &["handover cannot be started on 127.0.0.1", "install handover there"]);
}

#[test]
fn the_key_of_a_sink_opens_the_gate_and_nothing_else() {
    let pair = Pair::new();
    let refused = |words: &[&str]| pair.ssh(&[], words).fails(99, &["not a request of `handover 1`"]);
    refused(&[]);
    for words in [
        &["ls"][..],
        &["sh -c 'id'"],
        &["handover 1 offers; id"],
        &["handover 1 offers\nid"],
        &["handover", "1", "offers", "&&", "id"],
        &["handover 1 send $(id) DATA e.LsfxCIvu"],
        &["handover 1 send ../../etc DATA e.LsfxCIvu"],
        &["rsync --server --sender -logDtpre.iLsfxCIvu . /etc"],
        &["scp -f /etc/passwd"],
        &["/usr/bin/handover source gate --channel data --home /"],
    ] {
        refused(words);
    }
    // A terminal is not given, sftp is the gate again, and nothing is forwarded.
    let ran = pair.ssh(&["-tt"], &["handover 1 offers"]);
    assert!(ran.said().contains("PTY allocation request failed"), "{}", ran.said());
    pair.ssh(&["-s"], &["sftp"]).fails(99, &[]);
    let ran = pair.ssh(&["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"], &["handover 1 offers"]);
    assert_eq!(ran.code(), 255, "{}", ran.said());
    let target = format!("127.0.0.1:{}", pair.sshd.port);
    let ran = pair.ssh(&["-W", &target], &[]);
    assert!(ran.said().contains("administratively prohibited"), "{}", ran.said());
    let ran = pair.ssh(&["-A"], &["handover 1 offers"]);
    assert!(ran.0.stdout.starts_with(b"{"), "{}", ran.said());
}

#[test]
fn a_key_that_is_bound_to_another_home_gets_nothing_of_this_one() {
    let pair = Pair::new();
    let keys = pair.sshd.text("authorized_keys").replace("pair", "nobody");
    std::fs::write(pair.sshd.path("authorized_keys"), keys).unwrap();
    pair.handover(&["sink", "run"]).fails(3, &["the gate there refused", "the source is not ready"]);
    assert!(pair.stored().is_empty());
}

#[test]
fn a_source_that_is_not_the_one_it_should_be_gives_nothing() {
    let pair = Pair::new();
    let text = std::fs::read_to_string(pair.path("handover.toml")).unwrap();
    let renamed = text.replace("[[sink.source]]\nname = \"shop\"", "[[sink.source]]\nname = \"blog\"");
    std::fs::write(pair.path("handover.toml"), renamed).unwrap();
    pair.handover(&["sink", "run"]).fails(10, &["it calls itself shop, and is blog here"]);
}

#[test]
fn a_line_that_breaks_half_way_is_taken_up_again_where_it_broke() {
    let pair = Pair::new();
    big(&pair, 12 << 20);
    pair.configure("bandwidth = \"4MiB\"");
    let running = pair
        .command(&["--json", "sink", "run"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(within(Duration::from_secs(30), || received(&pair) > 4 << 20));
    pair.sshd.cut();
    let ran = Ran(running.wait_with_output().unwrap()).ok();
    let report: serde_json::Value = serde_json::from_slice(&ran.0.stdout).unwrap();
    let text = report.to_string();
    assert!(text.contains("tried again in 1 s"), "{text}");
    assert_eq!((pair.stored().len(), pair.waiting().len()), (2, 0));
}

#[test]
fn a_sink_that_is_killed_half_way_goes_on_with_the_next_run() {
    let pair = Pair::new();
    big(&pair, 12 << 20);
    pair.configure("bandwidth = \"4MiB\"");
    let mut running = pair.command(&["sink", "run"]).stderr(Stdio::null()).spawn().unwrap();
    assert!(within(Duration::from_secs(30), || received(&pair) > 4 << 20));
    running.kill().unwrap();
    running.wait().unwrap();
    // The sender at the far end ends with the line, and lets the generation go.
    let held = || {
        processes().iter().any(|(pid, _)| {
            std::fs::read_link(format!("/proc/{pid}/cwd"))
                .is_ok_and(|cwd| cwd.starts_with(pair.path("source")))
        })
    };
    assert!(within(Duration::from_secs(20), || !held()));
    pair.configure("");
    let ran = pair.handover(&["--json", "sink", "run"]).ok();
    let report: serde_json::Value = serde_json::from_slice(&ran.0.stdout).unwrap();
    let wire = report["sources"][0]["stored"].as_array().unwrap().last().unwrap()["wire"].as_u64().unwrap();
    assert!(wire < 10 << 20, "{report}");
    assert_eq!((pair.stored().len(), pair.waiting().len()), (2, 0));
}

#[test]
fn a_source_is_enrolled_with_its_fingerprint_and_no_comment_of_the_file_is_lost() {
    let pair = Pair::new();
    std::fs::remove_file(pair.sshd.path("known_hosts")).unwrap();
    let text = std::fs::read_to_string(pair.path("handover.toml")).unwrap();
    let bare = text.split("[[sink.source]]").next().unwrap().to_owned() + "# sources follow\n";
    std::fs::write(pair.path("handover.toml"), &bare).unwrap();
    let ran = pair.handover(&["sink", "run"]).ok();
    assert!(ran.said().contains("handover sink enroll NAME HOST"), "{}", ran.said());
    let (port, user) = (pair.sshd.port.to_string(), user());
    let enroll = |more: &[&str]| {
        let mut args = vec!["sink", "enroll", "shop", "127.0.0.1", "--port", &port, "--user", &user];
        args.extend(more);
        pair.handover(&args)
    };
    let unchanged = || {
        assert_eq!(std::fs::read_to_string(pair.path("handover.toml")).unwrap(), bare);
        assert!(!pair.sshd.path("known_hosts").exists());
    };
    enroll(&[]).fails(2, &["shows the ed25519 host key SHA256:", "give --fingerprint SHA256:"]);
    unchanged();
    enroll(&["--fingerprint", "SHA256:other"])
        .fails(13, &["does not have the key SHA256:other", "nothing was pinned"]);
    unchanged();
    let output = Command::new("ssh-keygen").arg("-lf").arg(pair.sshd.path("host.pub")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let print = said.split(' ').nth(1).unwrap();
    // What would be done is shown, and nobody is asked.
    for more in [&["--dry-run"][..], &["--dry-run", "--fingerprint", print]] {
        let ran = enroll(more).ok();
        for word in ["would pin the host key", print, "would add shop to", "  + host = \"127.0.0.1\""] {
            assert!(ran.said().contains(word), "{word}: {}", ran.said());
        }
        unchanged();
    }
    enroll(&["--dry-run", "--fingerprint", "SHA256:other"]).fails(13, &["nothing was pinned"]);
    let ran = enroll(&["--fingerprint", print]).ok();
    assert!(ran.said().contains("connected: 1 generation waits there"), "{}", ran.said());
    let after = std::fs::read_to_string(pair.path("handover.toml")).unwrap();
    assert!(
        after.starts_with(bare.split("# sources").next().unwrap()) && after.contains("# sources follow"),
        "{after}"
    );
    enroll(&["--fingerprint", print]).ok();
    assert_eq!(std::fs::read_to_string(pair.path("handover.toml")).unwrap(), after);
    pair.handover(&["sink", "run"]).ok();
    assert_eq!(pair.stored().len(), 1);
}

#[test]
fn a_source_can_be_enrolled_before_it_lets_the_sink_in() {
    let pair = Pair::new();
    std::fs::write(pair.sshd.path("authorized_keys"), "").unwrap();
    let (port, user) = (pair.sshd.port.to_string(), user());
    let ran = pair.handover(&["sink", "enroll", "shop", "127.0.0.1", "--port", &port, "--user", &user]).ok();
    assert!(ran.said().contains("is enrolled, and not ready yet"), "{}", ran.said());
    assert!(ran.said().contains("handover source authorize -"), "{}", ran.said());
    // Another host key in its place is not taken, whoever says yes.
    pair.sshd.pin("id.pub");
    pair.handover(&["sink", "enroll", "shop", "127.0.0.1", "--port", &port, "--user", &user, "--yes"])
        .fails(13, &["another host key is pinned", "ssh-keygen -R"]);
    pair.handover(&["sink", "enroll", "shop", "10.0.0.1", "--port", &port, "--yes"])
        .fails(10, &["with another place"]);
}

#[test]
fn a_check_of_the_living_finds_what_is_wrong_and_says_how_to_mend_it() {
    let mut pair = Pair::new();
    let ran = pair.handover(&["check", "--live"]);
    let shown = String::from_utf8_lossy(&ran.0.stdout).into_owned();
    assert_eq!(ran.code(), 0, "{shown}");
    assert!(shown.contains("handover 0.") && shown.contains("answers: 1 generation waits"), "{shown}");
    let json = pair.handover(&["--json", "check", "--live"]).ok();
    let rows: serde_json::Value = serde_json::from_slice(&json.0.stdout).unwrap();
    assert!(rows.as_array().unwrap().iter().any(|row| row["check"] == "rsync"), "{rows}");
    std::fs::set_permissions(pair.sshd.path("id"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::remove_dir_all(pair.path("www")).unwrap();
    std::fs::set_permissions(pair.path("source/store"), std::fs::Permissions::from_mode(0o777)).unwrap();
    pair.sshd.stop();
    let ran = pair.handover(&["check", "--live"]);
    let shown = String::from_utf8_lossy(&ran.0.stdout).into_owned();
    assert_eq!(ran.code(), 10, "{shown}");
    for words in ["chmod 600 it", "www: No such file", "lets others in", "Connection refused"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
}

#[test]
fn setting_up_twice_changes_nothing_and_a_dry_run_never_does() {
    let pair = Pair::new();
    for args in [["source", "init"], ["sink", "init"]] {
        let ran = pair.handover(&args).ok();
        assert!(ran.said().contains("nothing to do"), "{}", ran.said());
    }
    let fresh = std::fs::read_to_string(pair.path("handover.toml"))
        .unwrap()
        .replace("/source\"", "/new\"")
        .replace("/sink\"", "/newer\"");
    std::fs::write(pair.path("handover.toml"), fresh.replace("/state\"", "/newest\"")).unwrap();
    for (args, made) in [(["source", "init", "--dry-run"], "new"), (["sink", "init", "--dry-run"], "newer")] {
        let ran = pair.handover(&args).ok();
        assert!(ran.said().contains("would make"), "{}", ran.said());
        assert!(!pair.path(made).exists());
    }
    // A store whose disk is not mounted is not made anew.
    pair.configure("");
    std::fs::rename(pair.path("sink"), pair.path("unmounted")).unwrap();
    std::fs::create_dir(pair.path("sink")).unwrap();
    pair.handover(&["sink", "init"]).fails(14, &["mount it"]);
}

/// A second generation with this much that no compression makes smaller.
pub(crate) fn big(pair: &Pair, bytes: usize) {
    pair.handover(&["sink", "run"]).ok();
    let mut noise = File::open("/dev/urandom").unwrap();
    let mut file = File::create(pair.path("www/big")).unwrap();
    std::io::copy(&mut std::io::Read::take(&mut noise, bytes as u64), &mut file).unwrap();
    pair.handover(&["source", "run"]).ok();
}

/// Bytes of content that have arrived so far.
fn received(pair: &Pair) -> u64 {
    let incoming = pair.path("sink/incoming");
    let output = Command::new("du").args(["-sb"]).arg(incoming).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

pub(crate) fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}
