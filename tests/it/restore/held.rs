//! The folders beside a path, in which the new is made and the old is kept, lie where others may write.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    thread,
    time::Duration,
};

use super::{ELEMENTS, Host, hidden, live::Mounted};
use crate::harness::Lab;

/// A restore that was killed while the new was in its place and was probed.
fn cut_exchange() -> Host {
    let waits = "probe = [\"sh\", \"-c\", \"[ ! -e {lab}/cut ] || { touch {lab}/in; while [ -e {lab}/in ]; do sleep 0.05; done; exit 1; }\"]\nservices";
    let host = Host::with(Lab::new(), &ELEMENTS.replacen("services", waits, 1), "");
    host.old_in_place_of_new();
    fs::write(host.lab.path("cut"), "").unwrap();
    let mut child = host.lab.handover(&["restore", "--yes", "--json"]).spawn().unwrap();
    while !host.lab.path("in").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it probed");
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(host.lab.path("cut")).unwrap();
    fs::remove_file(host.lab.path("in")).unwrap();
    assert_eq!(host.read("shop/index.html"), "old");
    host
}

/// The folder that holds what was there, of the tree.
fn staging(host: &Host) -> PathBuf {
    let app = host.lab.path("app");
    let mut all = hidden(&app).into_iter().map(|name| app.join(name));
    all.find(|folder| folder.join("new/shop").exists()).unwrap()
}

#[test]
fn what_was_there_is_never_passed_over_when_the_folder_that_holds_it_is_gone() {
    let host = cut_exchange();
    let (staging, aside) = (staging(&host), host.lab.path("aside"));
    fs::rename(&staging, &aside).unwrap();
    let dry = host.lab.run(&["restore", "--yes"]).exits(10);
    dry.says(&["app/shop", "is gone", "move it back there", "still stopped: tomcat"]);
    // Somebody else's folder under that name is not taken for it.
    fs::create_dir_all(staging.join("new/shop")).unwrap();
    fs::set_permissions(&staging, Permissions::from_mode(0o700)).unwrap();
    fs::write(staging.join("new/shop/index.html"), "planted").unwrap();
    host.lab.run(&["restore", "--yes"]).exits(10).says(&["another one was put in its place"]);
    assert!(staging.join("new/shop/index.html").exists(), "a folder that is not ours was removed");
    fs::remove_dir_all(&staging).unwrap();
    fs::rename(&aside, &staging).unwrap();
    let report = host.restore(&["--yes"]).exits(0).json();
    assert!(report["findings"].to_string().contains("it was undone"), "{report:#}");
    assert_eq!(host.read("shop/index.html"), "old");
    assert!(!host.lab.path("stopped").exists());
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!(host.read("shop/only-new"), "new");
}

#[test]
fn what_is_kept_is_not_cleaned_away_under_a_name_that_somebody_else_took() {
    let host = Host::new();
    host.old_in_place_of_new();
    host.restore(&["--yes"]).exits(0);
    let app = host.lab.path("app");
    let kept = app.join(&hidden(&app)[0]);
    fs::rename(&kept, host.lab.path("aside")).unwrap();
    fs::create_dir(&kept).unwrap();
    fs::set_permissions(&kept, Permissions::from_mode(0o700)).unwrap();
    fs::write(kept.join("of somebody"), "x").unwrap();
    host.lab.run(&["restore", "clean", "--yes"]).exits(3).says(&["another one was put in its place"]);
    assert!(kept.join("of somebody").exists());
    fs::remove_dir_all(&kept).unwrap();
    fs::rename(host.lab.path("aside"), &kept).unwrap();
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert!(hidden(&app).is_empty());
}

#[test]
fn a_tree_that_is_too_deep_to_be_carried_over_is_refused_before_anything_is_stopped() {
    let host = Host::new();
    host.old_in_place_of_new();
    let deep: PathBuf = std::iter::repeat_n("d", 600).collect();
    fs::create_dir_all(host.app("shop/cache").join(deep)).unwrap();
    fs::remove_file(host.lab.path("services.log")).unwrap();
    host.lab.run(&["restore", "--yes"]).exits(15).says(&["deep", "--to DIR"]);
    assert_eq!(host.read("shop/index.html"), "new");
    let said = fs::read_to_string(host.lab.path("services.log")).unwrap_or_default();
    assert!(!said.contains("stop"), "{said}");
    assert!(host.left_over().is_empty());
}

