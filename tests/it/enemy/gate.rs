//! A sink, an honest source, and any number of hosts on which root is the attacker: a program of theirs stands in the
//! place of the gate, behind a real sshd.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::forge::Lie;
use crate::{
    harness::{Lab, Ran, names},
    ssh::{self, Sshd},
};

/// Answers as a gate would, but for what the folder of a lie says otherwise.
const GATE: &str = r#"#!/bin/sh
set -f; cd "$1" || exit 1
set -- $SSH_ORIGINAL_COMMAND
echo "$*" >>asked
case $3 in send) key=send-$5 ;; *) key=$3 ;; esac
LINE="--timeout=300 --files-from=- --from0 --no-implied-dirs . ."
[ ! -e "lie-$key" ] || { . "./lie-$key"; exit; }
case $key in
    offers) cat offers.json ;;
    send-META) cd gen && exec RSYNC --server --sender "-IRS$6" $LINE ;;
    send-DATA) cd gen/data && exec RSYNC --server --sender "-IRS$6" $LINE ;;
    accept) cat >receipt; printf '{"outcome": "accepted"}' ;;
    reject) cat >rejected; printf '{"outcome": "rejected", "paths": 0}' ;;
    *) exit 99 ;;
esac
"#;

/// Starts a program, and notes the most memory that it or one of its children had.
const MEASURED: &str = "import resource, subprocess, sys\n\
    code = subprocess.run(sys.argv[2:]).returncode\n\
    open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))\n\
    sys.exit(code)";

/// All of them.
pub struct Hosts {
    // Before the lab, so that it ends first.
    sshd: Sshd,
    pub lab: Lab,
}

/// What was measured of a run.
pub struct Run {
    pub ran: Ran,
    /// The most memory of one process, in KiB.
    pub peak: u64,
}

impl Hosts {
    /// `sink` are keys of `[sink]`.
    pub fn new(lies: &[Lie], sink: &str) -> Self {
        let (lab, sshd) = (Lab::new(), Sshd::start());
        let rsync = handover::remote::Tools::find(true).unwrap().rsync;
        fs::create_dir(lab.path("evil")).unwrap();
        fs::write(lab.path("gate"), GATE.replace("RSYNC", rsync.to_str().unwrap())).unwrap();
        lab.fake("sendmail", "cat >>'{lab}/mails'");
        let (mut keys, mut sources) = (String::new(), String::new());
        for lie in lies {
            let key = sshd.path(lie.name);
            ssh::keygen(&key);
            let public = fs::read_to_string(key.with_extension("pub")).unwrap();
            let (gate, root) = (lab.path("gate"), lab.path("evil").join(lie.name));
            keys += &format!("restrict,command=\"sh {} {}\" {public}", gate.display(), root.display());
            sources += &format!(
                "[[sink.source]]\nname = \"{}\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\nidentity = \"{}\"\n",
                lie.name,
                sshd.port,
                ssh::user(),
                key.display()
            );
            lie.forge(&lab.path("evil"));
        }
        fs::write(sshd.path("authorized_keys"), keys).unwrap();
        lab.config(
            "",
            crate::harness::TREE,
            &format!("known_hosts = \"{}\"\n{sink}", sshd.path("known_hosts").display()),
        );
        let text = lab.text("handover.toml");
        let mail = format!(
            "[mail]\nto = [\"ops@example.org\"]\nfrom = \"vault@example.org\"\nsendmail = \"{}\"\n",
            lab.path("bin/sendmail").display()
        );
        lab.config_text(&text.replace("[source]", &format!("{mail}[source]")));
        lab.init();
        let text = lab.text("handover.toml");
        lab.config_text(&(text + &sources));
        Self { sshd, lab }
    }

    /// A run of the sink over all of them, with a new generation of the honest source, which must be stored.
    pub fn run(&self, code: i32) -> Run {
        self.lab.write("honest", format!("{:?}", std::time::Instant::now()));
        self.lab.source(0);
        let before = names(&self.lab.path("sink/store/shop")).len();
        let peak = self.lab.path("peak");
        let mut command =
            self.lab.program("python3", &["-c", MEASURED, peak.to_str().unwrap(), crate::harness::HANDOVER]);
        // Where the tests run python by a shim, it finds itself by these.
        command.env("PATH", std::env::var_os("PATH").unwrap());
        let ran = Ran::new(&command.args(["sink", "run", "--json"]).output().unwrap());
        let ran = ran.exits(code);
        assert_eq!(
            names(&self.lab.path("sink/store/shop")).len(),
            before + 1,
            "the honest source waits: {}",
            ran.err
        );
        Run { peak: fs::read_to_string(peak).unwrap().parse().unwrap(), ran }
    }

    /// What the gate of a lie was asked.
    pub fn asked(&self, name: &str) -> String {
        fs::read_to_string(self.lab.path("evil").join(name).join("asked")).unwrap_or_default()
    }

    pub fn stored(&self, name: &str) -> Vec<String> {
        names(&self.lab.path("sink/store").join(name))
    }

    /// Everything that no lie may touch: all but what is staged or put aside of the source that tells it, the notes of
    /// the runs, and what the gates note.
    pub fn around(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        for place in ["evil", "handover.toml", "gate", "bin", "user", "tmp", "sink"] {
            look(&self.lab.path(place), &mut all);
        }
        look(self.sshd.path("").as_path(), &mut all);
        let may_change = |path: &Path| {
            let text = path.to_str().unwrap_or_default();
            let ours = ["sink/incoming", "sink/quarantine", "sink/store", "sink/condemned"];
            let noted = ["asked", "receipt", "rejected"];
            ours.iter().any(|place| path.starts_with(self.lab.path(place)))
                || noted.iter().any(|name| path.file_name().is_some_and(|n| n == *name))
                || text.ends_with("/log")
                // Folders in which something is noted or made.
                || path.parent() == Some(&self.lab.path("evil"))
                || [self.lab.path("sink"), self.lab.path("tmp"), self.sshd.path("")].contains(&path.to_path_buf())
        };
        all.retain(|path, _| !may_change(path));
        all
    }
}

/// The findings of a source in a report.
pub fn findings_of<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    let sources = report["sources"].as_array().unwrap().iter();
    let own = sources.filter(|s| s["name"] == name).flat_map(|s| s["findings"].as_array().unwrap());
    own.collect()
}

/// Everything below a path: kind, device, inode, mode, owner, names, size, times.
pub fn look(path: &Path, all: &mut BTreeMap<PathBuf, String>) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    let told = format!(
        "{}:{} {:o} {}:{} {} {} {}.{} {}.{}",
        meta.dev(),
        meta.ino(),
        meta.permissions().mode(),
        meta.uid(),
        meta.gid(),
        meta.nlink(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    );
    all.insert(path.to_owned(), told);
    if meta.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| look(&entry.unwrap().path(), all));
    }
}

/// Fails the test if there is an order to a terminal in it, or what turns the direction of writing.
#[track_caller]
pub fn is_plain(what: &str, text: &str) {
    let odd = |c: char| {
        (c.is_control() && !"\n\r\t".contains(c))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if let Some(at) = text.find(odd) {
        let from = text[..at].char_indices().rev().nth(60).map_or(0, |(i, _)| i);
        panic!("{what} has {:?} after {:?}", text[at..].chars().next(), &text[from..at]);
    }
}
