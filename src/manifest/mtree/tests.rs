use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::manifest::{
    BadManifest, Digest, Flaw, Kind,
    entry::{LONG, Links, TOO_LONG, Time},
};

const NO_LIMITS: Limits = Limits::NONE;

fn read(text: &[u8]) -> Result<Vec<Item>, BadManifest> {
    Reader::new(text, NO_LIMITS).collect()
}

fn written(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for item in items {
        writer.item(item).unwrap();
    }
    let (text, digest) = writer.finish().unwrap();
    assert_eq!(digest, Digest::of(&text));
    text
}

fn entry(path: &str, kind: Kind) -> Entry {
    let (uname, gname) = (Some(b"root".to_vec()), None);
    let mtime = Time { seconds: 1_700_000_000, nanoseconds: 5 };
    Entry { path: path.into(), mode: 0o755, uid: 0, gid: 12, uname, gname, mtime, kind }
}

fn file(content: &[u8], links: Links) -> Kind {
    Kind::File { size: content.len() as u64, digest: Digest::of(content), links }
}

/// A manifest of the given lines after the header.
fn manifest(lines: &[&str]) -> Vec<u8> {
    let mut text = HEADER.to_vec();
    for line in lines {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    text
}

const DIR: &str = "./e type=dir mode=0755 uid=0 gid=12 uname=root time=1700000000.000000005";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

// What arbitrary trees are made of.

#[derive(Debug, Clone)]
enum Node {
    Leaf(Kind),
    Socket,
    Failed(String),
    Dir(BTreeMap<Vec<u8>, Node>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=255_u8, 1..12).prop_map(|name| {
        let name: Vec<u8> = name.into_iter().map(|b| if b == b'/' { b'\n' } else { b }).collect();
        if name == b"." || name == b".." { b"...".to_vec() } else { name }
    })
}

fn node() -> impl Strategy<Value = Node> {
    let content = prop::collection::vec(any::<u8>(), 0..5);
    let leaf = prop_oneof![
        content.prop_map(|content| Node::Leaf(file(&content, Links::One))),
        prop::collection::vec(1..=255_u8, 1..30).prop_map(|target| Node::Leaf(Kind::Link { target })),
        (0..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Node::Leaf(Kind::Char { major, minor })),
        (0..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Node::Leaf(Kind::Block { major, minor })),
        Just(Node::Leaf(Kind::Fifo)),
        Just(Node::Socket),
        ".{1,20}".prop_map(Node::Failed),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop::collection::btree_map(name(), inner, 0..6).prop_map(Node::Dir)
    })
}

fn tree() -> impl Strategy<Value = Vec<Item>> {
    let owner = prop::option::of(prop::collection::vec(1..=255_u8, 1..8));
    let meta = (0..=0o7777_u32, any::<u16>(), any::<i64>(), 0..1_000_000_000_u32, owner);
    (prop::collection::btree_map(name(), node(), 0..8), meta).prop_map(|(children, meta)| {
        let (mode, uid, seconds, nanoseconds, uname) = meta;
        let mtime = Time { seconds, nanoseconds };
        let like = Entry { mode, uid: uid.into(), uname, mtime, ..entry("", Kind::Dir) };
        let mut items = Vec::new();
        flatten(b"e".to_vec(), Node::Dir(children), &like, &mut items);
        items
    })
}

fn flatten(path: Vec<u8>, node: Node, like: &Entry, items: &mut Vec<Item>) {
    let entry = |kind| Item::Entry(Entry { path: path.clone(), kind, ..like.clone() });
    match node {
        Node::Leaf(kind) => items.push(entry(kind)),
        Node::Socket => items.push(Item::Socket(path)),
        Node::Failed(why) => items.push(Item::failed(path, &why)),
        Node::Dir(children) => {
            items.push(entry(Kind::Dir));
            for (name, child) in children {
                flatten([&path, b"/".as_slice(), &name].concat(), child, like, items);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_whatever_the_names(items in tree()) {
        prop_assert_eq!(read(&written(&items)).unwrap(), items);
    }

    #[test]
    fn what_is_read_after_a_change_is_what_would_be_written(
        items in tree(),
        at in any::<prop::sample::Index>(),
        cut in 0..20_usize,
        with in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b' '), Just(b'\\'), Just(b'/')], 0..6),
    ) {
        let mut text = written(&items);
        let at = at.index(text.len() + 1);
        let end = (at + cut).min(text.len());
        text.splice(at..end, with);
        if let Ok(items) = read(&text) {
            prop_assert_eq!(written(&items), text);
        }
    }

    #[test]
    fn garbage_is_refused_and_nothing_worse(garbage in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = [HEADER, b"./e", &garbage].concat();
        if let Ok(items) = read(&text) {
            prop_assert_eq!(written(&items), text);
        }
    }
}

