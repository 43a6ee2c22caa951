//! One conformance suite for every way to a gate. Each test gets the far side as a folder with a small gate of its own,
//! and a maker that builds the way to it; a further implementation is a further line in [`on_every_remote`].

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use handover::{
    gate::protocol::{self, Answer, Part, Refused, Request, SendFolder},
    manifest::{Digest, GenerationId},
    remote::{
        self, Deadlines, Error, FarEnd, Fetch, Fetched, Folder, Progress, Remote, Stream, Tools,
        process::Running,
    },
};

const ID: &str = "20261123T030000Z";

fn tools() -> Tools {
    Tools { handover: env!("CARGO_BIN_EXE_handover").into(), ..Tools::find(true).unwrap() }
}

fn id() -> GenerationId {
    ID.parse().unwrap()
}

/// A gate that offers and sends what lies in a folder, and refuses everything about another id.
struct TestGate {
    root: PathBuf,
}

impl Answer for TestGate {
    fn answer(&self, request: &Request, stdin: &[u8]) -> Result<Vec<u8>, Refused> {
        let seal = Digest::of(b"seal");
        match request {
            Request::Offers => Ok(serde_json::to_vec(&serde_json::json!({
                "name": "shop", "lineage": "ab12", "channel": "data", "version": "0.1.0", "clock": "2026-11-23T04:00:00Z",
                "offers": [{"id": ID, "sequence": 7, "seal": seal, "files": 1, "entries": 2, "bytes": 3,
                    "manifest_bytes": 4, "rejected": false, "reading": true}],
            }))
            .unwrap()),
            Request::Stored => Ok(b"not JSON".to_vec()),
            Request::History(asked) if *asked == id() => {
                Ok(format!(r#"{{"id": "{asked}", "events": []}}"#).into_bytes())
            }
            Request::Accept { id: asked, seal: given } if *asked == id() && *given == seal => {
                protocol::to_json(&serde_json::json!({"outcome": "accepted", "receipt": Digest::of(stdin)}))
            }
            Request::Reject { .. } => {
                let paths = protocol::parse_paths(stdin)?.len();
                protocol::to_json(&serde_json::json!({"outcome": "rejected", "paths": paths}))
            }
            _ => Err(Refused("no such generation\x1b[2J".to_owned())),
        }
    }

    fn sender(&self, asked: &GenerationId, part: Part) -> Result<SendFolder, Refused> {
        if *asked != id() {
            return Err(Refused(format!("there is no {asked}")));
        }
        let path = match part {
            Part::Meta => self.root.clone(),
            Part::Data => self.root.join("data"),
            Part::Delta => self.root.join("delta"),
        };
        Ok(SendFolder { path, guard: Box::new(()) })
    }
}

type Maker = dyn Fn(&Path) -> Box<dyn Remote>;

fn folder(root: &Path) -> Box<dyn Remote> {
    Box::new(Folder::new(Box::new(TestGate { root: root.to_path_buf() }), tools()))
}

/// The same gate as a program behind an sshd: a shell script, so that nothing of the gate itself is under test.
fn ssh(root: &Path) -> Box<dyn Remote> {
    let sshd = crate::ssh::Sshd::start();
    // Its rsync is caged, as that of every gate.
    let tools = tools();
    let caged =
        handover::sys::sandbox::command(&tools.handover, &tools.sender_policy(root), tools.rsync.as_os_str());
    let caged: Vec<String> = std::iter::once(caged.get_program())
        .chain(caged.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let script =
        GATE.replace("ROOT", root.to_str().unwrap()).replace("THE_ID", ID).replace("CAGED", &caged.join(" "));
    std::fs::write(sshd.path("gate"), script).unwrap();
    let line = format!("restrict,command=\"sh {}\" {}", sshd.path("gate").display(), sshd.text("id.pub"));
    std::fs::write(sshd.path("authorized_keys"), line).unwrap();
    let host = remote::ssh::Host {
        purpose: remote::ssh::Purpose::Fetch(handover::manifest::Channel::Data),
        name: "shop".parse().unwrap(),
        host: "127.0.0.1".to_owned(),
        port: sshd.port,
        user: crate::ssh::user(),
        jump: None,
        identity: sshd.path("id"),
        known_hosts: sshd.path("known_hosts"),
        connect_timeout: Duration::from_secs(20),
    };
    let deadlines = Deadlines { stall: Duration::from_secs(20), total: None };
    let ssh = remote::Ssh::connect(host, &sshd.path("private"), deadlines).unwrap();
    Box::new(OverSsh { ssh, _sshd: sshd })
}

const GATE: &str = r#"
refuse() { printf "$1\n" >&2; exit 99; }
set -f; set -- $SSH_ORIGINAL_COMMAND
seal=$(printf seal | sha256sum | cut -c 1-64)
case "$3 $4" in
    "offers ") printf '{"name": "shop", "lineage": "ab12", "channel": "data", "version": "0.1.0", "clock": "2026-11-23T04:00:00Z",
        "offers": [{"id": "THE_ID", "sequence": 7, "seal": "%s", "files": 1, "entries": 2, "bytes": 3,
        "manifest_bytes": 4, "rejected": false, "reading": true}]}' "$seal" ;;
    "stored ") printf 'not JSON' ;;
    "history THE_ID") printf '{"id": "THE_ID", "events": []}' ;;
    "accept THE_ID") [ "$5" = "$seal" ] || refuse "another seal"
        printf '{"outcome": "accepted", "receipt": "%s"}' "$(sha256sum | cut -c 1-64)" ;;
    "reject THE_ID") printf '{"outcome": "rejected", "paths": %s}' "$(tr -dc '\000' | wc -c)" ;;
    "send THE_ID") if [ "$5" = META ]; then cd ROOT; else cd ROOT/data; fi
        exec CAGED --server --sender "-IRS$6" --timeout=300 --files-from=- --from0 --no-implied-dirs . . ;;
    send*) refuse "there is no $4" ;;
    *) refuse "no such generation\033[2J" ;;
