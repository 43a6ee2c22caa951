//! The cage's rules for system calls: seccomp. Landlock holds files; this holds what Landlock does not know, and what it
//! did not know yet in older kernels.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::Error;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that answer success and do nothing: modes, owners, times, attributes, which Landlock does not govern.
const PRETENDED: &[c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    452, // fchmodat2
    463, // setxattrat
    466, // removexattrat
    469, // file_setattr
];

/// The same, as older architectures call them.
#[cfg(target_arch = "x86_64")]
const PRETENDED_OLD: &[c_long] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const PRETENDED_OLD: &[c_long] = &[];

/// Calls that are refused: the network, other processes, the host itself, and names that are no regular files.
const REFUSED: &[c_long] = &[
    // the network; socketpair stays, without datagrams
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_kcmp,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // the host
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    467, // open_tree_attr
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // programs that are no file, and names that are no regular files
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_execveat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
];

/// The same, as older architectures call them.
#[cfg(target_arch = "x86_64")]
const REFUSED_OLD: &[c_long] = &[
    libc::SYS_mknod,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_OLD: &[c_long] = &[];

/// Calls that do not exist in the cage. Their callers fall back to older ones, whose arguments a filter can see; and
/// calls of kernels to come are nothing that we have looked at.
const ABSENT: &[c_long] = &[libc::SYS_clone3];
const FIRST_UNKNOWN: c_long = 470;
const LAST_UNKNOWN: c_long = 600;

/// Requests to a device or file system that reach beyond the own descriptor: typing into a terminal, flags and projects
/// of a file that is only open for reading.
const REFUSED_IOCTLS: [u64; 5] = [0x5412, 0x541c, 0x4008_6602, 0x4004_6602, 0x401c_5820];

/// Locks this thread in, and all that it becomes or starts. `landlock_abi` tells what Landlock already holds.
pub(super) fn restrict(landlock_abi: Option<u32>) -> Result<(), Error> {
    // A later filter does not soften an earlier one: of several answers to a call the kernel takes the strictest.
    for (errno, rules) in filters(landlock_abi.unwrap_or(0)).map_err(failed)? {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
        let filter =
            SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno.unsigned_abs()), arch)
                .map_err(failed)?;
        let program = BpfProgram::try_from(filter).map_err(failed)?;
        seccompiler::apply_filter(&program).map_err(failed)?;
    }
    Ok(())
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Seccomp(e.to_string())
}

fn filters(landlock_abi: u32) -> Result<[(i32, Rules); 3], seccompiler::BackendError> {
    let mut refused: Rules = REFUSED.iter().chain(REFUSED_OLD).map(|call| (*call, Vec::new())).collect();
    refused.extend(conditional(landlock_abi)?);
    let mut absent: Rules = (FIRST_UNKNOWN..=LAST_UNKNOWN).map(|call| (call, Vec::new())).collect();
    absent.extend(ABSENT.iter().map(|call| (*call, Vec::new())));
    let pretended: Rules = PRETENDED.iter().chain(PRETENDED_OLD).map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    absent.extend(second_numbers(refused.keys().chain(pretended.keys())));
    Ok([(libc::EPERM, refused), (libc::ENOSYS, absent), (0, pretended)])
}

/// On x86_64 every call has a second number (x32), and some have a third: a filter that forgets them is none.
#[cfg(target_arch = "x86_64")]
fn second_numbers<'a>(calls: impl Iterator<Item = &'a i64>) -> Rules {
    const X32: i64 = 0x4000_0000;
    calls.copied().chain(512..=547).chain([libc::SYS_clone3]).map(|call| (call | X32, Vec::new())).collect()
}

/// Calls that are refused only with some arguments.
fn conditional(landlock_abi: u32) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let mut refuse = |call: c_long, arg: u8, length: Length, op: Op, value: u64| {
        let rule = SeccompRule::new(vec![SeccompCondition::new(arg, length, op, value)?])?;
        rules.entry(call).or_default().push(rule);
        Ok::<_, seccompiler::BackendError>(())
    };
    // A datagram can be sent to any socket by its name.
    refuse(libc::SYS_socketpair, 1, Length::Dword, Op::MaskedEq(0xf), libc::SOCK_DGRAM as u64)?;
    refuse(libc::SYS_prlimit64, 0, Length::Dword, Op::Ne, 0)?;
    for request in REFUSED_IOCTLS {
        refuse(libc::SYS_ioctl, 1, Length::Dword, Op::Eq, request)?;
    }
    for namespace in NAMESPACES {
        let flag = u64::from(namespace.unsigned_abs());
        refuse(libc::SYS_clone, 0, Length::Dword, Op::MaskedEq(flag), flag)?;
    }
    if landlock_abi < 3 {
        // Landlock did not know truncation: a file that may be read could be emptied.
        let flags = (libc::O_TRUNC | libc::O_ACCMODE) as u64;
        refuse(libc::SYS_openat, 2, Length::Dword, Op::MaskedEq(flags), libc::O_TRUNC as u64)?;
        #[cfg(target_arch = "x86_64")]
        refuse(libc::SYS_open, 1, Length::Dword, Op::MaskedEq(flags), libc::O_TRUNC as u64)?;
        rules.insert(libc::SYS_openat2, Vec::new());
    }
    if landlock_abi < 6 {
        // Landlock did not know signals: those by which rsync's processes end each other are left.
        let rule = [libc::SIGUSR1, libc::SIGUSR2]
            .map(|signal| SeccompCondition::new(1, Length::Dword, Op::Ne, signal.unsigned_abs().into()));
        rules.insert(libc::SYS_kill, vec![SeccompRule::new(rule.into_iter().collect::<Result<_, _>>()?)?]);
        rules.extend([(libc::SYS_tkill, Vec::new()), (libc::SYS_tgkill, Vec::new())]);
    }
    Ok(rules)
}

const NAMESPACES: [i32; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_PTRACE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_for_every_kernel_and_architecture() {
        for abi in 0..=6 {
            for arch in [TargetArch::x86_64, TargetArch::aarch64] {
                for (errno, rules) in filters(abi).unwrap() {
                    let errno = SeccompAction::Errno(errno.unsigned_abs());
                    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch).unwrap();
                    assert!(BpfProgram::try_from(filter).unwrap().len() > 10);
                }
            }
        }
    }

    #[test]
    fn no_call_gets_two_answers() {
        let [(_, refused), (_, absent), (_, pretended)] = filters(0).unwrap();
        assert!(refused.keys().all(|call| !absent.contains_key(call) && !pretended.contains_key(call)));
        assert!(pretended.keys().all(|call| !absent.contains_key(call)));
    }
}
