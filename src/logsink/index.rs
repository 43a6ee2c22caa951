//! Which pieces of which logs are stored, over all generations of a source.

use std::{
    collections::{BTreeMap, HashMap},
    io::BufReader,
};

use jiff::Timestamp;

use crate::{
    manifest::{
        Digest, Generation, GenerationId, Hashing, Item, Kind, Limits, Piece, mtree, names,
        pieces::{self, FILE, FILES, JOURNAL},
    },
    store::{self, SourceStore, Stored},
    sys::{self, show, signals},
};

/// A log, by the path on the source that it is known by there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Log {
    /// Log files: the one that is written to, and what rotation made of it.
    File(Vec<u8>),
    /// The journal, in export format.
    Journal,
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.pad(&show(path)),
            Self::Journal => f.pad("the journal"),
        }
    }
}

/// A stored piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The generation that holds it, as an index of [`Index::generations`].
    pub generation: usize,
    /// Its path in the manifest.
    pub path: Vec<u8>,
    /// Its sha256.
    pub digest: Digest,
    /// Where its stream stands among those of the log.
    pub order: u64,
    /// Its stream.
    pub stream: String,
    /// Where in the stream it begins.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// Its first bytes that an earlier piece has brought.
    pub skip: u64,
    /// When it was collected.
    pub taken: Timestamp,
    /// The sink's sequence of its generation.
    pub arrived: u64,
}

impl Part {
    /// Where in the stream its own bytes begin.
    pub fn begin(&self) -> u64 {
        self.offset.saturating_add(self.skip)
    }

    /// Where in the stream it ends.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    fn key(&self) -> (u64, &str, u64, u64) {
        (self.order, &self.stream, self.begin(), self.arrived)
    }
}

/// What came first counts: a source that was broken into can say anything of its logs from then on, but nothing else of
/// what the sink has already. A later piece brings what is beyond; where it says again what an earlier one begins with, it
/// is left out, and given back. All in the order of the stream.
fn first_come(parts: Vec<Part>) -> (Vec<Part>, Vec<Part>) {
    let mut parts = parts;
    parts.sort_by_key(|part| part.arrived);
    let mut known: HashMap<String, BTreeMap<u64, u64>> = HashMap::new();
    let (mut shown, mut left_out) = (Vec::new(), Vec::new());
    for mut part in parts {
        let ranges = known.entry(part.stream.clone()).or_default();
        let covered = ranges.range(..=part.offset).next_back().map_or(0, |(_, end)| *end);
        part.skip = covered.saturating_sub(part.offset).min(part.length);
        if part.skip == part.length {
            continue;
        }
        if ranges.range(part.begin()..part.end()).next().is_some() {
            left_out.push(part);
            continue;
        }
        // Ranges that touch are one, so that the last one before an offset tells how far all is known.
        let begin = ranges.range(..=part.begin()).next_back().filter(|(_, end)| **end >= part.begin());
        let begin = begin.map_or(part.begin(), |(begin, _)| *begin);
        let end = ranges.remove(&part.end()).unwrap_or(part.end());
        ranges.insert(begin, end);
        shown.push(part);
    }
    shown.sort_by(|a, b| a.key().cmp(&b.key()));
    (shown, left_out)
}

/// Something that is not as it should be: what it is of, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whether content is not what was sealed, or cannot be read. Else it is only not here.
    pub damage: bool,
    /// What is wrong.
    pub text: String,
}

impl Trouble {
    pub(super) fn damage(text: String) -> Self {
        Self { damage: true, text }
    }

    pub(super) fn missing(text: String) -> Self {
        Self { damage: false, text }
    }
}

/// All stored pieces of a source.
#[derive(Debug, Default)]
pub struct Index {
    /// The stored generations, in their order.
    pub generations: Vec<GenerationId>,
    /// The pieces of each log in the order in which they were written.
    pub logs: BTreeMap<Log, Vec<Part>>,
    /// What could not be read, and which generations are missing between others.
    pub trouble: Vec<Trouble>,
}