esac
"#;

struct OverSsh {
    // Before the sshd, so that it ends first.
    ssh: remote::Ssh,
    _sshd: crate::ssh::Sshd,
}

impl Remote for OverSsh {
    fn ask(&self, request: &Request, stdin: &[u8]) -> remote::Result<Vec<u8>> {
        self.ssh.ask(request, stdin)
    }

    fn open(&self, request: &Request) -> remote::Result<Stream> {
        self.ssh.open(request)
    }
}

/// Another far end behind the same primitives: any program, with the far side's `data/` as its folder.
struct Instead {
    root: PathBuf,
    program: Box<Program>,
}

/// What to run for a request.
type Program = dyn Fn(&Request) -> Vec<String> + Send + Sync;

impl Remote for Instead {
    fn ask(&self, request: &Request, _stdin: &[u8]) -> remote::Result<Vec<u8>> {
        Err(Error::Gate(format!("not asked here: {request}")))
    }

    fn open(&self, request: &Request) -> remote::Result<Stream> {
        let words = (self.program)(request);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.root.join("data"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running::start(command, "start the far end")?;
        let (stdin, stdout) = (running.child.stdin.take().unwrap(), running.child.stdout.take().unwrap());
        Ok(Stream { reader: stdout.into(), writer: stdin.into(), end: Box::new(Process(running)) })
    }
}

struct Process(Running);

impl FarEnd for Process {
    fn finish(mut self: Box<Self>, patience: Duration) -> remote::Result<()> {
        self.0.ended_within(patience);
        let status = self.0.reap()?;
        remote::rsync::failure(status.code(), String::new()).map_or(Ok(()), |f| Err(Error::RsyncThere(f)))
    }
}

/// What a fetch told, and what to do while it runs.
#[derive(Default)]
struct Told {
    /// Done when the fetch has ended, before it is looked whether it left anything behind.
    then: Option<Box<dyn FnOnce()>>,
    received: Vec<Vec<u8>>,
    bytes: u64,
    act: Option<(u64, Box<dyn FnOnce()>)>,
}

impl Progress for Told {
    fn received(&mut self, path: &[u8]) {
        self.received.push(path.to_vec());
    }

    fn bytes(&mut self, more: u64) {
        self.bytes += more;
        if self.act.as_ref().is_some_and(|(at, _)| self.bytes >= *at) {
            let (_, act) = self.act.take().unwrap();
            act();
        }
    }
}

/// A far side with `data/`, and an empty `recv/` here.
struct Case {
    far: tempfile::TempDir,
    here: tempfile::TempDir,
    tools: Tools,
}

impl Case {
    fn new() -> Self {
        let case =
            Self { far: tempfile::tempdir().unwrap(), here: tempfile::tempdir().unwrap(), tools: tools() };
        std::fs::create_dir(case.far.path().join("data")).unwrap();
        std::fs::create_dir(case.here.path().join("recv")).unwrap();
        case
    }

