//! The layers of `src/`: imports go downwards only, and siblings do not know each other.

use std::path::{Path, PathBuf};

/// The modules from the bottom up; those of one line are siblings.
const LAYERS: &[&[&str]] = &[
    &["sys"],
    &["manifest", "report", "config"],
    &["store", "app", "notify"],
    &["gate"],
    &["remote"],
    &["source", "sink", "restore", "daemon"],
    &["logsink"],
    &["cli"],
];

/// Modules that get plain values and never the configuration.
const WITHOUT_CONFIG: &[&str] = &["store", "app", "notify", "gate", "remote"];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The modules of ours that a file names after `crate::`, in lists too.
fn imports(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && depth == 0 && !c.is_whitespace() => {
                    found.push(word(&list[i..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn imports_go_downwards_only_and_siblings_do_not_know_each_other() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let (mut checked, mut wrong) = (0, Vec::new());
    for file in all {
        let relative = file.strip_prefix(&src).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let Some(own) = layer_of(&module) else {
            assert!(["main", "lib"].contains(&module.as_str()), "{module} has no layer: give it one here");
            continue;
        };
        for import in imports(&std::fs::read_to_string(&file).unwrap()) {
            if import == module {
                continue;
            }
            let Some(other) = layer_of(&import) else { continue };
            checked += 1;
            if other >= own || (import == "config" && WITHOUT_CONFIG.contains(&module.as_str())) {
                wrong.push(format!("{} imports {import}", relative.display()));
            }
        }
    }
    assert!(checked > 50, "only {checked} imports were found: the test looks at nothing");
    assert!(wrong.is_empty(), "against the layers:\n{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_lists_and_paths() {
    let text = "use crate::{\n    sys::{Dir, show},\n    store::Found,\n};\nlet x = crate::config::load();\n// crate::cli";
    assert_eq!(imports(text), ["sys", "store", "config"]);
}
