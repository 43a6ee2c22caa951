//! A generation can be verified and restored without handover: the steps of its README.txt, run as they stand there,
//! bring a tree of everything that a file system knows back as it was.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test builds its folders by plain means, and fails where they fail"
)]

pub mod look;
pub mod source;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::BufWriter,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::PathBuf,
    process::Command,
};

use handover::{
    manifest::{
        Channel, Digest, Item, Limits,
        attributed::Attributed,
        entry::{LONG, TOO_LONG, stored_path},
        mtree, names, readme, sums, xattrs,
    },
    sys::{Dir, xattr},
};
use rustix::fs::FileType;

use look::{Seen, compare, items, look, sorted};
use source::make_source;

#[test]
fn readme_steps_restore_every_kind_of_file_as_it_was() {
    need_tools();
    let lab = Lab::new();
    let expected = look(&lab.source);
    assert!(expected.keys().any(|path| path.len() == TOO_LONG));
    lab.make_generation(&expected);
    assert_eq!(lab.run(&lab.step("1.")), "");
    let steps = [lab.step("2."), lab.step("3."), lab.step("4.")].concat();
    assert_eq!(lab.run(&steps), "content restored\nattributes restored\n");
    let restored = look(&Dir::open(lab.target()).unwrap());
    compare(&expected, &restored, |_| true);
}

#[test]
fn readme_steps_restore_one_file_or_folder_with_its_attributes() {
    need_tools();
    let lab = Lab::new();
    let expected = look(&lab.source);
    lab.make_generation(&expected);
    for (wanted, path) in [
        ("./www/attributes", &b"www/attributes"[..]),
        ("./www/names/new\\012line\\134\\045", b"www/names/new\nline\\%"),
        ("./www/caps", b"www/caps"),
    ] {
        let step = lab.step("5.").replace("'./www/var/www/shop'", &format!("'{wanted}'"));
        assert!(step.contains(wanted));
        let heading = "grep -i 'index' manifest.mtree | cut -d ' ' -f 1\n";
        let (find, step) = step.split_at(heading.len());
        let name = wanted.rsplit('/').next().unwrap().replace('\\', "\\\\");
        let found = lab.run(&find.replace("index", &name));
        assert!(found.lines().any(|line| line == wanted), "{found}");
        assert_eq!(lab.run(step), "content restored\nattributes restored\n");
        let restored = look(&Dir::open(lab.target()).unwrap());
        compare(&expected, &restored, |at| at.starts_with(path));
        std::fs::remove_dir_all(lab.target()).unwrap();
    }
}

#[test]
fn attributes_are_written_as_getfattr_writes_them() {
    need_tools();
    let lab = Lab::new();
    let seen = look(&lab.source);
    lab.make_generation(&seen);
    // Paths over the limit of a command line's argument are no matter of the format.
    let with: Vec<_> = sorted(&seen).into_iter().filter(|path| !seen[*path].xattrs.is_empty()).collect();
    assert!(with.len() >= 8);
    let output = tool("getfattr")
        .args(["--no-dereference", "--dump", "--encoding=hex", "--match=-", "--"])
        .args(with.iter().map(|path| OsStr::from_bytes(path)))
        .current_dir(lab.source.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ours = std::fs::read(lab.generation().join(names::XATTRS)).unwrap();
    assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&output.stdout));
    assert_eq!(ours, output.stdout);
}

#[test]
fn what_a_generation_says_of_itself_reads_back() {
    need_tools();
    let lab = Lab::new();
    let seen = look(&lab.source);
    lab.make_generation(&seen);
    let open = |name| std::io::BufReader::new(File::open(lab.generation().join(name)).unwrap());
    let manifest = mtree::Reader::new(open(names::MANIFEST), Limits { entries: 1000, bytes: 1 << 30 });
    let xattrs = xattrs::Reader::new(open(names::XATTRS), Limits { entries: 1000, bytes: 0 });
    let found: Vec<(Item, Vec<xattr::Attribute>)> =
        Attributed::new(manifest, xattrs).collect::<Result<_, _>>().unwrap();
    assert_eq!(found.iter().map(|(item, _)| item.clone()).collect::<Vec<_>>(), items(&seen));
    for (item, list) in &found {
        assert_eq!(seen[item.path()].xattrs, *list);
    }
}

/// A source tree, a place for its generation and a place to restore to.
struct Lab {
    folder: tempfile::TempDir,
    source: Dir,
}

