//! Alarms over days.

use super::*;

fn at(hours: i64) -> Timestamp {
    "2026-11-23T03:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
}

fn run(alarms: &mut Alarms, hours: i64, findings: &[Finding], looked: Looked) -> Vec<(News, Kind)> {
    let scope = Scope { name: "shop", findings, generation: None, looked };
    alarms.change(&[scope], at(hours)).into_iter().map(|(news, lasting)| (news, lasting.kind)).collect()
}

fn waits() -> Vec<Finding> {
    vec![Finding::new(Kind::PreviousTransport, "shop", "waits")]
}

#[test]
fn an_alarm_is_told_when_it_begins_once_a_day_and_when_it_ends() {
    let mut alarms = Alarms::default();
    let mut told = Vec::new();
    for hour in 0..80 {
        told.extend(
            run(&mut alarms, hour, &waits(), Looked::run()).into_iter().map(|(news, _)| (hour, news)),
        );
    }
    assert_eq!(told, [(0, News::New), (22, News::Still), (46, News::Still), (70, News::Still)]);
    assert_eq!(run(&mut alarms, 80, &[], Looked::run()), [(News::Well, Kind::PreviousTransport)]);
    assert_eq!(run(&mut alarms, 81, &[], Looked::run()), []);
}

#[test]
fn all_that_lasts_is_reminded_of_in_one_mail_a_day() {
    let mut alarms = Alarms::default();
    let full = [Finding::new(Kind::HandoverPointFull, "shop", "went")];
    let mut told = Vec::new();
    for hour in 0..150 {
        // One is found every hour, the other at night alone, from another hour on.
        let both = [waits(), full.to_vec()].concat();
        let findings = if hour % 24 == 8 { both } else { waits() };
        let news = run(&mut alarms, hour, &findings, Looked::nothing());
        told.extend((!news.is_empty()).then_some((hour, news.len())));
    }
    assert_eq!(told, [(0, 1), (8, 1), (22, 2), (46, 2), (70, 2), (94, 2), (118, 2), (142, 2)]);
}

#[test]
fn a_nightly_run_that_is_early_reminds_all_the_same() {
    let mut alarms = Alarms::default();
    let nights = [0, 23, 48, 71].map(|hour| run(&mut alarms, hour, &waits(), Looked::run()));
    let kind = Kind::PreviousTransport;
    assert_eq!(
        nights.concat(),
        [(News::New, kind), (News::Still, kind), (News::Still, kind), (News::Still, kind)]
    );
}

#[test]
fn a_run_that_did_not_look_ends_nothing_and_reminds_of_nothing() {
    let mut alarms = Alarms::default();
    run(&mut alarms, 0, &waits(), Looked::run());
    for (hour, looked) in [(1, Looked::nothing()), (2, Looked::nothing().and(Kind::Overdue))] {
        assert_eq!(run(&mut alarms, hour, &[], looked), []);
    }
    let blog = Scope { name: "blog", findings: &[], generation: None, looked: Looked::run() };
    assert_eq!(alarms.change(&[blog], at(50)), []);
    let before = |hours| Looked::nothing().and_before(Kind::PreviousTransport, at(hours));
    assert_eq!(run(&mut alarms, 51, &[], before(0)), []);
    assert_eq!(run(&mut alarms, 51, &[], before(1)), [(News::Well, Kind::PreviousTransport)]);
}

#[test]
fn what_comes_and_goes_is_no_storm_and_its_end_is_told() {
    let mut alarms = Alarms::default();
    let mut told = 0;
    for hour in 0..48 {
        let findings = if hour % 2 == 0 { waits() } else { Vec::new() };
        told += run(&mut alarms, hour, &findings, Looked::run()).len();
    }
    assert!((7..=9).contains(&told), "{told}");
    let end: Vec<_> = (48..80).flat_map(|hour| run(&mut alarms, hour, &[], Looked::run())).collect();
    assert_eq!(end, [(News::Well, Kind::PreviousTransport)]);
    assert_eq!(alarms.alarms.len(), 0);
}

#[test]
fn another_generation_every_night_is_the_same_alarm_and_another_element_is_another() {
    let mut alarms = Alarms::default();
    for (night, id) in ["20261123T030000Z", "20261124T030000Z"].iter().enumerate() {
        let full = [Finding::new(Kind::HandoverPointFull, *id, "went")];
        let told = run(&mut alarms, i64::try_from(night).unwrap(), &full, Looked::run());
        assert_eq!(told.len(), usize::from(night == 0), "{told:?}");
    }
    let elements = ["www", "db"].map(|name| Finding::new(Kind::Failed, name, "gone"));
    assert_eq!(run(&mut alarms, 3, &elements, Looked::nothing()).len(), 2);
}

#[test]
fn a_clock_that_went_back_ends_no_reminders() {
    let mut alarms = Alarms::default();
    run(&mut alarms, 1000, &waits(), Looked::run());
    assert_eq!(run(&mut alarms, 0, &waits(), Looked::run()), []);
    assert_eq!(run(&mut alarms, 24, &waits(), Looked::run()).len(), 1);
}

#[test]
fn what_a_hostile_host_says_stays_on_its_line() {
    assert_eq!(shown("a\r\nBcc: b\u{1b}[2J"), "a; Bcc: b\\u{1b}[2J");
    assert_eq!(shown("a\\nb"), "a\\nb");
    assert!(shown(&"x".repeat(5000)).len() < 1100);
}
