//! The folders of a home: made by `handover source init`, checked whenever they are opened.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, RawMode, StatxFlags};

use super::{HandoverPoint, Owner, Private};
use crate::{
    manifest::Channel,
    store::{Error, Result, places},
    sys::{self, Dir, durable, show, users},
};

/// Something that `create` did or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The folder is made, with this mode, and is whose.
    Make(PathBuf, u32, &'static str),
    /// The folder is given to this user and group.
    Owner(PathBuf, u32, u32),
    /// The folder gets this mode.
    Mode(PathBuf, u32),
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = |p: &Path| show(p.as_os_str().as_encoded_bytes());
        match self {
            Self::Make(p, mode, whose) => write!(f, "make the folder {} ({whose}, {mode:04o})", path(p)),
            Self::Owner(p, uid, gid) => write!(f, "give {} to user {uid}, group {gid}", path(p)),
            Self::Mode(p, mode) => write!(f, "set the mode of {} to {mode:04o}", path(p)),
        }
    }
}

/// Whose a folder is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Root's, closed to all others.
    Private,
    /// Root's, to be entered and read by the transport user.
    Readable,
    /// The transport user's.
    Transport,
}

impl Whose {
    /// Whose it is, for people.
    fn words(self) -> &'static str {
        match self {
            Self::Private | Self::Readable => "root's",
            Self::Transport => "the transport user's",
        }
    }

    fn mode(self) -> RawMode {
        if self == Self::Readable { 0o750 } else { 0o700 }
    }

    /// User and group. An ordinary user owns all of it.
    fn owner(self, transport: Owner) -> Owner {
        match self {
            Self::Transport => transport,
            Self::Readable => Owner { uid: users::euid(), gid: transport.gid },
            Self::Private => Owner { uid: users::euid(), gid: users::egid() },
        }
    }
}

/// The folders below the home; the log channel needs no restore drop point.
fn folders(channel: Channel) -> impl Iterator<Item = (&'static str, Whose)> {
    let both = [
        (places::COLLECTING, Whose::Private),
        (places::GATE, Whose::Readable),
        (places::OUTGOING, Whose::Transport),
        (places::STORE, Whose::Transport),
        (places::CONDEMNED, Whose::Transport),
    ];
    let data = [(places::RESTORE, Whose::Transport), (places::RESTORED, Whose::Private)];
    both.into_iter().chain(data.into_iter().filter(move |_| channel == Channel::Data))
}

impl HandoverPoint {
    /// Makes the home and its folders, or puts right what is wrong with their owners and modes; says what it did.
    /// `owner` is the transport user; `None` leaves everything to the user who runs this. May be cut and run again.
    pub fn create(home: &Path, channel: Channel, owner: Option<(u32, u32)>) -> Result<Vec<Change>> {
        arrange(home, channel, owner, false)
    }

    /// What [`Self::create`] would do.
    pub fn plan(home: &Path, channel: Channel, owner: Option<(u32, u32)>) -> Result<Vec<Change>> {
        arrange(home, channel, owner, true)
    }

    /// Opens all folders of a home, for the collector and for restore, and checks what every step relies on: they are
    /// there, on one file system and mount (a generation is moved by rename), and nobody else can swap them.
    pub fn open(home: &Path, channel: Channel) -> Result<Self> {
        let mut this = Self::open_for_gate(home)?;
        let private = Private {
            collecting: open(&this.home, places::COLLECTING)?,
            restore: (channel == Channel::Data).then(|| open(&this.home, places::RESTORE)).transpose()?,
            restored: (channel == Channel::Data).then(|| open(&this.home, places::RESTORED)).transpose()?,
        };
        // Who may use the restore drop point is assigned by hand.
        for (name, whose) in folders(channel).filter(|(name, _)| *name != places::RESTORE) {
            check_owner(&open(&this.home, name)?, whose, this.owner)?;
        }
        check_owner(&this.home, Whose::Readable, this.owner)?;
        let opened = [Some(&private.collecting), private.restore.as_ref(), private.restored.as_ref()];
        check_mount(&this.outgoing, opened.into_iter().flatten())?;
        this.private = Some(private);
        Ok(this)
    }

    /// Opens what the transport user may open: the gate's folders.
    pub fn open_for_gate(home: &Path) -> Result<Self> {
        let home = match Dir::open(home) {
            Err(e) if e.is_not_found() => return Err(missing(home.to_path_buf())),
            other => other?,
        };
        let outgoing = open(&home, places::OUTGOING)?;
        let stat = outgoing.stat_self()?;
        let this = Self {
            gate: open(&home, places::GATE)?,
            store: open(&home, places::STORE)?,
            condemned: open(&home, places::CONDEMNED)?,
            owner: Owner { uid: stat.st_uid, gid: stat.st_gid },
            private: None,
            outgoing,
            home,
        };
        for dir in [&this.outgoing, &this.store, &this.condemned] {
            check_owner(dir, Whose::Transport, this.owner)?;
        }
        check_mount(&this.outgoing, [&this.store, &this.condemned])?;
        Ok(this)
    }
}