#[test]
fn lines_are_as_the_format_says() {
    let long = format!("e/{}", "long name/".repeat(300));
    let items = [
        Item::Entry(entry("e", Kind::Dir)),
        Item::failed(b"e".to_vec(), "a \\ b\n\u{e9}"),
        Item::Entry(entry("e/50% \n", file(b"hello", Links::Many { nlink: 3, inode: 1 }))),
        Item::Entry(entry("e/c", Kind::Char { major: 5, minor: 300 })),
        Item::Entry(entry("e/link", Kind::Link { target: b"../a b".to_vec() })),
        Item::Socket(b"e/sock".to_vec()),
    ];
    let text = String::from_utf8(written(&items)).unwrap();
    let lines: Vec<&str> = text.lines().skip(2).collect();
    let hello = Digest::of(b"hello");
    let expected = [
        DIR.to_owned(),
        "# failed ./e: a \\134 b\\012\\303\\251".to_owned(),
        format!(
            "./e/50\\045\\040\\012 type=file mode=0755 uid=0 gid=12 uname=root time=1700000000.000000005 \
             nlink=1 inode=1 tags=nlink:3 size=5 sha256digest={hello}"
        ),
        "./e/c type=char mode=0755 uid=0 gid=12 uname=root time=1700000000.000000005 device=native,5,300"
            .to_owned(),
        "./e/link type=link mode=0755 uid=0 gid=12 uname=root time=1700000000.000000005 link=../a\\040b"
            .to_owned(),
        "# socket ./e/sock".to_owned(),
    ];
    assert_eq!(lines, expected);
    assert!(long.len() > LONG);
    let stored = Digest::of(&long.as_bytes()[..long.len() - 1]);
    let mut line = Vec::new();
    line::write(&Item::Entry(entry(&long[..long.len() - 1], file(b"", Links::One))), &mut line);
    assert!(
        String::from_utf8(line)
            .unwrap()
            .ends_with(&format!(" size=0 sha256digest={EMPTY} contents=./.long/{stored}\n"))
    );
}

#[test]
fn times_before_1970_are_decimal_fractions() {
    let cases = [
        (-2, 500_000_000, "-1.500000000"),
        (-1, 1, "-0.999999999"),
        (-1, 0, "-1.000000000"),
        (0, 5, "0.000000005"),
        (i64::MIN, 0, "-9223372036854775808.000000000"),
        (i64::MIN, 999_999_999, "-9223372036854775807.000000001"),
        (i64::MAX, 1, "9223372036854775807.000000001"),
    ];
    for (seconds, nanoseconds, text) in cases {
        let item = Item::Entry(Entry { mtime: Time { seconds, nanoseconds }, ..entry("e", Kind::Dir) });
        let line = written(std::slice::from_ref(&item));
        assert!(String::from_utf8_lossy(&line).ends_with(&format!(" time={text}\n")), "{text}");
        assert_eq!(read(&line).unwrap(), [item], "{text}");
    }
}

