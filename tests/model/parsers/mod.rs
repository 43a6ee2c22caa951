//! Each parser gets the corpus of `fuzz/`, and bytes that were made from it by chance: always the same ones.

pub mod targets;

use std::{fs, path::Path};

use handover::manifest::Digest;

use crate::is_long;

/// How many inputs a parser gets.
fn rounds(name: &str) -> usize {
    // The configuration is read with care for the reader of its mistakes, not for speed.
    let rounds = if name == "config" { 4_000 } else { 20_000 };
    if is_long() { rounds * 50 } else { rounds }
}

/// Numbers by chance, the same in each run.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let (a, b) = (self.below(length + 1), self.below(length + 1));
        // Mostly short ones, so that the rest still makes sense.
        let end = if self.below(4) > 0 { a.max(b).min(a.min(b) + 12) } else { a.max(b) };
        a.min(b)..end
    }
}

/// Words and bytes at which parsers go wrong.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"  ",
    b"\\",
    b"\\0",
    b"\\134",
    b"\\400",
    b"\xff",
    b"\xc3",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"..",
    b"/../",
    b"/",
    b"./",
    b"=",
    b"==",
    b"\"",
    b"'",
    b"\"\"\"",
    b"[",
    b"]]",
    b"[[",
    b"{",
    b"}",
    b",",
    b"#",
    b"-1",
    b"0",
    b"00",
    b"+1",
    b"1e999",
    b"nan",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999999999999",
    b"9999-12-31T23:59:59Z",
    b"0000-00-00T00:00:00Z",
    b"20261332T000000Z",
    b"true",
    b"nlink=65000",
    b"size=1",
    b"type=socket",
    b"a.b.c.d.e.f.g.h",
    b"offers",
    b"DATA",
    b"-2",
    b"tags=nlink:2",
    b"\xf0\x9f\x92\xbe",
];

/// One input, made of those of the corpus.
fn mutated(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = corpus[chance.below(corpus.len())].clone();
    for _ in 0..1 + chance.below(3) {
        let range = chance.range(bytes.len());
        match chance.below(7) {
            0 if !bytes.is_empty() => {
                let at = chance.below(bytes.len());
                bytes[at] ^= 1 << chance.below(8);
            }
            1 => drop(bytes.drain(range)),
            2 => {
                let copy = bytes[range.clone()].to_vec();
                let times = if chance.below(50) == 0 { 200 } else { 1 };
                bytes.splice(range.start..range.start, copy.repeat(times));
            }
            3 => {
                let other = &corpus[chance.below(corpus.len())];
                let from = chance.range(other.len());
                bytes.splice(range, other[from].iter().copied());
            }
            4 => bytes.truncate(range.start),
            5 => {
                let word = WORDS[chance.below(WORDS.len())];
                bytes.splice(range.start..range.start, word.iter().copied());
            }
            _ => {
                let word = WORDS[chance.below(WORDS.len())];
                bytes.splice(range, word.iter().copied());
            }
        }
    }
    bytes
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn try_all(name: &str, parse: fn(&[u8]) -> bool) {
    let corpus = corpus(name);
    let good = corpus.iter().filter(|bytes| parse(bytes)).count();
    assert!(good > 0, "nothing of the corpus is good: nothing but mistakes was tried");
    let mut chance = Chance(u64::from_le_bytes(Digest::of(name.as_bytes()).0[..8].try_into().unwrap()));
    let (mut taken, mut bytes) = (0, 0);
    for round in 0..rounds(name) {
        let input = mutated(&corpus, &mut chance);
        bytes += input.len();
        let parsed = std::panic::catch_unwind(|| parse(&input));
        match parsed {
            Ok(good) => taken += usize::from(good),
            Err(_) => panic!("input {round} of {name}: {:?}", String::from_utf8_lossy(&input)),
        }
    }
    println!(
        "{name}: {good} of {} files, {} inputs by chance ({bytes} bytes), {taken} of them well-formed",
        corpus.len(),
        rounds(name)
    );
    crate::proof::proof("parsers: inputs", corpus.len() + rounds(name), 0);
    assert!(taken > 0 && taken < rounds(name), "{taken}");
}

#[test]
fn a_request_is_read_exactly_or_not_at_all() {
    try_all("gate", targets::gate);
}

#[test]
fn a_manifest_is_read_exactly_or_not_at_all() {
    try_all("mtree", targets::mtree);
}

#[test]
fn a_generation_and_its_seal_are_the_same_when_they_are_written_again() {
    try_all("generation", targets::generation);
}

#[test]
fn a_receipt_is_the_same_when_it_is_written_again() {
    try_all("receipt", targets::receipt);
}

#[test]
fn a_delta_puts_nothing_where_it_does_not_belong() {
    try_all("delta", targets::delta);
}

#[test]
fn no_configuration_makes_the_program_fall_over() {
    try_all("config", targets::config);
}
