//! `handover sink rename`: a source that calls itself otherwise. Its folders get the new name, then the configuration.

use std::time::Duration;

use serde::Serialize;

use super::{Outcome, Sink};
use crate::{
    cli::{Context, args::RenameArgs, authorize, enroll::failed as of_file, fail, show},
    config::Config,
    report::Exit,
    sink::{
        enroll,
        rename::{self, Standing},
        run, status,
    },
    store::sink_store::SinkStore,
    sys::{self, Dir, child, name::Name, users},
};

#[derive(Serialize)]
struct Renamed<'a> {
    old: &'a str,
    new: &'a str,
    folders: bool,
    configuration: bool,
    dry_run: bool,
}

/// Renames: what is meant is noted in the store, then the configuration is written, and then the folders follow. Every step
/// can be cut; what opens the store next, or the same line typed again, goes on.
pub(super) fn run(context: &Context, config: &Config, sink: &Sink<'_>, args: &RenameArgs) -> Outcome {
    let failed = |e: &dyn std::fmt::Display| fail(Exit::Configuration, e);
    if args.old == args.new {
        return Err(fail(Exit::Usage, &format!("it is called {} already: nothing was changed", args.old)));
    }
    let written = std::fs::read_to_string(&config.file).map_err(|e| failed(&e))?;
    let text = enroll::renamed(&written, sink.config.role, &args.old, &args.new).map_err(|e| failed(&e))?;
    let owner = Dir::open(&sink.config.home).and_then(|home| home.stat_self()).map_or(0, |stat| stat.st_uid);
    let as_owner = owner != 0 && users::is_root();
    let folders = |names: &[Name]| {
        if as_owner { by_owner(context, sink, args, owner) } else { by_us(sink, args, names) }
    };
    let mut names: Vec<Name> = sink.config.sources.iter().map(|source| source.name.clone()).collect();
    let moves = folders(&names)?;
    if args.only_folders {
        return Ok(Exit::Ok);
    }
    if text.is_none() && !moves {
        let text = format!("there is no {} here, neither configured nor stored", args.old);
        return Err(fail(Exit::Usage, &text));
    }
    if let Some(text) = text.as_ref().filter(|_| !args.dry_run) {
        enroll::write(&config.file, text).map_err(|e| {
            let (exit, text) = of_file(&e);
            fail(exit, &text)
        })?;
        names.iter_mut().filter(|name| **name == args.old).for_each(|name| name.clone_from(&args.new));
        if moves {
            folders(&names)?;
        }
    }
    tell(context, config, sink, args, (moves, text.is_some()));
    Ok(Exit::Ok)
}

/// What is kept, as far as the configuration with these names is: it is noted what is meant, or moved. True if there is, or
/// was, anything to move.
fn by_us(sink: &Sink<'_>, args: &RenameArgs, names: &[Name]) -> Result<bool, Exit> {
    let role = sink.config.role;
    let (store, state) = run::open_store(sink.config, &sink.state).map_err(|e| sink.refuse(&e))?;
    let earlier =
        if args.dry_run { Ok(Standing::Nothing) } else { rename::settle(&store, role, names, &state) };
    let earlier = match earlier.map_err(|e| sink.refuse(&e))? {
        Standing::Busy(who) => return Err(busy(&args.old, &who)),
        Standing::Finished(old, new) => (old, new) == (args.old.clone(), args.new.clone()),
        Standing::Nothing | Standing::Waits => false,
    };
    let any = {
        let locks = [&args.old, &args.new].map(|name| sink.lock(&state, name, "rename"));
        if let Some(Err(exit)) = locks.iter().find(|lock| lock.is_err()) {
            return Err(*exit);
        }
        let any = if args.dry_run {
            store.rename_source(&args.old, &args.new, true)
        } else {
            rename::begin(&store, &args.old, &args.new)
        };
        any.map_err(|e| sink.refuse(&e))?
    };
    if !args.dry_run
        && let Standing::Busy(who) =
            rename::settle(&store, role, names, &state).map_err(|e| sink.refuse(&e))?
    {
        return Err(busy(&args.old, &who));
    }
    Ok(any || earlier)
}

