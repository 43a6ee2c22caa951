//! lab/README.md, typed as it is written: the lab that is used by hand, and its tour.

#![expect(clippy::disallowed_methods, reason = "what is typed here is typed on a shell")]

use std::{path::Path, process::Command};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A block of the page, with what the page says of it.
#[derive(Default)]
struct Step {
    script: String,
    /// What it prints, among other things.
    shows: Vec<String>,
    exit: i32,
}

/// `<!-- exit: N -->` stands before a block, `<!-- shows: TEXT -->` after it.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut exit = 0;
    let mut lines = page.lines();
    let remark = |line: &str, word: &str| {
        line.strip_prefix(&format!("<!-- {word}: "))
            .and_then(|rest| rest.strip_suffix(" -->"))
            .map(str::to_owned)
    };
    while let Some(line) = lines.next() {
        if let Some(code) = remark(line, "exit") {
            exit = code.parse().unwrap();
        } else if let Some(text) = remark(line, "shows") {
            steps.last_mut().expect("nothing stands before it").shows.push(text);
        } else if line == "```sh" {
            let script: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            steps.push(Step {
                script: script.join("\n"),
                shows: Vec::new(),
                exit: std::mem::take(&mut exit),
            });
        }
    }
    steps
}

/// A lab of this test's own, beside one that somebody uses.
struct ByHand {
    name: String,
}

impl ByHand {
    fn type_in(&self, script: &str) -> (i32, String) {
        // A failure ends the block, as a person would stop there.
        let output = Command::new("bash")
            .args(["-c", &format!("set -euo pipefail; exec 2>&1 </dev/null; {script}")])
            .current_dir(ROOT)
            .env("HANDOVER_LAB", &self.name)
            .env("HANDOVER_BINARY", env!("CARGO_BIN_EXE_handover"))
            .output()
            .unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let (code, said) = self.type_in("lab/down");
        assert!(code == 0 || std::thread::panicking(), "{said}");
    }
}

#[test]
fn the_tour_through_the_lab_goes_as_its_page_says() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("lab/README.md")).unwrap();
    let steps = steps(&page);
    assert!(steps.len() >= 20, "the page has lost its blocks: {}", steps.len());
    assert!(
        steps.iter().map(|step| step.shows.len()).sum::<usize>() >= 20,
        "the page no longer says what is seen"
    );
    let lab = ByHand { name: format!("handover-tour-{}", std::process::id()) };
    for Step { script, shows, exit } in &steps {
        let (code, said) = lab.type_in(script);
        assert_eq!(code, *exit, "{script}\n{said}");
        for text in shows {
            assert!(said.contains(text), "`{text}` is missing after\n{script}\n{said}");
        }
    }
    let (_, left) = lab.type_in("docker ps --all --quiet --filter label=$HANDOVER_LAB; docker volume ls --quiet --filter label=$HANDOVER_LAB");
    assert_eq!(left, "", "lab/down left something behind");
}