impl Index {
    /// Reads what every stored generation says of its pieces, each list proven by its hash. What is damaged is noted, and
    /// the others are read all the same. Memory is used for each piece, not for its content.
    pub fn read(store: &SourceStore) -> store::Result<Self> {
        let (stored, strange) = store.stored()?;
        let mut index = Self::default();
        for one in strange {
            let name = show(one.name.as_encoded_bytes());
            index.trouble.push(Trouble::damage(format!(
                "{name} cannot be read, so its logs are missing: {}",
                one.why
            )));
        }
        let mut before: Option<&Generation> = None;
        for one in &stored {
            signals::check()?;
            index.note_hole(before, &one.found.generation);
            before = Some(&one.found.generation);
            index.add(store, one)?;
        }
        for (log, parts) in &mut index.logs {
            let (shown, left_out) = first_come(std::mem::take(parts));
            *parts = shown;
            for part in left_out {
                index.trouble.push(Trouble::damage(format!(
                    "{log}: {}: {} says again what came before it, so it is not shown: look whether the source was broken into",
                    index.generations[part.generation],
                    show(&part.path)
                )));
            }
        }
        Ok(index)
    }

    /// A generation that is not here between two that are. What came before the first has gone by retention, as it should.
    fn note_hole(&mut self, before: Option<&Generation>, this: &Generation) {
        let Some(before) = before.filter(|before| before.lineage == this.lineage) else { return };
        let missing = this.sequence.saturating_sub(before.sequence).saturating_sub(1);
        if missing > 0 {
            let s = if missing == 1 { "generation is" } else { "generations are" };
            self.trouble.push(Trouble::missing(format!(
                "{missing} {s} not here between {} and {}: lines that no other one holds are missing",
                before.id, this.id
            )));
        }
    }

    fn add(&mut self, store: &SourceStore, stored: &Stored) -> store::Result<()> {
        let number = self.generations.len();
        let id = stored.id();
        self.generations.push(id.clone());
        let is_wrong =
            |why: &dyn std::fmt::Display| Trouble::damage(format!("{id}: {why}: its logs are missing"));
        let files = match files(store, &stored.found.generation) {
            Ok(files) => files,
            Err(Wrong::Store(e)) => return Err(e),
            Err(Wrong::Content(why)) => {
                self.trouble.push(is_wrong(&why));
                return Ok(());
            }
        };
        for element in [FILES, JOURNAL] {
            let list = [element.as_bytes(), b"/", FILE.as_bytes()].concat();
            let Some(digest) = files.get(&list) else { continue };
            match pieces(store, id, (&list, files.len()), *digest) {
                Ok(pieces) => {
                    for piece in pieces {
                        self.add_piece((number, stored.receipt.sequence), element, piece, &files);
                    }
                }
                Err(Wrong::Store(e)) => return Err(e),
                Err(Wrong::Content(why)) => self.trouble.push(is_wrong(&why)),
            }
        }
        Ok(())
    }

    fn add_piece(
        &mut self,
        (generation, arrived): (usize, u64),
        element: &str,
        piece: Piece,
        files: &HashMap<Vec<u8>, Digest>,
    ) {
        let path = [element.as_bytes(), b"/", &piece.stored.0].concat();
        let log = if element == JOURNAL { Log::Journal } else { Log::File(piece.log.0) };
        let Some(digest) = files.get(&path).copied() else {
            let text = format!("{log}: {}: it has no {}", self.generations[generation], show(&path));
            self.trouble.push(Trouble::damage(text));
            return;
        };
        let Piece { order, stream, offset, length, taken, .. } = piece;
        let part = Part { generation, path, digest, order, stream, offset, length, skip: 0, taken, arrived };
        self.logs.entry(log).or_default().push(part);
    }
}

/// Why something of a generation could not be read.
enum Wrong {
    /// The storage failed, or we were asked to stop: nothing else can be read either.
    Store(store::Error),
    /// It is damaged, with the reason.
    Content(String),
}

