//! `handover restore list`.

use jiff::Timestamp;
use serde::Serialize;

use super::super::{Context, args::ListArgs, fail, show};
use crate::{
    app::unfinished::{self, Cut},
    config,
    manifest::Channel,
    report::{Exit, Finding, Kind, restore::Candidate},
    restore::{
        error::Error,
        held::{look, row},
    },
    store::{handover_point::HandoverPoint, ledger, places},
    sys::{Dir, clock},
};

#[derive(Serialize)]
struct Listing {
    candidates: Vec<Candidate>,
    passed_over: Vec<String>,
    findings: Vec<Finding>,
}

pub(super) fn run(context: &Context, args: &ListArgs) -> Result<Exit, Exit> {
    // A copy is looked at on any host, also on one that is no source.
    let config = context.load(config::Role::Restore)?;
    let subject = config.source().map_or("restore", |source| source.name.as_str());
    let list = || -> Result<Listing, Error> {
        let place = config.restore.home.join(places::RESTORE);
        let (mut catch, _) = match &args.from {
            Some(from) => look(Some(from), &Dir::open("/")?)?,
            None => {
                HandoverPoint::check_known(
                    &config.restore.home,
                    Channel::Data,
                    &config.state.join("source"),
                )?;
                look(None, &Dir::open(place)?)?
            }
        };
        for candidate in &mut catch.candidates {
            if args.verify { candidate.verify() } else { candidate.look() }?;
        }
        let ledger = match Dir::open(config.state.join("source")) {
            Ok(state) => ledger::read(&state)?,
            Err(e) if e.is_not_found() => Default::default(),
            Err(e) => return Err(e.into()),
        };
        let candidates = catch.candidates.iter().map(|c| row(c, &ledger, None)).collect();
        let cut = unfinished::look(&config.state)?;
        let warning = |cut: Cut| Finding::new(Kind::Warning, "recovery", cut.text).with_fix(cut.fix);
        let findings = cut.map(warning).into_iter().collect();
        Ok(Listing { candidates, passed_over: catch.foreign, findings })
    };
    let listing = list().map_err(|e| {
        let finding = e.finding(subject);
        fail(finding.kind.exit(), &crate::notify::body(&finding))
    })?;
    if context.json {
        return Ok(show::json(&listing));
    }
    table(&listing.candidates, clock::now());
    show::findings(subject, &listing.findings, context.quiet);
    for foreign in &listing.passed_over {
        show::talk(&format!("note: passed over: {foreign}"));
    }
    Ok(Exit::Ok)
}

/// Candidates for people, the newest first.
pub(super) fn table(candidates: &[Candidate], now: Timestamp) {
    let rows = candidates.iter().map(|c| {
        let age = c.collected.map_or_else(|| "?".to_owned(), |at| show::age(at, now));
        let mut state = c.condition.clone();
        if let Some(first) = c.torn.first() {
            state = format!("torn: {first}");
        } else if !c.failed.is_empty() {
            state = format!("{state}; had failed: {}", c.failed.join(", "));
        }
        let source = match (c.source.as_deref(), c.channel.as_deref()) {
            (Some(source), Some("data") | None) => source.to_owned(),
            (source, channel) => format!("{} ({})", source.unwrap_or("?"), channel.unwrap_or("?")),
        };
        let trust = match c.trust.as_str() {
            "ledger" => "made here",
            "given" => "by --trust",
            "other" => "NOT as made here",
            _ => "not known here",
        };
        vec![
            c.id.clone(),
            source,
            age,
            c.bytes.map(show::size).unwrap_or_default(),
            trust.to_owned(),
            state,
            c.place.clone(),
        ]
    });
    show::data(&show::table(
        &["generation", "source", "age#", "size#", "seal", "state", "place"],
        rows.collect(),
    ));
}
