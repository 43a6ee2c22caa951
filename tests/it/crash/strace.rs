//! What strace saw of a run: its calls, with the bytes that were written, each by the process that made it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    steps::{plain_name, told},
    verbs::{ALL, LARGE, Verb},
    world::ran,
};
use crate::harness::Lab;

/// A call that has ended.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    /// The process; threads count as it.
    pub process: u32,
    /// Where it was: what a name without a folder begins at.
    pub cwd: PathBuf,
    /// As strace prints them, apart from each other.
    pub args: Vec<String>,
    /// What it gave, below 0 if it failed.
    pub result: i64,
    /// The path of the descriptor that it gave.
    pub gave: Option<PathBuf>,
}

const CALLS: &str = "clone,clone3,fork,vfork,chdir,fchdir,open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,\
    copy_file_range,sendfile,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,\
    mknod,mknodat,fsync,fdatasync,sync,syncfs,sync_file_range,chmod,fchmod,fchmodat,chown,lchown,fchown,fchownat";

/// Runs a command under strace; its calls in the order in which they ended, those of the command itself first told apart
/// by [`Seen::own`].
pub fn seen(lab: &Lab, command: &Command) -> Seen {
    let out = lab.path("strace");
    let args =
        ["-f", "-qq", "-y", "-xx", "-s", "10000000", "--seccomp-bpf", "-e", &format!("trace={CALLS}"), "-o"];
    let mut strace = lab.program("strace", &args);
    strace.arg(&out).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        strace.env(key, value.unwrap());
    }
    // What a command reads cannot be asked of it; only the gate reads, and a receipt.
    if let Ok(receipt) = fs::File::open(lab.path("receipt.toml")) {
        strace.stdin(receipt);
    }
    let ended = ran(&mut strace);
    assert!([0, 4].contains(&ended.code), "{ended:?}");
    Seen::parse(&fs::read_to_string(out).unwrap(), &lab.path(""))
}

pub struct Seen {
    pub calls: Vec<Call>,
    pub own: u32,
}

impl Seen {
    fn parse(text: &str, cwd: &Path) -> Self {
        let mut places: HashMap<u32, PathBuf> = HashMap::new();
        let mut unfinished: HashMap<u32, String> = HashMap::new();
        let mut process: HashMap<u32, u32> = HashMap::new();
        let (mut calls, mut own) = (Vec::new(), 0);
        for line in text.lines() {
            let (thread, rest) = line.split_once(' ').unwrap();
            let (thread, rest) = (thread.parse().unwrap(), rest.trim_start());
            own = if own == 0 { thread } else { own };
            let whole = if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
                unfinished.insert(thread, begun.to_owned());
                continue;
            } else if let Some(resumed) = rest.strip_prefix("<... ") {
                let (_, end) = resumed.split_once(" resumed>").unwrap();
                let Some(begun) = unfinished.remove(&thread) else { continue };
                format!("{begun}{end}")
            } else {
                rest.to_owned()
            };
            let Some((call, result)) = whole.rsplit_once(" = ") else { continue };
            let (name, args) = call.trim_end().split_once('(').unwrap();
            let result_number = result.split([' ', '<']).next().unwrap().parse::<i64>().unwrap_or(-1);
            let me = *process.get(&thread).unwrap_or(&thread);
            if name.starts_with("clone") && result_number > 0 && args.contains("CLONE_THREAD") {
                process.insert(u32::try_from(result_number).unwrap(), me);
            }
            let here = places.get(&me).cloned().unwrap_or_else(|| cwd.to_owned());
            if result_number > 0 && ["clone", "clone3", "fork", "vfork"].contains(&name) {
                places.entry(u32::try_from(result_number).unwrap()).or_insert(here.clone());
            }
            let args: Vec<String> =
                args.strip_suffix(')').unwrap_or(args).split(", ").map(str::to_owned).collect();
            let gave = result
                .split_once('<')
                .map(|(_, path)| bytes(path.trim_end_matches("(deleted)").trim_end_matches('>')));
            let gave = gave.map(|path| PathBuf::from(OsString::from_vec(path)));
            let call =
                Call { name: name.to_owned(), process: me, cwd: here, args, result: result_number, gave };
            match name {
                "chdir" if call.result == 0 => drop(places.insert(me, call.name_only(0))),
                "fchdir" if call.result == 0 => drop(places.insert(me, call.at(0))),
                _ => {}
            }
            calls.push(call);
        }
        // A thread may act before its parent's call is seen to end.
        for call in &mut calls {
            call.process = *process.get(&call.process).unwrap_or(&call.process);
        }
        Self { calls, own }
    }
}

/// `\x61\x62`, between quotes or not.
pub fn bytes(text: &str) -> Vec<u8> {
    let text = text.trim_matches('"');
    text.split("\\x")
        .skip(1)
        .map(|hex| u8::from_str_radix(hex, 16).unwrap_or_else(|_| panic!("{text}")))
        .collect()
}

impl Call {
    /// The path of a descriptor in an argument: `3<\x2f…>`.
    pub fn at(&self, n: usize) -> PathBuf {
        let text = self.args[n]
            .split_once('<')
            .map_or("", |(_, path)| path.trim_end_matches("(deleted)").trim_end_matches('>'));
        PathBuf::from(OsString::from_vec(bytes(text)))
    }

