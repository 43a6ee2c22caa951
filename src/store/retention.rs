//! Which generations stay. A pure decision: the same candidates, policy and time give the same verdicts, in whatever
//! order they are listed.
//!
//! Order is by sequence. A generation is kept if any of these holds, and each reason is told:
//!
//! - the source is frozen, it is pinned, or it is damaged (damaged ones count for nothing and are left to a person);
//! - it is the newest, the newest verified, the last one that was drilled, or the newest with a good copy of an element;
//! - it is younger than `keep_for`. One that seems to come from the future is of age zero: a clock that went back
//!   makes nothing old;
//! - it is one of the `last` ones, or the newest of one of the newest `daily`, `weekly` (ISO weeks), `monthly` or
//!   `yearly` periods that have one at all, in UTC by the time of storing. The newest of a period stays, so that a
//!   period that is over keeps its final state, and days without a backup use up nothing.
//!
//! What is condemned changes nothing for the others: deciding again condemns no more.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Serialize, Serializer};

use crate::{manifest::GenerationId, sys::name::Name};

/// What is known of a stored generation when retention decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id: a name, not an order.
    pub id: GenerationId,
    /// The order: the store's own counter.
    pub sequence: u64,
    /// When it was stored, by the clock of the host that decides.
    pub stored: Timestamp,
    /// False if it is known to be damaged.
    pub whole: bool,
    /// Whether its content was hashed.
    pub verified: bool,
    /// The elements of which it holds a good copy.
    pub elements_ok: BTreeSet<Name>,
    /// Whether a person said that it stays.
    pub pinned: bool,
    /// Whether a drill restored it.
    pub drilled: bool,
}

/// How much to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// The newest so many.
    pub last: u32,
    /// The newest of so many days.
    pub daily: u32,
    /// The newest of so many ISO weeks.
    pub weekly: u32,
    /// The newest of so many months.
    pub monthly: u32,
    /// The newest of so many years.
    pub yearly: u32,
    /// Nothing younger goes.
    pub keep_for: Duration,
    /// Nothing of a frozen source goes.
    pub frozen: bool,
}

/// Why a generation stays or goes, in words for people by `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The source is frozen.
    Frozen,
    /// It is damaged.
    Damaged,
    /// Nothing newer is stored.
    Newest,
    /// No newer one has been verified.
    NewestVerified,
    /// No newer one holds a good copy of this element.
    NewestGood(Name),
    /// A person pinned it.
    Pinned,
    /// No newer one has been drilled.
    LastDrilled,
    /// Younger than this.
    Young(Duration),
    /// One of the last so many.
    Last(u32),
    /// The newest of a period, of the newest so many periods.
    Period(Period, u32),
    /// Nothing keeps it: beyond what the policy counts.
    Surplus(Policy),
}

/// A period of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// A day.
    Day,
    /// An ISO week: Monday to Sunday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// What happens to a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It stays; each reason alone is enough.
    Keep(Vec<Reason>),
    /// It goes.
    Condemn(Reason),
}

/// The verdict on one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Which.
    pub id: GenerationId,
    /// What happens to it.
    pub verdict: Verdict,
}

impl Decision {
    /// Whether it goes.
    pub fn is_condemned(&self) -> bool {
        matches!(self.verdict, Verdict::Condemn(_))
    }
}

/// Decides on every candidate; the eldest comes first.
pub fn decide(candidates: &[Candidate], policy: &Policy, now: Timestamp) -> Vec<Decision> {
    let mut newest_first: Vec<&Candidate> = candidates.iter().collect();
    newest_first.sort_by_key(|c| Reverse(order(c)));
    let mut reasons = vec![Vec::new(); newest_first.len()];
    protect(&newest_first, policy, now, &mut reasons);
    count(&newest_first, policy, &mut reasons);
    newest_first
        .iter()
        .zip(reasons)
        .rev()
        .map(|(candidate, reasons)| {
            let verdict = if reasons.is_empty() {
                Verdict::Condemn(Reason::Surplus(*policy))
            } else {
                Verdict::Keep(reasons)
            };
            Decision { id: candidate.id.clone(), verdict }
        })
        .collect()
}

