use std::{io::Cursor, process::Stdio};

use super::{
    protocol::{Event, History, Offers, Stored, from_json},
    *,
};
use crate::store::handover_point::testing::{self, Home, as_transport_user, at, home, id, receipt};

const QUIET: Quiet = Quiet { from: Time::constant(2, 0, 0, 0), to: Time::constant(3, 0, 0, 0) };
const NOON: Time = Time::constant(12, 0, 0, 0);

fn facts(channel: Channel) -> GateFacts {
    GateFacts {
        name: "shop".parse().unwrap(),
        lineage: "0123456789abcdef".into(),
        channel,
        keep: 2,
        quiet: Some(QUIET),
    }
}

fn shop(channel: Channel) -> (Home, Gate) {
    let home = home(channel);
    facts(channel).write(&home.point).unwrap();
    let gate = Gate::open(&home.path()).unwrap();
    (home, gate)
}

/// One request as over ssh, at noon: the answer or the refusal.
fn ask(gate: &Gate, line: &str, stdin: &[u8]) -> Result<Vec<u8>, String> {
    ask_at(gate, line, stdin, NOON)
}

fn ask_at(gate: &Gate, line: &str, stdin: &[u8], wall: Time) -> Result<Vec<u8>, String> {
    let mut stdout = Vec::new();
    match serve(gate, line, Cursor::new(stdin), &mut stdout, (at(9), wall)) {
        Ok(Served::Answered(trouble)) => {
            assert_eq!(trouble, None);
            Ok(stdout)
        }
        Ok(Served::Send(_)) => panic!("{line} sends"),
        Err(Refused(why)) => {
            assert!(stdout.is_empty());
            Err(why)
        }
    }
}

fn accept(gate: &Gate, id: &GenerationId, seal: &Seal, wall: Time) -> Accepted {
    let answer = ask_at(gate, &format!("handover 1 accept {id} {seal}"), &receipt(id, seal), wall);
    from_json(&answer.unwrap()).unwrap()
}

fn history_of(gate: &Gate, id: &GenerationId) -> Vec<(String, String)> {
    let history: History = from_json(&ask(gate, &format!("handover 1 history {id}"), b"").unwrap()).unwrap();
    assert_eq!(history.id, *id);
    history.events.into_iter().map(|e| (e.what, e.detail)).collect()
}

#[test]
fn the_facts_read_back_as_they_were_written_by_the_transport_user_too() {
    let (home, _) = shop(Channel::Data);
    as_transport_user(|| {
        assert_eq!(*Gate::open(&home.path()).unwrap().facts(), facts(Channel::Data));
        assert!(facts(Channel::Data).write(&home.point).is_err() || testing::owner().is_none());
    });
    let without = GateFacts { quiet: None, ..facts(Channel::Data) };
    without.write(&home.point).unwrap();
    assert_eq!(*Gate::open(&home.path()).unwrap().facts(), without);
}

#[test]
fn facts_that_are_missing_broken_or_newer_say_what_to_do() {
    let home = home(Channel::Data);
    let error = || Gate::open(&home.path()).unwrap_err().to_string();
    assert!(error().contains("gate/gate.toml: it is missing: `handover source run` writes it"));
    home.point.tell_gate("gate.toml", b"format = 2\nmore = 1").unwrap();
    assert!(error().contains("it has format 2, this handover reads 1: upgrade handover"));
    home.point.tell_gate("gate.toml", b"format = 1\nname = 7").unwrap();
    assert!(error().contains("writes it anew"));
}

