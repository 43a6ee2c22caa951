//! A year of hourly runs in seconds: the product's retention under a clock that jumps, outages, daylight saving, full
//! disks, damage, sources that are frozen, and a source that offers a thousand generations an hour.

mod disk;
mod oracle;

use std::{collections::BTreeSet, time::Duration};

use handover::{
    gate::protocol::Offer,
    manifest::{Digest, GenerationId},
    sink::choice::{Choice, Known, choose},
    store::retention::{self, Candidate, Decision, Policy},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::{is_long, parsers::Chance};

const HOURS_OF_A_YEAR: i64 = 8760;
const MAX_PER_DAY: u32 = 48;
const DAY: Duration = Duration::from_secs(86_400);

/// What a year is like.
#[derive(Clone, Copy)]
struct Year {
    name: &'static str,
    policy: Policy,
    /// The source's cron runs every hour, or at half past two by the wall clock of Berlin.
    daily: bool,
    /// For a third of the year, a thousand offers come in an hour.
    hostile: bool,
    seed: u64,
}

/// What the sink has, and the clock that it goes by.
struct Sink {
    year: Year,
    hour: i64,
    /// By how much the sink's clock is wrong.
    wrong: SignedDuration,
    /// Something looked suspicious, and nobody has looked yet.
    frozen: bool,
    /// Hours in which it was so, and something had come that would have let others go.
    held: usize,
    stored: Vec<Candidate>,
    arrived: Vec<Timestamp>,
    sequence: u64,
    chance: Chance,
    condemned: usize,
    most: usize,
}

impl Sink {
    fn new(year: Year) -> Self {
        let (stored, arrived) = (Vec::new(), Vec::new());
        let chance = Chance(year.seed);
        Self {
            year,
            hour: 0,
            wrong: SignedDuration::ZERO,
            frozen: false,
            held: 0,
            stored,
            arrived,
            sequence: 0,
            chance,
            condemned: 0,
            most: 0,
        }
    }

    fn truth(&self) -> Timestamp {
        Timestamp::constant(1_793_404_800, 0) + SignedDuration::from_hours(self.hour)
    }

    fn now(&self) -> Timestamp {
        self.truth() + self.wrong
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.chance.below(times) == 0
    }

    /// An offer, taken if the product takes it; whether it was.
    fn offer(&mut self) -> bool {
        let day_ago = self.now() - SignedDuration::from_hours(24);
        self.arrived.retain(|at| *at > day_ago);
        let offer = Offer {
            id: GenerationId::at(self.truth(), 1),
            sequence: self.sequence,
            seal: Digest::of(b""),
            files: 1,
            entries: 1,
            bytes: 1,
            manifest_bytes: 1,
            deltas: Vec::new(),
            rejected: false,
            reading: false,
        };
        let known = Known { today: self.arrived.len(), ..Known::default() };
        if choose(&offer, &known, MAX_PER_DAY) != Choice::Fetch {
            return false;
        }
        self.sequence += 1;
        let (verified, has_dump) = (!self.one_in(8), !self.one_in(6));
        let elements: &[&str] = if has_dump { &["db", "www"] } else { &["www"] };
        self.stored.push(Candidate {
            id: GenerationId::at(self.truth(), u32::try_from(self.sequence).unwrap()),
            sequence: self.sequence,
            stored: self.now(),
            whole: true,
            verified,
            elements_ok: elements.iter().map(|e| e.parse().unwrap()).collect(),
            pinned: false,
            drilled: false,
        });
        self.arrived.push(self.now());
        true
    }

    /// Takes away what retention says, after looking whether it may.
    fn remove(&mut self, gone: &BTreeSet<GenerationId>) {
        let newest = |holds: &dyn Fn(&Candidate) -> bool| {
            self.stored.iter().filter(|c| c.whole && holds(c)).max_by_key(|c| c.sequence)
        };
        let protected = [newest(&|_| true), newest(&|c| c.verified)];
        for one in protected.into_iter().flatten() {
            assert!(!gone.contains(&one.id), "{}: hour {}: {one:?} was condemned", self.year.name, self.hour);
        }
        if self.wrong.is_zero() {
            let young = |c: &&Candidate| {
                self.truth().duration_since(c.stored).unsigned_abs() < self.year.policy.keep_for
            };
            let lost = self.stored.iter().filter(young).find(|c| gone.contains(&c.id));
            assert!(
                lost.is_none(),
                "{}: hour {}: {lost:?} is younger than keep_for",
                self.year.name,
                self.hour
            );
        }
        self.condemned += gone.len();
        self.stored.retain(|c| !gone.contains(&c.id));
    }

    fn policy(&self) -> Policy {
        Policy { frozen: self.frozen, ..self.year.policy }
    }

    fn decide(&self, policy: &Policy) -> BTreeSet<GenerationId> {
        let decisions = retention::decide(&self.stored, policy, self.now());
        decisions.into_iter().filter(Decision::is_condemned).map(|d| d.id).collect()
    }

    /// An hour in which generations may arrive; the store as retention leaves it.
    fn run(&mut self, offers: usize) {
        let arrived = (0..offers).filter(|_| self.offer()).count();
        let policy = self.policy();
        let gone = self.decide(&policy);
        if self.frozen {
            assert_eq!(gone, BTreeSet::new(), "{}: hour {}: it is frozen", self.year.name, self.hour);
            self.held += usize::from(!self.decide(&self.year.policy).is_empty());
        }
        if arrived == 0 {
            assert_eq!(gone, BTreeSet::new(), "{}: hour {}: nothing new came", self.year.name, self.hour);
        }
        if self.hour % 53 == 0 {
            let expected = oracle::condemned(&self.stored, &policy, self.now());
            assert_eq!(gone, expected, "{}: hour {}", self.year.name, self.hour);
        }
        self.remove(&gone);
        if !self.frozen {
            self.most = self.most.max(self.stored.len());
        }
    }

    fn mishaps(&mut self) {
        match self.chance.below(400) {
            0 => self.wrong = SignedDuration::from_hours(self.chance.below(1440) as i64 - 720),
            1..=4 => self.wrong = SignedDuration::ZERO,
            5 if !self.stored.is_empty() => {
                let which = self.chance.below(self.stored.len());
                self.stored[which].whole = false;
            }
            // The disk is full: what may go first, goes.
            6 => {
                let room = retention::make_room(&self.stored, &self.policy(), self.now());
                assert!(!self.frozen || room.is_empty(), "{}: hour {}", self.year.name, self.hour);
                self.remove(&room.into_iter().collect());
                self.run(1);
            }
            7 => self.frozen = true,
            // A person has looked: what has piled up goes.
            8..=9 => {
                self.frozen = false;
                let gone = self.decide(&self.policy());
                self.remove(&gone);
            }
            _ => {}
        }
        // Somebody looks after damaged ones now and then.
        if self.one_in(2000) {
            self.stored.retain(|c| c.whole);
        }
    }
}

fn live(year: Year, years: i64) {
    let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let mut sink = Sink::new(year);
    let (mut outage, mut lasted) = (0, 0);
    for hour in 0..years * HOURS_OF_A_YEAR {
        sink.hour = hour;
        sink.mishaps();
        if outage == 0 && sink.one_in(500) {
            let longest = if sink.one_in(5) { 2000 } else { 48 };
            outage = sink.chance.below(longest);
        }
        let is_out = outage > 0;
        outage = outage.saturating_sub(1);
        lasted += i64::from(is_out);
        // Once a year two in the morning does not come, and once it comes twice.
        let due = !year.daily || sink.truth().to_zoned(berlin.clone()).hour() == 2;
        let hostile = year.hostile && hour % HOURS_OF_A_YEAR > 4000 && hour % HOURS_OF_A_YEAR < 7000;
        sink.run(if is_out || !due {
            0
        } else if hostile {
            1000
        } else {
            1
        });
    }
    let policy = year.policy;
    let counted = policy.last + policy.daily + policy.weekly + policy.monthly + policy.yearly;
    let young = policy.keep_for.as_secs() / DAY.as_secs() * u64::from(MAX_PER_DAY);
    println!(
        "{}: {} hours, {lasted} without the source, {} in which what would have gone was held, {} arrived, {} condemned, at \
         most {} stored",
        year.name,
        years * HOURS_OF_A_YEAR,
        sink.held,
        sink.sequence,
        sink.condemned,
        sink.most
    );
    // Beside what is counted and what is young: damaged ones, and what a wrong clock made young for its time.
    let bound = u64::from(counted) + 2 * young + 100;
    assert!(sink.most as u64 <= bound, "{}: {} were stored", year.name, sink.most);
    crate::proof::proof("a simulated year: hours", usize::try_from(years * HOURS_OF_A_YEAR).unwrap(), 0);
    assert!(sink.condemned > 100 && lasted > 100 && sink.held > 24, "too little has happened");
}

#[test]
fn in_a_year_of_mishaps_retention_takes_nothing_that_it_should_keep() {
    let counted = Policy { last: 14, ..Policy::default() };
    let periods = Policy { last: 7, daily: 14, weekly: 8, monthly: 12, yearly: 3, ..Policy::default() };
    let young = Policy { last: 3, keep_for: 7 * DAY, ..Policy::default() };
    let years = if is_long() { 10 } else { 1 };
    for seed in 1..=(if is_long() { 20 } else { 1 }) {
        let year = |name, policy, daily, hostile| Year { name, policy, daily, hostile, seed };
        live(year("hourly, keep = 14", counted, false, false), years);
        live(year("daily by the wall clock, all periods", periods, true, false), years);
        live(year("hourly, all periods", periods, false, false), years);
        live(year("a hostile source, keep_for = 7d", young, false, true), years);
    }
}
