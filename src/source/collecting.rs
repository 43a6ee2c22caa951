//! Collecting all elements of a source into one draft.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    archive, cache,
    collect::{Book, Counts, Error, Record, Slots},
    copier::{self, At, Shared},
    delivery::Collection,
    deltas::Deltas,
    dump::{self, DumpError},
    state::State,
    tree,
};
use crate::{
    app::services,
    config::{self, Element, ElementKind},
    manifest::{entry, generation, names},
    report::{Finding, Kind},
    store::handover_point::{Draft, HandoverPoint},
    sys::{self, Dir, laps::Laps, progress::Progress, room::Room, signals, words},
};

/// What root remembers, read beside the walk.
type Cache = cache::Reader<BufReader<File>>;

/// Records that may wait for the book, and files that may wait to be read.
const SLOTS: usize = 4096;
const JOBS: usize = 256;

/// What collecting needs from the run.
pub struct Setting<'a> {
    /// The source's part of the configuration.
    pub config: &'a config::Source,
    /// Folders that are handover's own.
    pub own: &'a [PathBuf],
    /// Where drafts are made, and the generation before is found.
    pub point: &'a HandoverPoint,
    /// What root remembers.
    pub state: &'a State,
    /// Stored paths that the sink found damaged: they are read afresh.
    pub afresh: &'a BTreeSet<Vec<u8>>,
    /// Counted along the way.
    pub progress: &'a Progress,
    /// The time of the run.
    pub started: Timestamp,
}

/// Collects all elements into a draft. What is wrong with one of them is a finding, and in its record. Where the time
/// went is added to `laps`.
pub fn collect(
    setting: &Setting<'_>,
    draft: &Draft,
    findings: &mut Vec<Finding>,
    laps: &mut Laps,
) -> Result<Collection, Error> {
    let book = Book::open(
        draft.dir(),
        Some(setting.state.new_cache()?),
        setting.point.new_file_owner(),
        setting.progress,
    )?;
    let (previous, cache) = before(setting, findings)?.unzip();
    let linked = HashSet::new();
    let deltas = deltas(setting, draft)?;
    let streams = Streams { draft, book, previous, cache, linked };
    let deltas = deltas.as_ref();
    let mut collecting = Collecting { setting, streams, deltas, read: 0, findings, laps };
    let mut configured: Vec<&Element> = setting.config.elements.iter().collect();
    // The order of the manifest: so that it is written as one stream.
    configured.sort_by(|a, b| entry::order(a.name.as_str().as_bytes(), b.name.as_str().as_bytes()));
    let mut elements = Vec::new();
    for element in configured {
        signals::check()?;
        setting.progress.begin(format!("collecting {}", element.name), 0, 0);
        elements.push(collecting.element(element)?);
    }
    let Collecting { streams, read, laps, .. } = collecting;
    let book = laps.time("close the book", || streams.book.finish())?;
    Ok(Collection { elements, book, read })
}

/// The content of the generation before and what root remembers of it; without either, everything is read.
fn before(setting: &Setting<'_>, findings: &mut Vec<Finding>) -> Result<Option<(Dir, Cache)>, Error> {
    let Some(last) = &setting.state.facts().last else { return Ok(None) };
    let (Some((_, dir)), Some(file)) = (setting.point.locate(last)?, setting.state.cache()?) else {
        return Ok(None);
    };
    let Ok(data) = dir.open_dir(names::DATA) else { return Ok(None) };
    match cache::Reader::new(BufReader::with_capacity(1 << 18, file)) {
        Ok(cache) => Ok(Some((data, cache))),
        Err(e) => {
            let text = format!("the cache cannot be read ({e}), so every file is read again");
            findings.push(Finding::new(Kind::Warning, "cache", text));
            Ok(None)
        }
    }
}

/// What goes through all elements in the order of the manifest.
struct Streams<'a> {
    draft: &'a Draft,
    book: Book<'a>,
    previous: Option<Dir>,
    cache: Option<Cache>,
    /// Files with several names that were met.
    linked: HashSet<(u64, u64)>,
}

struct Collecting<'a> {
    setting: &'a Setting<'a>,
    streams: Streams<'a>,
    deltas: Option<&'a Deltas>,
    read: u64,
    findings: &'a mut Vec<Finding>,
    laps: &'a mut Laps,
}

