//! At every durable step of every verb: the process dies there, or the step fails; the promise holds at once, and the
//! next run ends where a run ends that nothing befell.
//!
//! `HANDOVER_LONG=1` tries every iteration of a loop, and every error at each.

mod points;
pub(crate) mod steps;
pub(crate) mod strace;
pub(crate) mod verbs;
pub(crate) mod world;

/// Whether to go further than continuous integration does.
pub(crate) fn is_long() -> bool {
    std::env::var_os("HANDOVER_LONG").is_some_and(|value| value == "1")
}

#[test]
fn a_release_dies_and_fails_at_no_step_that_somebody_names() {
    let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let steps = std::fs::read_to_string(src.join("sys/step.rs")).unwrap();
    for variable in ["HANDOVER_STEPS", "HANDOVER_FAULT"] {
        // The only module that reads it is compiled with debug assertions alone, and so is each of its uses.
        let inside = steps.split_once("#[cfg(debug_assertions)]\nmod faults {").unwrap().1;
        assert!(inside.trim_end().ends_with("\n}"), "something comes after the module");
        assert!(inside.contains(&format!("\"{variable}\"")));
        let grep = std::process::Command::new("grep").args(["-rl", variable]).arg(&src).output().unwrap();
        let files = String::from_utf8(grep.stdout).unwrap();
        assert_eq!(files.lines().collect::<Vec<_>>(), [src.join("sys/step.rs").to_str().unwrap()]);
    }
    let uses: Vec<_> = steps.match_indices("faults::begin").map(|(at, _)| &steps[..at]).collect();
    assert!(
        uses.len() == 2
            && uses.iter().all(|before| before.trim_end().ends_with("=") && {
                before.rsplit_once("#[cfg").unwrap().1.starts_with("(debug_assertions)]\n    {\n")
            })
    );
}
