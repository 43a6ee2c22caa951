//! What rotation does to a log file, and that each content is taken once for all that.

use std::fs;

use super::Logs;
use crate::harness::findings;

#[test]
fn a_log_that_grows_is_taken_from_where_it_was_taken_before() {
    let logs = Logs::new();
    logs.write("app.log", "1\n2\n");
    let first = logs.run(0);
    assert_eq!(first["logs"]["elements"][0]["name"], "files", "{first:#}");
    assert_eq!(
        (&first["generation"], first["logs"]["bytes_read"].as_u64()),
        (&serde_json::Value::Null, Some(4))
    );
    logs.append("app.log", "3\nhalf a li");
    assert_eq!(logs.collect()["logs"]["bytes_read"], 11);
    logs.append("app.log", "ne\n");
    assert_eq!(logs.collect()["logs"]["bytes_read"], 3);
    assert_eq!(logs.cat("app.log"), "1\n2\n3\nhalf a line\n");
}

#[test]
fn where_nothing_is_new_nothing_is_handed_over_and_all_is_well() {
    let logs = Logs::new();
    logs.write("app.log", "1\n");
    logs.write("empty.log", "");
    logs.run(0);
    let report = logs.collect();
    assert!(report["logs"].is_null(), "{report:#}");
    assert_eq!(logs.waiting().len(), 1);
    assert_eq!(crate::harness::names(&logs.0.path("logs/collecting")), Vec::<String>::new());
}

#[test]
fn the_rest_of_a_renamed_log_is_taken_and_the_new_one_is_one_of_the_same_log() {
    let logs = Logs::new();
    logs.write("app.log", "1\n");
    logs.run(0);
    logs.append("app.log", "2\n");
    logs.rename("app.log", "app.log.1");
    logs.append("app.log.1", "3\n");
    logs.write("app.log", "4\n");
    assert_eq!(logs.collect()["logs"]["bytes_read"], 6);
    logs.rename("app.log.1", "app.log.2");
    logs.rename("app.log", "app.log.1");
    logs.write("app.log", "5\n");
    assert_eq!(logs.collect()["logs"]["bytes_read"], 2);
    assert_eq!(logs.cat("app.log"), "1\n2\n3\n4\n5\n");
}

#[test]
fn a_log_that_was_rotated_twice_between_two_runs_keeps_its_order() {
    let logs = Logs::new();
    logs.write("app.log", "1\n");
    logs.run(0);
    logs.rename("app.log", "app.log.3");
    logs.write("app.log.2", "2\n");
    logs.write("app.log.1", "3\n");
    logs.write("app.log", "4\n");
    logs.collect();
    assert_eq!(logs.cat("app.log"), "1\n2\n3\n4\n");
    assert_eq!(logs.store().logs().len(), 1);
}

#[test]
fn what_lies_there_at_the_first_run_is_read_from_the_eldest_to_the_newest() {
    let logs = Logs::new();
    logs.write("app.log.2", "1\n");
    logs.pack("gzip", "app.log.2");
    logs.write("app.log.1", "2\n");
    logs.write("app.log", "3\n");
    logs.write("dated.log-20261101", "1\n");
    logs.write("dated.log-20261102", "2\n");
    logs.write("dated.log", "3\n");
    logs.run(0);
    for log in ["app.log", "dated.log"] {
        assert_eq!(logs.cat(log), "1\n2\n3\n");
    }
}

#[test]
fn a_copy_is_known_by_its_content_and_the_truncated_log_begins_anew() {
    let logs = Logs::new();
    logs.write("app.log", "1\n2\n");
    logs.run(0);
    logs.append("app.log", "3\n");
    logs.copy_truncate("app.log", "app.log.1");
    logs.append("app.log", "4\n");
    assert_eq!(logs.collect()["logs"]["bytes_read"], 4);
    // It has grown beyond where it was, and holds other content.
    logs.rename("app.log.1", "app.log.2");
    logs.copy_truncate("app.log", "app.log.1");
    logs.append("app.log", "5\n6\n7\n8\n9\n");
    assert_eq!(logs.collect()["logs"]["bytes_read"], 10);
    assert_eq!(logs.cat("app.log"), "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
}

#[test]
fn what_truncation_removes_between_two_runs_is_missed_and_that_alone() {
    let logs = Logs::new();
    logs.write("app.log", "1\n2\n");
    logs.run(0);
    logs.append("app.log", "lost\n");
    fs::File::options().write(true).open(logs.path("app.log")).unwrap().set_len(0).unwrap();
    logs.append("app.log", "3\n");
    logs.collect();
    logs.append("app.log", "lost with its file\n");
    fs::remove_file(logs.path("app.log")).unwrap();
    logs.write("app.log", "4\n");
    logs.collect();
    assert_eq!(logs.cat("app.log"), "1\n2\n3\n4\n");
}

#[test]
fn a_copy_that_is_being_made_is_not_taken_twice() {
    let logs = Logs::with("max_waiting = 20");
    logs.write("app.log", "1\n2\n3\n");
    logs.run(0);
    // The copy has begun, and the log is still written to.
    logs.write("app.log.1", "1\n2\n");
    logs.append("app.log", "4\n5\n6\n");
    logs.collect();
    // The copy ended before the last lines, which were taken from the log itself.
    logs.append("app.log.1", "3\n4\n5\n");
    fs::File::options().write(true).open(logs.path("app.log")).unwrap().set_len(0).unwrap();
    logs.append("app.log", "7\n");
    logs.collect();
    assert_eq!(logs.cat("app.log"), "1\n2\n3\n4\n5\n6\n7\n");
    assert!(logs.collect()["logs"].is_null());
}

#[test]
fn a_packed_log_that_was_taken_is_known_again_and_only_what_is_beyond_is_taken() {
    for (program, end) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz"), ("bzip2", "bz2")] {
        let logs = Logs::new();
        logs.write("app.log", "1\n2\n");
        logs.run(0);
        logs.append("app.log", "3\n");
        logs.rename("app.log", "app.log.1");
        logs.write("app.log", "4\n");
        logs.pack(program, "app.log.1");
        assert!(logs.path(&format!("app.log.1.{end}")).exists());
        assert_eq!(logs.collect()["logs"]["bytes_read"], 4, "{program}");
        logs.rename(&format!("app.log.1.{end}"), &format!("app.log.2.{end}"));
        assert!(logs.collect()["logs"].is_null(), "{program}");
        assert_eq!(logs.cat("app.log"), "1\n2\n3\n4\n", "{program}");
    }
}

