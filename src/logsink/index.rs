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
    /// When it was collected.
    pub taken: Timestamp,
}

impl Part {
    fn key(&self) -> (u64, &str, u64, u64) {
        // Of two that begin alike the longer one comes first, so that the other has nothing new.
        (self.order, &self.stream, self.offset, u64::MAX - self.length)
    }
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
        for parts in index.logs.values_mut() {
            parts.sort_by(|a, b| a.key().cmp(&b.key()));
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
            match pieces(store, id, &list, *digest) {
                Ok(pieces) => {
                    for piece in pieces {
                        self.add_piece(number, element, piece, &files);
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
        generation: usize,
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
        let part = Part { generation, path, digest, order, stream, offset, length, taken };
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

/// The lines of a list of pieces, proven by its hash.
fn pieces(store: &SourceStore, id: &GenerationId, list: &[u8], digest: Digest) -> Result<Vec<Piece>, Wrong> {
    let wrong = |why: &dyn std::fmt::Display| Wrong::Content(format!("{}: {why}", show(list)));
    let path = store.path(id).join(names::DATA);
    let mut proven = Hashing::new(store.content(id, list)?);
    let mut pieces = Vec::new();
    pieces::each(BufReader::new(&mut proven), &mut |piece| pieces.push(piece)).map_err(|e| wrong(&e))?;
    match proven.drain().map_err(|e| sys::Error::new("read", path, e))? {
        found if found == digest => Ok(pieces),
        _ => Err(wrong(&"it is not the one that was sealed")),
    }
}
