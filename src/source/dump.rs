//! A dump: what a command of the application writes, judged by its exit status, its size and a check of its own.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Seek as _, Write as _},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{
    cache::Known,
    collect::{Error, FileRecord, Record},
    copier::{self, At},
    deltas::Deltas,
    linking,
};
use crate::{
    config::{Dump, Element, Output},
    manifest::{Digest, Entry, Kind, entry::Time},
    sys::{
        self, Dir,
        child::{self, Failure, Job},
        copy, durable,
        progress::Progress,
    },
};

/// What a dump needs from the run.
pub struct Tools<'a> {
    /// The draft's `data/`.
    pub data: &'a Dir,
    /// The stored dump of before, and what is known of it.
    pub previous: Option<(At, Known)>,
    /// Whom new files are given to.
    pub owner: Option<(u32, u32)>,
    /// A folder of root's for commands that write a file themselves.
    pub scratch: &'a Dir,
    /// Where its delta goes; none where no sink could use it.
    pub deltas: Option<&'a Deltas>,
    /// Counted along the way.
    pub progress: &'a Progress,
    /// The time of the dump.
    pub now: Timestamp,
}

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// This element failed; the others go on.
    #[error("{0}")]
    Element(String),
    /// The run failed.
    #[error(transparent)]
    Run(#[from] Error),
}

impl From<sys::Error> for DumpError {
    fn from(e: sys::Error) -> Self {
        Self::Run(e.into())
    }
}

/// The path of a dump in the manifest.
pub fn path_of(element: &Element, dump: &Dump) -> Vec<u8> {
    format!("{}/{}", element.name, dump.file).into_bytes()
}

/// Runs the command and keeps what it writes. The element's folder is always recorded, the dump only if it is good.
pub fn collect(element: &Element, dump: &Dump, tools: &Tools<'_>) -> Result<Record, DumpError> {
    let folder = Arc::new(tools.data.open_dir(&element.name)?);
    let to = At { dir: folder, name: dump.file.clone().into() };
    let file = copier::new_file(&to, tools.owner)?;
    let made = write(element, dump, tools, &file).and_then(|content| {
        judge(element, dump, &file, &content)?;
        Ok(content)
    });
    let content = match made {
        Ok(content) => content,
        Err(e) => {
            durable::unlink_draft(&to.dir, &to.name)?;
            return Err(e);
        }
    };
    if let Some(deltas) = tools.deltas {
        deltas.compare(&to, tools.previous.as_ref(), &content)?;
    }
    linking::link_if_same(tools.previous.as_ref(), &to, content.sha256, tools.owner)?;
    let stored = to.dir.stat(&to.name)?;
    Ok(Record::File(Box::new(record(path_of(element, dump), content, stored.st_ino, tools.now))))
}

/// The record of an element's folder that is no folder of the source.
pub fn folder(element: &Element, now: Timestamp) -> Record {
    folder_of(element.name.as_ref(), time(now))
}

/// As [`folder`], with the time of what is in it.
pub fn folder_of(element: &OsStr, mtime: Time) -> Record {
    let (uid, gid) = (sys::users::euid(), sys::users::egid());
    let path = element.as_encoded_bytes().to_vec();
    let entry = Entry { path, mode: 0o700, uid, gid, uname: None, gname: None, mtime, kind: Kind::Dir };
    Record::Entry(entry, Vec::new())
}

/// The time of what is made now, in whole seconds.
pub fn time(now: Timestamp) -> Time {
    Time { seconds: now.as_second(), nanoseconds: 0 }
}

fn record(path: Vec<u8>, content: copy::Content, stored_inode: u64, now: Timestamp) -> FileRecord {
    FileRecord {
        mode: 0o600,
        uid: sys::users::euid(),
        gid: sys::users::egid(),
        links: None,
        attributes: Vec::new(),
        unstable: false,
        known: Known {
            path,
            device: 0,
            inode: 0,
            size: content.size,
            mtime: time(now),
            ctime: Time::default(),
            settled: false, // A dump is always made anew.
            plain: true,
            digest: Digest(content.sha256),
            stored_inode,
        },
    }
}

fn write(element: &Element, dump: &Dump, tools: &Tools<'_>, file: &File) -> Result<copy::Content, DumpError> {
    match dump.output {
        Output::Stdout => from_stdout(element, dump, tools, file),
        Output::File => from_file(element, dump, tools, file),
    }
}

