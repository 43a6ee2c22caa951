//! A receiver that has been taken over: a program of the attacker's runs in rsync's place, in the very cage in which the
//! sink starts rsync. What it tries outside of `recv/` is refused, or seems to succeed and does nothing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use handover::{
    remote::Tools,
    sys::sandbox::{self, Policy},
};

use super::gate::look;
use crate::proof::proof;

/// The attacker's program.
const PERL: &str = "/usr/bin/perl";

/// What it says when all it tried was refused, or had to be pretended.
#[derive(Clone, Copy, PartialEq)]
enum Must {
    Fail,
    /// Nobody needs to know; that nothing has changed is looked at from outside.
    Seem,
    /// This is what rsync needs.
    Work,
}

struct Prey {
    folder: tempfile::TempDir,
    process: Child,
    listener: UnixListener,
}

impl Prey {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["recv", "basis", "store", "store/inner"] {
            fs::create_dir(path(name)).unwrap();
        }
        for name in ["basis/file", "store/file", "store/other", "secret"] {
            fs::write(path(name), "as it was\n").unwrap();
        }
        let listener = UnixListener::bind(path("socket")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        Self { folder, process, listener }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything but `recv/`.
    fn picture(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        look(self.folder.path(), &mut all);
        all.retain(|path, _| !path.starts_with(self.path("recv")));
        let xattrs = Command::new("getfattr").args(["-d", "-m", "-", "-R"]).arg(self.path("store")).output();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        all.insert("its attributes".into(), xattrs.map(|output| text(&output.stdout)).unwrap_or_default());
        for (name, content) in
            [("store/file", "its content"), ("basis/file", "that of the basis"), ("secret", "the secret")]
        {
            all.insert(content.into(), fs::read_to_string(self.path(name)).unwrap());
        }
        all
    }

    /// The cage of a receiver, as the sink makes it, with the attacker's program in the place of rsync.
    fn policy(&self) -> Policy {
        let tools = Tools {
            handover: env!("CARGO_BIN_EXE_handover").into(),
            rsync: PERL.into(),
            ..Tools::find(true).unwrap()
        };
        tools
            .receiver_policy(&self.path("recv"), &[self.path("basis")], 1 << 20)
            // What perl itself needs to start.
            .reading("/usr/share/perl")
            .reading("/usr/lib/x86_64-linux-gnu/perl-base")
    }
}

impl Drop for Prey {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Perl expressions that are true if it worked; `PID` is a process outside.
fn attempts() -> Vec<(Must, String)> {
    use Must::{Fail, Seem, Work};
    // Perl gives the kernel only texts that may be written to.
    let own = |(n, arg): (usize, &str)| {
        if arg.contains('\'') { format!("(my $text{n} = {arg})") } else { arg.to_owned() }
    };
    let call = |name: i64, args: &str| {
        let args: Vec<String> = args.split(", ").enumerate().map(own).collect();
        format!("syscall({name}, {}) != -1", args.join(", "))
    };
    let mut all: Vec<(Must, String)> = [
        (Work, "open(F, '>', 'recv/file') && print(F 'x') && close(F)"),
        (Work, "mkdir('recv/folder') && rename('recv/file', 'recv/folder/file')"),
        (Work, "open(F, '<', 'basis/file') && <F> eq \"as it was\\n\""),
        (Work, "socketpair(A, B, AF_UNIX, SOCK_STREAM, PF_UNSPEC)"),
        // Writing and making.
        (Fail, "open(F, '>', 'store/file')"),
        (Fail, "open(F, '>>', 'store/file')"),
        (Fail, "open(F, '+<', 'basis/file')"),
        (Fail, "open(F, '>', 'store/new')"),
        (Fail, "open(F, '>', '/tmp/handover-cage')"),
        (Fail, "open(F, '>', '/dev/shm/handover-cage')"),
        (Fail, "truncate('store/file', 0)"),
        (Fail, "truncate('basis/file', 0)"),
        (Fail, "mkdir('store/new')"),
        (Fail, "unlink('store/file')"),
        (Fail, "unlink('basis/file')"),
        (Fail, "rmdir('store/inner')"),
        (Fail, "rename('recv/folder/file', 'store/file')"),
        (Fail, "rename('recv/folder/file', 'store/new')"),
        (Fail, "rename('store/file', 'recv/mine')"),
        (Fail, "rename('recv', 'elsewhere')"),
        (Fail, "link('store/file', 'recv/mine')"),
        (Fail, "link('basis/file', 'recv/mine')"),
        (Fail, "link('recv/folder/file', 'store/new')"),
        (Fail, "symlink('/etc/passwd', 'recv/link')"),
        (Fail, "symlink('x', 'store/link')"),
        (Fail, "require POSIX; POSIX::mkfifo('recv/pipe', 0600)"),
        // Reading.
        (Fail, "open(F, '<', 'secret')"),
        (Fail, "open(F, '<', 'store/file')"),
        (Fail, "opendir(D, 'store')"),
        (Fail, "open(F, '<', '/etc/passwd')"),
        (Fail, "open(F, '<', '/etc/shadow')"),
        (Fail, "opendir(D, '/root')"),
        (Fail, "open(F, '<', '/proc/PID/environ')"),
        (Fail, "open(F, '<', '/proc/PID/mem')"),
        (Fail, "open(F, '+<', '/proc/PID/mem')"),
        (Fail, "open(F, '>', '/proc/PID/oom_score_adj')"),
        (Fail, "open(F, '<', '/proc/PID/root/etc/passwd')"),
        (Fail, "open(F, '+<', '/proc/self/mem')"),
        (Fail, "open(F, '<', '/proc/kcore')"),
        (Fail, "open(F, '+<', '/dev/mem')"),
        (Fail, "open(F, '>', '/proc/sysrq-trigger')"),
        (Fail, "open(F, '>', '/sys/power/state')"),
        // Attributes: rsync sets them, so they are pretended.
        (Seem, "chmod(04777, 'store/file')"),
        (Seem, "chown(65534, 65534, 'store/file')"),
        (Seem, "utime(1, 1, 'store/file')"),
        (Seem, "open(F, '<', 'basis/file') && chmod(0777, *F)"),
        (Seem, "open(F, '<', 'basis/file') && chown(1, 1, *F)"),
        // Other processes, other hosts, other programs.
        (Fail, "kill('KILL', PID)"),
        (Fail, "kill('STOP', PID)"),
        (Fail, "kill(0, PID)"),
        (Fail, "kill('TERM', getppid())"),
        (Fail, "setpriority(0, PID, 19)"),
        (Fail, "socket(S, PF_INET, SOCK_STREAM, 0)"),
        (Fail, "socket(S, PF_INET6, SOCK_DGRAM, 0)"),
        (Fail, "socket(S, PF_UNIX, SOCK_STREAM, 0)"),
        (Fail, "socketpair(A, B, AF_UNIX, SOCK_STREAM, PF_UNSPEC) && connect(A, pack_sockaddr_un('socket'))"),
        (Fail, "socketpair(A, B, AF_UNIX, SOCK_STREAM, PF_UNSPEC) && bind(A, pack_sockaddr_un('recv/s'))"),
        (Fail, "exec('/bin/sh', '-c', 'true')"),
        (Fail, "exec('/usr/bin/ssh', '-V')"),
        (Fail, "exec('/bin/busybox')"),
        (Fail, "open(F, '>', 'recv/run') && print(F \"#!/bin/sh\\n\") && close(F) && exec('recv/run')"),
        (Fail, "chroot('recv')"),
        (Fail, "$0 = 'x'; setpgrp(0, 0)"),
    ]
    .into_iter()
    .map(|(must, expression)| (must, expression.to_owned()))
    .collect();
    for (must, number, args) in [
        (Seem, libc::SYS_setxattr, "'store/file', 'user.a', 'v', 1, 0"),
        (Seem, libc::SYS_lremovexattr, "'store/file', 'user.a'"),
        (Seem, libc::SYS_fchmodat, "-100, 'store/other', 0777, 0"),
        (Seem, 452, "-100, 'store/other', 0777, 0"),
        (Fail, libc::SYS_ptrace, "16, PID, 0, 0"),
        (Fail, libc::SYS_process_vm_writev, "PID, 0, 0, 0, 0, 0"),
        (Fail, libc::SYS_process_vm_readv, "PID, 0, 0, 0, 0, 0"),
        (Fail, libc::SYS_pidfd_open, "PID, 0"),
        (Fail, libc::SYS_tgkill, "PID, PID, 9"),
        (Fail, libc::SYS_prlimit64, "PID, 7, 0, 0"),
        (Fail, libc::SYS_mount, "'none', 'recv', 'tmpfs', 0, 0"),
        (Fail, libc::SYS_umount2, "'/proc', 2"),
        (Fail, libc::SYS_pivot_root, "'recv', 'recv'"),
        (Fail, libc::SYS_unshare, "0x10000000"),
        (Fail, libc::SYS_setns, "0, 0"),
        (Fail, libc::SYS_mknod, "'recv/null', 0020666, 0x103"),
        (Fail, libc::SYS_memfd_create, "'x', 0"),
        (Fail, libc::SYS_open_by_handle_at, "0, 0, 0"),
        (Fail, libc::SYS_bpf, "0, 0, 0"),
        (Fail, libc::SYS_io_uring_setup, "1, 0"),
        (Fail, libc::SYS_userfaultfd, "0"),
        (Fail, libc::SYS_perf_event_open, "0, 0, 0, 0, 0"),
        (Fail, libc::SYS_keyctl, "0, 0, 0, 0, 0"),
        (Fail, libc::SYS_add_key, "'user', 'x', 'v', 1, 0"),
        (Fail, libc::SYS_init_module, "0, 0, ''"),
        (Fail, libc::SYS_kexec_load, "0, 0, 0, 0"),
        (Fail, libc::SYS_reboot, "0, 0, 0, 0"),
        (Fail, libc::SYS_sethostname, "'owned', 5"),
        (Fail, libc::SYS_swapon, "'recv/x', 0"),
        (Fail, libc::SYS_acct, "'recv/x'"),
        (Fail, libc::SYS_syslog, "5, 0, 0"),
        (Fail, libc::SYS_setsid, "0"),
    ] {
        all.push((must, call(number, args)));
    }
    all
}

#[test]
fn a_receiver_that_has_been_taken_over_reaches_nothing_but_what_it_receives() {
    let mut prey = Prey::new();
    let (before, policy) = (prey.picture(), prey.policy());
    let (mut tried, mut broke_out) = (0, Vec::new());
    for (must, expression) in attempts() {
        let expression = expression.replace("PID", &prey.process.id().to_string());
        let script = format!("$! = 0; print((do {{ {expression} }}) ? 'yes' : \"no: $!\")");
        let mut caged = sandbox::command(Path::new(env!("CARGO_BIN_EXE_handover")), &policy, PERL.as_ref());
        let output =
            caged.args(["-MSocket", "-e", &script]).current_dir(prey.folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let right = match must {
            Must::Work => said == "yes",
            Must::Seem => !said.is_empty(),
            Must::Fail => said.starts_with("no: "),
        };
        tried += usize::from(must != Must::Work);
        if !right {
            broke_out.push(format!("{expression}: {said:?} {}", String::from_utf8_lossy(&output.stderr)));
        }
        if prey.picture() != before {
            broke_out.push(format!("{expression} changed something"));
            break;
        }
    }
    if prey.process.try_wait().unwrap().is_some() {
        broke_out.push("a process outside was ended".to_owned());
    }
    if prey.listener.accept().is_ok() {
        broke_out.push("a socket outside was reached".to_owned());
    }
    let made = walk(&prey.path("recv"));
    if made.iter().any(|kind| !kind.is_dir() && !kind.is_file()) {
        broke_out.push("something else than files and folders arose".to_owned());
    }
    for place in ["/tmp/handover-cage", "/dev/shm/handover-cage"] {
        if Path::new(place).exists() {
            broke_out.push(place.to_owned());
        }
    }
    proof("a receiver that has been taken over", tried, broke_out.len());
    assert!(tried > 80 && broke_out.is_empty(), "{tried} tried: {broke_out:#?}");
}

fn walk(folder: &Path) -> Vec<fs::FileType> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        all.push(kind);
        if kind.is_dir() {
            all.extend(walk(&entry.path()));
        }
    }
    all
}
