use std::io::Read as _;

use super::*;
use crate::manifest::{
    Digest, Entry, Kind,
    entry::{Links, Time},
};

fn entry(path: &[u8], kind: Kind) -> Entry {
    let mtime = Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
    let (uname, gname) = (Some(b"www-data".to_vec()), None);
    Entry { path: path.to_vec(), mode: 0o4750, uid: 33, gid: 34, uname, gname, mtime, kind }
}

fn file(path: &[u8], size: u64) -> Entry {
    entry(path, Kind::File { size, digest: Digest([0; 32]), links: Links::One })
}

fn members(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, BadArchive> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(member) = reader.next()? {
        let mut content = Vec::new();
        let mut buffer = [0; 7];
        loop {
            match reader.content(&mut buffer)? {
                0 => break,
                n => content.extend_from_slice(&buffer[..n]),
            }
        }
        found.push((member, content));
    }
    Ok(found)
}

fn written(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    entries.iter().for_each(|entry| writer.entry(entry, &[]).unwrap());
    writer.finish().unwrap()
}

#[test]
fn what_is_written_is_what_is_read() {
    let long = [b"a/".repeat(99), b"\xff\n=".to_vec()].concat();
    let attributes =
        vec![(b"security.capability".to_vec(), vec![0, 10, 255]), (b"user.a=%b".to_vec(), Vec::new())];
    let mut all = vec![
        Entry { mtime: Time { seconds: -1, nanoseconds: 1 }, ..entry(b"a", Kind::Dir) },
        Entry { mtime: Time { seconds: -5, nanoseconds: 0 }, ..entry(&long, Kind::Fifo) },
        Entry {
            uid: u32::MAX,
            gid: 0o10_000_000,
            ..entry(b"n", Kind::Char { major: 4095, minor: 1_048_575 })
        },
        Entry { uname: Some(vec![b'u'; 32]), ..entry(b"b", Kind::Block { major: 0, minor: 7 }) },
        entry(b"l", Kind::Link { target: b"/".repeat(4095) }),
    ];
    all[4].mtime = Time { seconds: i64::from(u32::MAX) * 9, nanoseconds: 999_999_999 };
    let mut writer = Writer::new(Vec::new());
    for entry in &all {
        writer.entry(entry, &attributes).unwrap();
    }
    writer.file(&file(b"f", 5), &attributes, &[Stretch { start: 0, length: 5 }]).unwrap();
    writer.content(b"he").unwrap();
    writer.content(b"llo").unwrap();
    writer.link(&file(b"twin", 5), b"f").unwrap();
    writer.file(&file(b"empty", 0), &[], &[]).unwrap();
    let found = members(&writer.finish().unwrap()).unwrap();
    for (entry, (member, content)) in all.iter().zip(&found) {
        assert_eq!((&member.entry, &member.attributes, content.len()), (entry, &attributes, 0));
    }
    assert_eq!(found[5].0.entry, file(b"f", 5));
    assert_eq!(found[5].1, b"hello");
    assert_eq!(found[6].0.body, Body::Same(b"f".to_vec()));
    assert_eq!(found[7].0.body, Body::Data(Vec::new()));
    assert_eq!(found.len(), 8);
}

#[test]
fn holes_are_kept_wherever_they_are() {
    for (size, data) in [
        (1 << 40, vec![]),
        (1 << 40, vec![Stretch { start: 4096, length: 3 }]),
        (20_000, vec![Stretch { start: 0, length: 600 }, Stretch { start: 19_999, length: 1 }]),
    ] {
        let mut writer = Writer::new(Vec::new());
        writer.file(&file(b"holes", size), &[], &data).unwrap();
        let bytes: u64 = data.iter().map(|s| s.length).sum();
        writer.content(&vec![7; usize::try_from(bytes).unwrap()]).unwrap();
        writer.entry(&entry(b"next", Kind::Dir), &[]).unwrap();
        let found = members(&writer.finish().unwrap()).unwrap();
        assert_eq!(found[0].0.entry, file(b"holes", size));
        assert_eq!(found[0].0.body, Body::Data(data));
        assert_eq!(found[0].1.len() as u64, bytes);
        assert_eq!(found[1].0.entry.path, b"next");
    }
}

#[test]
fn a_name_that_leaves_the_target_is_refused_wherever_it_stands() {
    for name in [&b"../x"[..], b"/etc/x", b"a/../../x", b"a//b", b".", b"a\0b", b""] {
        let bytes = written(&[entry(name, Kind::Fifo)]);
        // A header ends its name at the first NUL; there is nothing behind it that could be meant.
        assert!(members(&bytes).is_err() || name.contains(&0), "{name:?}");
        let long = [b"b/".repeat(60).as_slice(), name].concat();
        assert!(members(&written(&[entry(&long, Kind::Fifo)])).is_err() || name == b"/", "{long:?}");
        let mut writer = Writer::new(Vec::new());
        writer.link(&file(b"twin", 0), name).unwrap();
        assert!(members(&writer.finish().unwrap()).is_err() || name.contains(&0), "{name:?}");
    }
}

#[test]
fn a_torn_or_altered_archive_is_an_error_and_never_a_shorter_one() {
    let mut writer = Writer::new(Vec::new());
    writer.file(&file(&b"n".repeat(120), 600), &[], &[Stretch { start: 10, length: 590 }]).unwrap();
    writer.content(&[1; 590]).unwrap();
    let bytes = writer.finish().unwrap();
    for cut in 0..bytes.len() - 2 * BLOCK {
        assert!(members(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    for at in (0..BLOCK).chain(1024..1536) {
        let mut altered = bytes.clone();
        altered[at] ^= 4;
        assert!(members(&altered).is_err(), "altered at {at}");
    }
}

#[test]
fn content_that_was_not_announced_is_refused() {
    let mut writer = Writer::new(Vec::new());
    writer.file(&file(b"f", 2), &[], &[Stretch { start: 0, length: 2 }]).unwrap();
    assert!(writer.content(b"abc").is_err());
    let mut writer = Writer::new(Vec::new());
    writer.file(&file(b"f", 2), &[], &[Stretch { start: 0, length: 2 }]).unwrap();
    assert!(writer.entry(&entry(b"d", Kind::Dir), &[]).is_err());
}

#[test]
fn another_tar_reads_it_too() {
    let mut writer = Writer::new(Vec::new());
    let name = b"n/".repeat(80);
    writer.file(&file(&[&name[..], b"f"].concat(), 3), &[], &[Stretch { start: 0, length: 3 }]).unwrap();
    writer.content(b"abc").unwrap();
    let bytes = writer.finish().unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(*entry.path_bytes(), [&name[..], b"f"].concat());
    let mut content = String::new();
    entry.read_to_string(&mut content).unwrap();
    assert_eq!(content, "abc");
}