#[test]
fn what_does_not_fit_is_refused_with_figures_before_anything_is_made() {
    let host = Host::new();
    host.fill("old");
    fs::create_dir_all(host.app("shop")).unwrap();
    let small = Mounted::tmpfs(&host.lab.path("app"), "size=5m");
    host.fill("old");
    fs::write(host.app("shop/large"), vec![7; 3 << 20]).unwrap();
    let id = host.init().collect();
    host.deliver(&id);
    host.write("shop/index.html", "new");
    fs::remove_file(host.lab.path("services.log")).unwrap();
    let ran = host.lab.run(&["restore", "--yes"]).exits(14);
    ran.says(&["not enough room in", "the new state beside the old", "it needs 3.0 MiB", "restore clean"]);
    assert!(hidden(&host.lab.path("app")).is_empty());
    let said = fs::read_to_string(host.lab.path("services.log")).unwrap_or_default();
    assert!(!said.contains("stop"), "{said}");
    let out = host.app("out");
    let ran = host.lab.run(&["restore", "--to", out.to_str().unwrap()]).exits(14);
    ran.says(&["not enough room in", "what is restored"]);
    assert!(!out.exists());
    drop(small);
}

/// A restore during which somebody who owns the folder above does this, while the new is in its place and is probed.
fn disturbed(script: &str) -> Host {
    let probe = format!("probe = [\"sh\", \"-c\", \"cd {{lab}}/app; {script}\"]\nservices");
    let host = Host::with(Lab::new(), &ELEMENTS.replacen("services", &probe, 1), "");
    host.old_in_place_of_new();
    host
}

#[test]
fn a_name_that_somebody_took_for_what_is_kept_stops_nothing() {
    let host = disturbed(
        "for one in .handover-restore-*; do mkdir $(echo $one | sed s/-restore-/-replaced-/); done",
    );
    let report = host.restore(&["--yes"]).exits(0).json();
    let kept: Vec<&str> =
        report["replaced"].as_array().unwrap().iter().map(|k| k.as_str().unwrap()).collect();
    assert_eq!(kept.len(), 2, "{report:#}");
    assert!(kept.iter().all(|kept| fs::read_dir(kept).unwrap().count() > 0), "{kept:?}");
    assert!(!host.lab.path("state/restore/journal.json").exists());
    host.lab.run(&["source", "--json"]).exits(4);
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!(host.read("shop/index.html"), "new");
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert_eq!(host.left_over().len(), 2, "what is not ours was removed: {:?}", host.left_over());
}

#[test]
fn what_is_kept_is_found_under_whatever_name_somebody_gave_it() {
    let host =
        disturbed("n=0; for one in .handover-restore-*; do n=$((n+1)); mv $one mine-$n; mkdir $one; done");
    host.restore(&["--yes"]).exits(0);
    assert_eq!(host.left_over().iter().filter(|name| name.starts_with(".handover-replaced-")).count(), 2);
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["new"; 2]);
}

#[test]
fn what_cannot_be_tidied_is_a_warning_and_the_restore_is_done() {
    let host = disturbed("for one in .handover-restore-*; do mv $one ../$one; done");
    let report = host.restore(&["--yes"]).exits(0).json();
    let said = report["findings"].to_string();
    assert!(said.contains("somebody moved it") && report["done"] == true, "{report:#}");
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["old"; 2]);
    assert!(!host.lab.path("state/restore/journal.json").exists() && !host.lab.path("stopped").exists());
    host.lab.run(&["source", "--json"]).exits(4);
}

#[test]
fn a_tidying_that_can_never_end_can_be_given_up_and_the_new_state_stays() {
    let probe = "probe = [\"mount\", \"-o\", \"remount,ro\", \"{lab}/app\"]\nservices";
    let host = Host::with(Lab::new(), &ELEMENTS.replacen("services", probe, 1), "");
    let disk = Mounted::tmpfs(&host.lab.path("app"), "size=5m");
    host.old_in_place_of_new();
    host.lab.run(&["restore", "--yes"]).exits(14).says(&["Read-only"]);
    assert!(host.lab.path("state/restore/journal.json").exists());
    host.lab.run(&["restore", "--yes"]).exits(14);
    let give_up = ["restore", "undo", "--give-up"];
    host.lab.run(&[&give_up[..], &["--dry-run"]].concat()).exits(0).says(&["is done and stays"]);
    let ran = host.lab.run(&[&give_up[..], &["--yes"]].concat()).exits(0);
    ran.says(&["not all could be tidied", "app/shop before may still lie in", ".handover-restore-"]);
    assert!(!host.lab.path("state/restore/journal.json").exists() && !host.lab.path("stopped").exists());
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["old"; 2]);
    host.lab.run(&["source", "--json"]).exits(4);
    drop(disk);
}