fn arrange(home: &Path, channel: Channel, owner: Option<(u32, u32)>, dry: bool) -> Result<Vec<Change>> {
    let (uid, gid) = owner.unwrap_or((users::euid(), users::egid()));
    let mut arranging = Arranging { transport: Owner { uid, gid }, dry, changes: Vec::new() };
    let there = match Dir::open(home) {
        Err(e) if e.is_not_found() => None,
        other => Some(other?),
    };
    // From the top downwards: a folder is only trusted once its parent is ours.
    let there = arranging.folder(home, there, Whose::Readable, || Dir::create_all(home, 0o700))?;
    for (name, whose) in folders(channel) {
        let path = home.join(name);
        match &there {
            Some(home) => {
                let dir = look(home, name)?;
                arranging.folder(&path, dir, whose, || home.create_dir(name, 0o700))?;
            }
            None => arranging.changes.push(Change::Make(path, whose.mode(), whose.words())),
        }
    }
    match there {
        Some(home) if !dry => durable::sync_dir(&home)?,
        _ => {}
    }
    Ok(arranging.changes)
}

struct Arranging {
    transport: Owner,
    dry: bool,
    changes: Vec<Change>,
}

impl Arranging {
    /// One folder; none comes back only if it is missing and nothing is to be done.
    fn folder(
        &mut self,
        path: &Path,
        dir: Option<Dir>,
        whose: Whose,
        make: impl FnOnce() -> sys::Result<Dir>,
    ) -> Result<Option<Dir>> {
        let (wanted, mode) = (whose.owner(self.transport), whose.mode());
        let (dir, made) = match dir {
            Some(dir) => (dir, false),
            None => {
                self.changes.push(Change::Make(path.to_path_buf(), mode, whose.words()));
                if self.dry {
                    return Ok(None);
                }
                (make()?, true)
            }
        };
        let stat = dir.stat_self()?;
        if stat.st_uid != users::euid() && !users::is_root() {
            let why = format!("it belongs to user {}: run this as that user or as root", stat.st_uid);
            return Err(wrong(path.to_path_buf(), why));
        }
        if (stat.st_uid, stat.st_gid) != (wanted.uid, wanted.gid) {
            let change = Change::Owner(path.to_path_buf(), wanted.uid, wanted.gid);
            self.change(made, change, || dir.give_to(wanted.uid, wanted.gid))?;
        }
        if stat.st_mode & 0o7777 != mode {
            self.change(made, Change::Mode(path.to_path_buf(), mode), || dir.set_mode(mode))?;
        }
        Ok(Some(dir))
    }

    /// That a new folder gets its owner and mode goes without saying.
    fn change(&mut self, made: bool, change: Change, act: impl FnOnce() -> sys::Result<()>) -> Result<()> {
        if !made {
            self.changes.push(change);
        }
        if self.dry { Ok(()) } else { Ok(act()?) }
    }
}

/// A folder of the home if it is there; anything else in its place is an error with the next step.
fn look(home: &Dir, name: &str) -> Result<Option<Dir>> {
    match home.stat_if_any(name)? {
        None => Ok(None),
        Some(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => Ok(Some(home.open_dir(name)?)),
        Some(_) => Err(wrong(
            home.join(name),
            "it is a link or file, not a folder: move it away and run again".into(),
        )),
    }
}

fn open(home: &Dir, name: &str) -> Result<Dir> {
    look(home, name)?.ok_or_else(|| missing(home.join(name)))
}

fn missing(path: PathBuf) -> Error {
    wrong(
        path,
        "the folder is missing: is its disk mounted? Where there never was a home, `handover source init` makes it".into(),
    )
}

fn wrong(path: PathBuf, why: String) -> Error {
    Error::Layout { path, why }
}

fn check_owner(dir: &Dir, whose: Whose, transport: Owner) -> Result<()> {
    const FIX: &str = "`handover source init` puts it right";
    let stat = dir.stat_self()?;
    let (uid, mode) = (whose.owner(transport).uid, stat.st_mode & 0o7777);
    if stat.st_uid != uid {
        let why = format!("it belongs to user {}, not to user {uid}: {FIX}", stat.st_uid);
        return Err(wrong(dir.path().to_path_buf(), why));
    }
    // What others may not have: for our own and the transport user's anything, else writing.
    let forbidden = if whose == Whose::Readable { 0o022 } else { 0o077 };
    if mode & forbidden != 0 {
        let why = format!("its mode {mode:04o} lets others in, {:04o} is meant: {FIX}", whose.mode());
        return Err(wrong(dir.path().to_path_buf(), why));
    }
    Ok(())
}

fn check_mount<'a>(outgoing: &Dir, others: impl IntoIterator<Item = &'a Dir>) -> Result<()> {
    let mount = mount_of(outgoing)?;
    for dir in others {
        if mount_of(dir)? != mount {
            let why = format!(
                "it is on another file system or mount than {}, and generations are moved between them by renaming: \
                 mount one for the whole home",
                show(outgoing.path().as_os_str().as_encoded_bytes())
            );
            return Err(wrong(dir.path().to_path_buf(), why));
        }
    }
    Ok(())
}

/// Device and mount; an older kernel tells only the device.
fn mount_of(dir: &Dir) -> Result<(u64, Option<u64>)> {
    let device = dir.stat_self()?.st_dev;
    let mount = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .ok()
        .filter(|x| StatxFlags::from_bits_retain(x.stx_mask).contains(StatxFlags::MNT_ID))
        .map(|x| x.stx_mnt_id);
    Ok((device, mount))
}