#[test]
fn offers_tell_what_waits_in_order_with_marks() {
    let (home, gate) = shop(Channel::Data);
    let sealed: Vec<_> = (1..=3).map(|hour| home.seal(hour)).collect();
    home.point.reject(sealed[0].id(), &sealed[0].seal(), vec![], at(4)).unwrap();
    let held = gate.hold(sealed[1].id()).unwrap();
    let offers: Offers = from_json(&ask(&gate, "handover 1 offers", b"").unwrap()).unwrap();
    assert_eq!((offers.name.as_str(), offers.lineage.as_str()), ("shop", "0123456789abcdef"));
    assert_eq!((offers.version.as_str(), offers.clock), (env!("CARGO_PKG_VERSION"), at(9)));
    let marks: Vec<_> = offers.offers.iter().map(|o| (o.id.clone(), o.rejected, o.reading)).collect();
    assert_eq!(marks, [(id(1), true, false), (id(2), false, true), (id(3), false, false)]);
    let last = &offers.offers[2];
    assert_eq!((last.sequence, last.seal), (103, sealed[2].seal()));
    assert_eq!((last.files, last.entries, last.bytes), (1, 2, 5));
    let toml = std::fs::metadata(held.dir.path().join("generation.toml")).unwrap().len();
    assert_eq!(offers.offers[1].manifest_bytes, toml + 3 * "text\n".len() as u64);
}

#[test]
fn an_accept_moves_and_prunes_and_again_gives_the_first_receipt() {
    let (home, gate) = shop(Channel::Data);
    let sealed: Vec<_> = (1..=3).map(|hour| home.seal(hour)).collect();
    for one in &sealed {
        let kept = Some(Digest::of(&receipt(one.id(), &one.seal())));
        let first = accept(&gate, one.id(), &one.seal(), NOON);
        assert_eq!(first, Accepted { outcome: AcceptOutcome::Accepted, receipt: kept });
        let again = accept(&gate, one.id(), &one.seal(), NOON);
        assert_eq!(again, Accepted { outcome: AcceptOutcome::Already, receipt: kept });
    }
    let stored: Stored = from_json(&ask(&gate, "handover 1 stored", b"").unwrap()).unwrap();
    let ids: Vec<_> = stored.generations.iter().map(|g| (g.id.clone(), g.sequence, g.seal)).collect();
    assert_eq!(ids, [(id(2), 102, sealed[1].seal()), (id(3), 103, sealed[2].seal())]);
    let gone = accept(&gate, sealed[0].id(), &sealed[0].seal(), NOON);
    assert_eq!(gone, Accepted { outcome: AcceptOutcome::Gone, receipt: None });
}

#[test]
fn retention_that_was_cut_after_the_move_is_made_up_for_by_the_same_accept() {
    let (home, gate) = shop(Channel::Data);
    let sealed: Vec<_> = (1..=4).map(|hour| home.seal_and_accept(hour)).collect();
    assert_eq!(accept(&gate, sealed[3].id(), &sealed[3].seal(), NOON).outcome, AcceptOutcome::Already);
    assert_eq!(home.names("store").len(), 2);
}

#[test]
fn a_failure_of_retention_does_not_take_back_the_accept() {
    let (home, gate) = shop(Channel::Data);
    (1..=2).for_each(|hour| drop(home.seal_and_accept(hour)));
    // Another generation of the same id lies in the way of condemning the eldest.
    let condemned = Dir::open(home.path().join("condemned")).unwrap().create_dir(id(1), 0o700).unwrap();
    let mut other = testing::generation(1, Channel::Data, &[]);
    other.sequence = 999;
    testing::put(&condemned, "generation.toml", other.to_text().unwrap().0.as_bytes(), None);
    let sealed = home.seal(3);
    let request = Request::Accept { id: id(3), seal: sealed.seal() };
    let answered = gate.answer_at(&request, &receipt(&id(3), &sealed.seal()), at(9), NOON).unwrap();
    let accepted: Accepted = from_json(&answered.json).unwrap();
    assert_eq!(accepted.outcome, AcceptOutcome::Accepted);
    assert!(answered.trouble.unwrap().contains("already here with another seal"));
    assert_eq!(home.names("store").len(), 3);
}

#[test]
fn in_the_quiet_time_nothing_moves_and_the_next_run_accepts() {
    let (home, gate) = shop(Channel::Data);
    let sealed = home.seal(1);
    let later = accept(&gate, sealed.id(), &sealed.seal(), Time::constant(2, 30, 0, 0));
    assert_eq!(later, Accepted { outcome: AcceptOutcome::Later, receipt: None });
    assert_eq!(home.names("transport-outgoing").len(), 1);
    let now = accept(&gate, sealed.id(), &sealed.seal(), QUIET.to);
    assert_eq!(now.outcome, AcceptOutcome::Accepted);
}