impl From<store::Error> for Wrong {
    fn from(e: store::Error) -> Self {
        match e {
            e if e.is_storage() => Self::Store(e),
            store::Error::Interrupted(_) => Self::Store(e),
            e => Self::Content(e.to_string()),
        }
    }
}

impl From<sys::Error> for Wrong {
    fn from(e: sys::Error) -> Self {
        store::Error::from(e).into()
    }
}

/// The sha256 of every file of a generation by its path, from its manifest, which is proven by its own.
fn files(store: &SourceStore, generation: &Generation) -> Result<HashMap<Vec<u8>, Digest>, Wrong> {
    let dir = store.open(&generation.id)?;
    let mut proven = Hashing::new(dir.open_file(names::MANIFEST)?);
    let mut files = HashMap::new();
    for item in mtree::Reader::new(BufReader::new(&mut proven), Limits::NONE) {
        if let Item::Entry(entry) = item.map_err(|e| Wrong::Content(e.to_string()))?
            && let Kind::File { digest, .. } = entry.kind
        {
            files.insert(entry.path, digest);
        }
    }
    let found = proven.drain().map_err(|e| sys::Error::new("read", dir.join(names::MANIFEST), e))?;
    if found != generation.sha256.manifest {
        return Err(Wrong::Content(format!("{} is not the one that was sealed", names::MANIFEST)));
    }
    Ok(files)
}

/// The lines of a list of pieces, of which there are no more than files, proven by its hash.
fn pieces(
    store: &SourceStore,
    id: &GenerationId,
    (list, most): (&[u8], usize),
    digest: Digest,
) -> Result<Vec<Piece>, Wrong> {
    let wrong = |why: &dyn std::fmt::Display| Wrong::Content(format!("{}: {why}", show(list)));
    let path = store.path(id).join(names::DATA);
    let mut proven = Hashing::new(store.content(id, list)?);
    let mut pieces = Vec::new();
    pieces::each(BufReader::new(&mut proven), most, &mut |piece| pieces.push(piece))
        .map_err(|e| wrong(&e))?;
    match proven.drain().map_err(|e| sys::Error::new("read", path, e))? {
        found if found == digest => Ok(pieces),
        _ => Err(wrong(&"it is not the one that was sealed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(arrived: u64, offset: u64, length: u64) -> Part {
        Part {
            generation: 0,
            path: b"files/x".to_vec(),
            digest: Digest::of(b""),
            order: 1,
            stream: "a".to_owned(),
            offset,
            length,
            skip: 0,
            taken: Timestamp::UNIX_EPOCH,
            arrived,
        }
    }

    /// Arrival, begin and end of what is shown, and the arrivals of what is left out.
    fn of(parts: &[Part]) -> (Vec<(u64, u64, u64)>, Vec<u64>) {
        let (shown, left_out) = first_come(parts.to_vec());
        let shown = shown.iter().map(|p| (p.arrived, p.begin(), p.end())).collect();
        (shown, left_out.iter().map(|p| p.arrived).collect())
    }

    #[test]
    fn what_came_first_is_shown_whatever_is_said_of_it_later() {
        let two = [part(1, 0, 10), part(2, 10, 5)];
        assert_eq!(of(&two), (vec![(1, 0, 10), (2, 10, 15)], vec![]));
        let again = [two.as_slice(), &[part(3, 0, 10), part(4, 0, 15), part(5, 12, 1)]].concat();
        assert_eq!(of(&again), of(&two));
        let beyond = [two.as_slice(), &[part(3, 0, u64::MAX)]].concat();
        assert_eq!(of(&beyond), (vec![(1, 0, 10), (2, 10, 15), (3, 15, u64::MAX)], vec![]));
        let around = [part(1, 5, 5), part(2, 12, 3), part(3, 0, 20), part(4, 7, 20), part(5, 10, 2)];
        assert_eq!(of(&around), (vec![(1, 5, 10), (5, 10, 12), (2, 12, 15)], vec![3, 4]));
    }
}
