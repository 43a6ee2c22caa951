//! Alarms over time: what lasts, what was told of it, and what has changed with a run. Pure, with time as an argument.
//!
//! `alarms.json`, format 1. A file that cannot be understood is as none: what lasts is told once more.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    manifest::GenerationId,
    report::{Finding, Kind},
    sys::{self, Dir, durable},
};

const FILE: &str = "alarms.json";
const FORMAT: u32 = 1;
const LIMIT: u64 = 4 << 20;

/// One reminder in this time.
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// A run of cron that is a little earlier than the day before reminds all the same.
const EARLY: SignedDuration = SignedDuration::from_hours(2);
/// What is to be reminded of within this time is told with what is reminded of now.
const TOGETHER: SignedDuration = SignedDuration::from_hours(12);
/// What begins and ends more often within a day is told once a day from there on.
const OFTEN: u32 = 3;
/// An alarm of something that nobody looks at any more, as a source that was removed, is forgotten.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(24 * 90);
/// So many lines of one alarm are told; one line is no longer than this.
const LINES: usize = 10;
const LONGEST_LINE: usize = 1000;

/// What a run found of one source (or of the store as a whole), and what it has looked at.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    /// The source's name, or what else the findings are of.
    pub name: &'a str,
    /// What was found.
    pub findings: &'a [Finding],
    /// The generation that the run made, where the findings name none.
    pub generation: Option<&'a str>,
    /// Of which kinds a missing finding means that all is well. A run that was cut short ends no alarm.
    pub looked: Looked,
}

/// Of which kinds a missing finding means that all is well; with a time, only for alarms that began before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked(Vec<(Kind, Option<Timestamp>)>);

impl Looked {
    /// At nothing: the run was cut short, or did not begin.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// At all that a run looks at when it comes to its end: everything but what `watch` and `verify` are for.
    pub fn run() -> Self {
        let of_others = [Kind::Overdue, Kind::Damaged];
        Self(Kind::alarms().filter(|kind| !of_others.contains(kind)).map(|kind| (kind, None)).collect())
    }

    /// At this kind.
    #[must_use]
    pub fn and(mut self, kind: Kind) -> Self {
        self.0.push((kind, None));
        self
    }

    /// At this kind, and what began before that time is over.
    #[must_use]
    pub fn and_before(mut self, kind: Kind, time: Timestamp) -> Self {
        self.0.push((kind, Some(time)));
        self
    }

    fn ends(&self, kind: Kind, since: Timestamp) -> bool {
        self.0.iter().any(|(looked, before)| *looked == kind && before.is_none_or(|before| since < before))
    }
}

/// An alarm that lasts, or that ended a short while ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lasting {
    pub(super) scope: String,
    pub(super) kind: Kind,
    pub(super) subject: String,
    pub(super) generation: Option<String>,
    /// What was found when it was last found.
    pub(super) lines: Vec<String>,
    pub(super) fix: Option<String>,
    pub(super) since: Timestamp,
    pub(super) seen: Timestamp,
    /// Days of which somebody was reminded.
    days: i64,
    /// How often it began within a day.
    times: u32,
    /// Since when all is well again.
    ended: Option<Timestamp>,
}

/// What has changed with an alarm, and is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    New,
    Still,
    Well,
}

/// All alarms of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alarms {
    format: u32,
    alarms: BTreeMap<String, Lasting>,
}

impl Alarms {
    pub(super) fn load(state: &Dir) -> sys::Result<Self> {
        let bytes = state.read_if_any(FILE, LIMIT)?.unwrap_or_default();
        let read: Self = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(if read.format == FORMAT { read } else { Self::default() })
    }

    pub(super) fn save(&mut self, state: &Dir) -> sys::Result<()> {
        self.format = FORMAT;
        let text = serde_json::to_vec(self)
            .map_err(|e| sys::Error::new("write", state.join(FILE), std::io::Error::other(e)))?;
        durable::write_file(state, FILE, &text, 0o600)
    }

