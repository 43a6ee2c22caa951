//! The cage's rules for files, signals and ports: Landlock.

use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use super::{Error, Policy, elf};

/// The newest rights that the cage knows; an older kernel gives those it has.
const NEWEST: ABI = ABI::V10;
/// The version from which on nothing is missing: it knows truncation, signals and abstract sockets.
const FULL: u32 = 6;

/// What the running kernel can do for the cage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// The version of Landlock, if it is there and switched on.
    pub landlock_abi: Option<u32>,
}

impl Support {
    /// What an operator should know: `None` if the cage closes fully.
    pub fn warning(self) -> Option<String> {
        match self.landlock_abi {
            None => Some("the kernel has no Landlock: rsync runs without a cage around its files".to_owned()),
            Some(abi) if abi < FULL => Some(format!(
                "the kernel's Landlock is version {abi}, not {FULL}: signals are held back by system call alone"
            )),
            Some(_) => None,
        }
    }
}

impl std::fmt::Display for Support {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.landlock_abi {
            Some(abi) => write!(f, "version {abi}"),
            None => write!(f, "not in this kernel, or switched off"),
        }
    }
}

/// Asks the kernel, once. A thread of its own locks itself in and ends: the caller stays free.
pub fn support() -> Support {
    static SUPPORT: OnceLock<Support> = OnceLock::new();
    *SUPPORT.get_or_init(|| {
        let probe = || {
            let ruleset = Ruleset::default().handle_access(AccessFs::MakeSock)?.create()?;
            Ok::<_, landlock::RulesetError>(abi(&ruleset.restrict_self()?.landlock))
        };
        let landlock_abi = std::thread::spawn(probe).join().ok().and_then(Result::ok).flatten();
        Support { landlock_abi }
    })
}

fn abi(status: &LandlockStatus) -> Option<u32> {
    match status {
        LandlockStatus::Available { effective_abi, .. } => Some(*effective_abi as u32),
        _ => None,
    }
}

/// Locks this thread in, and all that it becomes or starts. Returns the version of Landlock that did it.
pub(super) fn restrict(policy: &Policy) -> Result<Option<u32>, Error> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let loaders: Vec<_> = policy.exec.iter().filter_map(|program| elf::loader(program)).collect();
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(&policy.read, read))?
        .add_rules(path_beneath_rules(&policy.write, write()))?
        .add_rules(path_beneath_rules(
            policy.exec.iter().chain(&loaders),
            AccessFs::ReadFile | AccessFs::Execute,
        ))?
        .restrict_self()?;
    let abi = abi(&status.landlock).filter(|_| status.ruleset != RulesetStatus::NotEnforced);
    if policy.required && abi.is_none() {
        return Err(Error::NoLandlock(Support { landlock_abi: None }));
    }
    Ok(abi)
}

/// Regular files and folders only: no links, pipes, sockets or devices.
fn write() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}