fn busy(name: &Name, who: &str) -> Exit {
    fail(
        Exit::Busy,
        &format!("{name}: another run holds the lock: {who}\n  -> type the same line again after it"),
    )
}

/// The same by this program as the owner of the store: root makes nothing in a folder that is another's.
fn by_owner(context: &Context, sink: &Sink<'_>, args: &RenameArgs, owner: u32) -> Result<bool, Exit> {
    run::check_store(sink.config, &sink.state).map_err(|e| sink.refuse(&e))?;
    let look = || {
        let store = SinkStore::look(&sink.config.home, None)?;
        if args.dry_run {
            return store.rename_source(&args.old, &args.new, true);
        }
        let meant = store.renaming()? == Some((args.old.clone(), args.new.clone()));
        Ok(meant || store.holds(&args.old)?)
    };
    let any = look().map_err(|e| sink.refuse(&e))?;
    if any && !args.dry_run {
        as_owner(context, sink, args, owner)?;
    }
    Ok(any)
}

fn as_owner(context: &Context, sink: &Sink<'_>, args: &RenameArgs, owner: u32) -> Result<(), Exit> {
    let failed = |e: &dyn std::fmt::Display| fail(Exit::Configuration, e);
    let Some(user) = users::find_id(owner).map_err(|e| failed(&e))? else {
        return Err(failed(&format!("the store belongs to user {owner}, whom /etc/passwd does not know")));
    };
    let handover = authorize::own_path().map_err(|e| failed(&e))?;
    let argv: Vec<String> = [
        handover.to_string_lossy().as_ref(),
        "--quiet",
        "--config",
        context.config.to_string_lossy().as_ref(),
        sink.config.role.name(),
        "rename",
        args.old.as_str(),
        args.new.as_str(),
        "--only-folders",
    ]
    .map(str::to_owned)
    .to_vec();
    let job = child::Job { argv: &argv, user: Some(&user.name), env: &[], timeout: Duration::from_secs(120) };
    child::run(&job, None, None).map_err(|e| failed(&e))
}

fn tell(
    context: &Context,
    config: &Config,
    sink: &Sink<'_>,
    args: &RenameArgs,
    (folders, text): (bool, bool),
) {
    let (old, new) = (args.old.as_str(), args.new.as_str());
    if context.json {
        show::json(&Renamed { old, new, folders, configuration: text, dry_run: args.dry_run });
        return;
    }
    if context.quiet && !args.dry_run {
        return;
    }
    let is = if args.dry_run { "would be" } else { "is" };
    if folders {
        show::talk(&format!("what is kept of {old} {is} that of {new}"));
    }
    if text {
        let file = sys::show(config.file.as_os_str().as_encoded_bytes());
        show::talk(&format!("{old} {is} {new} in {file}"));
    }
    show::talk(&format!(
        "the source must call itself so too: name = \"{new}\" in its [source], then `handover source run` there, and \
         `handover {} run {new}` here. Generations made before are restored with --as {old}",
        sink.config.role
    ));
}

impl Sink<'_> {
    /// The lock of one source.
    pub(super) fn lock(&self, state: &Dir, name: &Name, action: &str) -> Result<sys::lock::Lock, Exit> {
        let what = format!("handover {} {action}", self.config.role);
        match sys::lock::try_exclusive(&state.join(status::lock_file(name.as_str())), &what) {
            Ok(sys::lock::Attempt::Held(lock)) => Ok(lock),
            Ok(sys::lock::Attempt::Busy(who)) => {
                Err(fail(Exit::Busy, &format!("{name}: another run holds the lock: {who}")))
            }
            Err(e) => Err(self.refuse(&e.into())),
        }
    }
}
