//! The cage, tried from the inside: each test lets a program attempt what it must not, or must, be able to do.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt},
    path::{Path, PathBuf},
    process::Output,
};

use handover::sys::sandbox::{self, Policy};

const PERL: &str = "/usr/bin/perl";

struct Cage {
    folder: tempfile::TempDir,
    policy: Policy,
}

impl Cage {
    /// A folder `recv` to write in, a file `outside` beside it, and perl.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("recv")).unwrap();
        std::fs::write(folder.path().join("outside"), "secret").unwrap();
        std::fs::set_permissions(folder.path().join("outside"), PermissionsExt::from_mode(0o640)).unwrap();
        let policy =
            Policy::of_programs([PERL]).writing(folder.path().join("recv")).reading("/usr/share/perl");
        Self { folder, policy: Policy { required: true, ..policy } }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let handover = Path::new(env!("CARGO_BIN_EXE_handover"));
        let mut command = sandbox::command(handover, &self.policy, program.as_ref());
        command.args(args).current_dir(self.folder.path()).output().unwrap()
    }

    /// Runs a perl expression; it prints `yes`, or why not.
    fn attempt(&self, expression: &str) -> String {
        let script = format!("$! = 0; print((do {{ {expression} }}) ? 'yes' : \"no: $!\")");
        let output = self.run(PERL, &["-MSocket", "-e", &script]);
        assert!(output.status.success(), "{expression}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refuses(&self, expression: &str) {
        let answer = self.attempt(expression);
        assert!(
            answer.starts_with("no: Permission denied") || answer.starts_with("no: Operation not permitted"),
            "{expression}: {answer}"
        );
    }
}

#[test]
fn files_can_be_written_below_recv_and_nowhere_else() {
    let cage = Cage::new();
    let write = |path: &str| format!("open(F, '>', '{path}') && print(F 'x') && close(F)");
    assert_eq!(cage.attempt(&write("recv/file")), "yes");
    assert_eq!(cage.attempt("mkdir('recv/a') && rename('recv/file', 'recv/a/file')"), "yes");
    assert_eq!(cage.attempt("unlink('recv/a/file') && rmdir('recv/a')"), "yes");
    cage.refuses(&write("new"));
    cage.refuses(&write("outside"));
    cage.refuses("open(F, '>>', 'outside')");
    cage.refuses("truncate('outside', 0)");
    cage.refuses("unlink('outside')");
    cage.refuses("mkdir('folder')");
    assert_eq!(std::fs::read(cage.path("outside")).unwrap(), b"secret");
}

#[test]
fn nothing_outside_can_be_read_but_what_is_named() {
    let mut cage = Cage::new();
    cage.refuses("open(F, '<', 'outside')");
    cage.refuses("open(F, '<', '/etc/passwd')");
    cage.policy = cage.policy.clone().reading(cage.path("outside"));
    assert_eq!(cage.attempt("open(F, '<', 'outside')"), "yes");
    cage.refuses("open(F, '+<', 'outside')");
}

#[test]
fn modes_owners_and_times_seem_to_change_and_do_not() {
    let mut cage = Cage::new();
    cage.policy = cage.policy.clone().reading(cage.path("outside"));
    let before = std::fs::metadata(cage.path("outside")).unwrap();
    for expression in [
        "chmod(0777, 'outside')",
        "chown(1, 1, 'outside')",
        "utime(1, 1, 'outside')",
        "open(F, '<', 'outside') && chmod(0777, *F)",
    ] {
        assert_eq!(cage.attempt(expression), "yes", "{expression}");
    }
    let after = std::fs::metadata(cage.path("outside")).unwrap();
    assert_eq!(before.mode(), after.mode());
    assert_eq!(
        (before.uid(), before.mtime(), before.ctime_nsec()),
        (after.uid(), after.mtime(), after.ctime_nsec())
    );
}

#[test]
fn there_is_no_network_but_a_line_to_a_child() {
    let cage = Cage::new();
    for family in ["PF_INET", "PF_INET6", "PF_UNIX"] {
        cage.refuses(&format!("socket(S, {family}, SOCK_STREAM, 0)"));
    }
    assert_eq!(cage.attempt("socketpair(A, B, AF_UNIX, SOCK_STREAM, PF_UNSPEC)"), "yes");
    cage.refuses("socketpair(A, B, AF_UNIX, SOCK_DGRAM, PF_UNSPEC)");
    cage.refuses(
        "socketpair(A, B, AF_UNIX, SOCK_STREAM, PF_UNSPEC) && connect(A, pack_sockaddr_un('/dev/log'))",
    );
}

#[test]
fn signals_stay_in_the_cage() {
    let cage = Cage::new();
    let mut outside = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    cage.refuses(&format!("kill('KILL', {})", outside.id()));
    cage.refuses(&format!("kill('USR1', {})", outside.id()));
    let still_there = outside.try_wait().unwrap().is_none();
    outside.kill().unwrap();
    outside.wait().unwrap();
    assert!(still_there);
    assert_eq!(
        cage.attempt("my $p = fork(); if (!$p) { sleep 60; exit } kill('TERM', $p) && waitpid($p, 0) == $p"),
        "yes"
    );
    cage.refuses("setpgrp(0, 0)");
}

