//! `handover restore` into the running application: what it refuses, what it replaces and how, what it leaves, and what a cut
//! leaves behind.

mod after;
mod asked;
mod below;
mod cut;
mod drill;
mod dumps;
mod give_up;
mod held;
mod kept;
mod live;
mod places;
mod refuse;
mod undo;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::{Lab, Ran, id_of, settle};

/// The tree of the application with a service, a cache that is left out, and a single file as an element of its own.
const ELEMENTS: &str = r#"
[[source.element]]
name = "www"
kind = "tree"
paths = ["{lab}/app/shop"]
exclude = ["cache/"]
services = ["tomcat"]

[[source.element]]
name = "conf"
kind = "tree"
paths = ["{lab}/app/shop.conf"]
"#;

/// A source whose application lies in `app/`.
struct Host {
    lab: Lab,
}

impl Host {
    fn new() -> Self {
        Self::with(Lab::new(), ELEMENTS, "")
    }

    fn with(lab: Lab, elements: &str, more: &str) -> Self {
        fs::create_dir_all(lab.path("app")).unwrap();
        let host = Self { lab };
        host.config(elements, more);
        // A service manager that notes what it is asked for.
        host.lab.fake(
            "service",
            "echo \"$2 $1\" >>{lab}/services.log\n[ \"$2\" != status ] || exec test ! -e {lab}/stopped\n\
             [ \"$2\" != stop ] || touch {lab}/stopped\n[ \"$2\" != start ] || rm -f {lab}/stopped",
        );
        host
    }

    fn config(&self, elements: &str, more: &str) {
        self.lab.config_text(&format!(
            "state = \"{{lab}}/state\"\n[source]\nname = \"shop\"\nhome = \"{{lab}}/home\"\nreserve = \"0B\"\n\
             {elements}\n{more}"
        ));
    }

    fn app(&self, name: &str) -> PathBuf {
        self.lab.path("app").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.app(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.app(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The application as it is backed up.
    fn fill(&self, word: &str) {
        self.write("shop/index.html", word);
        self.write("shop/deep/er/page", word);
        self.write("shop.conf", word);
        self.write("shop/cache/hot", "of now");
    }

    /// Collects, and gives the id; an earlier one may wait still.
    #[track_caller]
    fn collect(&self) -> String {
        let ran = self.lab.run(&["source", "--json"]);
        assert!([0, 4].contains(&ran.code), "{ran:?}");
        id_of(&ran.json())
    }

    fn init(&self) -> &Self {
        self.lab.run(&["source", "init"]).exits(0);
        self
    }

    /// Where a generation waits.
    fn waiting(&self, id: &str) -> PathBuf {
        self.lab.path("home/transport-outgoing").join(id)
    }

    /// The same under another name.
    fn deliver_as(&self, id: &str, name: &str) {
        copy(&self.waiting(id), &self.lab.path("home/restore").join(name));
    }

    /// Copies a generation into `restore/` as somebody would by hand.
    fn deliver(&self, id: &str) {
        copy(&self.waiting(id), &self.lab.path("home/restore").join(id));
    }

    fn restore(&self, args: &[&str]) -> Ran {
        self.lab.run(&[&["restore", "--json"], args].concat())
    }

    /// A generation of `old` that lies in `restore/`, while the application has gone on to `new`.
    fn old_in_place_of_new(&self) -> String {
        self.fill("old");
        let id = self.init().collect();
        self.deliver(&id);
        self.fill("new");
        self.write("shop/only-new", "new");
        id
    }

    /// Two generations in `restore/`, the newer one first, while the application has gone on to `new`.
    fn two() -> (Self, String, String) {
        let host = Self::new();
        host.fill("older");
        let older = host.init().collect();
        settle();
        host.fill("newer");
        let newer = host.collect();
        host.deliver(&older);
        host.deliver(&newer);
        host.fill("new");
        (host, newer, older)
    }

    /// What is in the folder of the application that a restore left there.
    fn left_over(&self) -> Vec<String> {
        hidden(&self.lab.path("app"))
    }
}

/// Names that handover made in a folder.
fn hidden(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name.starts_with(".handover-")).collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(status.success());
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report:#}"))
}