    /// Takes in what a run found; gives what is to be told, the new first.
    pub(super) fn change(&mut self, scopes: &[Scope<'_>], now: Timestamp) -> Vec<(News, Lasting)> {
        let found = gather(scopes, now);
        let mut news = Vec::new();
        for (key, found) in &found {
            let known = self.alarms.get(key);
            let (told, lasting) = renewed(known, found, now);
            news.extend(told.map(|told| (told, lasting.clone())));
            self.alarms.insert(key.clone(), lasting);
        }
        for (key, lasting) in &mut self.alarms {
            let is_over = || {
                scopes.iter().any(|s| s.name == lasting.scope && s.looked.ends(lasting.kind, lasting.since))
            };
            if lasting.ended.is_none() && !found.contains_key(key) && is_over() {
                lasting.ended = Some(now);
                if lasting.times <= OFTEN {
                    news.push((News::Well, lasting.clone()));
                }
            }
        }
        if news.iter().any(|(told, _)| *told == News::Still) {
            self.remind_together(&mut news, now);
        }
        self.alarms.retain(|_, lasting| match lasting.ended {
            Some(ended) if now.duration_since(ended) >= DAY => {
                // It came and went; now it has been well for a day.
                if lasting.times > OFTEN {
                    news.push((News::Well, lasting.clone()));
                }
                false
            }
            Some(_) => true,
            None => now.duration_since(lasting.seen) < FORGOTTEN,
        });
        news.sort_by_key(|(news, _)| *news as u8);
        news
    }
}

impl Alarms {
    /// One reminder a day for all that lasts, and not one for each: also of what another run found.
    fn remind_together(&mut self, news: &mut Vec<(News, Lasting)>, now: Timestamp) {
        let told: Vec<String> = news.iter().map(|(_, lasting)| lasting.key()).collect();
        for (_, lasting) in self.alarms.iter_mut().filter(|(key, _)| !told.contains(key)) {
            let days = lasting.days_at(now + TOGETHER);
            if lasting.ended.is_none() && days > lasting.days {
                lasting.days = days;
                news.push((News::Still, lasting.clone()));
            }
        }
    }
}

impl Lasting {
    fn key(&self) -> String {
        key(&self.scope, self.kind, &self.subject)
    }

    /// Days, each a little early, that it has lasted at a time.
    fn days_at(&self, time: Timestamp) -> i64 {
        (time.duration_since(self.since) + EARLY).as_hours() / 24
    }
}

/// What becomes of an alarm that is found, and whether it is told.
fn renewed(known: Option<&Lasting>, found: &Lasting, now: Timestamp) -> (Option<News>, Lasting) {
    let mut lasting = found.clone();
    let Some(known) = known else { return (Some(News::New), lasting) };
    lasting.times = known.times;
    if known.ended.is_some() {
        lasting.times += 1;
        if lasting.times <= OFTEN {
            return (Some(News::New), lasting);
        }
    }
    // A clock that went back begins the days anew; else no reminder would come for long.
    (lasting.since, lasting.days) = if now < known.since { (now, 0) } else { (known.since, known.days) };
    let days = lasting.days_at(now);
    if days > lasting.days {
        lasting.days = days;
        return (Some(News::Still), lasting);
    }
    (None, lasting)
}

fn key(scope: &str, kind: Kind, subject: &str) -> String {
    format!("{scope}/{}/{subject}", kind.word())
}

/// The alarms among the findings, one for each kind of trouble with each subject. A generation is no subject of its own:
/// the next one would be another alarm each night.
fn gather(scopes: &[Scope<'_>], now: Timestamp) -> BTreeMap<String, Lasting> {
    let mut found: BTreeMap<String, Lasting> = BTreeMap::new();
    for scope in scopes {
        for finding in scope.findings.iter().filter(|finding| finding.kind.is_alarm()) {
            let is_generation = finding.subject.parse::<GenerationId>().is_ok();
            let subject = if is_generation { scope.name } else { &finding.subject };
            let generation = if is_generation { Some(finding.subject.as_str()) } else { scope.generation };
            let key = key(scope.name, finding.kind, &shown(subject));
            let lasting = found.entry(key).or_insert_with(|| Lasting {
                scope: scope.name.to_owned(),
                kind: finding.kind,
                subject: shown(subject),
                generation: generation.map(shown),
                lines: Vec::new(),
                fix: finding.fix.clone(),
                since: now,
                seen: now,
                days: 0,
                times: 1,
                ended: None,
            });
            if lasting.lines.len() < LINES {
                lasting.lines.push(shown(&finding.text));
            }
        }
    }
    found
}

/// Text that came from somewhere: on one line, of bounded length, without anything that moves a cursor.
pub(super) fn shown(text: &str) -> String {
    let one_line = text.lines().map(|line| line.trim_end()).collect::<Vec<_>>().join("; ");
    // What is escaped already stays as it is.
    let escaped = sys::show(one_line.as_bytes()).replace("\\\\", "\\");
    match escaped.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}..", escaped.get(..end).unwrap_or_default()),
        None => escaped,
    }
}

#[cfg(test)]
mod tests;