/// What may go before one more generation arrives, the eldest first: what would go if it were already stored. Of the
/// one to come nothing is taken for granted but that it will be counted: what is protected now stays protected.
pub fn make_room(candidates: &[Candidate], policy: &Policy, now: Timestamp) -> Vec<GenerationId> {
    let newest = candidates.iter().filter(|c| c.whole).max_by_key(|c| order(c));
    let Some(newest) = newest else { return Vec::new() };
    let offer = Candidate {
        id: GenerationId::at(Timestamp::MAX, 1),
        sequence: candidates.iter().map(|c| c.sequence).fold(0, u64::max).saturating_add(1),
        stored: now,
        whole: true,
        verified: false,
        elements_ok: BTreeSet::new(),
        pinned: false,
        drilled: false,
    };
    let mut with_offer = candidates.to_vec();
    with_offer.push(offer.clone());
    decide(&with_offer, policy, now)
        .into_iter()
        .filter(|d| d.is_condemned() && d.id != newest.id && d.id != offer.id)
        .map(|d| d.id)
        .collect()
}

/// Whether the time in which a condemned generation can be taken back is over. A clock that went back ends it for none.
pub fn undo_is_over(condemned: Timestamp, undo_for: Duration, now: Timestamp) -> bool {
    let age = now.duration_since(condemned);
    !age.is_negative() && age.unsigned_abs() >= undo_for
}

fn order(candidate: &Candidate) -> (u64, &GenerationId) {
    (candidate.sequence, &candidate.id)
}

/// The protections: they hold whatever the counts say.
fn protect(newest_first: &[&Candidate], policy: &Policy, now: Timestamp, reasons: &mut [Vec<Reason>]) {
    let (mut newest, mut verified, mut drilled) = (false, false, false);
    let mut elements = BTreeSet::new();
    for (candidate, reasons) in newest_first.iter().zip(reasons) {
        if !candidate.whole {
            reasons.push(Reason::Damaged);
        } else {
            if !std::mem::replace(&mut newest, true) {
                reasons.push(Reason::Newest);
            }
            if candidate.verified && !std::mem::replace(&mut verified, true) {
                reasons.push(Reason::NewestVerified);
            }
            if candidate.drilled && !std::mem::replace(&mut drilled, true) {
                reasons.push(Reason::LastDrilled);
            }
            let first_seen = candidate.elements_ok.iter().filter(|name| elements.insert(*name));
            reasons.extend(first_seen.cloned().map(Reason::NewestGood));
        }
        if candidate.pinned {
            reasons.push(Reason::Pinned);
        }
        if policy.frozen {
            reasons.push(Reason::Frozen);
        }
        if age(candidate, now) < policy.keep_for {
            reasons.push(Reason::Young(policy.keep_for));
        }
    }
}

/// The age by this host's clock; nothing is younger than new.
fn age(candidate: &Candidate, now: Timestamp) -> Duration {
    let age = now.duration_since(candidate.stored).max(SignedDuration::ZERO);
    age.unsigned_abs()
}

/// The counts: only whole ones count, and only whole ones are kept by counting.
fn count(newest_first: &[&Candidate], policy: &Policy, reasons: &mut [Vec<Reason>]) {
    let whole = || newest_first.iter().enumerate().filter(|(_, c)| c.whole);
    for (index, _) in whole().take(policy.last as usize) {
        reasons[index].push(Reason::Last(policy.last));
    }
    let periods = [
        (Period::Day, policy.daily),
        (Period::Week, policy.weekly),
        (Period::Month, policy.monthly),
        (Period::Year, policy.yearly),
    ];
    for (period, limit) in periods {
        let mut newest_of: BTreeMap<(i16, i16), usize> = BTreeMap::new();
        for (index, candidate) in whole() {
            if newest_of.len() == limit as usize {
                break;
            }
            newest_of.entry(period.of(candidate.stored)).or_insert(index);
        }
        for index in newest_of.into_values() {
            reasons[index].push(Reason::Period(period, limit));
        }
    }
}

impl Period {
    /// A key that is the same for all times of one period.
    fn of(self, time: Timestamp) -> (i16, i16) {
        let date = time.to_zoned(TimeZone::UTC).date();
        match self {
            Self::Day => (date.year(), date.day_of_year()),
            Self::Week => (date.iso_week_date().year(), date.iso_week_date().week().into()),
            Self::Month => (date.year(), date.month().into()),
            Self::Year => (date.year(), 0),
        }
    }

