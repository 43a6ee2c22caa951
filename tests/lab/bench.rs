//! The benchmarks, as small as they can be: that they measure what they say, and that what was restored was compared.

#![expect(clippy::disallowed_methods, reason = "the benchmark is a program of its own")]

use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_benchmark_measures_every_contender() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let (numbers, picture) = (dir.path().join("numbers.json"), dir.path().join("picture.svg"));
    let output = Command::new(format!("{ROOT}/lab/bench"))
        .args([
            "logs",
            "--scale",
            "0.001",
            "--runs",
            "1",
            "--handover",
            env!("CARGO_BIN_EXE_handover"),
            "--work",
        ])
        .arg(dir.path().join("work"))
        .arg("--json")
        .arg(&numbers)
        .arg("--picture")
        .arg(&picture)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let numbers: serde_json::Value = serde_json::from_slice(&std::fs::read(&numbers).unwrap()).unwrap();
    let rows = numbers["measured"].as_array().unwrap();
    let steps: Vec<_> = rows.iter().map(|row| row["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["first", "changed", "same", "verify", "restore", "prune"]);
    for row in rows {
        for contender in ["handover", "rsync", "rsnapshot", "tar", "restic", "borg", "rdiff-backup"] {
            // Neither of the two proves what it keeps.
            if row["step"] == "verify" && ["rsync", "rsnapshot"].contains(&contender) {
                continue;
            }
            let cost = &row[contender];
            assert!(cost["wall"].as_f64().unwrap() > 0.0, "{contender}: {row}");
            // Every backup goes over the line.
            let wire = cost["wire"].as_u64().unwrap();
            assert_eq!(
                wire > 0,
                ["first", "changed", "same"].contains(&row["step"].as_str().unwrap()),
                "{contender}: {row}"
            );
        }
    }
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("| rdiff-backup"), "{table}");
    assert!(std::fs::read_to_string(&picture).unwrap().contains("</svg>"));
}

#[test]
fn the_benchmark_of_scale_measures_sources_and_generations() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let output = Command::new(format!("{ROOT}/lab/bench-scale"))
        .args([
            "--sources",
            "10",
            "--generations",
            "10",
            "--handover",
            env!("CARGO_BIN_EXE_handover"),
            "--work",
        ])
        .arg(dir.path().join("work"))
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    for row in [
        "| first run       | 4 ",
        "| nothing changed | 1 ",
        "| sink status ",
        "| sink list ",
        "| sink prune --dry-run ",
    ] {
        assert!(table.contains(row), "{row}: {table}");
    }
}
