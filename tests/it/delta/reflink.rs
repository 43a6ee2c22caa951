//! On disks that share content, a change of a large file costs what changed, on both sides.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{change, deltas, fetched, noise};
use crate::harness::{Lab, TREE, below, id_of};

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

    /// A folder of a disk, at another place too.
    fn bind(from: &Path, at: &Path) -> Self {
        for folder in [from, at] {
            fs::create_dir_all(folder).unwrap();
        }
        run("mount", &["--bind", from.to_str().unwrap(), at.to_str().unwrap()]);
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

#[expect(clippy::print_stdout, reason = "whoever runs the test wants to see what was not tried")]
fn one_percent_costs_one_percent(kind: &str, data: &str) {
    if !is_known(kind) {
        println!("NOT RUN: sharing content on {kind}: this kernel cannot mount it");
        crate::proof::proof(&format!("sharing content on {kind}"), 0, 0);
        return;
    }
    let lab = Lab::new();
    let (source, sink) = (Disk::new(kind, &lab.path("disk")), Disk::new(kind, &lab.path("sink")));
    let _home = Disk::bind(&lab.path("disk/home"), &lab.path("home"));
    lab.config("", &TREE.replace("{lab}/tree", &format!("{{lab}}/{data}")), "");
    fs::create_dir_all(lab.path(data)).unwrap();
    let large = lab.path(data).join("a");
    fs::write(&large, noise(128 << 20)).unwrap();
    lab.init();
    lab.both();
    change(&large, 1);
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
    let stored = below(&lab.path("sink/store/shop").join(id).join("data/www"), &large);
    assert!(fs::read(&stored).unwrap() == fs::read(&large).unwrap());
    lab.run(&["sink", "verify"]).exits(0);
}

#[test]
fn on_btrfs_one_percent_of_a_large_file_costs_one_percent_of_disk() {
    one_percent_costs_one_percent("btrfs", "tree");
}

#[test]
fn on_xfs_one_percent_of_a_large_file_costs_one_percent_of_disk() {
    one_percent_costs_one_percent("xfs", "tree");
}

#[test]
fn beside_its_original_a_copy_is_shared_with_it_and_what_changed_still_goes_over_as_a_delta() {
    one_percent_costs_one_percent("xfs", "disk/tree");
}
