//! `[source]`: what is collected on this host, and how much of it stays here.

use std::{path::PathBuf, time::Duration};

use super::{
    Element, Logs, Reserve, Schedule, Window, element, logs,
    table::Table,
    value::{self, Command},
};
use crate::sys::name::Name;

pub(super) const HEADER: &str = "[source]";
pub(super) const KEYS: &[&str] = &[
    "name",
    "home",
    "keep",
    "undo_for",
    "alarm_after",
    "max_waiting",
    "reserve",
    "quiet",
    "jobs",
    "before",
    "after",
    "hook_timeout",
    "schedule",
    "every",
    "jitter",
    "watch_every",
    "element",
    "logs",
];
pub(super) const HOME: &str = "/home/dataBackupSource";

/// The most files that are read at once; more only makes the disks seek.
const MOST_JOBS: u32 = 64;

/// What is collected on this host, and how much of it stays here.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The name that this source gives itself; the sink must know it by the same.
    pub name: Name,
    /// Home of the transport user: Handover Point, Source-Store, restore drop point.
    pub home: PathBuf,
    /// Generations in the Source-Store; at least 1.
    pub keep: u32,
    /// How long a condemned generation can be taken back.
    pub undo_for: Duration,
    /// Something waits longer than this: alarm.
    pub alarm_after: Duration,
    /// Generations that may wait at the Handover Point; at least 1.
    pub max_waiting: u32,
    /// What stays free of the file system, for the application.
    pub reserve: Reserve,
    /// Nothing is moved or pruned then, since the provider copies the host; local time.
    pub quiet: Option<Window>,
    /// Files read at once; at least 1.
    pub jobs: u32,
    /// Run in order before collecting; if one fails, nothing is collected.
    pub before: Vec<Command>,
    /// Run in order after collecting, whatever happened.
    pub after: Vec<Command>,
    /// Each command of `before` and `after` takes no longer.
    pub hook_timeout: Duration,
    /// When `handover source daemon` runs.
    pub schedule: Schedule,
    /// What is collected, in this order, each with a name of its own; none only where there are logs.
    pub elements: Vec<Element>,
    /// Logs, which go a way of their own.
    pub logs: Option<Logs>,
}

impl Source {
    /// Reads the section. Its home is added to `own`, the folders in which handover keeps its own.
    pub(super) fn read(table: &Table<'_>, processors: usize, own: &mut Vec<PathBuf>) -> Option<Self> {
        let name = table.required("name", "write for example name = \"shop\"", value::name);
        let home = table.or("home", HOME.into(), value::home);
        own.push(home.clone());
        let logs = table.section("logs", logs::HEADER, logs::KEYS).map(|logs| {
            let read = Logs::read(&logs);
            logs.refuse_unknown();
            own.push(read.home.clone());
            read
        });
        let elements = elements(table, own);
        let kept = "at least one generation must be kept";
        let source = Self {
            home,
            keep: table.or("keep", 3, |given| value::count(given, 1..=u32::MAX, kept, 3)),
            undo_for: table.or("undo_for", super::DAY, value::duration("24h")),
            alarm_after: table.or("alarm_after", super::ALARM_AFTER, value::deadline("26h")),
            max_waiting: table.or("max_waiting", 7, |given| {
                value::count(
                    given,
                    1..=u32::MAX,
                    "at least one generation must be able to wait for the sink",
                    7,
                )
            }),
            reserve: table.or("reserve", Reserve::Percent(5.0), Reserve::read),
            quiet: table.optional("quiet", Window::read),
            jobs: table.or("jobs", default_jobs(processors), |given| {
                value::count(given, 1..=MOST_JOBS, "without a job nothing is read", 4)
            }),
            before: hooks(table, "before"),
            after: hooks(table, "after"),
            hook_timeout: table.or("hook_timeout", Duration::from_secs(600), value::deadline("10m")),
            schedule: Schedule::read(table),
            elements,
            logs,
            name: name?,
        };
        Some(source)
    }
}

fn default_jobs(processors: usize) -> u32 {
    u32::try_from(processors.clamp(1, 8)).unwrap_or(1)
}

fn hooks(table: &Table<'_>, key: &'static str) -> Vec<Command> {
    table.list(key, "[[\"program\", \"argument\"]]", |given| {
        if given.value.is_array() {
            return value::command(given);
        }
        given.expected("a list of commands, each a list of its own", "[\"program\", \"argument\"]")
    })
}

fn elements(table: &Table<'_>, own: &[PathBuf]) -> Vec<Element> {
    let mut elements: Vec<Element> = Vec::new();
    let tables = table.sections("element", element::HEADER, element::KEYS);
    if !table.has("element") || table.is_empty_list("element") {
        if !table.has("logs") {
            table.wrong(
                "there is nothing to back up; add [[source.element]] with name, kind and paths or command, or [source.logs] with paths",
            );
        }
        table.refuse(
            &["before", "after"],
            "it is for elements, and there is none; logs are collected as they are; remove it",
        );
    }
    for table in tables {
        let element = Element::read(&table, own);
        table.refuse_unknown();
        let Some(element) = element else { continue };
        if elements.iter().any(|other| other.name == element.name) {
            table.wrong_key("name", "another element above has this name; write another one");
        }
        elements.push(element);
    }
    elements
}