#[test]
fn a_line_that_is_not_how_handover_writes_it_is_refused_with_its_number() {
    let whole =
        format!("./e/f type=file mode=0644 uid=0 gid=0 time=0.000000000 nlink=1 size=0 sha256digest={EMPTY}");
    assert_eq!(read(&manifest(&[DIR, &whole])).unwrap().len(), 2);
    let swaps = [
        ("mode=0644", "mode=644"),
        ("mode=0644", "mode=010644"),
        ("mode=0644", "mode=0o644"),
        ("mode=0644 ", ""),
        ("uid=0", "uid=00"),
        ("uid=0", "uid=+0"),
        ("uid=0", "uid=-1"),
        ("uid=0", "uid=4294967295"),
        ("uid=0", "uid=4294967296"),
        ("uid=0", "uid=0 uid=0"),
        ("gid=0", "gid=0 uname="),
        ("gid=0", "gid=0 gname=a uname=a"),
        ("gid=0", "gid=0 flags=schg"),
        ("time=0.000000000", "time=0.0"),
        ("time=0.000000000", "time=0"),
        ("time=0.000000000", "time=-0.000000000"),
        ("time=0.000000000", "time=0.0000000000"),
        ("time=0.000000000", "time=99999999999999999999.000000000"),
        ("nlink=1", "nlink=2"),
        ("nlink=1 ", ""),
        ("nlink=1", "nlink=1 inode=1"),
        ("nlink=1", "nlink=1 inode=1 tags=nlink:1"),
        ("nlink=1", "nlink=1 inode=2 tags=nlink:2"),
        ("nlink=1", "nlink=1 inode=0 tags=nlink:2"),
        ("size=0", "size=1"),
        ("size=0", "size=9223372036854775808"),
        (EMPTY, &EMPTY.to_uppercase()),
        (EMPTY, &EMPTY[1..]),
        (EMPTY, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("type=file", "type=socket"),
        ("type=file", "type=link"),
        ("type=file", "optional type=file"),
        ("./e/f", "e/f"),
        ("./e/f", "/e/f"),
        ("./e/f", "./e/../f"),
        ("./e/f", "./e//f"),
        ("./e/f", "./e/f\\040g\\"),
        ("./e/f", "./e/\\400"),
        ("./e/f", "./e/\\141"),
        ("./e/f", "./e/\\000"),
        ("./e/f", "./e/%"),
        ("./e/f", "./.long/f"),
        ("./e/f", "./e/d/f"),
        ("./e/f", "./e"),
        ("./e/f", "./g"),
        ("./e/f ", "./e/f  "),
    ];
    for (from, to) in swaps {
        let line = whole.replacen(from, to, 1);
        assert_ne!(line, whole);
        let error = read(&manifest(&[DIR, &line])).expect_err(&line);
        assert_eq!((error.file, error.line), ("manifest.mtree", 4), "{line}: {error}");
    }
    for line in [
        format!("{whole} "),
        format!("{whole} contents=./e/g"),
        format!("{whole} optional"),
        "# anything else".into(),
        "/set uid=0".into(),
        "# failed ./e/f".into(),
        "# failed ./e/f: ".into(),
        "# failed ./e/f: \u{e9}".into(),
        "# socket ./e/f ".into(),
        "./e/f type=link mode=0777 uid=0 gid=0 time=0.000000000 link=".into(),
        format!("./e/f type=link mode=0777 uid=0 gid=0 time=0.000000000 link={}", "x".repeat(4096)),
        "./e/f type=char mode=0600 uid=0 gid=0 time=0.000000000 device=linux,1,2".into(),
        "./e/f type=char mode=0600 uid=0 gid=0 time=0.000000000 device=native,4096,2".into(),
    ] {
        assert!(read(&manifest(&[DIR, &line])).is_err(), "{line}");
    }
}

#[test]
fn the_order_and_the_folders_are_proven() {
    let dir = |path: &str| DIR.replacen("./e", path, 1);
    let link = |path: &str| format!("{path} type=link mode=0777 uid=0 gid=0 time=0.000000000 link=/etc");
    let failed = |path: &str| format!("# failed {path}: no");
    let good = [
        dir("./e"),
        dir("./e/a"),
        failed("./e/a"),
        link("./e/a/b"),
        failed("./e/a/c"),
        link("./e/a-b"),
        dir("./f"),
        failed("./g"),
    ];
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    assert_eq!(read(&manifest(&good)).unwrap().len(), 8);
    let bad = [
        vec![dir("./e"), link("./e/b"), link("./e/a")],
        vec![dir("./e"), link("./e/a"), link("./e/a")],
        vec![dir("./e"), dir("./e/a"), link("./e/a-b"), link("./e/a/b")],
        vec![dir("./e"), link("./e/a"), link("./e/a/passwd")],
        vec![dir("./e"), dir("./f"), link("./e/a")],
        vec![dir("./e"), link("./e/missing/a")],
        vec![dir("./e"), "# socket ./e/s".into(), "# failed ./e/s: no".into()],
        vec![dir("./e"), "# failed ./e: no".into(), "# failed ./e: no".into()],
        vec!["# socket ./e".into()],
        vec![link("./e")],
    ];
    for lines in bad {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let error = read(&manifest(&lines)).expect_err(&lines.join("\n"));
        assert_eq!(error.line, 2 + lines.len() as u64, "{error}");
    }
}

#[test]
fn names_of_one_file_must_agree() {
    let name = |path: &str, content: &[u8], nlink, inode| {
        Item::Entry(entry(path, file(content, Links::Many { nlink, inode })))
    };
    let dir = Item::Entry(entry("e", Kind::Dir));
    let start = [dir, name("e/a", b"1", 2, 1), name("e/b", b"1", 9, 2), name("e/c", b"1", 2, 1)];
    let mut writer = Writer::new(Vec::new()).unwrap();
    start.iter().for_each(|item| writer.item(item).unwrap());
    let before = writer.totals();
    let mut other_owner = entry("e/d", file(b"1", Links::Many { nlink: 9, inode: 2 }));
    other_owner.uid = 1;
    for bad in [
        name("e/d", b"1", 2, 1),
        name("e/d", b"2", 9, 2),
        name("e/d", b"1", 8, 2),
        name("e/d", b"1", 2, 4),
        Item::Entry(other_owner),
    ] {
        assert_eq!(writer.item(&bad).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
    assert_eq!(writer.totals(), before);
    writer.item(&name("e/d", b"1", 9, 2)).unwrap();
    writer.item(&name("e/e", b"3", 2, 3)).unwrap();
    let totals = Totals { entries: 6, dirs: 1, files: 5, bytes: 3, sockets: 0, failed: 0 };
    assert_eq!(writer.totals(), totals);
    let (text, _) = writer.finish().unwrap();
    let mut reader = Reader::new(text.as_slice(), NO_LIMITS);
    assert_eq!(reader.by_ref().filter(Result::is_ok).count(), 6);
    assert_eq!(reader.totals(), totals);
}

#[test]
fn a_refused_item_leaves_the_manifest_as_it_was() {
    let mut writer = Writer::new(Vec::new()).unwrap();
    let dir = Item::Entry(entry("e", Kind::Dir));
    writer.item(&dir).unwrap();
    let too_long = format!("e{}", "/x".repeat(TOO_LONG / 2));
    for bad in
        [entry("e", Kind::Dir), entry("e/x/y", Kind::Dir), entry(&too_long, Kind::Dir), entry("d", Kind::Dir)]
    {
        writer.item(&Item::Entry(bad)).unwrap_err();
    }
    let failed = Item::failed(b"e/x".to_vec(), "its name is too long to be kept");
    writer.item(&failed).unwrap();
    let (text, digest) = writer.finish().unwrap();
    assert_eq!(digest, Digest::of(&text));
    assert_eq!(read(&text).unwrap(), [dir, failed]);
}

#[test]
fn limits_are_kept_by_the_reader() {
    let items = [
        Item::Entry(entry("e", Kind::Dir)),
        Item::Entry(entry("e/a", file(b"123", Links::One))),
        Item::Entry(entry("e/b", file(b"456", Links::Many { nlink: 2, inode: 1 }))),
        Item::Entry(entry("e/c", file(b"456", Links::Many { nlink: 2, inode: 1 }))),
        Item::Socket(b"e/s".to_vec()),
    ];
    let text = written(&items);
    let within = |entries, bytes| {
        Reader::new(text.as_slice(), Limits { entries, bytes }).collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(within(5, 6).unwrap(), items);
    assert!(matches!(within(4, 6).unwrap_err().flaw, Flaw::Limit { what: "entries", limit: 4 }));
    let error = within(5, 5).unwrap_err();
    assert_eq!(error.to_string(), "manifest.mtree, line 5: more bytes of content than the limit of 5");
    let huge = u64::try_from(i64::MAX).unwrap();
    let kind = Kind::File { size: huge, digest: Digest::of(b"x"), links: Links::One };
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.item(&items[0]).unwrap();
    writer.item(&Item::Entry(entry("e/1", kind.clone()))).unwrap();
    writer.item(&Item::Entry(entry("e/2", kind.clone()))).unwrap();
    writer.item(&Item::Entry(entry("e/3", kind))).unwrap_err();
}

#[test]
fn a_line_without_end_or_bounds_is_not_held_in_memory() {
    struct Endless(u64);
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            buffer.fill(b'x');
            self.0 += buffer.len() as u64;
            assert!(self.0 < 1_000_000, "it reads on and on");
            Ok(buffer.len())
        }
    }
    use std::io::{BufReader, Read as _};
    let input = BufReader::new(HEADER.chain(Endless(0)));
    let mut reader = Reader::new(input, NO_LIMITS);
    assert!(matches!(reader.next(), Some(Err(BadManifest { flaw: Flaw::Line, line: 3, .. }))));
    assert!(reader.next().is_none());
    assert!(matches!(read(&manifest(&[DIR])[..HEADER.len() + 9]).unwrap_err().flaw, Flaw::Line));
    assert!(matches!(read(b"").unwrap_err().flaw, Flaw::Header));
    assert!(matches!(read(b"#mtree\n").unwrap_err().flaw, Flaw::Header));
    assert_eq!(read(HEADER).unwrap(), []);
}

#[test]
fn the_longest_line_that_can_be_written_can_be_read() {
    let mut path = String::from("e");
    let mut items = vec![Item::Entry(entry("e", Kind::Dir))];
    while path.len() + 2 * 251 < TOO_LONG {
        path = format!("{path}/{}", " ".repeat(250));
        items.push(Item::Entry(entry(&path, Kind::Dir)));
    }
    path = format!("{path}/{}", "%".repeat((TOO_LONG - path.len() - 1).min(255)));
    let mut last = entry(&path, Kind::Link { target: vec![b' '; 4095] });
    (last.uname, last.gname) = (Some(vec![b' '; 255]), Some(vec![b' '; 255]));
    last.mtime = Time { seconds: i64::MIN, nanoseconds: 1 };
    items.push(Item::Entry(last));
    assert_eq!(read(&written(&items)).unwrap(), items);
}