impl Lab {
    fn new() -> Self {
        // Beside the build, since /tmp may be a tmpfs without user attributes.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let source = Dir::create_all(folder.path().join("source"), 0o755).unwrap();
        make_source(&source);
        Self { folder, source }
    }

    fn generation(&self) -> PathBuf {
        self.folder.path().join("20261123T030000Z")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("to restore")
    }

    /// What a source and a store make of the tree: content as 0440, equal content as one inode, and the files beside it.
    fn make_generation(&self, seen: &Seen) {
        let data = self.generation().join(names::DATA);
        std::fs::create_dir_all(data.join(".long")).unwrap();
        let mut known: BTreeMap<Digest, PathBuf> = BTreeMap::new();
        for path in sorted(seen) {
            let stored = data.join(OsStr::from_bytes(&stored_path(path)));
            let one = &seen[path];
            if one.kind == FileType::Directory && "data/".len() + path.len() <= LONG {
                std::fs::create_dir(&stored).unwrap();
                std::fs::set_permissions(&stored, std::fs::Permissions::from_mode(0o750)).unwrap();
            } else if let Some(content) = &one.content {
                match known.get(&Digest::of(content)) {
                    Some(same) => std::fs::hard_link(same, &stored).unwrap(),
                    None => std::fs::write(&stored, content).unwrap(),
                }
                std::fs::set_permissions(&stored, std::fs::Permissions::from_mode(0o440)).unwrap();
                known.entry(Digest::of(content)).or_insert(stored);
            }
        }
        self.write_beside(seen);
    }

    fn write_beside(&self, seen: &Seen) {
        let create = |name| BufWriter::new(File::create(self.generation().join(name)).unwrap());
        let mut manifest = mtree::Writer::new(create(names::MANIFEST)).unwrap();
        let mut attributes = xattrs::Writer::new(create(names::XATTRS));
        let items = items(seen);
        for item in &items {
            manifest.item(item).unwrap();
            attributes.attributes(item.path(), &seen[item.path()].xattrs).unwrap();
        }
        let (manifest, attributes) = (manifest.finish().unwrap().1, attributes.finish().unwrap().1);
        let text = self.readme();
        std::fs::write(self.generation().join(names::README), &text).unwrap();
        let others = [
            (names::MANIFEST, manifest),
            (names::XATTRS, attributes),
            (names::README, Digest::of(text.as_bytes())),
        ];
        let items = items.into_iter().map(Ok::<_, std::io::Error>);
        sums::write(items, &others, create(names::SUMS)).unwrap();
    }

    fn readme(&self) -> String {
        readme::text(&"shop".parse().unwrap(), &"20261123T030000Z".parse().unwrap(), Channel::Data)
    }

    /// The commands of one numbered step of README.txt, with the place to restore to put in.
    fn step(&self, number: &str) -> String {
        let text = self.readme();
        let mut current = "";
        let mut commands = String::new();
        for line in text.lines() {
            if line.as_bytes().first().is_some_and(u8::is_ascii_digit) {
                current = line.split(' ').next().unwrap();
            } else if current == number && line.starts_with("    ") {
                commands.extend([&line[4..], "\n"]);
            }
        }
        assert!(!commands.is_empty(), "README.txt has no step {number}");
        commands.replace("TARGET=/srv/restored", &format!("TARGET='{}'", self.target().display()))
    }

    fn run(&self, script: &str) -> String {
        let output = tool("bash").arg("-c").arg(script).current_dir(self.generation()).output().unwrap();
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}\n{text}\n{errors}");
        let harmless =
            |line: &str| line.contains("implausibly old time stamp") || line.contains("s in the future");
        let errors: Vec<&str> = errors.lines().filter(|line| !harmless(line)).collect();
        assert_eq!(errors, [""; 0], "{script}\n{text}");
        text.into_owned()
    }
}

/// A tool in the environment that an operator may have: an own language and character set.
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("LC_ALL", "C.UTF-8");
    command
}

fn need_tools() {
    assert!(handover::sys::users::is_root(), "devices and owners need root: run this test as root");
    for (name, package) in [
        ("bash", "bash"),
        ("sha256sum", "coreutils"),
        ("grep", "grep"),
        ("tar", "tar"),
        ("bsdtar", "libarchive-tools"),
        ("getfattr", "attr"),
        ("setfattr", "attr"),
    ] {
        let found = Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
        assert!(found, "{name} is missing: apt install {package}");
    }
}