fn from_stdout(
    element: &Element,
    dump: &Dump,
    tools: &Tools<'_>,
    file: &File,
) -> Result<copy::Content, DumpError> {
    let path = std::path::PathBuf::from(format!("{}/{}", element.name, dump.file));
    let (mut hasher, mut size, mut out) = (Sha256::new(), 0_u64, durable::Writer::new(file, &path));
    let mut write_failed = None;
    let mut keep = |bytes: &[u8]| {
        hasher.update(bytes);
        size += bytes.len() as u64;
        tools.progress.add_bytes(bytes.len() as u64);
        out.write_all(bytes).inspect_err(|e| write_failed = e.raw_os_error())
    };
    let ended = child::run(&job(element, &dump.command), None, Some(&mut keep));
    if let Some(errno) = write_failed {
        let full = std::io::Error::from_raw_os_error(errno);
        return Err(sys::Error::new("write", path, full).into());
    }
    ended.map_err(failure)?;
    Ok(copy::Content { size, sha256: hasher.finalize().into() })
}

fn from_file(
    element: &Element,
    dump: &Dump,
    tools: &Tools<'_>,
    file: &File,
) -> Result<copy::Content, DumpError> {
    durable::remove_tree(tools.scratch, &element.name)?;
    let scratch = tools.scratch.create_dir(&element.name, 0o700)?;
    if let Some(user) = &element.user
        && let Some(account) = sys::users::find(user)?
        && sys::users::is_root()
    {
        scratch.give_to(account.uid, account.gid)?;
    }
    let place = scratch.join(&dump.file);
    let argv: Vec<String> =
        dump.command.iter().map(|word| word.replace("{file}", &place.to_string_lossy())).collect();
    child::run(&job(element, &argv), None, None).map_err(failure)?;
    let written = scratch
        .open_file(&dump.file)
        .map_err(|e| DumpError::Element(format!("the command ended well but wrote no file: {e}")))?;
    let mut seen = |bytes| {
        tools.progress.add_bytes(bytes);
        sys::signals::check()
    };
    let content = copy::hash_and_copy(&written, Some(file), &place, &mut seen).map_err(|e| match e {
        copy::CopyError::Read(e) => DumpError::Element(e.to_string()),
        copy::CopyError::Write(e) => DumpError::Run(e.into()),
        copy::CopyError::Interrupted(e) => DumpError::Run(e.into()),
    })?;
    durable::remove_tree(tools.scratch, &element.name)?;
    Ok(content)
}

fn judge(element: &Element, dump: &Dump, file: &File, content: &copy::Content) -> Result<(), DumpError> {
    if content.size < dump.min_size {
        let text = format!("the dump has {} bytes, less than min_size = {}", content.size, dump.min_size);
        return Err(DumpError::Element(text));
    }
    if let Some(check) = &dump.check {
        let input = reopen(file)?;
        child::run(&job(element, check), Some(input), None).map_err(|e| match failure(e) {
            DumpError::Element(text) => DumpError::Element(format!("the check of the dump failed: {text}")),
            other => other,
        })?;
    }
    Ok(())
}

/// The dump from its start, for reading only: what checks it cannot change it.
fn reopen(file: &File) -> Result<File, sys::Error> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut input = File::open(&path).map_err(|e| sys::Error::new("open", Path::new(&path), e))?;
    input.rewind().map_err(|e| sys::Error::new("read", Path::new(&path), e))?;
    Ok(input)
}

fn job<'a>(element: &'a Element, argv: &'a [String]) -> Job<'a> {
    Job { argv, user: element.user.as_deref(), env: &[], timeout: element.timeout }
}

fn failure(e: Failure) -> DumpError {
    match e {
        Failure::Interrupted(e) => DumpError::Run(e.into()),
        other => DumpError::Element(other.to_string()),
    }
}

/// The stored dump of the generation before, where there is one.
pub fn previous(
    data: Option<&Dir>,
    element: &Element,
    dump: &Dump,
    known: Option<Known>,
) -> Option<(At, Known)> {
    let dir = data?.open_dir(&element.name).ok()?;
    let name: &OsStr = dump.file.as_ref();
    Some((At { dir: Arc::new(dir), name: name.to_owned() }, known?))
}