    fn put(&self, path: &[u8], content: &[u8]) {
        write(&self.far.path().join("data").join(OsStr::from_bytes(path)), content);
    }

    fn recv(&self) -> PathBuf {
        self.here.path().join("recv")
    }

    fn got(&self, path: &[u8]) -> Option<Vec<u8>> {
        std::fs::read(self.recv().join(OsStr::from_bytes(path))).ok()
    }

    /// Fetches, with `change` made to a plain request; no process may be left whatever comes of it.
    fn fetch(
        &self,
        remote: &dyn Remote,
        paths: &[&[u8]],
        told: &mut Told,
        change: impl FnOnce(&mut Fetch<'_>),
    ) -> remote::Result<Fetched> {
        let files: Vec<Vec<u8>> = paths.iter().map(|path| path.to_vec()).collect();
        let (recv, id) = (self.recv(), id());
        let basis = [self.here.path().join("basis/data")];
        let mut what = Fetch {
            tools: &self.tools,
            id: &id,
            part: Part::Data,
            files: &files,
            recv: &recv,
            basis: if basis[0].exists() { &basis } else { &[] },
            limit: 1 << 30,
            largest: 1 << 30,
            floor: 0,
            bandwidth: None,
            compress: false,
            deadlines: Deadlines { stall: Duration::from_secs(20), total: Some(Duration::from_secs(40)) },
        };
        change(&mut what);
        let result = remote.fetch(&what, told);
        if let Some(then) = told.then.take() {
            then();
        }
        // What was killed takes a moment to be gone; over a line the far end learns of the end a little later.
        for folder in [recv.as_path(), self.far.path()] {
            let gone = within(Duration::from_secs(10), || left_behind(folder).is_empty());
            assert!(gone, "{:?} after {result:?}", left_behind(folder));
        }
        result
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Command lines of processes that still work in a folder or below after a while: one that was killed is gone only when
/// the kernel comes to it, which takes its time on a busy machine.
fn left_behind(folder: &Path) -> Vec<String> {
    let since = std::time::Instant::now();
    loop {
        let left = working_below(folder);
        if left.is_empty() || since.elapsed() > Duration::from_secs(30) {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Command lines of processes that work in a folder or below; zombies too, by their parent.
fn working_below(folder: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let cwd = std::fs::read_link(path.join("cwd")).ok()?;
        let line = std::fs::read(path.join("cmdline")).ok()?;
        cwd.starts_with(folder).then(|| String::from_utf8_lossy(&line).replace('\0', " "))
    });
    processes.collect()
}

/// The processes that work in a folder or below.
fn working_in(folder: &Path) -> Vec<u32> {
    let numbers = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let cwd = std::fs::read_link(entry.path().join("cwd")).ok()?;
        cwd.starts_with(folder).then(|| entry.file_name().to_str()?.parse().ok()).flatten()
    });
    numbers.collect()
}

/// Bytes that no compression and no delta makes smaller; another `seed` gives others.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn questions_are_answered_or_refused_with_the_reason(make: &Maker) {
    let case = Case::new();
    let remote = make(case.far.path());
    let offers = remote.offers().unwrap();
    assert_eq!(
        (offers.name.as_str(), offers.offers[0].sequence, offers.offers[0].reading),
        ("shop", 7, true)
    );
    assert!(matches!(remote.stored().unwrap_err(), Error::Protocol(_)));
    assert_eq!(remote.history(&id()).unwrap().events, []);
    let other = "20261123T040000Z".parse().unwrap();
    let refused = remote.history(&other).unwrap_err();
    assert_eq!(refused.to_string(), "the gate there refused: no such generation\\u{1b}[2J");
    let accepted = remote.accept(&id(), Digest::of(b"seal"), b"receipt").unwrap();
    assert_eq!(accepted.receipt, Some(Digest::of(b"receipt")));
    assert!(matches!(remote.accept(&id(), Digest::of(b"other"), b"receipt"), Err(Error::Gate(_))));
    assert_eq!(remote.reject(&id(), Digest::of(b"seal"), &[b"www/a", b"www/\n"]).unwrap().paths, 2);
}

fn files_arrive_whole_whatever_they_are_called(make: &Maker) {
    let case = Case::new();
    let long = [&b"www/"[..], &[b'n'; 255]].concat();
    let names: Vec<&[u8]> = vec![
        b"www/plain",
        b"www/new\nline",
        b"www/\xff\xfe not UTF-8",
        b"www/back\\slash",
        b"www/\\#012 looks escaped",
        b"www/\\#0",
        b"www/caf\xc3\xa9",
        b"www/ spaces ",
        b"www/[a]*?",
        b"www/-rf",
        b"www/#hash",
        b"www/'quoted\"",
        b"www/.hidden",
        b"www/tab\tbell\x07del\x7f",
        b"www/var/www/deep/down/file",
        &long,
        b"empty",
    ];
    for name in &names {
        case.put(name, &[*name, b"!"].concat());
    }
    case.put(b"empty", b"");
    case.put(b"www/not asked for", b"x");
    let mut told = Told::default();
    let remote = make(case.far.path());
    let fetched = case.fetch(remote.as_ref(), &names, &mut told, |_| {}).unwrap();
    for name in &names[..names.len() - 1] {
        assert_eq!(case.got(name), Some([*name, b"!"].concat()), "{}", OsStr::from_bytes(name).display());
    }
    assert_eq!(case.got(b"empty"), Some(Vec::new()));
    assert_eq!(case.got(b"www/not asked for"), None);
    let (mut received, mut expected) = (told.received.clone(), names.clone());
    received.sort();
    expected.sort();
    assert_eq!(received, expected);
    assert_eq!((fetched.files, fetched.missing.len()), (names.len() as u64, 0));
    assert!(fetched.wire_in == told.bytes && fetched.wire_in > 0 && fetched.wire_out > 0, "{fetched:?}");
}

fn more_files_than_one_rsync_is_asked_for_come_in_pieces(make: &Maker) {
    let case = Case::new();
    let names: Vec<Vec<u8>> = (0..2003).map(|i| format!("www/{}/{i}", i % 10).into_bytes()).collect();
    names.iter().for_each(|name| case.put(name, name));
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let mut told = Told::default();
    let remote = make(case.far.path());
    let fetched = case.fetch(remote.as_ref(), &names, &mut told, |_| {}).unwrap();
    assert!(names.iter().all(|name| case.got(name).as_deref() == Some(*name)));
    assert_eq!((fetched.files, fetched.missing.len(), told.received.len()), (2003, 0, 2003));
    assert_eq!(fetched.wire_in, told.bytes);
    // What all of them may have is what the pieces may have together.
    let tight = |what: &mut Fetch<'_>| what.limit = names.iter().map(|name| name.len() as u64).sum();
    assert_eq!(case.fetch(remote.as_ref(), &names, &mut told, tight).unwrap().files, 2003);
}

fn what_the_basis_has_is_not_transferred_and_never_trusted(make: &Maker) {
    let case = Case::new();
    let old = noise(4 << 20, 1);
    let mut new = old.clone();
    new[2 << 20] ^= 1;
    case.put(b"db/dump", &new);
    case.put(b"db/same", &old);
    let basis = case.here.path().join("basis/data");
    write(&basis.join("db/dump"), &old);
    write(&basis.join("db/same"), &old);
    // Same size, same time: rsync by itself would take the old one for the new one.
    for folder in [case.far.path().join("data"), basis.clone()] {
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        std::fs::File::options()
            .write(true)
            .open(folder.join("db/dump"))
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    let paths: [&[u8]; 2] = [b"db/dump", b"db/same"];
    let remote = make(case.far.path());
    let fetched = case.fetch(remote.as_ref(), &paths, &mut Told::default(), |_| {}).unwrap();
    assert!(case.got(b"db/dump").unwrap() == new && case.got(b"db/same").unwrap() == old);
    assert!(fetched.wire_in < 100_000, "{fetched:?}");
    assert!(std::fs::read(basis.join("db/dump")).unwrap() == old);
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(case.recv().join("db/same")).unwrap().nlink(), 1);
}

fn a_file_already_there_is_replaced_and_the_line_can_be_compressed(make: &Maker) {
    let case = Case::new();
    let text = b"the same line again and again\n".repeat(100_000);
    case.put(b"www/log", &text);
    write(&case.recv().join("www/log"), b"damaged");
    let remote = make(case.far.path());
    let fetched = case
        .fetch(remote.as_ref(), &[b"www/log"], &mut Told::default(), |what| what.compress = true)
        .unwrap();
    assert!(case.got(b"www/log").unwrap() == text);
    assert!(fetched.wire_in < 100_000, "{fetched:?}");
}

fn the_files_beside_the_data_are_a_part_of_their_own(make: &Maker) {
    let case = Case::new();
    write(&case.far.path().join("generation.toml"), b"format = 1\n");
    let remote = make(case.far.path());
    case.fetch(remote.as_ref(), &[b"generation.toml"], &mut Told::default(), |what| what.part = Part::Meta)
        .unwrap();
    assert_eq!(case.got(b"generation.toml").unwrap(), b"format = 1\n");
}

fn nothing_asked_is_nothing_done(make: &Maker) {
    let case = Case::new();
    let remote = make(case.far.path());
    assert_eq!(case.fetch(remote.as_ref(), &[], &mut Told::default(), |_| {}).unwrap(), Fetched::default());
}

fn a_gate_that_refuses_is_named_as_the_one_that_failed(make: &Maker) {
    let case = Case::new();
    let remote = make(case.far.path());
    let other = "20261123T040000Z".parse().unwrap();
    let files = [b"www/a".to_vec()];
    let recv = case.recv();
    let what = Fetch {
        tools: &case.tools,
        id: &other,
        part: Part::Data,
        files: &files,
        recv: &recv,
        basis: &[],
        limit: 1,
        largest: 1,
        floor: 0,
        bandwidth: None,
        compress: false,
        deadlines: Deadlines::default(),
    };
    let error = remote.fetch(&what, &mut Told::default()).unwrap_err();
    assert!(matches!(&error, Error::Gate(why) if why.contains("there is no 20261123T040000Z")), "{error}");
    assert_eq!(left_behind(&recv), Vec::<String>::new());
}

fn a_file_that_the_sender_lacks_fails_there_and_the_others_arrive(make: &Maker) {
    let case = Case::new();
    case.put(b"www/a", b"x");
    let remote = make(case.far.path());
    let paths: [&[u8]; 2] = [b"www/a", b"www/gone"];
    let error = case.fetch(remote.as_ref(), &paths, &mut Told::default(), |_| {}).unwrap_err();
    assert!(matches!(&error, Error::RsyncThere(f) if f.code == Some(23)), "{error}");
    assert!(error.to_string().contains("www/gone"), "{error}");
    assert_eq!(case.got(b"www/a").unwrap(), b"x");
}

fn links_and_devices_of_the_sender_do_not_arrive(make: &Maker) {
    let case = Case::new();
    case.put(b"www/a", b"x");
    let data = case.far.path().join("data");
    std::os::unix::fs::symlink("/etc/passwd", data.join("www/link")).unwrap();
    std::os::unix::fs::symlink("/etc", data.join("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(data.join("www/pipe")).status().unwrap().success());
    let paths: [&[u8]; 4] = [b"www/a", b"www/link", b"www/pipe", b"folder/passwd"];
    let remote = make(case.far.path());
    // Either it is said to fail, or what did not come is said to be missing.
    match case.fetch(remote.as_ref(), &paths, &mut Told::default(), |_| {}) {
        Ok(fetched) => assert_eq!(fetched.missing.len(), 3, "{fetched:?}"),
        Err(error) => assert!(matches!(error, Error::RsyncThere(_)), "{error}"),
    }
    assert_eq!(case.got(b"www/a").unwrap(), b"x");
    // The far folder was a link; here it is at most an empty folder.
    let expected: &[&str] =
        if case.recv().join("folder").exists() { &["folder", "www", "www/a"] } else { &["www", "www/a"] };
    assert!(only_files_and_folders(&case.recv(), expected));
}

/// `ours`: its processes are ours to end, stopped or not. On another host they are not: when they go on, they find nobody.
fn a_sender_stops_half_way(make: &Maker, ours: bool) {
    let case = Case::new();
    let big = noise(8 << 20, 11);
    case.put(b"db/big", &big);
    let data = case.far.path().join("data");
    let stopped = Arc::new(Mutex::new(Vec::new()));
    let stop = {
        let stopped = Arc::clone(&stopped);
        move || {
            for pid in working_in(&data) {
                Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap();
                stopped.lock().unwrap().push(pid.to_string());
            }
        }
    };
    let all = Arc::clone(&stopped);
    let go_on = move || {
        for pid in all.lock().unwrap().iter() {
            drop(Command::new("kill").args(["-CONT", pid]).stderr(Stdio::null()).status());
        }
    };
    let then: Option<Box<dyn FnOnce()>> = if ours { None } else { Some(Box::new(go_on)) };
    let mut told = Told { act: Some((3 << 20, Box::new(stop))), then, ..Told::default() };
    let remote = make(case.far.path());
    let stall = Duration::from_secs(2);
    let error = case
        .fetch(remote.as_ref(), &[b"db/big"], &mut told, |what| what.deadlines.stall = stall)
        .unwrap_err();
    assert!(matches!(error, Error::Stalled(_)), "{error}");
    assert!(!stopped.lock().unwrap().is_empty(), "nothing was stopped");
    let again = case.fetch(remote.as_ref(), &[b"db/big"], &mut Told::default(), |_| {}).unwrap();
    assert!(case.got(b"db/big").unwrap() == big && again.wire_in < 6 << 20, "{again:?}");
}

#[test]
fn a_sender_that_stops_half_way_is_given_up_and_ended_and_the_half_is_kept() {
    a_sender_stops_half_way(&folder, true);
}

#[test]
fn a_sender_that_stops_half_way_on_another_host_is_given_up_and_the_half_is_kept() {
    a_sender_stops_half_way(&ssh, false);
}

fn rsync_here_is_locked_in(make: &Maker) {
    let case = Case::new();
    case.put(b"www/a", &noise(1 << 20, 3));
    let recv = case.recv();
    let look = move || {
        let locked = working_in(&recv)
            .into_iter()
            .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let locked: Vec<bool> =
            locked.map(|s| s.contains("NoNewPrivs:\t1") && s.contains("Seccomp:\t2")).collect();
        assert!(!locked.is_empty() && locked.iter().all(|one| *one), "{locked:?}");
    };
    let mut told = Told { act: Some((1, Box::new(look))), ..Told::default() };
    let remote = make(case.far.path());
    case.fetch(remote.as_ref(), &[b"www/a"], &mut told, |_| {}).unwrap();
    assert!(told.act.is_none());
}

fn what_a_killed_rsync_leaves_is_continued(make: &Maker) {
    let case = Case::new();
    let big = noise(8 << 20, 5);
    case.put(b"db/big", &big);
    let recv = case.recv();
    let kill = move || {
        for pid in working_in(&recv) {
            Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        }
    };
    let mut told = Told { act: Some((6 << 20, Box::new(kill))), ..Told::default() };
    let remote = make(case.far.path());
    let error = case.fetch(remote.as_ref(), &[b"db/big"], &mut told, |_| {}).unwrap_err();
    assert!(matches!(&error, Error::RsyncHere(f) if f.code.is_none()), "{error}");
    assert_eq!((case.got(b"db/big"), told.received.len()), (None, 0));
    let again = case.fetch(remote.as_ref(), &[b"db/big"], &mut Told::default(), |_| {}).unwrap();
    assert!(case.got(b"db/big").unwrap() == big);
    assert!(again.wire_in < 5 << 20, "{again:?}");
    assert!(only_files_and_folders(&case.recv(), &["db", "db/big"]));
}

fn a_fetch_that_runs_out_of_time_keeps_what_came_and_the_brake_holds(make: &Maker) {
    let case = Case::new();
    let big = noise(8 << 20, 7);
    case.put(b"db/big", &big);
    let remote = make(case.far.path());
    let mut told = Told::default();
    let error = case
        .fetch(remote.as_ref(), &[b"db/big"], &mut told, |what| {
            what.bandwidth = std::num::NonZeroU64::new(1 << 20);
            what.deadlines.total = Some(Duration::from_secs(4));
        })
        .unwrap_err();
    assert!(matches!(error, Error::Deadline(_)), "{error}");
    assert!((1..7 << 20).contains(&told.bytes), "more than four seconds' worth: {}", told.bytes);
    let again = case.fetch(remote.as_ref(), &[b"db/big"], &mut Told::default(), |_| {}).unwrap();
    assert!(case.got(b"db/big").unwrap() == big);
    assert!(again.wire_in + told.bytes < 11 << 20, "what came was not kept: {} and {again:?}", told.bytes);
}

fn a_file_larger_than_announced_does_not_fill_the_disk(make: &Maker) {
    let case = Case::new();
    case.put(b"db/big", &noise(3 << 20, 9));
    let remote = make(case.far.path());
    let error = case
        .fetch(remote.as_ref(), &[b"db/big"], &mut Told::default(), |what| what.largest = 1 << 20)
        .unwrap_err();
    assert!(matches!(error, Error::RsyncHere(_)), "{error}");
    assert_eq!(case.got(b"db/big"), None);
}

/// Everything below a folder is one of `expected`, and a regular file or a folder.
fn only_files_and_folders(root: &Path, expected: &[&str]) -> bool {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            assert!(kind.is_dir() || kind.is_file(), "{:?}", entry.path());
            found.push(entry.path().strip_prefix(root).unwrap().display().to_string());
            folders.extend(kind.is_dir().then(|| entry.path()));
        }
    }
    found.sort();
    assert_eq!(found, expected);
    true
}

/// The same tests on every way to a gate.
macro_rules! on_every_remote {
    ($($test:ident,)*) => {
        mod folder { $(#[test] fn $test() { super::$test(&super::folder) })* }
        mod ssh { $(#[test] fn $test() { super::$test(&super::ssh) })* }
    };
}

on_every_remote! {
    questions_are_answered_or_refused_with_the_reason,
    files_arrive_whole_whatever_they_are_called,
    more_files_than_one_rsync_is_asked_for_come_in_pieces,
    what_the_basis_has_is_not_transferred_and_never_trusted,
    a_file_already_there_is_replaced_and_the_line_can_be_compressed,
    the_files_beside_the_data_are_a_part_of_their_own,
    nothing_asked_is_nothing_done,
    a_gate_that_refuses_is_named_as_the_one_that_failed,
    a_file_that_the_sender_lacks_fails_there_and_the_others_arrive,
    links_and_devices_of_the_sender_do_not_arrive,
    rsync_here_is_locked_in,
    what_a_killed_rsync_leaves_is_continued,
    a_fetch_that_runs_out_of_time_keeps_what_came_and_the_brake_holds,
    a_file_larger_than_announced_does_not_fill_the_disk,
}

/// A fetch of `www/a` from a far end that is `program`; nothing but that file may arise.
fn from(
    case: &Case,
    program: impl Fn(&Request) -> Vec<String> + Send + Sync + 'static,
) -> remote::Result<Fetched> {
    let instead = Instead { root: case.far.path().to_path_buf(), program: Box::new(program) };
    let quick = |what: &mut Fetch<'_>| what.deadlines.stall = Duration::from_secs(3);
    case.fetch(&instead, &[b"www/a"], &mut Told::default(), quick)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The real sender, with its line changed.
fn changed(request: &Request, change: impl Fn(&mut Vec<String>)) -> Vec<String> {
    let Request::Send { caps, .. } = request else { panic!("not a send") };
    let mut line = caps.sender_line();
    change(&mut line);
    line.insert(0, "rsync".to_owned());
    line
}

#[test]
fn a_far_end_that_says_nothing_is_given_up_and_leaves_nothing() {
    let case = Case::new();
    let begun = Instant::now();
    let error = from(&case, |_| words(&["sleep", "1000"])).unwrap_err();
    assert!(matches!(error, Error::Stalled(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_far_end_that_hangs_up_garbles_or_floods_is_an_error_and_nothing_arrives() {
    let garbage = "head -c 1000000 /dev/urandom; exec cat >/dev/null";
    for script in ["exit 5", "cat >/dev/null", garbage, "exec yes", "exec cat /dev/zero"] {
        let case = Case::new();
        let error = from(&case, move |_| words(&["sh", "-c", script])).unwrap_err();
        assert!(
            matches!(error, Error::RsyncThere(_) | Error::RsyncHere(_) | Error::Stalled(_)),
            "{script}: {error}"
        );
        // The folder in which rsync begins is made here.
        assert!(only_files_and_folders(&case.recv(), &["www"]));
    }
}

#[test]
fn a_sender_that_was_honest_but_for_its_program_is_as_good_as_any() {
    let case = Case::new();
    case.put(b"www/a", b"x");
    let fetched = from(&case, |request| changed(request, |_| {})).unwrap();
    assert_eq!((fetched.files, case.got(b"www/a").unwrap()), (1, b"x".to_vec()));
}

#[test]
fn a_sender_that_adds_files_links_or_devices_gets_none_of_them_in() {
    type Change = fn(&mut Vec<String>);
    let changes: [Change; 5] = [
        |line| line[2] = line[2].replace("-IRS", "-IRSl"),
        |line| line[2] = line[2].replace("-IRS", "-IRSDlr"),
        |line| line[2] = line[2].replace("-IRS", "-IRSrlptgoD"),
        |line| line.retain(|word| !word.starts_with("--files-from")),
        |line| {
            line.retain(|word| !word.starts_with("--files-from"));
            line[2] = line[2].replace("-IRS", "-IRSr");
            line.push("www".to_owned());
            line.push("/etc/passwd".to_owned());
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let case = Case::new();
        case.put(b"www/evil", b"x");
        std::os::unix::fs::symlink("/etc", case.far.path().join("data/www/a")).unwrap();
        let result = from(&case, move |request| changed(request, change));
        if let Ok(fetched) = &result {
            assert_eq!(fetched.missing, [b"www/a"], "{number}");
        }
        let recv = case.recv();
        let expected: &[&str] = if recv.join("www").exists() { &["www"] } else { &[] };
        assert!(only_files_and_folders(&recv, expected), "{number}: {result:?}");
    }
}

#[test]
fn rsync_here_and_its_version_are_found() {
    let tools = tools();
    assert!(tools.rsync.is_absolute());
    assert!(remote::rsync::version(&tools.rsync).unwrap() >= remote::rsync::Version::OLDEST);
}

#[test]
#[ignore = "no test but the process that the next ones end"]
fn a_fetch_that_takes_long() {
    let (Some(far), Some(recv)) = (std::env::var_os("TEST_FAR"), std::env::var_os("TEST_RECV")) else {
        return;
    };
    let (files, recv, tools, id) = ([b"db/big".to_vec()], PathBuf::from(recv), tools(), id());
    let what = Fetch {
        tools: &tools,
        id: &id,
        part: Part::Data,
        files: &files,
        recv: &recv,
        basis: &[],
        limit: 1 << 30,
        largest: 1 << 30,
        floor: 0,
        bandwidth: std::num::NonZeroU64::new(2 << 20),
        compress: false,
        deadlines: Deadlines::default(),
    };
    handover::sys::signals::listen().unwrap();
    let result = folder(Path::new(&far)).fetch(&what, &mut Told::default());
    assert!(matches!(result, Err(Error::Interrupted(_))), "{result:?}");
}

#[test]
fn a_handover_that_is_killed_takes_both_rsyncs_with_it_and_loses_nothing() {
    assert!(!ended_by("-KILL").success());
}

#[test]
fn a_handover_that_is_asked_to_stop_says_so_and_loses_nothing() {
    assert!(ended_by("-TERM").success());
}

fn ended_by(signal: &str) -> std::process::ExitStatus {
    let case = Case::new();
    let big = noise(8 << 20, 13);
    case.put(b"db/big", &big);
    let mut ending = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "remote::a_fetch_that_takes_long", "--ignored"])
        .env("TEST_FAR", case.far.path())
        .env("TEST_RECV", case.recv())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let half = || {
        let there = std::fs::read_dir(case.recv().join("db")).into_iter().flatten();
        there.map(|entry| entry.unwrap().metadata().map_or(0, |meta| meta.len())).sum::<u64>() >= 3 << 20
    };
    assert!(within(Duration::from_secs(10), half));
    Command::new("kill").args([signal, &ending.id().to_string()]).status().unwrap();
    let status = ending.wait().unwrap();
    let gone = || left_behind(&case.recv()).is_empty() && left_behind(case.far.path()).is_empty();
    assert!(within(Duration::from_secs(10), gone), "{:?}", left_behind(&case.recv()));
    let remote = folder(case.far.path());
    let again = case.fetch(remote.as_ref(), &[b"db/big"], &mut Told::default(), |_| {}).unwrap();
    assert!(case.got(b"db/big").unwrap() == big && again.wire_in < 7 << 20, "{again:?}");
    status
}

/// Whether it becomes true in time.
fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}
