//! `handover explain NAME ID`: the life of one generation, from all that this host knows and may ask.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    Context,
    args::Which,
    fail, show,
    sink::{self, Sink},
    source,
};
use crate::{
    config::{self, Config},
    manifest::GenerationId,
    remote::Tools,
    report::{Exit, life::Life},
    sink::{
        life as sink_life,
        run::open_store,
        status::{Place, read},
    },
    source::{life as source_life, run::finding_of},
    store,
    sys::{self, Dir, clock, name::Name},
};

/// All that is known.
#[derive(Serialize)]
struct Explained {
    source: String,
    id: String,
    #[serde(flatten)]
    life: Life,
    /// Who could not be asked, and why.
    not_asked: Vec<String>,
}

/// One side on this host that knows the source.
enum Side<'a> {
    Source(&'a config::Source),
    Sink(Sink<'a>),
}

pub(super) fn run(context: &Context, name: &Name, id: &Which) -> Exit {
    match explain(context, name, id) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn explain(context: &Context, name: &Name, id: &Which) -> Result<Exit, Exit> {
    let config = context.load(config::Role::All)?;
    let sides = sides(&config, name)?;
    let known = known(&config, &sides, name)?;
    let id = match id {
        Which::Id(id) => id.clone(),
        Which::Newest => known.iter().max().cloned().ok_or_else(|| {
            fail(Exit::Usage, &format!("no generation of {name} is known here: nothing to explain yet"))
        })?,
    };
    let mut all = Explained {
        source: name.to_string(),
        id: id.to_string(),
        life: Life::default(),
        not_asked: Vec::new(),
    };
    for side in &sides {
        match side {
            Side::Source(source) => all.life.join(of_source(&config, source, &id)?),
            Side::Sink(sink) => of_sink(sink, name, &id, &sides, &mut all)?,
        }
    }
    if all.life.is_unknown() {
        all.not_asked.iter().for_each(|why| show::talk(&format!("note: {why}")));
        let ids: Vec<&str> = known.iter().map(GenerationId::as_str).collect();
        let there = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        return Err(fail(Exit::Usage, &format!("nothing is known of {name} {id}; there are: {there}")));
    }
    if context.json {
        return Ok(show::json(&all));
    }
    tell(&all);
    Ok(Exit::Ok)
}

/// The sides on this host that know a source of this name.
fn sides<'a>(config: &'a Config, name: &Name) -> Result<Vec<Side<'a>>, Exit> {
    let mut sides = Vec::new();
    if let Some(source) = config.source.as_ref().filter(|source| source.name == *name) {
        sides.push(Side::Source(source));
    }
    for section in config.sinks().filter(|sink| sink.sources.iter().any(|s| s.name == *name)) {
        if sides.is_empty() {
            sink::as_owner(section)?;
        }
        sides.push(Side::Sink(Sink::new(config, section)));
    }
    if sides.is_empty() {
        let own = config.source.iter().map(|source| source.name.to_string());
        let others = config.sinks().flat_map(|sink| sink.sources.iter().map(|s| s.name.to_string()));
        // One that is fetched by both sinks is one name.
        let names: BTreeSet<String> = own.chain(others).collect();
        let names: Vec<String> = names.into_iter().collect();
        let text = format!("there is no source {name} in the configuration; there are: {}", names.join(", "));
        return Err(fail(Exit::Usage, &text));
    }
    Ok(sides)
}

