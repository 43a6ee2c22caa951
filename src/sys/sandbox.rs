//! The cage: a program that talks to somebody hostile runs with the few rights it needs. Landlock decides over files,
//! signals and ports, seccomp over system calls. handover starts itself as the cage, which locks itself in and then
//! becomes the program: nothing runs between fork and exec, and the caller stays free.

mod calls;
mod elf;
mod files;

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Resource, Rlimit};

use super::child;
pub use files::{Support, support};

/// The hidden subcommand by which handover starts itself as the cage.
pub const ENTRY: &str = "__cage";
/// Exit code of a cage that could not be closed or whose program could not be started; the reason is on stderr.
pub const FAILED: u8 = 120;

/// What the program in the cage may do. Everything that is not named is refused, except that modes, owners, times and
/// attributes can be "set" with pretended success: Landlock does not govern them, and a receiver need not fail over it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Files, and folders with all in them, that may be read.
    pub read: Vec<PathBuf>,
    /// Folders in which regular files and folders may be read, made, written, renamed and removed; devices in the list may
    /// be written.
    pub write: Vec<PathBuf>,
    /// Programs that may be started. Their ELF loaders are found and added.
    pub exec: Vec<PathBuf>,
    /// No file can grow beyond this many bytes.
    pub largest_file: Option<u64>,
    /// Without Landlock in the kernel nothing is started at all.
    pub required: bool,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no Landlock.
    #[error(
        "Landlock is {0}, and the configuration requires the sandbox: use a kernel with Landlock, or sandbox = \"auto\""
    )]
    NoLandlock(Support),
    /// Landlock refused the rules.
    #[error("the sandbox cannot be closed: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// seccomp refused the filter.
    #[error("the sandbox cannot be closed: system calls: {0}")]
    Seccomp(String),
    /// A system call failed on the way.
    #[error("the sandbox cannot be closed: {0}")]
    System(#[from] rustix::io::Errno),
    /// The program could not be started.
    #[error("cannot start {}: {why}", super::show(.program.as_encoded_bytes()))]
    Exec {
        /// The program.
        program: OsString,
        /// The system's answer.
        why: std::io::Error,
    },
    /// The cage was not started by handover.
    #[error("this is no command for people: {0}")]
    Arguments(&'static str),
}

impl Policy {
    /// What every dynamically linked program reads at its start, and leave to start `programs`.
    pub fn of_programs<P: Into<PathBuf>>(programs: impl IntoIterator<Item = P>) -> Self {
        let exec: Vec<PathBuf> = programs.into_iter().map(Into::into).collect();
        let read = LIBRARIES.iter().map(PathBuf::from).collect();
        Self { read, write: vec!["/dev/null".into()], exec, ..Self::default() }
    }

    /// With one more path to read.
    #[must_use]
    pub fn reading(mut self, path: impl Into<PathBuf>) -> Self {
        self.read.push(path.into());
        self
    }

    /// With one more folder to write in.
    #[must_use]
    pub fn writing(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }

    fn absolute(mut self) -> Self {
        for path in self.read.iter_mut().chain(&mut self.write).chain(&mut self.exec) {
            // Fails only for an empty path, or in a folder that is gone: then the rule does not apply, which is safe.
            *path = std::path::absolute(&path).unwrap_or_default();
        }
        self
    }

    fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        for (word, paths) in [("read", &self.read), ("write", &self.write), ("exec", &self.exec)] {
            args.extend(paths.iter().flat_map(|path| [OsString::from(word), path.clone().into()]));
        }
        if let Some(bytes) = self.largest_file {
            args.extend(["largest-file".into(), bytes.to_string().into()]);
        }
        if self.required {
            args.push("required".into());
        }
        args.push("--".into());
        args
    }

    /// Reads what [`Self::to_args`] wrote; what follows is the program with its arguments.
    fn from_args(args: &[OsString]) -> Result<(Self, &[OsString]), Error> {
        let (mut policy, mut rest) = (Self::default(), args);
        while let [word, more @ ..] = rest {
            rest = match (word.to_str(), more) {
                (Some("--"), _) => return Ok((policy, more)),
                (Some("required"), _) => {
                    policy.required = true;
                    more
                }
                (Some("read"), [path, more @ ..]) => {
                    policy.read.push(path.into());
                    more
                }
                (Some("write"), [path, more @ ..]) => {
                    policy.write.push(path.into());
                    more
                }
                (Some("exec"), [path, more @ ..]) => {
                    policy.exec.push(path.into());
                    more
                }
                (Some("largest-file"), [bytes, more @ ..]) => {
                    let bytes = bytes.to_str().and_then(|b| b.parse().ok());
                    policy.largest_file = Some(bytes.ok_or(Error::Arguments("a number is missing"))?);
                    more
                }
                _ => return Err(Error::Arguments("an unknown word in the policy")),
            };
        }
        Err(Error::Arguments("the program is missing"))
    }
}