impl Collecting<'_> {
    fn element(&mut self, element: &Element) -> Result<generation::Element, Error> {
        let mut counts = Counts::default();
        let mut failures = Vec::new();
        match services::stop(self.setting.state.dir(), &element.services) {
            Ok(stopped) => {
                let collected = match &element.kind {
                    ElementKind::Tree(files) => self.tree(element, files, &mut counts),
                    ElementKind::Dump(dump) => {
                        let begun = Instant::now();
                        let dumped = self.dump(element, dump, &mut counts);
                        self.laps.add("dump", begun.elapsed());
                        dumped
                    }
                    ElementKind::Archive(files) => {
                        let begun = Instant::now();
                        let archived = self.archive(element, files, &mut counts);
                        self.laps.add("archive", begun.elapsed());
                        archived
                    }
                };
                let started = stopped.start();
                failures.extend(collected?);
                failures.extend(started.err().map(|e| e.to_string()));
            }
            Err(e) => {
                failures.push(e.to_string());
                self.folder(element, &mut counts)?;
            }
        }
        Ok(self.judge(element, counts, failures))
    }

    fn judge(&mut self, element: &Element, counts: Counts, mut failures: Vec<String>) -> generation::Element {
        let name = element.name.as_str();
        if let Some(first) = &counts.first_failure {
            let more =
                if counts.failed > 1 { format!(" (and {} more)", counts.failed - 1) } else { String::new() };
            failures.push(format!("could not be read: {first}{more}"));
        }
        if let Some(first) = &counts.first_unstable {
            let text = format!(
                "{} kept changing while being read, the first: {first}",
                words::files(counts.unstable)
            );
            self.findings.push(Finding::new(Kind::Warning, name, text));
        }
        let reason = (!failures.is_empty()).then(|| failures.join("; "));
        if let Some(reason) = &reason {
            let fix = "mend it and run again; what could be collected is handed over, and the newest good copy of this element is kept";
            self.findings.push(Finding::new(Kind::Failed, name, reason.clone()).with_fix(fix));
        }
        generation::Element {
            name: element.name.clone(),
            kind: element.kind.as_str().to_owned(),
            ok: reason.is_none(),
            reason,
            files: counts.files,
            bytes: counts.bytes,
            failed: counts.failed,
            unstable: counts.unstable,
        }
    }

    /// Records the folder of an element that is no folder of the source.
    fn folder(&mut self, element: &Element, counts: &mut Counts) -> Result<(), Error> {
        self.streams.draft.data().ensure_dir(&element.name, 0o750)?;
        self.streams.book.write(dump::folder(element, self.setting.started), counts)
    }

    fn tree(
        &mut self,
        element: &Element,
        files: &config::Files,
        counts: &mut Counts,
    ) -> Result<Vec<String>, Error> {
        let setting = self.setting;
        let shared = shared(setting, self.deltas)?;
        let settings = settings(element, files, setting);
        let mut laps = Laps::default();
        let walked =
            laps.time(tree::WALK, || walk_and_write(&mut self.streams, &settings, setting, &shared, counts));
        let (remarks, finishing) = walked?;
        let read = shared.read.load(Ordering::Relaxed) > 0;
        self.laps_of_walk(&laps, &remarks, (if read { tree::COPY } else { tree::WALK }, finishing));
        Ok(self.heed(element, remarks, &shared))
    }

    fn archive(
        &mut self,
        element: &Element,
        files: &config::Files,
        counts: &mut Counts,
    ) -> Result<Vec<String>, Error> {
        let setting = self.setting;
        let shared = shared(setting, self.deltas)?;
        let name: &OsStr = element.name.as_ref();
        let data = self.streams.draft.data();
        data.create_dir(name, 0o750)?;
        let tools = archive::Tools {
            data,
            previous: self.previous_archive(name)?,
            shared: &shared,
            threads: setting.config.jobs,
            now: setting.started,
        };
        let collected = archive::collect(Path::new("/"), &settings(element, files, setting), &tools)?;
        collected.count(counts);
        for record in collected.records {
            self.streams.book.write(record, counts)?;
        }
        Ok(self.heed(element, collected.remarks, &shared))
    }

    /// The archive of the generation before, unless the sink found it damaged.
    fn previous_archive(&mut self, element: &OsStr) -> Result<Option<archive::Previous>, Error> {
        let path = archive::path_of(element);
        let fingerprint = self.remembered(element.as_encoded_bytes())?.map(|known| known.digest);
        let known = self.remembered(&path)?.filter(|_| !self.setting.afresh.contains(&path));
        let dir = self.streams.previous.as_ref().and_then(|data| data.open_dir(element).ok());
        Ok(known.zip(dir).map(|(known, dir)| {
            let at = At { dir: Arc::new(dir), name: archive::name_of(element) };
            archive::Previous { at, known, fingerprint }
        }))
    }

    fn remembered(&mut self, path: &[u8]) -> Result<Option<cache::Known>, Error> {
        match &mut self.streams.cache {
            Some(cache) => Ok(cache.find(path).map_err(|e| sys::Error::new("read", "cache", e))?),
            None => Ok(None),
        }
    }

    /// Keeps what a walk said; what makes the element fail is given back.
    fn heed(&mut self, element: &Element, remarks: tree::Remarks, shared: &Shared<'_>) -> Vec<String> {
        self.read += shared.read.load(Ordering::Relaxed);
        for note in remarks.notes {
            self.findings.push(Finding::new(Kind::Note, element.name.as_str(), note));
        }
        remarks.failures
    }

    /// The walk itself, without what it waited for; what came after it counts for the phase that is named.
    fn laps_of_walk(&mut self, laps: &Laps, remarks: &tree::Remarks, finishing: (&'static str, Duration)) {
        let mut waits = remarks.waits.clone();
        waits.add(finishing.0, finishing.1);
        let waited = waits.iter().map(|(_, wait)| wait).sum();
        laps.iter().for_each(|(phase, spent)| self.laps.add(phase, spent.saturating_sub(waited)));
        waits.iter().for_each(|(phase, wait)| self.laps.add(phase, wait));
    }

    fn dump(
        &mut self,
        element: &Element,
        dump: &config::Dump,
        counts: &mut Counts,
    ) -> Result<Vec<String>, Error> {
        self.folder(element, counts)?;
        let path = dump::path_of(element, dump);
        let known = self.remembered(&path)?;
        let tools = dump::Tools {
            data: self.streams.draft.data(),
            previous: dump::previous(self.streams.previous.as_ref(), element, dump, known),
            owner: self.setting.point.new_file_owner(),
            deltas: self.deltas,
            scratch: &self.setting.state.dir().ensure_dir("scratch", 0o711)?,
            progress: self.setting.progress,
            now: self.setting.started,
        };
        match dump::collect(element, dump, &tools) {
            Ok(record) => {
                if let Record::File(file) = &record {
                    self.read += file.known.size;
                }
                self.streams.book.write(record, counts)?;
                Ok(Vec::new())
            }
            Err(DumpError::Element(text)) => Ok(vec![text]),
            Err(DumpError::Run(e)) => Err(e),
        }
    }
}