#[test]
fn accepted_logs_are_gone_and_their_receipt_is_known() {
    let (home, gate) = shop(Channel::Logs);
    let sealed = home.seal(1);
    assert_eq!(accept(&gate, sealed.id(), &sealed.seal(), NOON).outcome, AcceptOutcome::Accepted);
    let stored: Stored = from_json(&ask(&gate, "handover 1 stored", b"").unwrap()).unwrap();
    assert!(stored.generations.is_empty());
    assert_eq!(accept(&gate, sealed.id(), &sealed.seal(), NOON).outcome, AcceptOutcome::Already);
    let words: Vec<_> = history_of(&gate, &id(1)).into_iter().map(|(what, _)| what).collect();
    assert_eq!(words, ["sealed", "accepted", "condemned"]);
}

#[test]
fn a_rejection_is_noted_once_and_stops_the_offer() {
    let (home, gate) = shop(Channel::Data);
    let sealed = home.seal(1);
    let line = format!("handover 1 reject {} {}", sealed.id(), sealed.seal());
    for _ in 0..2 {
        let answer: Rejected = from_json(&ask(&gate, &line, b"www/a\0www/b\0").unwrap()).unwrap();
        assert_eq!(answer, Rejected { outcome: RejectOutcome::Rejected, paths: 2 });
    }
    assert_eq!(home.point.rejections().unwrap().paths.len(), 2);
    let unknown = format!("handover 1 reject {} {}", id(5), sealed.seal());
    let answer: Rejected = from_json(&ask(&gate, &unknown, b"").unwrap()).unwrap();
    assert_eq!(answer, Rejected { outcome: RejectOutcome::Gone, paths: 0 });
}

#[test]
fn what_is_not_exactly_a_request_is_refused_with_the_reason() {
    let (home, gate) = shop(Channel::Data);
    let sealed = home.seal(1);
    let (id, seal) = (sealed.id(), sealed.seal());
    let other = Digest::of(b"other");
    let long = vec![b'a'; 5 * 1024 * 1024];
    let cases: Vec<(String, Vec<u8>, &str)> = vec![
        ("".into(), vec![], "not a request of `handover 1`"),
        ("rsync --server --sender -e.L . /".into(), vec![], "not a request of `handover 1`"),
        ("handover 1 offers; id".into(), vec![], "not a request of `handover 1`"),
        (format!("handover 1 accept {id} {other}"), receipt(id, &other), "does not have the seal"),
        (format!("handover 1 accept {id} {seal}"), b"x".to_vec(), "this is no receipt"),
        (format!("handover 1 accept {id} {seal}"), receipt(id, &other), "this is no receipt"),
        (format!("handover 1 accept {id} {seal}"), long.clone(), "more than 4096 bytes came on stdin"),
        (format!("handover 1 reject {id} {other}"), vec![], "does not have the seal"),
        (format!("handover 1 reject {id} {seal}"), b"../../etc\0".to_vec(), "outside of a generation"),
        (format!("handover 1 reject {id} {seal}"), b"www/a".to_vec(), "cut off"),
        (format!("handover 1 reject {id} {seal}"), long, "more than 4194304 bytes came on stdin"),
        ("handover 1 send 20200101T000000Z DATA e.L".into(), vec![], "neither waiting nor stored here"),
    ];
    for (line, stdin, why) in cases {
        let refused = ask(&gate, &line, &stdin).unwrap_err();
        assert!(refused.contains(why), "{line}: {refused}");
    }
    let waiting = home.point.waiting().unwrap().items;
    assert!(waiting.len() == 1 && waiting[0].rejected.is_none());
}