#[test]
fn no_program_starts_but_those_that_are_named() {
    let mut cage = Cage::new();
    cage.refuses("exec('/bin/cat', '/dev/null')");
    std::fs::copy("/bin/cat", cage.path("recv/mine")).unwrap();
    cage.refuses("exec('recv/mine', '/dev/null')");
    cage.policy.exec.push("/bin/true".into());
    let output = cage.run(PERL, &["-e", "exec('/bin/true')"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn only_regular_files_and_folders_arise() {
    let cage = Cage::new();
    cage.refuses("symlink('/etc', 'recv/link')");
    cage.refuses("link('outside', 'recv/link')");
    cage.refuses("open(F, '>', 'recv/a') && link('recv/a', 'recv/b')");
    cage.refuses("rename('outside', 'recv/b')");
    cage.refuses("require POSIX; POSIX::mkfifo('recv/pipe', 0600)");
    let names: Vec<_> =
        std::fs::read_dir(cage.path("recv")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["a"]);
}

#[test]
fn the_host_itself_is_out_of_reach() {
    let cage = Cage::new();
    for call in [
        libc::SYS_unshare,
        libc::SYS_mount,
        libc::SYS_ptrace,
        libc::SYS_bpf,
        libc::SYS_keyctl,
        libc::SYS_io_uring_setup,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_pidfd_open,
        libc::SYS_memfd_create,
        libc::SYS_chroot,
        libc::SYS_setsid,
    ] {
        cage.refuses(&format!("syscall({call}, 0, 0, 0, 0, 0) != -1"));
    }
    let newuser = libc::CLONE_NEWUSER | libc::SIGCHLD;
    cage.refuses(&format!("syscall({}, {newuser}, 0, 0, 0, 0) != -1", libc::SYS_clone));
    let unknown = cage.attempt("syscall(599, 0, 0, 0) != -1");
    assert_eq!(unknown, "no: Function not implemented");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_call_by_its_second_number_is_no_way_out() {
    let cage = Cage::new();
    for call in [libc::SYS_socket, libc::SYS_chmod, libc::SYS_unshare] {
        let answer = cage.attempt(&format!("syscall({}, 0, 0, 0) != -1", call | 0x4000_0000));
        assert_eq!(answer, "no: Function not implemented");
    }
}

#[test]
fn no_file_grows_beyond_the_limit() {
    let mut cage = Cage::new();
    cage.policy.largest_file = Some(1000);
    let write = |bytes: u32| {
        format!(
            "$SIG{{XFSZ}} = 'IGNORE'; open(F, '>', 'recv/f') && print(F 'x' x {bytes}) && close(F) && -s 'recv/f' == {bytes}"
        )
    };
    assert_eq!(cage.attempt(&write(1000)), "yes");
    assert!(cage.attempt(&write(1001)).starts_with("no: "));
}

#[test]
fn a_cage_that_cannot_start_its_program_says_so() {
    let cage = Cage::new();
    let output = cage.run("/no/such/program", &[]);
    assert_eq!(output.status.code(), Some(i32::from(sandbox::FAILED)));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot start /no/such/program"), "{said}");
}

#[test]
fn this_kernel_tells_what_it_can_do() {
    let support = sandbox::support();
    assert!(support.landlock_abi.is_some_and(|abi| abi >= 1), "these tests need a kernel with Landlock");
    // The caller was not locked in by asking.
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("x", folder.path().join("link")).unwrap();
}

#[test]
fn in_the_cage_of_the_restore_gate_nothing_but_the_drop_point_can_be_reached() {
    let mut cage = Cage::new();
    for name in ["restore", "store"] {
        std::fs::create_dir(cage.path(name)).unwrap();
        std::fs::write(cage.path(name).join("file"), "x").unwrap();
    }
    let gate = handover::restore::gate::RestoreGate::open(cage.folder.path()).unwrap();
    let mut policy = gate.cage(Path::new(env!("CARGO_BIN_EXE_handover")), None).reading("/usr/share/perl");
    policy.exec.push(PERL.into());
    cage.policy = Policy { required: true, ..policy };
    assert_eq!(
        cage.attempt("open(F, '<', 'restore/file') && open(G, '>', 'restore/new') && mkdir('restore/d')"),
        "yes"
    );
    assert_eq!(cage.attempt("rename('restore/new', 'restore/d/new') && unlink('restore/file')"), "yes");
    for refused in [
        "open(F, '<', 'store/file')",
        "open(F, '<', '/etc/passwd')",
        "opendir(D, 'store')",
        "open(F, '>', 'store/file')",
        "open(F, '>', 'new')",
        "rename('restore/d/new', 'store/new')",
        "rename('store/file', 'restore/file')",
        "link('store/file', 'restore/file')",
        "symlink('/etc/passwd', 'restore/link')",
        "unlink('store/file')",
        "socket(S, AF_INET, SOCK_STREAM, 0)",
        "socket(S, AF_UNIX, SOCK_DGRAM, 0)",
    ] {
        cage.refuses(refused);
    }
}