/// What a walk over an element's files is asked for.
fn settings<'a>(element: &'a Element, files: &'a config::Files, setting: &Setting<'a>) -> tree::Settings<'a> {
    tree::Settings {
        element: element.name.as_ref(),
        paths: &files.paths,
        exclude: &files.exclude,
        one_file_system: files.one_file_system,
        exclude_caches: files.exclude_caches,
        allow_empty: files.allow_empty,
        own: setting.own,
    }
}

/// What those who read the files of one element share.
fn shared<'a>(setting: &Setting<'a>, deltas: Option<&'a Deltas>) -> Result<Shared<'a>, Error> {
    Ok(Shared {
        owner: setting.point.new_file_owner(),
        reserve: reserve(setting)?,
        progress: setting.progress,
        since_room: AtomicU64::new(0),
        read: AtomicU64::new(0),
        deltas,
    })
}

/// Bytes of the home's file system that stay free.
fn reserve(setting: &Setting<'_>) -> Result<u64, Error> {
    Ok(setting.config.reserve.of(Room::of(&Dir::open(setting.point.home())?)?.bytes_total))
}

/// Where deltas go, if the sink has the generation before, or will when it fetches this one.
fn deltas(setting: &Setting<'_>, draft: &Draft) -> Result<Option<Deltas>, Error> {
    let Some(last) = &setting.state.facts().last else { return Ok(None) };
    if !setting.point.reaches_sink(last)? {
        return Ok(None);
    }
    Ok(Some(Deltas::new(draft.dir(), setting.point.new_file_owner(), reserve(setting)?)?))
}

/// The walk in this thread, the book in another, files read by several more; also gives how long those took after it.
fn walk_and_write(
    streams: &mut Streams<'_>,
    settings: &tree::Settings<'_>,
    setting: &Setting<'_>,
    shared: &Shared<'_>,
    counts: &mut Counts,
) -> Result<(tree::Remarks, Duration), Error> {
    let (jobs, queue) = crossbeam_channel::bounded(JOBS);
    let (slots, records) = Slots::new(SLOTS);
    let Streams { draft, book, previous, cache, linked } = streams;
    thread::scope(|scope| {
        for _ in 0..setting.config.jobs {
            let queue = queue.clone();
            scope.spawn(move || copier::work(&queue, shared));
        }
        drop(queue);
        let writing = scope.spawn(|| book.write_all(records, counts));
        let mut tools = tree::Tools {
            data: draft.data(),
            previous: previous.as_ref(),
            cache: cache.as_mut(),
            afresh: setting.afresh,
            linked,
            owner: shared.owner,
            jobs,
            batch: None,
            slots,
        };
        let walked = tree::walk(Path::new("/"), settings, &mut tools);
        drop(tools);
        let walked_at = Instant::now();
        let written = writing.join().unwrap_or(Err(Error::Internal("the book's thread failed")));
        // An error of the book is the cause; the walk then only saw that the book was closed.
        written.and(walked).map(|remarks| (remarks, walked_at.elapsed()))
    })
}