    fn counted(self) -> &'static str {
        match self {
            Self::Day => "days",
            Self::Week => "weeks",
            Self::Month => "months",
            Self::Year => "years",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frozen => f.write_str("its source is frozen"),
            Self::Damaged => f.write_str("damaged: not counted, and left for a person to decide"),
            Self::Newest => f.write_str("newest"),
            Self::NewestVerified => f.write_str("newest verified"),
            Self::NewestGood(element) => write!(f, "holds the newest good copy of {element}"),
            Self::Pinned => f.write_str("pinned"),
            Self::LastDrilled => f.write_str("the last one that was drilled"),
            Self::Young(keep_for) => write!(f, "younger than keep_for ({})", Human(*keep_for)),
            Self::Last(count) => write!(f, "one of the last {count}"),
            Self::Period(period, count) => {
                let period = period.counted();
                write!(f, "newest of one of the last {count} {period} with a backup")
            }
            Self::Surplus(policy) => write!(f, "not among {policy}"),
        }
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the last {}", self.last)?;
        let periods = [
            (self.daily, Period::Day),
            (self.weekly, Period::Week),
            (self.monthly, Period::Month),
            (self.yearly, Period::Year),
        ];
        periods
            .iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, period)| write!(f, ", {count} {}", period.counted()))
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A duration in the largest unit that fits it exactly.
struct Human(Duration);

