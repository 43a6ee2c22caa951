//! One source in a run: its lock, its offers in order, and what comes of each.

use std::{cell::Cell, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    brake, channel,
    choice::{Choice, Known, choose},
    fetch::{self, Failed},
    journal,
    prune::{self, Pruned},
    run::Setup,
    status,
};
use crate::{
    config::{self, SinkRole},
    gate::protocol::{AcceptOutcome, Offer, Offers},
    manifest::{GenerationId, Receipt},
    remote::Remote,
    report::{Condemned, Finding, Kind, SinkSource, Timing, exit_of},
    store::{self, SourceStore, Stored, sink_store::SinkStore},
    sys::{Dir, lock, progress::Progress, show, signals, words},
};

/// Pauses before what may pass by itself is tried again: a host that boots, a line that breaks.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Clocks that differ by more are worth a word.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A report in which nothing has happened yet.
pub fn empty_report(name: &str) -> SinkSource {
    SinkSource {
        name: name.to_owned(),
        stored: Vec::new(),
        accepted: Vec::new(),
        condemned: Vec::new(),
        put_aside: Vec::new(),
        findings: Vec::new(),
        complete: false,
        timings: Vec::new(),
        wire: 0,
    }
}

/// Runs one source, and notes in the state folder how that went.
pub fn run(
    setup: &Setup<'_>,
    store: &SinkStore,
    state: &Dir,
    source: &config::SinkSource,
    progress: &Arc<Progress>,
) -> SinkSource {
    let name = source.name.as_str();
    let mut report = empty_report(name);
    let what = format!("handover {} run of {name}", setup.config.role);
    let _lock = match lock::try_exclusive(&state.join(status::lock_file(name)), &what) {
        Ok(lock::Attempt::Held(lock)) => lock,
        Ok(lock::Attempt::Busy(who)) => {
            let text = format!("another run holds the lock: {who}");
            report.findings.push(Finding::new(Kind::Busy, name, text));
            return report;
        }
        Err(e) => {
            report.findings.push(fetch::store_finding(setup.config.role, name, &e.into()));
            return report;
        }
    };
    // What is kept under the old name has not come yet, as somebody holds it: under the new one all would be fetched anew.
    match store.renaming() {
        Ok(Some((old, new))) if new == source.name => {
            let text = format!("what is kept of {old} is still to become its own: another run holds it");
            let finding = Finding::new(Kind::Busy, name, text).with_fix("the next run goes on");
            report.findings.push(finding);
            return report;
        }
        Ok(_) => {}
        Err(e) => {
            report.findings.push(fetch::store_finding(setup.config.role, name, &e));
            return report;
        }
    }
    let started = (setup.clock)();
    if !setup.dry_run
        && let Err(e) = status::begin(state, name, started)
    {
        report.findings.push(fetch::store_finding(setup.config.role, name, &e.into()));
    }
    let worked = store.source(&source.name).map_err(Failed::from).and_then(|store| {
        let wire = Cell::new(0);
        let report = &mut report;
        let mut one = One { setup, source, store, state, progress, report, wire, remote: None, begun: None };
        let worked = one.steps();
        one.report.wire = one.wire.get();
        worked
    });
    match worked {
        Ok(()) => report.complete = !setup.dry_run,
        Err(failed) => report.findings.push(failed.finding(setup.config.role, name)),
    }
    if !setup.dry_run
        && let Err(e) = status::finish(state, &report, started, (setup.clock)())
    {
        report.findings.push(fetch::store_finding(setup.config.role, name, &e.into()));
    }
    report
}

/// What the steps of one source share.
pub struct One<'a> {
    /// The run.
    pub setup: &'a Setup<'a>,
    /// The source.
    pub source: &'a config::SinkSource,
    /// What the sink keeps of it.
    pub store: Arc<SourceStore>,
    /// The state folder of the role.
    pub state: &'a Dir,
    /// Counted along the way.
    pub progress: &'a Arc<Progress>,
    /// What happened.
    pub report: &'a mut SinkSource,
    /// Bytes that crossed the wire, both ways, also of attempts that failed.
    pub wire: Cell<u64>,
    remote: Option<Box<dyn Remote>>,
    /// What this run last began to fetch.
    begun: Option<GenerationId>,
}

