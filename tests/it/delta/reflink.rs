//! On disks that share content, a change of a large file costs what changed, on both sides.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{change, deltas, fetched, noise};
use crate::harness::{Lab, TREE, id_of};

const MIB: u64 = 1 << 20;

/// A disk that is mounted for a test.
struct Disk(PathBuf);

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}: `lab/needs` installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
}

impl Disk {
    fn new(kind: &str, at: &Path) -> Self {
        let image = at.with_extension("image");
        run("truncate", &["-s", "600M", image.to_str().unwrap()]);
        run(&format!("mkfs.{kind}"), &["-q", image.to_str().unwrap()]);
        fs::create_dir_all(at).unwrap();
        run("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.to_path_buf())
    }

    /// Bytes that are used, all told. A disk that cannot be written any more gives back what it had laid out for later.
    fn used(&self) -> u64 {
        for how in ["remount,ro", "remount,rw"] {
            run("mount", &["-o", how, self.0.to_str().unwrap()]);
        }
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["--lazy", self.0.to_str().unwrap()]);
    }
}

/// Whether this kernel knows a file system; that it does not is said, and nothing counts as tried.
fn is_known(kind: &str) -> bool {
    drop(Command::new("modprobe").args(["-q", kind]).status());
    let known = fs::read("/proc/filesystems").unwrap();
    known.split(|b| *b == b'\n').any(|line| line.ends_with([b"\t", kind.as_bytes()].concat().as_slice()))
}

fn one_percent_costs_one_percent(kind: &str) {
    if !is_known(kind) {
        crate::proof::not_run(&format!("sharing content on {kind}"), "this kernel cannot mount it");
        return;
    }
    let lab = Lab::new();
    for home in ["home", "sink"] {
        fs::create_dir_all(lab.path(home)).unwrap();
    }
    let (source, sink) = (Disk::new(kind, &lab.path("home")), Disk::new(kind, &lab.path("sink")));
    lab.config("", TREE, "");
    lab.write("a", noise(128 << 20));
    lab.init();
    lab.both();
    change(&lab.path("tree/a"), 1);
    let before = source.used();
    let id = id_of(&lab.source(0));
    let delta = deltas(&lab, &id)[0].metadata().unwrap().len();
    let collected = source.used().saturating_sub(before);
    // What changed, and the delta of it, which goes when it is accepted.
    assert!(
        delta < 2 * MIB && collected < 5 * MIB,
        "{kind}: {collected} of the source's disk, {delta} of them a delta"
    );
    let before = sink.used();
    let report = lab.sink(0);
    assert_eq!(fetched(&report)["patched"], 1, "{report:#}");
    let stored = sink.used().saturating_sub(before);
    assert!(stored < 4 * MIB, "{kind}: {stored} of the sink's disk");
    let path = lab.stored(format!("sink/store/shop/{id}"), "a");
    assert!(fs::read(&path).unwrap() == fs::read(lab.path("tree/a")).unwrap());
    lab.run(&["sink", "verify"]).exits(0);
}

#[test]
fn on_btrfs_one_percent_of_a_large_file_costs_one_percent_of_disk() {
    one_percent_costs_one_percent("btrfs");
}

#[test]
fn on_xfs_one_percent_of_a_large_file_costs_one_percent_of_disk() {
    one_percent_costs_one_percent("xfs");
}