#[test]
fn a_torn_generation_is_refused_and_the_others_are_offered() {
    let (home, gate) = shop(Channel::Data);
    let whole = home.seal(1);
    let outgoing = Dir::open(home.path().join("transport-outgoing")).unwrap();
    testing::put(&outgoing.create_dir(id(2), 0o700).unwrap(), "generation.toml", b"format = 1\nid", None);
    let offers: Offers = from_json(&ask(&gate, "handover 1 offers", b"").unwrap()).unwrap();
    assert_eq!(offers.offers.iter().map(|o| &o.id).collect::<Vec<_>>(), [whole.id()]);
    let refused = ask(&gate, &format!("handover 1 send {} META e.L", id(2)), b"").unwrap_err();
    assert!(refused.contains("is damaged"), "{refused}");
    assert_eq!(history_of(&gate, &id(2))[0].0, "damaged");
}

#[test]
fn the_history_joins_what_root_noted_and_what_the_place_tells() {
    let (home, gate) = shop(Channel::Data);
    let event =
        |hour, what: &str, detail: &str| Event { at: at(hour), what: what.into(), detail: detail.into() };
    history::note(&home.point, &id(1), event(1, "sealed", "noted")).unwrap();
    history::note(&home.point, &id(7), event(7, "sealed", "of another")).unwrap();
    // A line that a cut left half written.
    crate::sys::durable::append_line(home.point.gate(), "history", "{\"id\":\"2026", 0o640).unwrap();
    history::note(&home.point, &id(1), event(2, "dropped", "")).unwrap();
    let sealed = home.seal(1);
    as_transport_user(|| {
        let gate = Gate::open(&home.path()).unwrap();
        let words: Vec<_> = history_of(&gate, &id(1));
        assert_eq!(words, [("sealed".into(), "noted".into()), ("dropped".into(), String::new())]);
    });
    accept(&gate, sealed.id(), &sealed.seal(), NOON);
    let events = history_of(&gate, &id(1));
    assert_eq!(events.len(), 3);
    assert!(events.contains(&("accepted".into(), "by vault as its number 7, verify transferred".into())));
    assert_eq!(history_of(&gate, &id(8)), []);
}

#[test]
fn a_long_history_loses_its_older_half_and_stays_readable() {
    let home = home(Channel::Data);
    for n in 0..100 {
        home.point.tell_gate_more("lines", &format!("line {n}"), 200).unwrap();
    }
    let text = String::from_utf8(home.point.gate().read("lines", 400).unwrap()).unwrap();
    assert!(text.starts_with("line ") && text.ends_with("line 98\nline 99\n"), "{text}");
}

#[test]
fn what_is_sent_is_held_until_the_rsync_ends() {
    let (home, gate) = shop(Channel::Data);
    let sealed = home.seal(1);
    let reading = || home.point.waiting().unwrap().items[0].reading;
    let line = format!("handover 1 send {} DATA e.LsfxCIvu", sealed.id());
    let served = serve(&gate, &line, std::io::empty(), std::io::sink(), (at(9), NOON)).unwrap();
    let Served::Send(sending) = served else { panic!("not sent") };
    assert_eq!(sending.folder().names().unwrap(), ["www"]);
    assert!(reading());
    let mut command = crate::sys::child::command("rsync");
    command.args(&sending.arguments).current_dir(sending.prepare().unwrap());
    assert_eq!(sending.arguments[..3], ["--server", "--sender", "-IRSe.LsfxCIvu"]);
    let mut rsync =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    drop(sending);
    assert!(reading());
    drop(rsync.stdin.take());
    rsync.wait().unwrap();
    // Programs that other tests start at this moment may hold a copy of the descriptor a little longer.
    for _ in 0..100 {
        if !reading() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("still held");
}

#[test]
fn a_stored_generation_is_sent_too_for_healing() {
    let (home, gate) = shop(Channel::Data);
    let sealed = home.seal_and_accept(1);
    for (part, name) in [(Part::Meta, "store/20261123T040000Z"), (Part::Data, "store/20261123T040000Z/data")]
    {
        let folder = gate.sender(sealed.id(), part).unwrap();
        assert_eq!(folder.path, home.path().join(name));
    }
    let request = Request::Send { id: id(1), part: Part::Data, caps: "e.L".parse().unwrap() };
    assert!(gate.answer(&request, b"").unwrap_err().to_string().contains("answered by rsync"));
    assert!(gate.answer(&Request::Offers, b"").is_ok());
}
