//! When the jobs of a daemon are due, by the command line and the configuration.

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Role, log, task};
use crate::{
    cli::{Context, args::DaemonArgs, fail, host, show},
    config::{Config, Rhythm},
    daemon::{Note, Timing},
    report::Exit,
    sys::{Dir, clock},
};

/// The jobs of a daemon.
pub(super) type Plan = [(&'static str, Timing); 2];

/// The times of the run and of the watch.
pub(super) fn of(role: Role, config: &Config, args: &DaemonArgs) -> Result<Plan, String> {
    let schedule = role.schedule(config).map_err(|e| e.to_string())?;
    let given = args.schedule.clone().map(Rhythm::Cron).or(args.every.map(Rhythm::Every));
    let rhythm = given.or(schedule.rhythm.clone()).ok_or_else(|| {
        format!(
            "when is it to run? Write schedule = \"0 2 * * *\" or every = \"1h\" into [{0}], or give --schedule or --every to \
             `handover {0} daemon`",
            role.name()
        )
    })?;
    let jitter = args.jitter.unwrap_or(schedule.jitter);
    if matches!(rhythm, Rhythm::Every(every) if jitter >= every) {
        return Err("the jitter is not shorter than the time between two runs: make it shorter".to_owned());
    }
    let watch = Rhythm::Every(args.watch_every.unwrap_or(schedule.watch_every));
    let seed = |action: &str| format!("{} {} {action}", host(), role.name());
    let timing = |action, rhythm, jitter| {
        (action, Timing { rhythm, jitter, seed: seed(action), zone: TimeZone::system() })
    };
    Ok([timing("run", rhythm, jitter), timing(task::WATCH, watch, std::time::Duration::ZERO)])
}

#[derive(Serialize)]
struct Coming {
    action: &'static str,
    times: Vec<Timestamp>,
}

/// Says when the next runs would be; what would be made up for comes first.
pub(super) fn show(
    context: &Context,
    role: Role,
    config: &Config,
    plan: Plan,
    count: u16,
) -> Result<Exit, Exit> {
    let state = Dir::open(config.state.join(role.name()));
    let mut note = match state.and_then(|state| Note::load(&state)) {
        Err(e) if !e.is_not_found() => return Err(fail(Exit::Configuration, &e)),
        note => note.unwrap_or_default(),
    };
    let now = clock::now();
    let coming = plan.map(|(action, timing)| Coming {
        action,
        times: task::start(action, timing, note.job(action).last(), now).coming(count.into()),
    });
    if context.json {
        return Ok(show::json(&coming));
    }
    let zone = TimeZone::system();
    let rows =
        coming.iter().flat_map(|c| c.times.iter().map(|t| vec![c.action.to_owned(), log::local(*t, &zone)]));
    show::data(&show::table(&["what", "when"], rows.collect()));
    Ok(Exit::Ok)
}
