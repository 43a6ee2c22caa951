//! `handover source discard` and `undo`: a generation that will never be fetched is given up, and one that this host
//! condemned comes back to where it was.

use std::path::Path;

use serde::Serialize;

use crate::{
    cli::{
        Context,
        args::{DiscardArgs, GateChannel},
        ask, fail, show,
    },
    config,
    gate::{history, protocol::Event},
    manifest::{Channel, GenerationId},
    report::Exit,
    source::channels,
    store::{
        self,
        handover_point::{HandoverPoint, Place},
    },
    sys::{Dir, clock, lock},
};

/// What was taken back, and where it is now.
#[derive(Serialize)]
struct TakenBack<'a> {
    id: &'a str,
    place: Place,
    dry_run: bool,
}

/// What was given up.
#[derive(Serialize)]
struct Discarded<'a> {
    id: &'a str,
    only_copy: bool,
    dry_run: bool,
}

/// Where it happens: the state folder of the role, and the home of a channel.
pub(in crate::cli) struct At<'a> {
    state: &'a Path,
    home: &'a Path,
    channel: Channel,
}

impl<'a> At<'a> {
    /// Of the channel that was asked for, data without a word.
    pub(in crate::cli) fn new(
        state: &'a Path,
        source: &'a config::Source,
        asked: Option<GateChannel>,
    ) -> Result<Self, Exit> {
        let channel = asked.map_or(Channel::Data, Channel::from);
        let found = channels(source).into_iter().find(|(of, _)| *of == channel);
        let Some((channel, home)) = found else {
            return Err(fail(Exit::Usage, &format!("nothing of {channel} is collected here")));
        };
        Ok(Self { state, home, channel })
    }

    fn locked(&self, what: &str) -> store::Result<Result<(HandoverPoint, lock::Lock), Exit>> {
        let state = Dir::create_all(self.state, 0o700)?;
        match lock::try_exclusive(&state.join("lock"), what)? {
            lock::Attempt::Held(lock) => {
                Ok(Ok((HandoverPoint::open_known(self.home, self.channel, self.state)?, lock)))
            }
            lock::Attempt::Busy(who) => {
                Ok(Err(fail(Exit::Busy, &format!("another run holds the lock: {who}"))))
            }
        }
    }
}

fn ended(done: store::Result<Exit>) -> Exit {
    match done {
        Ok(exit) => exit,
        Err(e) => super::refuse(&e),
    }
}

/// Gives a waiting generation up, or says what would be done. What nothing younger holds goes only if somebody agrees.
pub(in crate::cli) fn discard(context: &Context, at: &At<'_>, args: &DiscardArgs) -> Exit {
    ended(discarded(context, at, args))
}

fn discarded(context: &Context, at: &At<'_>, args: &DiscardArgs) -> store::Result<Exit> {
    let (point, _lock) = match at.locked("handover source discard")? {
        Ok(locked) => locked,
        Err(exit) => return Ok(exit),
    };
    let id = &args.id;
    let Some(only_copy) = point.is_only_copy(id)? else {
        let waiting = point.waiting()?.items;
        let ids: Vec<&str> = waiting.iter().map(|w| w.found.id().as_str()).collect();
        let there = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        return Ok(fail(
            Exit::Usage,
            &format!("{id} does not wait at the Handover Point; what waits: {there}"),
        ));
    };
    if only_copy && !context.json {
        show::talk(&format!(
            "{id}: nothing younger on this host holds all that is in it, and no sink has taken it"
        ));
    }
    if !args.dry_run {
        if only_copy
            && !args.yes
            && !ask::agrees(context, "give it up? It can be taken back for `undo_for`. [y/N]")
        {
            return Ok(ask::nobody_agreed("--yes"));
        }
        let now = clock::now();
        if !point.discard(id, "given up by handover source discard", now)? {
            return Ok(fail(Exit::Busy, &format!("{id} is being read by a sink: wait for its end")));
        }
        let (at, detail) = (now, "by handover source discard".to_owned());
        history::note(&point, id, Event { at, what: "given up".to_owned(), detail })?;
    }
    if context.json {
        return Ok(show::json(&Discarded { id: id.as_str(), only_copy, dry_run: args.dry_run }));
    }
    let would = if args.dry_run { "would be" } else { "is" };
    let channel = if at.channel == Channel::Logs { " --channel logs" } else { "" };
    show::talk(&format!(
        "{id} {would} given up; until `undo_for` is over it can be taken back: handover source undo {id}{channel}"
    ));
    Ok(Exit::Ok)
}

/// Takes it back, or says what would be done.
pub(in crate::cli) fn run(context: &Context, at: &At<'_>, id: &GenerationId, dry_run: bool) -> Exit {
    ended(undo(context, at, id, dry_run))
}

fn undo(context: &Context, at: &At<'_>, id: &GenerationId, dry_run: bool) -> store::Result<Exit> {
    let (point, _lock) = match at.locked("handover source undo")? {
        Ok(locked) => locked,
        Err(exit) => return Ok(exit),
    };
    let Some(place) = point.undo_place(id)? else {
        let condemned = point.condemned()?.items;
        let ids: Vec<&str> = condemned.iter().map(|c| c.found.id().as_str()).collect();
        let there = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        let text = format!("there is no condemned generation {id}; what can be taken back: {there}");
        return Ok(fail(Exit::Usage, &text));
    };
    if !dry_run {
        point.undo(id)?;
        let (at, detail) = (clock::now(), "by handover source undo".to_owned());
        history::note(&point, id, Event { at, what: "undone".to_owned(), detail })?;
    }
    if context.json {
        return Ok(show::json(&TakenBack { id: id.as_str(), place, dry_run }));
    }
    let would = if dry_run { "would be" } else { "is" };
    show::talk(&match place {
        Place::Stored => format!(
            "{id} {would} back in the Source-Store; `keep` counts again when the sink next accepts one: raise it, or \
             restore from this one before"
        ),
        _ => format!("{id} {would} waiting at the Handover Point again, and is offered to the sink"),
    });
    Ok(Exit::Ok)
}