#[test]
fn a_packed_log_that_is_being_written_is_left_for_the_next_run() {
    let logs = Logs::new();
    logs.write("app.log.1", &"a line\n".repeat(20_000));
    logs.pack("gzip", "app.log.1");
    let whole = fs::read(logs.path("app.log.1.gz")).unwrap();
    fs::write(logs.path("app.log.1.gz"), &whole[..whole.len() / 2]).unwrap();
    let report = logs.run(0);
    assert!(report["logs"].is_null(), "{report:#}");
    assert!(findings(&report, "note").concat().contains("the next run looks again"));
    fs::write(logs.path("app.log.1.gz"), &whole).unwrap();
    logs.run(0);
    assert_eq!(logs.cat("app.log"), "a line\n".repeat(20_000));
}

#[test]
fn a_packed_log_that_stays_damaged_is_taken_as_it_is() {
    let logs = Logs::new();
    fs::write(logs.path("app.log.1.gz"), b"\x1f\x8b\x08\0damaged").unwrap();
    crate::harness::settle();
    assert!(logs.run(0)["logs"].is_null());
    let report = logs.run(0);
    assert!(findings(&report, "warning").concat().contains("was taken as it is"), "{report:#}");
    let id = &logs.waiting()[0];
    let data = logs.0.path("logs/transport-outgoing").join(id).join("data/files");
    let stored = crate::harness::below(&data, &logs.path("app.log.1.gz"));
    assert_eq!(fs::read(stored).unwrap(), b"\x1f\x8b\x08\0damaged");
    assert!(logs.collect()["logs"].is_null());
}

#[test]
fn logs_that_begin_alike_are_logs_of_their_own() {
    let logs = Logs::new();
    logs.write("a.log", "begun\n");
    logs.run(0);
    logs.write("b.log", "begun\nb\n");
    logs.append("a.log", "a\n");
    logs.rename("a.log", "a.log.1");
    logs.write("a.log", "begun\nagain\n");
    logs.collect();
    assert_eq!(logs.cat("a.log"), "begun\na\nbegun\nagain\n");
    assert_eq!(logs.cat("b.log"), "begun\nb\n");
}

#[test]
fn a_log_that_moved_to_another_disk_is_not_taken_again() {
    let logs = Logs::new();
    logs.write("app.log", "1\n2\n");
    logs.run(0);
    let bytes = fs::read(logs.path("app.log")).unwrap();
    fs::remove_file(logs.path("app.log")).unwrap();
    fs::write(logs.path("other"), "takes the inode").unwrap();
    fs::write(logs.path("app.log"), [&bytes[..], b"3\n"].concat()).unwrap();
    logs.collect();
    assert_eq!(logs.cat("app.log"), "1\n2\n3\n");
}

#[test]
fn several_names_of_one_file_are_one_log() {
    let logs = Logs::new();
    logs.write("app.log", "1\n");
    fs::hard_link(logs.path("app.log"), logs.path("same.log")).unwrap();
    logs.run(0);
    let all = logs.store().logs();
    assert_eq!(all.into_values().collect::<Vec<_>>(), ["1\n"]);
}

#[test]
fn a_place_in_the_generation_that_is_taken_is_given_to_one_file_alone() {
    let logs = Logs::new();
    logs.write("app.log.1", "2\n");
    logs.write("app.log.1.gz.d/x", "deep\n");
    let packed = logs.0.path("packed.gz");
    fs::write(logs.0.path("packed"), "1\n").unwrap();
    assert!(std::process::Command::new("gzip").arg(logs.0.path("packed")).status().unwrap().success());
    fs::rename(packed, logs.path("app.log.1.gz")).unwrap();
    logs.run(0);
    let mut all: Vec<String> = logs.store().logs().into_values().collect();
    all.sort();
    assert_eq!(all.concat().lines().count(), 3, "{all:?}");
}