/// The ids of all that is here.
fn known(config: &Config, sides: &[Side<'_>], name: &Name) -> Result<Vec<GenerationId>, Exit> {
    let mut ids = Vec::new();
    for side in sides {
        match side {
            Side::Source(source) => {
                let state = source::state(config);
                for place in source::places(source, &state) {
                    ids.extend(source_life::known(&place).map_err(|e| unreadable(source, e))?);
                }
            }
            Side::Sink(sink) => {
                let Some((store, _)) = open(sink, sides, &mut Vec::new())? else { continue };
                let kept = store.source(name).map_err(|e| sink.refuse(&e))?;
                let (stored, _) = kept.stored().map_err(|e| sink.refuse(&e))?;
                ids.extend(stored.iter().map(|s| s.id().clone()));
            }
        }
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// Opens a sink's store. Where another side can tell something too, as the store of the data for a user who may not
/// read that of the logs, it is said instead that this one cannot.
fn open(
    sink: &Sink<'_>,
    sides: &[Side<'_>],
    not_asked: &mut Vec<String>,
) -> Result<Option<(store::SinkStore, Dir)>, Exit> {
    if sides.len() == 1 {
        return sink.open().map(Some);
    }
    let opened = open_store(sink.config, &sink.state);
    if let Err(e) = &opened {
        not_asked.push(format!("{} {} cannot be read: {e}", sink.config.role, sink.config.home.display()));
    }
    Ok(opened.ok())
}

/// Ends a command that cannot read what the source has.
fn unreadable(source: &config::Source, error: store::Error) -> Exit {
    let finding = finding_of(&error.into(), source.name.as_str());
    fail(finding.kind.exit(), &finding.text)
}

fn of_source(config: &Config, source: &config::Source, id: &GenerationId) -> Result<Life, Exit> {
    let state = source::state(config);
    // Data before logs: a run gives both the same id.
    let places = source::places(source, &state);
    let knows = |place| source_life::known(place).is_ok_and(|known| known.contains(id));
    let place =
        places.iter().find(|place| knows(place)).or(places.first()).ok_or_else(|| {
            fail(Exit::Configuration, &"there is neither [[source.element]] nor [source.logs]")
        })?;
    source_life::of(place, source.keep, id, clock::now()).map_err(|e| unreadable(source, e))
}

/// What the sink knows, and what the source says of it over the way on which the sink fetches, unless it is this host.
fn of_sink(
    sink: &Sink<'_>,
    name: &Name,
    id: &GenerationId,
    sides: &[Side<'_>],
    all: &mut Explained,
) -> Result<(), Exit> {
    let source = sink.one(name)?;
    let Some((store, state)) = open(sink, sides, &mut all.not_asked)? else { return Ok(()) };
    let place = Place { config: sink.config, store: &store, state: &state };
    all.life.join(sink_life::of(&place, source, id, clock::now()).map_err(|e| sink.refuse(&e))?);
    if let Some(why) = read(&state, name.as_str()).unreadable {
        all.not_asked.push(format!("the note of the last runs cannot be read: {why}"));
    }
    if sides.iter().any(|side| matches!(side, Side::Source(_))) {
        return Ok(());
    }
    let asked = Tools::find(false)
        .map_err(|e| e.to_string())
        .and_then(|tools| sink::connect(sink.config, &sink.state, source, &tools).map_err(|e| e.to_string()))
        .and_then(|remote| remote.history(id).map_err(|e| e.to_string()));
    match asked {
        Ok(history) => {
            let events = history.events.iter().map(|event| sink_life::moment("source", event)).collect();
            all.life.join(Life { now: Vec::new(), events });
        }
        Err(why) => {
            let why = sys::show(why.as_bytes());
            all.not_asked.push(format!("{name} itself could not be asked, so its part is missing: {why}"));
        }
    }
    Ok(())
}

fn tell(all: &Explained) {
    show::data(&format!("{} {}", all.source, all.id));
    let rows = all.life.events.iter().map(|moment| {
        vec![
            moment.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            moment.by.clone(),
            moment.what.clone(),
            moment.detail.clone(),
        ]
    });
    show::data(&show::table(&["when", "by", "what", "more"], rows.collect()));
    for here in &all.life.now {
        let fate = match here.stays {
            Some(true) => "it stays: ",
            Some(false) => "it goes: ",
            None => "",
        };
        show::data(&format!(
            "now at the {}, in {}\n  {fate}{}",
            here.side,
            here.path,
            here.because.join("; ")
        ));
    }
    if all.life.now.is_empty() {
        show::data("it is not here any more");
    }
    all.not_asked.iter().for_each(|why| show::data(&format!("note: {why}")));
}
