//! The connection: an `ssh` in the background with a socket for sessions, in a private folder of its own.
//!
//! It is started here and not by the `openssh` crate, so that every option is ours, and so that an ssh that hangs on its
//! way in is ended with all that it started.

use std::{
    fs::{File, Permissions},
    io::{Read as _, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{Error, Host, Result, TICK, interpret};
use crate::{
    remote::process::Running,
    sys::{Dir, child, program, signals},
};

/// The file with what the connection said; `openssh` expects the socket beside it under the name `master`.
pub(super) const LOG: &str = "log";
const SOCKET: &str = "master";
const CONFIG: &str = "config";
const LOG_LIMIT: u64 = 64 * 1024;
/// The longest path of a socket that Linux takes, without what ssh appends while it makes it.
const LONGEST: usize = 107 - 17;
/// More than ssh itself takes to give up connecting, for what it does not time: the way in.
const GRACE: Duration = Duration::from_secs(20);

/// Connects, and gives the folder with the socket. Nothing is left behind if it fails.
pub(super) fn connect(host: &Host, private: &Path) -> Result<TempDir> {
    let ssh = program::find("ssh")
        .ok_or_else(|| Error::Us("ssh is not installed here: install the OpenSSH client".to_owned()))?;
    // ssh would try without it, and only say that it was not let in.
    if let Err(e) = File::open(&host.identity) {
        return Err(interpret::no_key(host, &e));
    }
    let folder = folder(private)?;
    let dir = Dir::open(folder.path())?;
    let said = dir.create_file(LOG, 0o600)?;
    let mut config = dir.create_file(CONFIG, 0o600)?;
    config.write_all(host.config()?.as_bytes()).map_err(|e| Error::us("prepare for ssh", e))?;
    let mut command = child::command(ssh);
    // The order of names in the folder is ours: no percent sign or space in it but those of the state folder.
    let path = |name: &str| folder.path().join(name);
    command.arg("-F").arg(path(CONFIG)).arg("-E").arg(path(LOG));
    command
        .arg("-S")
        .arg(escaped(&path(SOCKET)))
        .args(["-M", "-f", "-N"])
        .args(host.args(&path(CONFIG), &path(LOG))?);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
    let mut running = Running::start(command, "start ssh")?;
    let deadline = Instant::now() + host.connect_timeout + GRACE;
    while !running.ended_within(TICK) {
        signals::check()?;
        if Instant::now() > deadline {
            running.stop();
            running.reap()?;
            return Err(Error::Connect(format!(
                "{} did not let us in within {} s",
                host.host,
                (host.connect_timeout + GRACE).as_secs()
            )));
        }
    }
    if running.leave()?.success() {
        return Ok(folder);
    }
    Err(interpret::failed(&read_log(&path(LOG)), host))
}

/// A folder of one connection: below `private`, or where that is too deep for a socket, among the temporary files.
fn folder(private: &Path) -> Result<TempDir> {
    let failed = |e: std::io::Error| Error::us("make a private folder for ssh", e);
    let make = |base: &Path| {
        tempfile::Builder::new()
            .prefix("c-")
            .rand_bytes(8)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(base)
            .map_err(failed)
    };
    let needed = private.as_os_str().len() + "/c-12345678/".len() + SOCKET.len();
    if needed > LONGEST {
        return make(&std::env::temp_dir());
    }
    let dir = Dir::create_all(private, 0o700)?;
    sweep(&dir)?;
    make(private)
}

/// Folders that a killed run left behind: nobody answers on their socket.
fn sweep(dir: &Dir) -> Result<()> {
    for name in dir.names()? {
        let socket = dir.path().join(&name).join(SOCKET);
        let old = dir.stat_if_any(&name)?.is_some_and(|stat| is_old(&stat));
        if old
            && name.as_bytes().starts_with(b"c-")
            && std::os::unix::net::UnixStream::connect(&socket).is_err()
        {
            crate::sys::durable::remove_tree(dir, &name)?;
        }
    }
    Ok(())
}

/// Old enough that nobody is still about to connect in it.
fn is_old(stat: &rustix::fs::Stat) -> bool {
    crate::sys::clock::now().as_second() - stat.st_mtime > 3600
}

/// ssh reads percent signs in the path of the socket.
fn escaped(path: &Path) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = path.as_os_str().as_bytes().iter();
    std::ffi::OsString::from_vec(
        bytes.flat_map(|b| std::iter::repeat_n(*b, if *b == b'%' { 2 } else { 1 })).collect(),
    )
}

/// What the connection said, as far as it can be read.
pub(super) fn read_log(path: &Path) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(LOG_LIMIT).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => format!("what it said cannot be read: {e}"),
    }
}