/// What programs read at their start on the distributions we know, besides their own file. What is missing is skipped.
const LIBRARIES: [&str; 15] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ld-musl-x86_64.path",
    "/etc/ld-musl-aarch64.path",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/openssl.cnf",
    "/etc/crypto-policies",
    "/usr/share/locale/locale.alias",
    "/dev/urandom",
];

/// A command that runs `program` in the cage; its arguments are added by the caller. `handover` is the path of this
/// program, which is the cage. The environment is the fixed one of [`child::command`]. Paths of the policy are taken
/// from the current folder of the caller, wherever the command will run.
pub fn command(handover: &Path, policy: &Policy, program: &OsStr) -> Command {
    let mut command = child::command(handover);
    command.arg(ENTRY).args(policy.clone().absolute().to_args()).arg(program);
    command
}

/// The hidden subcommand: reads the policy from the arguments after [`ENTRY`], closes the cage and becomes the program.
/// Returns only if that failed.
pub fn entry(args: &[OsString]) -> Error {
    let (policy, program) = match Policy::from_args(args) {
        Ok(parsed) => parsed,
        Err(e) => return e,
    };
    match program {
        [program, args @ ..] => enter_and_exec(&policy, program, args),
        [] => Error::Arguments("the program is missing"),
    }
}

/// Locks this process in and becomes `program` (an absolute path). Returns only if that failed; the process may be
/// locked in by then, so all that is left to do is to say why and exit.
pub fn enter_and_exec(policy: &Policy, program: &OsStr, args: &[impl AsRef<OsStr>]) -> Error {
    if let Err(e) = enter(policy) {
        return e;
    }
    let why = child::command(program).args(args).exec();
    Error::Exec { program: program.to_owned(), why }
}

/// Locks this process in for good, while it has one thread. All that it opened before stays open. A narrower cage can be
/// closed within.
pub fn enter(policy: &Policy) -> Result<(), Error> {
    if let Some(bytes) = policy.largest_file {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        rustix::process::setrlimit(Resource::Fsize, limit)?;
    }
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let abi = files::restrict(policy)?;
    calls::restrict(abi)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_policy_survives_the_command_line_whatever_the_paths_are_called() {
        let strange = PathBuf::from(OsString::from_vec(b"/a b/--\xff\n".to_vec()));
        let policy = Policy {
            read: vec![strange.clone(), "read".into()],
            write: vec!["--".into()],
            exec: vec!["required".into()],
            largest_file: Some(7),
            required: true,
        };
        let mut args = policy.to_args();
        args.extend(["/bin/true".into(), "--".into()]);
        let (read, program) = Policy::from_args(&args).unwrap();
        assert_eq!(read, policy);
        assert_eq!(program, ["/bin/true", "--"]);
    }

    #[test]
    fn a_policy_that_is_cut_off_starts_nothing() {
        for args in
            [vec![], vec!["read"], vec!["required"], vec!["what", "--", "x"], vec!["largest-file", "x", "--"]]
        {
            let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
            assert!(Policy::from_args(&args).is_err(), "{args:?}");
        }
    }
}