    /// The path that a folder and a name give.
    pub fn path(&self, folder: usize, name: usize) -> PathBuf {
        self.at(folder).join(OsString::from_vec(bytes(&self.args[name])))
    }

    fn name_only(&self, n: usize) -> PathBuf {
        self.cwd.join(OsString::from_vec(bytes(&self.args[n])))
    }

    /// What kind of step it is, and what it is about; none if it changes neither names nor what lasts.
    pub fn step(&self) -> Option<(&'static str, Vec<PathBuf>)> {
        Some(match self.name.as_str() {
            "openat" if self.args[2].contains("O_CREAT") => ("create", vec![self.path(0, 1)]),
            "open" if self.args[1].contains("O_CREAT") => ("create", vec![self.name_only(0)]),
            "creat" => ("create", vec![self.name_only(0)]),
            "renameat2" if self.args[4].contains("RENAME_EXCHANGE") => {
                ("exchange", vec![self.path(0, 1), self.path(2, 3)])
            }
            "renameat" | "renameat2" => ("rename", vec![self.path(0, 1), self.path(2, 3)]),
            "rename" => ("rename", vec![self.name_only(0), self.name_only(1)]),
            "linkat" => ("link", vec![self.path(0, 1), self.path(2, 3)]),
            "link" => ("link", vec![self.name_only(0), self.name_only(1)]),
            "unlinkat" if self.args[2].contains("AT_REMOVEDIR") => ("rmdir", vec![self.path(0, 1)]),
            "unlinkat" => ("unlink", vec![self.path(0, 1)]),
            "unlink" => ("unlink", vec![self.name_only(0)]),
            "rmdir" => ("rmdir", vec![self.name_only(0)]),
            "mkdirat" => ("mkdir", vec![self.path(0, 1)]),
            "mkdir" => ("mkdir", vec![self.name_only(0)]),
            "symlinkat" => ("symlink", vec![self.path(1, 2)]),
            "symlink" => ("symlink", vec![self.name_only(1)]),
            "mknodat" => ("mknod", vec![self.path(0, 1)]),
            "mknod" => ("mknod", vec![self.name_only(0)]),
            "fsync" | "fdatasync" | "sync_file_range" => ("fsync", vec![self.at(0)]),
            "syncfs" | "sync" => ("syncfs", vec![self.at(0)]),
            _ => return None,
        })
    }
}

/// The last part of what a step is about: the paths of descriptors and those for messages may begin differently.
fn short(call: &str, paths: &[PathBuf]) -> String {
    let last = |path: &PathBuf| plain_name(&path.file_name().unwrap_or_default().to_string_lossy());
    format!("{call} {}", paths.iter().map(last).collect::<Vec<_>>().join(" -> "))
}

fn is_numbered(verb: &Verb) -> usize {
    let world = (verb.world)();
    world.reset();
    (verb.ready)(&world);
    let mut command = (verb.command)(&world);
    fs::write(world.lab.path("steps"), "").unwrap();
    command.env("HANDOVER_STEPS", world.lab.path("steps"));
    let seen = seen(&world.lab, &command);
    let own = seen.calls.iter().filter(|call| call.process == seen.own);
    let found: Vec<String> = own
        .filter_map(Call::step)
        .filter(|(_, paths)| !paths[0].starts_with("/dev/null") && !paths[0].ends_with("steps"))
        .map(|(call, paths)| short(call, &paths))
        .collect();
    let told: Vec<String> = told(&world.lab)
        .iter()
        .filter(|step| !["write", "copy"].contains(&step.call.as_str()))
        .map(|step| short(&step.call, &step.paths))
        .collect();
    let count = |all: &[String]| {
        let mut counts = BTreeMap::new();
        all.iter().for_each(|one| *counts.entry(one.clone()).or_insert(0) += 1);
        counts
    };
    let (seen, numbered) = (count(&found), count(&told));
    let names: HashSet<&String> = seen.keys().chain(numbered.keys()).collect();
    let differ: Vec<_> = names
        .into_iter()
        .filter(|name| seen.get(*name) != numbered.get(*name))
        .map(|name| (name, seen.get(name), numbered.get(name)))
        .collect();
    assert!(differ.is_empty(), "{}: (call, seen by strace, numbered): {differ:#?}", verb.name);
    // What makes things last, and what comes once of what gives them their place, has an order. Threads that copy have none.
    let is_ordered = |one: &String| {
        ["fsync", "syncfs", "exchange", "rename"].contains(&one.split(' ').next().unwrap_or_default())
            && !one.contains("handover-link")
    };
    let once = |all: &[String], counts: &BTreeMap<String, i32>| {
        all.iter().filter(|one| counts[*one] == 1 && is_ordered(one)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(once(&found, &seen), once(&told, &numbered), "{}: in another order", verb.name);
    found.len()
}

#[test]
fn strace_sees_no_step_that_has_no_number() {
    for verb in ALL.iter().chain(&LARGE) {
        let calls = is_numbered(verb);
        println!("{}: {calls} calls, each a numbered step", verb.name);
        assert!(calls >= 10, "{}", verb.name);
    }
}
