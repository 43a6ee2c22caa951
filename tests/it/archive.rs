//! Elements of kind `archive`, from a source to a sink and back, and what a hostile one can do to a restore: nothing.

use std::{
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, Output},
    thread::sleep,
    time::Duration,
};

use handover::{
    manifest::{
        Digest, Entry, Kind,
        entry::{Links, Time},
        pax::{Stretch, Writer},
    },
    sys::{Dir, users, xattr},
};

/// What is younger than this may still change unseen, so it is read again.
const SETTLED: Duration = Duration::from_millis(2300);

/// A source and a sink on this machine, with one archive of `srv/app`.
struct Hosts {
    folder: tempfile::TempDir,
}

impl Hosts {
    fn new() -> Self {
        // Beside the tests and not in /tmp, which may be a file system without attributes.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let hosts = Self { folder };
        std::fs::create_dir_all(hosts.app()).unwrap();
        std::fs::set_permissions(hosts.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        let at = |name| hosts.path(name).display().to_string();
        let config = format!(
            "state = {:?}\n[source]\nname = \"shop\"\nhome = {:?}\nreserve = \"1MiB\"\n[[source.element]]\n\
             name = \"www\"\nkind = \"archive\"\npaths = [{:?}]\nexclude = [\"cache/\"]\n[sink]\nhome = {:?}\n\
             [[sink.source]]\nname = \"shop\"\npath = {:?}\n",
            at("state"),
            at("source"),
            at("srv/app"),
            at("sink"),
            at("source")
        );
        std::fs::write(hosts.path("handover.toml"), config).unwrap();
        let user: &[&str] = if users::is_root() { &["--user", "nobody"] } else { &[] };
        hosts.good(&[&["source", "init"], user].concat());
        hosts.good(&["sink", "init"]);
        hosts
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn app(&self) -> PathBuf {
        self.path("srv/app")
    }

    fn handover(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_handover"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HANDOVER_CONFIG", self.path("handover.toml"))
            .args(arguments)
            .output()
            .unwrap()
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.handover(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Collects; gives what the report says of the generation, and its folder.
    fn collect(&self) -> (serde_json::Value, PathBuf) {
        let output = self.handover(&["source", "run", "--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let id = report["generation"]["id"].as_str().unwrap_or_else(|| panic!("{report}"));
        let place = self.path("source/transport-outgoing").join(id);
        (report["generation"].clone(), place)
    }

    fn restore(&self, generation: &Path, to: &str, more: &[&str]) -> Output {
        let (from, to) = (generation.display().to_string(), self.path(to).display().to_string());
        self.handover(&[&["restore", "--from", &from, "--to", &to], more].concat())
    }

    /// Where something of the application is below a folder that was restored to.
    fn restored(&self, to: &str) -> PathBuf {
        self.path(to).join(self.app().strip_prefix("/").unwrap())
    }
}

fn archive_of(generation: &Path) -> PathBuf {
    generation.join("data/www/www.tar.zst")
}

/// Everything that can be seen of a tree, but for times of access and inodes.
fn look(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut paths = vec![folder.to_path_buf()];
    while let Some(path) = paths.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let parent = Dir::open(path.parent().unwrap()).unwrap();
        let attributes = xattr::of_name(&parent, path.file_name().unwrap()).unwrap();
        let content = if meta.is_file() {
            Digest::of(&std::fs::read(&path).unwrap()).to_string()
        } else {
            std::fs::read_link(&path).map_or(String::new(), |target| format!("{target:?}"))
        };
        let links = if meta.is_file() { meta.nlink() } else { 0 };
        let time = (meta.mtime(), meta.mtime_nsec());
        let (mode, owner, device) = (meta.mode(), (meta.uid(), meta.gid()), meta.rdev());
        let name = path.strip_prefix(folder).unwrap();
        found.push(format!("{name:?} {mode:o} {owner:?} {device} {time:?} {links} {attributes:?} {content}"));
        if meta.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    found.sort();
    found
}

fn name(bytes: &[u8]) -> &std::ffi::OsStr {
    std::ffi::OsStr::from_bytes(bytes)
}

/// One of everything that a file system can hold.
fn fill(app: &Path) {
    std::fs::create_dir_all(app.join("d/n".repeat(90))).unwrap();
    std::fs::create_dir(app.join("cache")).unwrap();
    std::fs::write(app.join("cache/excluded"), "not wanted").unwrap();
    std::fs::write(app.join(name(b"odd\n\xff\\=%40 name")), "odd").unwrap();
    std::fs::write(app.join("a-first"), vec![7; 300_000]).unwrap();
    std::fs::hard_link(app.join("a-first"), app.join("d/second")).unwrap();
    std::fs::hard_link(app.join("a-first"), app.join("d/third")).unwrap();
    std::fs::write(app.join("empty"), "").unwrap();
    std::os::unix::fs::symlink(name(b"../\xff/nowhere"), app.join("link")).unwrap();
    let sparse = std::fs::File::create(app.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"island", 90_000_001).unwrap();
    sparse.set_len(200_000_000).unwrap();
    let dir = Dir::open(app).unwrap();
    xattr::set_on_name(&dir, "a-first", b"user.a=b%", b"\0\xff\n").unwrap();
    xattr::set_on_name(&dir, "d", b"user.folder", b"").unwrap();
    assert!(Command::new("mkfifo").arg(app.join("fifo")).status().unwrap().success());
    assert!(Command::new("setfacl").args(["-m", "u:7:rwx"]).arg(app.join("d")).status().unwrap().success());
    std::fs::set_permissions(app.join("a-first"), PermissionsExt::from_mode(0o4751)).unwrap();
    if users::is_root() {
        let done = Command::new("mknod").arg(app.join("device")).args(["c", "1", "3"]).status().unwrap();
        assert!(done.success());
        std::os::unix::fs::chown(app.join("empty"), Some(12345), Some(3_000_000_000)).unwrap();
    }
}

#[test]
fn an_archive_brings_everything_back_as_it_was_with_handover_and_with_tar() {
    let hosts = Hosts::new();
    fill(&hosts.app());
    let (report, generation) = hosts.collect();
    assert_eq!(report["elements"][0]["ok"], true, "{report}");
    assert_eq!(report["files"], 1);
    let mut before = look(&hosts.app());
    before.retain(|line| !line.starts_with("\"cache"));
    let output = hosts.restore(&generation, "out", &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(look(&hosts.restored("out")), before);
    let sparse = std::fs::metadata(hosts.restored("out").join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 10_000_000, "holes were filled");
    assert_eq!(std::fs::read_dir(hosts.path("out")).unwrap().count(), 1, "something was left behind");

    std::fs::create_dir(hosts.path("by-hand")).unwrap();
    let tar = Command::new("tar")
        .args(["--zstd", "--acls", "--xattrs", "--xattrs-include=*", "-xpf"])
        .args([&archive_of(&generation), Path::new("-C"), &hosts.path("by-hand")])
        .output()
        .unwrap();
    assert!(tar.status.success(), "{tar:?}");
    assert_eq!(look(&hosts.restored("by-hand")), before);
}

#[test]
fn a_part_of_an_archive_comes_alone_and_whole_even_if_its_content_stands_elsewhere() {
    let hosts = Hosts::new();
    fill(&hosts.app());
    let (_, generation) = hosts.collect();
    let wanted = hosts.app().join("d").display().to_string();
    let output = hosts.restore(&generation, "out", &["--path", &wanted]);
    assert!(output.status.success(), "{output:?}");
    let restored = hosts.restored("out");
    assert_eq!(std::fs::read_dir(&restored).unwrap().count(), 1);
    assert_eq!(std::fs::read(restored.join("d/second")).unwrap(), vec![7; 300_000]);
    let meta = |name| std::fs::metadata(restored.join(name)).unwrap();
    assert_eq!((meta("d/second").ino(), meta("d/second").nlink()), (meta("d/third").ino(), 2));
    assert_eq!(meta("d/second").mode() & 0o7777, 0o4751);
    assert_eq!(
        meta("d").modified().unwrap(),
        std::fs::metadata(hosts.app().join("d")).unwrap().modified().unwrap()
    );
    assert_eq!(std::fs::read_dir(hosts.path("out")).unwrap().count(), 1, "something was left behind");
    let output = hosts.restore(&generation, "none", &["--path", "/srv/nowhere"]);
    assert_eq!(output.status.code(), Some(15), "{output:?}");
}

#[test]
fn nothing_changed_is_the_same_archive_unread_and_any_change_is_a_new_one() {
    let hosts = Hosts::new();
    fill(&hosts.app());
    sleep(SETTLED);
    let inode = |generation: &Path| std::fs::metadata(archive_of(generation)).unwrap().ino();
    let manifest = |generation: &Path| std::fs::read_to_string(generation.join("manifest.mtree")).unwrap();
    let (first, one) = hosts.collect();
    assert!(first["bytes_read"].as_u64().unwrap() > 300_000);
    let (second, two) = hosts.collect();
    assert_eq!(second["bytes_read"], 0);
    assert_eq!((inode(&one), manifest(&one)), (inode(&two), manifest(&two)));

    // What is excluded does not count, and a neighbour of the paths neither.
    std::fs::write(hosts.app().join("cache/excluded"), "changed").unwrap();
    std::fs::write(hosts.path("srv/neighbour"), "new").unwrap();
    let (third, three) = hosts.collect();
    assert_eq!((&third["bytes_read"], inode(&three)), (&serde_json::json!(0), inode(&two)));

    let mut last = three;
    let changes: [&dyn Fn(); 4] = [
        &|| std::fs::write(hosts.app().join("empty"), "no more").unwrap(),
        &|| std::fs::set_permissions(hosts.app().join("d"), PermissionsExt::from_mode(0o700)).unwrap(),
        &|| xattr::set_on_name(&Dir::open(hosts.app()).unwrap(), "a-first", b"user.new", b"1").unwrap(),
        &|| std::fs::rename(hosts.app().join("link"), hosts.app().join("renamed")).unwrap(),
    ];
    for (at, change) in changes.iter().enumerate() {
        change();
        sleep(SETTLED);
        let (report, new) = hosts.collect();
        assert!(report["bytes_read"].as_u64().unwrap() > 0, "change {at}");
        assert_ne!(manifest(&new), manifest(&last), "change {at}");
        last = new;
    }
    // Read again, as after a touch, it is the same to the byte, and so the same inode.
    std::fs::set_permissions(
        hosts.app().join("empty"),
        std::fs::metadata(hosts.app().join("empty")).unwrap().permissions(),
    )
    .unwrap();
    let (report, again) = hosts.collect();
    assert!(report["bytes_read"].as_u64().unwrap() > 0);
    assert_eq!((inode(&again), manifest(&again)), (inode(&last), manifest(&last)));
}

#[test]
fn an_archive_that_was_tampered_with_at_the_handover_point_is_made_anew() {
    let hosts = Hosts::new();
    std::fs::write(hosts.app().join("file"), "content").unwrap();
    sleep(SETTLED);
    let (_, one) = hosts.collect();
    let archive = archive_of(&one);
    std::fs::remove_file(&archive).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &archive).unwrap();
    let (report, two) = hosts.collect();
    assert_eq!(report["elements"][0]["ok"], true);
    assert!(std::fs::symlink_metadata(archive_of(&two)).unwrap().is_file());
    assert!(hosts.restore(&two, "out", &[]).status.success());
    assert_eq!(std::fs::read(hosts.restored("out").join("file")).unwrap(), b"content");
}

#[test]
fn a_path_that_is_missing_fails_the_element_and_names_it() {
    let hosts = Hosts::new();
    std::fs::remove_dir(hosts.app()).unwrap();
    let (report, generation) = hosts.collect();
    let element = &report["elements"][0];
    assert_eq!(element["ok"], false);
    assert!(element["reason"].as_str().unwrap().contains("srv/app does not exist"), "{element}");
    assert!(archive_of(&generation).exists());
}

#[test]
fn a_small_change_in_a_large_archive_costs_little_on_the_wire() {
    let hosts = Hosts::new();
    // Text that compresses, and not the same everywhere.
    let mut state = 1_u64;
    for file in 0..40 {
        let mut text = String::new();
        while text.len() < 1_000_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(&format!("{:x}\n", state >> 20));
        }
        std::fs::write(hosts.app().join(format!("file-{file}")), text).unwrap();
    }
    let fetch = || {
        let report: serde_json::Value =
            serde_json::from_str(&hosts.good(&["sink", "run", "--json"])).unwrap();
        let stored = &report["sources"][0]["stored"][0];
        stored["wire"].as_u64().unwrap_or_else(|| panic!("{report}"))
    };
    let (whole, _) = hosts.collect();
    let whole = whole["bytes"].as_u64().unwrap();
    assert!(fetch() > whole / 10 * 9);
    let changed = hosts.app().join("file-20");
    let text = std::fs::read_to_string(&changed).unwrap();
    std::fs::write(&changed, text.replacen('7', "777", 3)).unwrap();
    hosts.collect();
    let wire = fetch();
    assert!(wire < whole / 5, "{wire} of {whole} bytes crossed the wire");
}

fn entry(path: &str, kind: Kind) -> Entry {
    let (uid, gid) = (users::euid(), users::egid());
    let mtime = Time { seconds: 1_700_000_000, nanoseconds: 0 };
    Entry { path: path.into(), mode: 0o777, uid, gid, uname: None, gname: None, mtime, kind }
}

fn file(path: &str, size: u64) -> Entry {
    entry(path, Kind::File { size, digest: Digest([0; 32]), links: Links::One })
}

type Tar = Writer<Vec<u8>>;
/// What it is, the part of it that is asked for alone, and how it is made.
type Case<'a> = (&'a str, &'a [&'a str], &'a dyn Fn(&mut Tar));

fn evil(tar: &mut Tar, path: &str) {
    tar.file(&file(path, 4), &[], &[Stretch { start: 0, length: 4 }]).unwrap();
    tar.content(b"evil").unwrap();
}

fn link(tar: &mut Tar, path: &str, target: &Path) {
    tar.entry(&entry(path, Kind::Link { target: target.as_os_str().as_bytes().to_vec() }), &[]).unwrap();
}

/// Puts another archive into a generation, with a manifest and seal that say so: as a source that is hostile itself.
fn exchange(generation: &Path, archive: &[u8]) {
    let old = std::fs::read(archive_of(generation)).unwrap();
    std::fs::remove_file(archive_of(generation)).unwrap();
    std::fs::write(archive_of(generation), archive).unwrap();
    let path = generation.join("manifest.mtree");
    let before = std::fs::read_to_string(&path).unwrap();
    let after = before
        .replace(&format!("size={}", old.len()), &format!("size={}", archive.len()))
        .replace(&Digest::of(&old).to_string(), &Digest::of(archive).to_string());
    let replace = |path: &Path, text: &str| {
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, text).unwrap();
    };
    replace(&path, &after);
    let path = generation.join("generation.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let digests = [&before, &after].map(|text| Digest::of(text.as_bytes()).to_string());
    assert!(text.contains(&digests[0]));
    replace(&path, &text.replace(&digests[0], &digests[1]));
}

#[test]
fn a_hostile_archive_never_leaves_the_folder_that_is_restored_to() {
    let hosts = Hosts::new();
    std::fs::write(hosts.app().join("file"), "content").unwrap();
    let (_, generation) = hosts.collect();
    let outside = hosts.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "precious").unwrap();
    let absolute = |name: &str| outside.join(name).display().to_string();
    let cases: [Case<'_>; 11] = [
        ("a name with ..", &[], &|tar| evil(tar, "../outside/new")),
        ("a name with .. inside", &[], &|tar| evil(tar, "a/../../outside/new")),
        ("an absolute name", &[], &|tar| evil(tar, &absolute("new"))),
        ("a file through a link", &["--path", "/way"], &|tar| {
            link(tar, "way", &outside);
            evil(tar, "way/new");
        }),
        ("a file over a link", &["--path", "/victim"], &|tar| {
            link(tar, "victim", &outside.join("victim"));
            evil(tar, "victim");
        }),
        ("a folder over a link", &["--path", "/way"], &|tar| {
            link(tar, "way", &outside);
            tar.entry(&entry("way", Kind::Dir), &[]).unwrap();
            evil(tar, "way/new");
        }),
        ("a hard link through a link", &["--path", "/hard", "--path", "/way"], &|tar| {
            link(tar, "way", &outside);
            tar.link(&file("hard", 0), b"way/victim").unwrap();
        }),
        ("a hard link with ..", &["--path", "/hard"], &|tar| {
            tar.link(&file("hard", 0), b"../outside/victim").unwrap()
        }),
        ("an absolute hard link", &["--path", "/hard"], &|tar| {
            tar.link(&file("hard", 0), absolute("victim").as_bytes()).unwrap()
        }),
        ("a device through a link", &["--path", "/way"], &|tar| {
            link(tar, "way", &outside);
            tar.entry(&entry("way/new", Kind::Fifo), &[]).unwrap();
        }),
        ("a file twice", &["--path", "/same"], &|tar| {
            evil(tar, "same");
            evil(tar, "same");
        }),
    ];
    let untouched = look(&outside);
    for (at, (what, part, make)) in cases.iter().enumerate() {
        let mut tar = Writer::new(Vec::new());
        make(&mut tar);
        let bytes = zstd::encode_all(tar.finish().unwrap().as_slice(), 1).unwrap();
        exchange(&generation, &bytes);
        let to = format!("out-{at}");
        let names = || std::fs::read_dir(hosts.path("")).unwrap().count();
        let before = names();
        // All of it, and what a path asks for, where there is one by which it can be asked for.
        let asked: Vec<&[&str]> = if part.is_empty() { vec![&[]] } else { vec![&[], part] };
        for more in &asked {
            let to = format!("{to}-{}", more.len());
            let output = hosts.restore(&generation, &to, more);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(13), "{what}: {said}");
            assert!(
                said.contains("www/www.tar.zst: not all of the archive was unpacked: "),
                "{what}: {said}"
            );
            assert_eq!(look(&outside), untouched, "{what}: {said}");
        }
        assert_eq!(names(), before + asked.len(), "{what}");
    }
    let garbage = vec![7; 5000];
    exchange(&generation, &garbage);
    assert_eq!(hosts.restore(&generation, "garbage", &[]).status.code(), Some(13));
    // And one whose bytes are not those of the manifest is not even opened.
    let other: Vec<u8> = garbage.iter().map(|byte| byte + 1).collect();
    std::fs::write(archive_of(&generation), other).unwrap();
    assert_eq!(hosts.restore(&generation, "damaged", &[]).status.code(), Some(13));
    assert_eq!(std::fs::read_dir(hosts.path("damaged")).unwrap().count(), 0);
}
