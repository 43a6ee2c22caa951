//! What each parser promises of any bytes whatever: it does not panic, what it gives is not larger than what it was
//! given by more than a factor, and what it takes it writes back as it was. Each says whether it took the bytes. Used by
//! the tests here and by the targets in `fuzz/`.

use std::path::Path;

use handover::{
    config::{self, Role, Surroundings},
    gate::protocol::{REQUEST_LIMIT, Request, parse_paths, paths_to_bytes},
    manifest::{Digest, Generation, Item, Limits, Receipt, delta, mtree},
};

/// The gate's request, and the list of paths that follows a `reject`.
pub fn gate(bytes: &[u8]) -> bool {
    if let Ok(paths) = parse_paths(bytes) {
        assert_eq!(paths_to_bytes(paths.iter().map(Vec::as_slice)), bytes);
        assert!(
            paths
                .iter()
                .all(|p| p.first() != Some(&b'/') && !p.split(|b| *b == b'/').any(|part| part == b".."))
        );
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(request) = Request::parse(text) else { return false };
    assert_eq!(request.to_string(), text, "there is one spelling only");
    assert!(text.len() <= REQUEST_LIMIT);
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b" .-".contains(&b)), "{text:?}");
    true
}

/// The manifest.
pub fn mtree(bytes: &[u8]) -> bool {
    let mut items = Vec::new();
    for item in mtree::Reader::new(bytes, Limits { entries: 10_000, bytes: u64::MAX }) {
        match item {
            Ok(item) => items.push(item),
            Err(e) => {
                assert!(e.to_string().len() <= 4096, "a mistake is told in few words");
                break;
            }
        }
    }
    // No name is longer than it was written, and no line gives more than one.
    let names: usize = items.iter().map(|item| item.path().len()).sum();
    assert!(names <= bytes.len() && items.len() <= bytes.len());
    let entries = items.iter().filter_map(Item::entry);
    assert!(
        entries.clone().all(|e| !e.path.split(|b| *b == b'/').any(|part| part == b".." || part.is_empty()))
    );
    let mut writer = mtree::Writer::new(Vec::new()).unwrap();
    items.iter().for_each(|item| writer.item(item).unwrap());
    let (written, _) = writer.finish().unwrap();
    let taken = written == bytes;
    // What was read before a mistake is written as it stood there.
    assert!(items.is_empty() || bytes.starts_with(&written) || bytes.len() + 1 == written.len());
    taken
}

/// `generation.toml`, whose sha256 is the seal.
pub fn generation(bytes: &[u8]) -> bool {
    let Ok(generation) = Generation::parse(bytes) else { return false };
    let size =
        generation.config.len() + generation.host.len() + generation.lineage.len() + generation.version.len();
    assert!(size <= bytes.len() && generation.elements.len() <= bytes.len());
    let (text, seal) = generation.to_text().unwrap();
    let again = Generation::parse(text.as_bytes()).unwrap();
    assert_eq!(again, generation);
    assert_eq!(again.to_text().unwrap().1, seal);
    true
}

/// `receipt.toml`.
pub fn receipt(bytes: &[u8]) -> bool {
    let Ok(receipt) = Receipt::parse(bytes) else { return false };
    assert!(receipt.sink.len() + receipt.store.len() <= bytes.len());
    assert_eq!(Receipt::parse(receipt.to_text().unwrap().as_bytes()).unwrap(), receipt);
    true
}

/// What changed in a large file; as it came, and with a checksum that is right, so that what lies beyond it is tried.
pub fn delta(bytes: &[u8]) -> bool {
    let body = &bytes[..bytes.len().saturating_sub(32)];
    let sealed = [body, &Digest::of(body).0].concat();
    let taken = is_delta(bytes);
    is_delta(&sealed) || taken
}

fn is_delta(bytes: &[u8]) -> bool {
    let Ok(mut reader) = delta::Reader::new(bytes) else { return false };
    let head = *reader.head();
    let mut writer = delta::Writer::new(Vec::new(), &head).unwrap();
    let mut next = 0;
    loop {
        match reader.next() {
            Ok(Some((offset, block))) => {
                // Nothing lies outside of the result, or where something was put already.
                assert!(offset >= next && offset + block.len() as u64 <= head.length, "{offset}");
                assert!(block.len() <= bytes.len() && block.len() <= 1 << 20 && !block.is_empty());
                next = offset + block.len() as u64;
                writer.block(offset, block).unwrap();
            }
            Ok(None) => {
                assert_eq!(writer.finish().unwrap(), bytes, "there is one spelling only");
                return true;
            }
            Err(e) => {
                assert!(e.to_string().len() <= 4096);
                return false;
            }
        }
    }
}

/// The configuration.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let around = Surroundings { state_directory: None, processors: 2 };
    match config::parse(text, Path::new("handover.toml"), &around, Role::All) {
        Ok(config) => {
            assert!(format!("{config:?}").len() <= 64 * 1024 + 64 * bytes.len());
            true
        }
        Err(errors) => {
            assert!(errors.to_string().len() <= 64 * 1024 + 64 * bytes.len());
            false
        }
    }
}
