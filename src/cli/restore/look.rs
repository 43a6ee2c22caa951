//! `handover restore list`.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    super::{Context, args::ListArgs, fail, show},
    there,
};
use crate::{
    app::unfinished::{self, Cut},
    config,
    manifest::Channel,
    report::{Exit, Finding, Kind, exit_of, restore::Candidate},
    restore::{
        self,
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
    there(args.from.as_deref())?;
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
        let mut findings = Vec::new();
        for candidate in &mut catch.candidates {
            match args.verify {
                true => findings.extend(proven(candidate)?),
                false => candidate.look()?,
            }
        }
        let ledger = match Dir::open(config.state.join("source")) {
            Ok(state) => ledger::read(&state)?,
            Err(e) if e.is_not_found() => Default::default(),
            Err(e) => return Err(e.into()),
        };
        let candidates = catch.candidates.iter().map(|c| row(c, &ledger, None)).collect();
        let cut = unfinished::look(&config.state)?;
        let warning = |cut: Cut| Finding::new(Kind::Warning, "recovery", cut.text).with_fix(cut.fix);
        findings.extend(cut.map(warning));
        Ok(Listing { candidates, passed_over: catch.foreign, findings })
    };
    let listing = list().map_err(|e| {
        let finding = e.finding(subject);
        fail(finding.kind.exit(), &crate::notify::body(&finding))
    })?;
    let exit = exit_of(&listing.findings);
    if context.json {
        show::json(&listing);
        return Ok(exit);
    }
    table(&listing.candidates, clock::now());
    show::findings(subject, &listing.findings, context.quiet);
    for foreign in &listing.passed_over {
        show::talk(&format!("note: passed over: {foreign}"));
    }
    Ok(exit)
}

/// Reads all of a candidate; what is wrong with it, or why that cannot be told.
fn proven(candidate: &mut restore::find::Candidate) -> Result<Option<Finding>, Error> {
    let unproven = candidate.verify()?;
    let place = crate::sys::show(candidate.shown.as_os_str().as_encoded_bytes());
    if let Some(e) = unproven {
        let fix = "TMPDIR names another folder for that, with more room; or unpack it and name the folder with --from";
        let text = format!("{place} is NOT proven: {e}");
        return Ok(Some(Finding::new(Kind::Storage, candidate.id.as_str(), text).with_fix(fix)));
    }
    let torn = candidate.torn(&[]);
    let Some(first) = torn.first() else { return Ok(None) };
    let text = format!("{place} is torn: {first} ({} in all)", torn.len());
    let fix = "another copy of it may be whole, or another generation: those that this list calls whole are";
    Ok(Some(Finding::new(Kind::Verification, candidate.id.as_str(), text).with_fix(fix)))
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