impl std::fmt::Display for Human {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        let unit = [(86_400, 'd'), (3_600, 'h'), (60, 'm')]
            .into_iter()
            .find(|(n, _)| seconds >= *n && seconds.is_multiple_of(*n));
        match unit {
            Some((n, letter)) => write!(f, "{}{letter}", seconds / n),
            None => write!(f, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    fn candidate(sequence: u64, stored: Timestamp) -> Candidate {
        Candidate {
            id: GenerationId::at(at(0), u32::try_from(sequence).unwrap() + 1),
            sequence,
            stored,
            whole: true,
            verified: true,
            elements_ok: BTreeSet::from(["db".parse().unwrap()]),
            pinned: false,
            drilled: false,
        }
    }

    /// One a day for so many days, the last one at time 0.
    fn days(count: u64) -> Vec<Candidate> {
        (1..=count).map(|n| candidate(n, at((n as i64 - count as i64) * DAY))).collect()
    }

    fn last(last: u32) -> Policy {
        Policy { last, ..Policy::default() }
    }

    fn condemned(candidates: &[Candidate], policy: &Policy, now: Timestamp) -> Vec<u64> {
        let gone: Vec<GenerationId> = decide(candidates, policy, now)
            .into_iter()
            .filter(Decision::is_condemned)
            .map(|d| d.id)
            .collect();
        candidates.iter().filter(|c| gone.contains(&c.id)).map(|c| c.sequence).collect()
    }

    fn texts(candidates: &[Candidate], policy: &Policy, sequence: u64) -> Vec<String> {
        let id = &candidates.iter().find(|c| c.sequence == sequence).unwrap().id;
        let decision = decide(candidates, policy, at(0)).into_iter().find(|d| d.id == *id).unwrap();
        match decision.verdict {
            Verdict::Keep(reasons) => reasons.iter().map(Reason::to_string).collect(),
            Verdict::Condemn(reason) => vec![format!("gone: {reason}")],
        }
    }

    #[test]
    fn the_last_so_many_stay_and_each_says_why() {
        let list = days(5);
        assert_eq!(condemned(&list, &last(2), at(0)), [1, 2, 3]);
        assert_eq!(
            texts(&list, &last(2), 5),
            ["newest", "newest verified", "holds the newest good copy of db", "one of the last 2"]
        );
        assert_eq!(texts(&list, &last(2), 4), ["one of the last 2"]);
        assert_eq!(texts(&list, &last(2), 3), ["gone: not among the last 2"]);
    }

    #[test]
    fn a_policy_that_keeps_nothing_still_keeps_the_newest() {
        assert_eq!(condemned(&days(3), &last(0), at(0)), [1, 2]);
    }

    #[test]
    fn the_only_verified_one_and_the_only_good_dump_outlive_the_count() {
        let mut list = days(6);
        list.iter_mut().skip(1).for_each(|c| c.verified = false);
        list.iter_mut().skip(2).for_each(|c| c.elements_ok.clear());
        assert_eq!(condemned(&list, &last(2), at(0)), [3, 4]);
        assert_eq!(texts(&list, &last(2), 1), ["newest verified"]);
        assert_eq!(texts(&list, &last(2), 2), ["holds the newest good copy of db"]);
    }

    #[test]
    fn damaged_ones_count_for_nothing_and_are_not_removed() {
        let mut list = days(5);
        list[3].whole = false;
        list[4].whole = false;
        assert_eq!(condemned(&list, &last(2), at(0)), [1]);
        assert_eq!(texts(&list, &last(2), 5), ["damaged: not counted, and left for a person to decide"]);
        assert!(texts(&list, &last(2), 3).contains(&"newest verified".to_owned()));
    }

    #[test]
    fn pinned_drilled_and_frozen_ones_stay() {
        let mut list = days(5);
        list[0].pinned = true;
        list[1].drilled = true;
        list[2].drilled = true;
        assert_eq!(condemned(&list, &last(1), at(0)), [2, 4]);
        assert_eq!(texts(&list, &last(1), 1), ["pinned"]);
        assert_eq!(texts(&list, &last(1), 3), ["the last one that was drilled"]);
        assert!(condemned(&list, &Policy { frozen: true, ..last(1) }, at(0)).is_empty());
    }

    #[test]
    fn a_hundred_offers_in_an_hour_push_out_nothing_younger_than_keep_for() {
        let list: Vec<_> = (1..=100).map(|n| candidate(n, at(n as i64 * 30 - 3600))).collect();
        let policy = Policy { keep_for: Duration::from_secs(7 * 86_400), ..last(3) };
        assert!(condemned(&list, &policy, at(0)).is_empty());
        assert_eq!(texts(&list, &policy, 1), ["younger than keep_for (7d)"]);
        assert_eq!(condemned(&list, &last(3), at(0)).len(), 97);
    }

    #[test]
    fn a_clock_that_went_back_makes_nothing_old() {
        let list = days(10);
        let policy = Policy { keep_for: Duration::from_secs(2 * 86_400), ..last(1) };
        assert_eq!(condemned(&list, &policy, at(0)).len(), 8);
        assert!(condemned(&list, &policy, at(-300 * DAY)).is_empty());
        // Without keep_for the count alone decides, whatever the clock says.
        assert_eq!(condemned(&list, &last(1), at(-300 * DAY)).len(), 9);
    }

    #[test]
    fn order_is_by_sequence_even_where_the_clock_jumped() {
        let list = vec![candidate(1, at(9 * DAY)), candidate(2, at(0)), candidate(3, at(-DAY))];
        assert_eq!(condemned(&list, &last(1), at(0)), [1, 2]);
    }

    #[test]
    fn the_newest_of_each_period_stays() {
        // The last is stored on 2026-09-21 (a Monday), 14:13:20 UTC.
        let list = days(60);
        let policy = Policy { daily: 2, weekly: 2, monthly: 3, yearly: 1, ..Policy::default() };
        let kept: Vec<u64> = (1..=60).filter(|n| !condemned(&list, &policy, at(0)).contains(n)).collect();
        // Monday and Sunday; Sunday's is also the newest of its week; the ends of July and of August.
        assert_eq!(kept, [8, 39, 59, 60]);
        assert_eq!(texts(&list, &policy, 39), ["newest of one of the last 3 months with a backup"]);
    }

    #[test]
    fn days_without_a_backup_use_up_nothing() {
        let list = vec![candidate(1, at(-90 * DAY)), candidate(2, at(-50 * DAY)), candidate(3, at(0))];
        assert!(condemned(&list, &Policy { daily: 3, ..Policy::default() }, at(0)).is_empty());
    }

    #[test]
    fn room_is_made_as_if_the_offer_were_stored_but_never_of_the_newest() {
        let list = days(4);
        let ids = |n: &[usize]| n.iter().map(|n| list[*n].id.clone()).collect::<Vec<_>>();
        assert_eq!(make_room(&list, &last(3), at(DAY)), ids(&[0, 1]));
        assert_eq!(make_room(&list, &last(1), at(DAY)), ids(&[0, 1, 2]));
        assert_eq!(make_room(&list, &last(0), at(DAY)), ids(&[0, 1, 2]));
        assert_eq!(make_room(&list, &last(9), at(DAY)), ids(&[]));
        assert_eq!(make_room(&[], &last(1), at(DAY)), ids(&[]));
    }

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
        let elements = prop::collection::btree_set(prop::sample::select(vec!["db", "www", "mail"]), 0..4);
        (-900 * DAY..30 * DAY, flags, elements, prop::bool::weighted(0.8)).prop_map(
            |(stored, (verified, _, pinned, drilled), elements, whole)| Candidate {
                stored: at(stored),
                whole,
                verified,
                pinned,
                drilled,
                elements_ok: elements.into_iter().map(|e| e.parse().unwrap()).collect(),
                ..candidate(0, at(0))
            },
        )
    }

    fn any_list() -> impl Strategy<Value = Vec<Candidate>> {
        prop::collection::vec(any_candidate(), 0..40).prop_map(|mut list| {
            for (n, one) in list.iter_mut().enumerate() {
                (one.sequence, one.id) = (n as u64, GenerationId::at(at(0), n as u32 + 1));
            }
            list
        })
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        ((0..9_u32, 0..9_u32, 0..9_u32, 0..9_u32, 0..4_u32), 0..40_u64, prop::bool::weighted(0.1)).prop_map(
            |((last, daily, weekly, monthly, yearly), days, frozen)| Policy {
                last,
                daily,
                weekly,
                monthly,
                yearly,
                keep_for: Duration::from_secs(days * 86_400),
                frozen,
            },
        )
    }

    /// The protections as the contract words them, written down a second time.
    fn is_protected(list: &[Candidate], one: &Candidate, policy: &Policy) -> bool {
        let newest_where = |holds: &dyn Fn(&Candidate) -> bool| {
            list.iter().filter(|c| c.whole && holds(c)).max_by_key(|c| c.sequence).is_some_and(|c| c == one)
        };
        policy.frozen
            || one.pinned
            || !one.whole
            || at(0).as_second() - one.stored.as_second() < policy.keep_for.as_secs() as i64
            || newest_where(&|_| true)
            || newest_where(&|c| c.verified)
            || newest_where(&|c| c.drilled)
            || one.elements_ok.iter().any(|e| newest_where(&|c| c.elements_ok.contains(e)))
    }

    proptest! {
        #[test]
        fn what_is_protected_is_never_condemned(list in any_list(), policy in any_policy()) {
            let gone = condemned(&list, &policy, at(0));
            let room = make_room(&list, &policy, at(0));
            for one in &list {
                let young_without_keep_for = policy.keep_for.is_zero() && one.stored > at(0);
                if is_protected(&list, one, &policy) && !young_without_keep_for {
                    prop_assert!(!gone.contains(&one.sequence));
                    prop_assert!(!room.contains(&one.id));
                }
            }
            prop_assert!(list.iter().filter(|c| c.whole && !gone.contains(&c.sequence)).count()
                >= list.iter().filter(|c| c.whole).count().min(policy.last as usize));
        }

        #[test]
        fn the_order_of_the_list_changes_nothing(list in any_list().prop_shuffle(), policy in any_policy()) {
            let mut sorted = list.clone();
            sorted.sort_by_key(|c| c.sequence);
            prop_assert_eq!(decide(&list, &policy, at(0)), decide(&sorted, &policy, at(0)));
        }

        #[test]
        fn deciding_again_condemns_no_more(list in any_list(), policy in any_policy()) {
            let gone = condemned(&list, &policy, at(0));
            let left: Vec<_> = list.iter().filter(|c| !gone.contains(&c.sequence)).cloned().collect();
            prop_assert!(condemned(&left, &policy, at(0)).is_empty());
            let room = make_room(&list, &policy, at(0));
            let left: Vec<_> = list.iter().filter(|c| !room.contains(&c.id)).cloned().collect();
            prop_assert!(make_room(&left, &policy, at(0)).is_empty());
        }

        #[test]
        fn making_room_takes_no_more_than_storing_would(list in any_list(), policy in any_policy(), offer in any_candidate()) {
            let room = make_room(&list, &policy, at(0));
            let mut with = list.clone();
            let id = GenerationId::at(at(0), 999);
            with.push(Candidate { id, sequence: 999, stored: at(0), whole: true, ..offer });
            let gone: Vec<_> = decide(&with, &policy, at(0)).into_iter().filter(Decision::is_condemned).map(|d| d.id).collect();
            prop_assert!(room.iter().all(|id| gone.contains(id)));
        }
    }
}
