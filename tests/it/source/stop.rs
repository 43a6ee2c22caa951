//! A run that is stopped: by a signal, or killed. Services run again, and nothing half-made is handed over.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{Lab, Ran, findings, names};

/// A service of the fakes runs while `running` is there.
const SERVICE: &str = "echo \"$*\" >> {lab}/calls\n\
    case \"$1 $2 $3\" in *stop*) rm -f {lab}/running;; *start*) touch {lab}/running;; \
    *status*|*is-active*) test -e {lab}/running;; esac";

/// A lab whose second element, with a service, runs this command.
fn lab(command: &str) -> Lab {
    let lab = Lab::new();
    lab.write("file", "x");
    for name in ["systemctl", "service"] {
        lab.fake(name, SERVICE);
    }
    std::fs::write(lab.path("running"), "").unwrap();
    let element = format!(
        "[[source.element]]\nname = \"db\"\nkind = \"dump\"\nfile = \"db.dump\"\nservices = [\"tomcat\"]\ncommand = {command}"
    );
    lab.config("", &format!("{}\n{element}", crate::harness::TREE), "");
    lab.init();
    lab
}

/// What was done to the service, in order.
fn calls(lab: &Lab) -> Vec<&'static str> {
    let known = ["stop", "start"];
    let text = lab.text("calls");
    text.lines().filter_map(|line| known.into_iter().find(|k| line.split(' ').any(|w| w == *k))).collect()
}

/// Starts a run and waits until the element's command runs.
fn begun(lab: &Lab) -> Child {
    let child =
        lab.handover(&["source", "--verbose"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !lab.path("begun").exists() {
        assert!(Instant::now() < deadline, "the command never ran");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
}

const HANGS: &str = "[\"sh\", \"-c\", \"touch {lab}/begun; exec sleep 30\"]";

#[test]
fn a_service_is_stopped_for_its_element_alone_and_started_again() {
    let lab = lab("[\"sh\", \"-c\", \"test -e {lab}/running && echo up || echo down\"]");
    let report = lab.source(0);
    let id = crate::harness::id_of(&report);
    assert_eq!(lab.text(format!("home/transport-outgoing/{id}/data/db/db.dump")), "down\n");
    assert_eq!(calls(&lab), ["stop", "start"]);
    assert!(lab.path("running").exists());
}

#[test]
fn a_service_that_did_not_run_is_left_alone() {
    let lab = lab("[\"echo\", \"x\"]");
    std::fs::remove_file(lab.path("running")).unwrap();
    lab.source(0);
    assert_eq!(calls(&lab), [""; 0]);
    assert!(!lab.path("running").exists());
}

#[test]
fn a_service_is_started_again_after_a_failure() {
    let lab = lab("[\"false\"]");
    lab.source(3);
    assert_eq!(calls(&lab), ["stop", "start"]);
}

#[test]
fn a_service_that_cannot_be_stopped_fails_its_element_and_is_started_again() {
    let lab = lab("[\"echo\", \"x\"]");
    let fails = format!("{SERVICE}\ncase \"$*\" in *stop*) echo will not >&2; exit 5;; esac");
    for name in ["systemctl", "service"] {
        lab.fake(name, &fails);
    }
    let report = lab.source(3);
    let said = findings(&report, "failed").concat();
    assert!(said.contains("cannot stop service tomcat") && said.contains("will not"), "{said}");
    assert!(lab.path("running").exists());
}

#[test]
fn sigterm_ends_with_130_hands_nothing_over_and_starts_the_services() {
    let lab = lab(HANGS);
    let child = begun(&lab);
    assert!(!lab.path("running").exists());
    signal(&child, "-TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was handed over"));
    assert!(lab.path("running").exists());
    assert_eq!((lab.waiting(), names(&lab.path("home/collecting"))), (vec![], vec![]));
}

#[test]
fn after_sigkill_the_next_run_starts_the_services_says_so_and_clears_the_draft() {
    let lab = lab(HANGS);
    let mut child = begun(&lab);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!lab.path("running").exists());
    assert_eq!(names(&lab.path("home/collecting")).len(), 1);
    lab.config("", crate::harness::TREE, "");
    let report = lab.source(0);
    assert!(lab.path("running").exists());
    let said = findings(&report, "warning").concat();
    assert!(said.contains("left services stopped; started: tomcat"), "{said}");
    let notes = findings(&report, "note").concat();
    assert!(notes.contains("deleted the unfinished draft"), "{notes}");
    assert_eq!((lab.waiting().len(), names(&lab.path("home/collecting")).len()), (1, 0));
}

#[test]
fn two_runs_do_not_meet_and_the_second_says_who_is_at_work() {
    let lab = lab(HANGS);
    let mut child = begun(&lab);
    let ran: Ran = lab.run(&["source"]).exits(11);
    ran.says(&["another run holds the lock", &format!("{}", child.id()), "handover source run"]);
    signal(&child, "-TERM");
    child.wait().unwrap();
}

#[test]
fn each_step_is_said_in_order_when_asked_for() {
    let lab = lab("[\"echo\", \"x\"]");
    let ran = lab.run(&["source", "--verbose"]).exits(0);
    let phases: Vec<String> = BufReader::new(ran.err.as_bytes()).lines().map(Result::unwrap).collect();
    let expected = ["recovering", "collecting db", "collecting www", "sealing", "publishing", "tidying"];
    assert_eq!(phases, expected.map(|step| format!("phase: shop: {step}")));
}