impl One<'_> {
    fn steps(&mut self) -> Result<(), Failed> {
        if !self.setup.dry_run {
            let recovered = self.timed("recover", |one| one.store.recover())?;
            for name in recovered.deleted {
                self.note(name, "a deletion that had been cut was finished");
            }
        }
        let offers = self.retried(Self::ask)?;
        self.check_identity(&offers)?;
        if self.setup.dry_run {
            return self.say_what_would_be_done(&offers);
        }
        let mut known = Some(offers);
        let fetched = self.retried(|one| {
            // After a break all is asked anew: what was stored by then is accepted, what was half there is continued.
            let offers = known.take().map_or_else(|| one.ask(), Ok)?;
            check_who(one.role(), one.source, &offers)?;
            one.take_all(&offers)
        });
        // Retention runs whatever became of the offers: it deletes nothing that protects, and needs nothing new.
        self.progress.begin("pruning", 0, 0);
        let pruned =
            self.timed("prune", |one| prune::prune(&one.store, one.source, one.setup.config, one.now()));
        match pruned {
            Ok(pruned) => self.tell_pruned(pruned),
            Err(e) => self.find(fetch::store_finding(self.role(), "prune", &e)),
        }
        let (role, name) = (self.role(), self.source.name.as_str());
        self.report.findings.extend(brake::finding(role, name, &self.store.stored()?));
        fetched
    }

    /// Writes into the journal what happened to a generation. That it cannot be written fails nothing.
    pub fn journal(&mut self, id: &GenerationId, what: &str, detail: String) {
        let name = self.source.name.as_str();
        if let Err(e) = journal::note(self.state, name, id, (self.now(), what), detail) {
            let text = format!("what happened to it could not be noted: {e}");
            self.find(Finding::new(Kind::Warning, id.as_str(), text));
        }
    }

    fn tell_pruned(&mut self, pruned: Pruned) {
        for (id, reason) in pruned.condemned {
            self.report.condemned.push(Condemned { id: id.to_string(), reason: reason.clone() });
            self.journal(&id, "condemned", reason);
        }
        if let Some((id, why)) = pruned.suspicious {
            self.journal(&id, "suspicious", why);
        }
        for id in pruned.deleted {
            self.journal(&id, "deleted", "its time to be taken back (undo_for) was over".to_owned());
        }
    }

    /// Connects, and asks what waits.
    fn ask(&mut self) -> Result<Offers, Failed> {
        self.progress.begin("connecting", 0, 0);
        self.remote = None;
        let remote = self.remote.insert((self.setup.connect)(self.source)?);
        Ok(remote.offers()?)
    }

    /// Does something, and once more after a pause if the way to the source failed and may be well again in seconds.
    /// Not beyond the time that a transport has, and not when we are asked to stop.
    fn retried<T>(&mut self, mut work: impl FnMut(&mut Self) -> Result<T, Failed>) -> Result<T, Failed> {
        let begun = self.now();
        for pause in PAUSES {
            let failed = match work(self) {
                Err(Failed::Remote(e)) if e.is_transient() => e,
                other => return other,
            };
            let limit = SignedDuration::try_from(self.setup.config.timeout).unwrap_or(SignedDuration::MAX);
            if self.now().duration_since(begun) > limit {
                return Err(failed.into());
            }
            self.note(self.source.name.as_str(), &format!("tried again in {} s: {failed}", pause.as_secs()));
            self.progress.begin("waiting to try again", 0, 0);
            signals::pause(pause)?;
        }
        work(self)
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        (self.setup.clock)()
    }

    /// The way to the source.
    pub fn remote(&self) -> Result<&dyn Remote, Failed> {
        self.remote.as_deref().ok_or(Failed::Internal("not connected"))
    }

    /// Adds a finding.
    pub fn find(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    fn note(&mut self, subject: impl Into<String>, text: &str) {
        self.find(Finding::new(Kind::Note, subject, text));
    }

    /// Measures a step.
    pub fn timed<T>(&mut self, phase: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.now();
        let result = work(self);
        let seconds = self.now().duration_since(before).as_secs_f64();
        match self.report.timings.iter_mut().find(|t| t.phase == phase) {
            Some(timing) => timing.seconds += seconds,
            None => self.report.timings.push(Timing { phase: phase.to_owned(), seconds }),
        }
        result
    }

    fn role(&self) -> SinkRole {
        self.setup.config.role
    }

    fn check_identity(&mut self, offers: &Offers) -> Result<(), Failed> {
        check_who(self.role(), self.source, offers)?;
        let name = self.source.name.as_str();
        let skew = offers.clock.duration_since(self.now());
        if skew.abs() > SKEW {
            let ahead = if skew.is_positive() { "ahead of" } else { "behind" };
            let text = format!("its clock is {} s {ahead} ours", skew.abs().as_secs());
            self.find(
                Finding::new(Kind::ClockSkew, name, text)
                    .with_fix("set the clocks: is a time service running on both?"),
            );
        }
        if let Some(newest) = self.store.newest()?
            && newest.found.generation.lineage != offers.lineage
        {
            let text = "it was set up anew since the newest stored generation (its lineage is another): \
                        older generations stay, and both are ordered by the time of arrival here";
            self.find(Finding::new(Kind::Warning, name, text));
        }
        Ok(())
    }

    fn take_all(&mut self, offers: &Offers) -> Result<(), Failed> {
        let mut is_full = false;
        for offer in &offers.offers {
            signals::check()?;
            // What is beyond the day's number is told once, and costs a look each, however many there are.
            if is_full && self.store.get(&offer.id)?.is_none() {
                continue;
            }
            match self.take(offer) {
                Err(failed) if failed.is_of_one_generation() => {
                    let finding = failed.finding(self.role(), self.source.name.as_str());
                    self.find(finding);
                }
                taken => is_full |= taken? == Choice::TooMany,
            }
        }
        Ok(())
    }

    /// Does with an offer what is to be done with it; says what that was.
    fn take(&mut self, offer: &Offer) -> Result<Choice, Failed> {
        let stored = self.store.get(&offer.id)?;
        let known = self.known(offer, stored.as_ref())?;
        let choice = choose(offer, &known, self.setup.config.max_per_day);
        let taken =
            !matches!(choice, Choice::AcceptAgain | Choice::Rejected | Choice::Reading | Choice::Quarantined);
        if taken
            && stored.is_none()
            && offer.id.time().is_some_and(|time| time.duration_since(self.now()) > SKEW)
        {
            self.find(
                Finding::new(
                    Kind::ClockSkew,
                    offer.id.as_str(),
                    "its id lies in the future: the source's clock was wrong",
                )
                .with_fix("set the clock there, and run a time service on both hosts"),
            );
        }
        match (choice, stored) {
            (Choice::AcceptAgain, Some(stored)) => self.accept(offer, &stored.receipt)?,
            (Choice::AcceptAgain, None) => {
                let condemned = self.store.condemned()?.0.into_iter().find(|c| c.found.id() == &offer.id);
                if let Some(condemned) = condemned {
                    self.accept(offer, &condemned.receipt)?;
                }
            }
            (Choice::Fetch, _) => {
                self.begun = Some(offer.id.clone());
                let stored = fetch::fetch(self, offer)?;
                self.accept(offer, &stored.receipt)?;
            }
            (choice, _) => {
                if choice == Choice::Quarantined {
                    self.tell_again(offer)?;
                }
                let finding = self.not_taken(offer, choice, known.today);
                self.find(finding);
            }
        }
        Ok(choice)
    }

    fn known(&self, offer: &Offer, stored: Option<&Stored>) -> Result<Known, Failed> {
        if let Some(stored) = stored {
            return Ok(Known { stored: Some(stored.found.seal), ..Known::default() });
        }
        let day_ago = self.now() - SignedDuration::from_hours(24);
        let (stored, condemned) = (self.store.stored()?.0, self.store.condemned()?.0);
        let arrived =
            stored.iter().map(|s| s.receipt.stored).chain(condemned.iter().map(|c| c.receipt.stored));
        let aside = self.store.quarantined()?.into_iter().find(|q| q.id == offer.id);
        Ok(Known {
            stored: None,
            quarantined: aside.and_then(|q| q.seal),
            condemned: condemned.iter().find(|c| c.found.id() == &offer.id).map(|c| c.found.seal),
            today: arrived.filter(|at| *at > day_ago).count(),
        })
    }

    /// The source still offers what was put aside here: the word that it is damaged was lost on its way, as when this
    /// sink was cut before it was said. It is said again; the same twice changes nothing there.
    fn tell_again(&mut self, offer: &Offer) -> Result<(), Failed> {
        let paths = self.store.quarantined_paths(&offer.id)?;
        let paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
        fetch::reject(self, offer, &paths)
    }

    /// Why an offer is left where it is, and what is to be done.
    fn not_taken(&self, offer: &Offer, choice: Choice, today: usize) -> Finding {
        let (id, source) = (offer.id.as_str(), self.source.name.as_str());
        let finding = |kind, text: &str, fix: &str| Finding::new(kind, id, text).with_fix(fix);
        match choice {
            Choice::OtherSeal { condemned } => {
                let what = if condemned { "was stored here and is condemned" } else { "is stored here" };
                let text = format!(
                    "it is offered with another seal than the one that {what}: what is here stays, and the offer is not taken"
                );
                let fix = "look at the source: nothing that handover does gives an id twice";
                finding(Kind::Verification, &text, fix)
            }
            Choice::Rejected => finding(
                Kind::Quarantined,
                "it was rejected as damaged and is skipped until the source has collected afresh",
                "run `handover source` there: it reads the damaged files again",
            ),
            Choice::Reading if self.begun.as_ref() == Some(&offer.id) => finding(
                Kind::Unreachable,
                "the source still holds the session in which this run was fetching it",
                "the next run goes on once that has ended; if it never does, look at the source for an rsync that hangs",
            ),
            Choice::Reading => finding(
                Kind::Failed,
                "another session reads it, so it was not fetched: there must be only one sink",
                "look at the source: who else is logged in with the sink's key, and should that key still be valid?",
            ),
            Choice::Quarantined => finding(
                Kind::Quarantined,
                "it was put aside because it failed its check twice, and is skipped",
                &format!(
                    "look with `handover {} quarantine list`, then `quarantine retry {source}`",
                    self.role()
                ),
            ),
            Choice::TooMany => {
                let text = format!(
                    "{} came within a day (max_per_day): the rest waits",
                    words::count(today as u64, "generation", "generations")
                );
                Finding::new(Kind::Failed, source, text).with_fix("look at the source: why so many?")
            }
            Choice::AcceptAgain | Choice::Fetch => Finding::new(Kind::Internal, id, "it was not taken"),
        }
    }

    fn accept(&mut self, offer: &Offer, receipt: &Receipt) -> Result<(), Failed> {
        self.progress.begin("accepting", 0, 0);
        let text = receipt.to_text().map_err(|_| Failed::Internal("the receipt cannot be written"))?;
        let answer = self.timed("accept", |one| {
            Ok::<_, Failed>(one.remote()?.accept(&offer.id, offer.seal, text.as_bytes())?)
        })?;
        let id = offer.id.as_str();
        match answer.outcome {
            AcceptOutcome::Accepted | AcceptOutcome::Already => {
                self.report.accepted.push(id.to_owned());
                self.journal(&offer.id, "accepted", "the source took the receipt".to_owned());
            }
            AcceptOutcome::Later => {
                self.note(id, "the source takes receipts after its quiet time: the next run accepts")
            }
            AcceptOutcome::Gone => {
                self.find(Finding::new(
                    Kind::Warning,
                    id,
                    "the source's retention took it meanwhile; it is stored here",
                ));
            }
        }
        Ok(())
    }

    fn say_what_would_be_done(&mut self, offers: &Offers) -> Result<(), Failed> {
        for offer in &offers.offers {
            let text = if self.store.get(&offer.id)?.is_some() {
                "is stored here; would be accepted again".to_owned()
            } else if offer.rejected || offer.reading {
                "would be left alone: it was rejected, or another session reads it".to_owned()
            } else {
                format!(
                    "would be fetched: {}, {} bytes in all, of which what is known here would be linked",
                    words::files(offer.files),
                    offer.bytes
                )
            };
            self.note(offer.id.as_str(), &text);
        }
        let decided = prune::decide(&self.store, self.source, self.setup.config, self.now())?;
        if let Some((_, why)) = &decided.losing.suspicious {
            self.note(
                self.source.name.as_str(),
                &format!("nothing would go, and it would be suspicious: {why}"),
            );
        }
        for decision in decided.decisions {
            if let store::retention::Verdict::Condemn(reason) = &decision.verdict {
                self.note(decision.id.as_str(), &format!("would be condemned: {reason}"));
            }
        }
        Ok(())
    }
}

/// Whether it is the source that it should be, and hands over what is fetched here.
pub(super) fn check_who(role: SinkRole, source: &config::SinkSource, offers: &Offers) -> Result<(), Failed> {
    let name = source.name.as_str();
    if offers.name != name {
        let said = show(offers.name.as_bytes());
        return Err(Failed::Name { said, expected: name.to_owned() });
    }
    let expected = channel(role);
    if offers.channel != expected {
        return Err(Failed::Channel { said: offers.channel, expected });
    }
    Ok(())
}

/// Whether a source's run ended well.
pub fn is_well(report: &SinkSource) -> bool {
    exit_of(&report.findings) == crate::report::Exit::Ok
}
