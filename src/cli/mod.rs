//! The shell around the steps: arguments, dispatch, text and JSON, exit codes. Only here is printed.

mod alarm;
pub mod args;
mod ask;
mod authorize;
mod check;
mod configuration;
mod daemon;
mod deliver;
mod enroll;
mod explain;
mod extras;
mod gate;
mod health;
mod live;
mod logsink;
pub mod metrics;
mod monitor;
mod progress;
pub mod prometheus;
mod restore;
mod schedule;
mod setup;
mod show;
mod sink;
mod source;
mod watch;
pub mod when;

use std::{cell::Cell, path::Path, process::ExitCode};

use clap::Parser as _;

use self::args::{Cli, Role};
use crate::{
    config::{self, Config, Surroundings},
    report::{Exit, health::Level},
    sys,
};

/// What every command gets.
pub(crate) struct Context {
    /// The configuration file.
    config: std::path::PathBuf,
    /// Print JSON.
    json: bool,
    /// Print nothing when all is well.
    quiet: bool,
    /// Say each step.
    verbose: bool,
    /// What Nagios was told: its exit codes are not ours.
    level: Cell<Option<Level>>,
}

impl Context {
    /// Loads the configuration for a role; mistakes are printed, each with its line and the fix.
    fn load(&self, role: config::Role) -> Result<Config, Exit> {
        self.load_for(role, None)
    }

    /// The same for something that nobody looks at when it runs: then a mistake is mailed too.
    fn load_for(&self, role: config::Role, what: Option<alarm::What>) -> Result<Config, Exit> {
        config::load(&self.config, &Surroundings::here(), role).map_err(|errors| {
            let text = errors.to_string();
            show::talk(&text);
            if let Some(what) = what {
                alarm::refused(self, what, &text);
            }
            Exit::Configuration
        })
    }
}

/// This host's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Where the image lets a user have a name who has none.
const USERS: &str = "HANDOVER_USERS";

/// Parses the command line, runs what it asks for, and gives the exit code.
pub fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = crate::remote::hidden(&args) {
        return code;
    }
    sys::limits::raise_open_files();
    if let Some(folder) = std::env::var_os(USERS)
        && let Err(e) = sys::users::name_ourselves(Path::new(&folder))
    {
        show::talk(&format!("warning: this user has no name, and ssh will not start: {e}"));
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let wrong = e.use_stderr();
            if e.print().is_err() {
                // Whoever asked has gone.
            }
            return ExitCode::from(if wrong { Exit::Usage.code() } else { 0 });
        }
    };
    if let Role::Source(args::SourceArgs { action: Some(args::SourceAction::Gate(args)), .. }) = &cli.role {
        return gate::run(args);
    }
    if let Role::Restore(args) = &cli.role
        && let Some(args::RestoreAction::Gate(args)) = &args.action
    {
        return restore::gate(args);
    }
    // A daemon listens to more, and not before it is one.
    if let Err(e) = if is_daemon(&cli) { Ok(()) } else { sys::signals::listen() } {
        show::talk(&format!("handover: cannot listen to signals: {e}"));
        return ExitCode::from(Exit::Internal.code());
    }
    let nagios = is_for_nagios(&cli);
    let context = Context {
        config: cli.config.clone(),
        json: cli.json,
        quiet: cli.quiet,
        verbose: cli.verbose,
        level: Cell::new(None),
    };
    let exit = dispatch(&context, cli);
    ExitCode::from(if nagios {
        context.level.get().unwrap_or_else(|| monitor::nothing_seen(exit)).code()
    } else {
        exit.code()
    })
}

fn is_daemon(cli: &Cli) -> bool {
    match &cli.role {
        Role::Source(args) => matches!(args.action, Some(args::SourceAction::Daemon(_))),
        Role::Sink(args) => matches!(args.action, Some(args::SinkAction::Daemon(_))),
        Role::Logsink(args) => {
            matches!(args.action, Some(args::LogsinkAction::Same(args::SinkAction::Daemon(_))))
        }
        _ => false,
    }
}

fn is_for_nagios(cli: &Cli) -> bool {
    let sink =
        |action: &args::SinkAction| matches!(action, args::SinkAction::Status { how, .. } if how.nagios);
    match &cli.role {
        Role::Source(args) => matches!(&args.action, Some(args::SourceAction::Status(how)) if how.nagios),
        Role::Sink(args) => args.action.as_ref().is_some_and(sink),
        Role::Logsink(args) => {
            matches!(&args.action, Some(args::LogsinkAction::Same(action)) if sink(action))
        }
        _ => false,
    }
}

fn dispatch(context: &Context, cli: Cli) -> Exit {
    match cli.role {
        Role::Source(args) => source::dispatch(context, args),
        Role::Sink(args) => {
            let action = args.action.unwrap_or(args::SinkAction::Run(args.run));
            sink::dispatch(context, config::SinkRole::Data, action)
        }
        Role::Logsink(args) => logsink::dispatch(context, args),
        Role::Restore(args) => restore::dispatch(context, *args),
        Role::Check { send_test_mail: true, .. } => check::mail(context),
        Role::Check { live, .. } => check::run(context, live),
        Role::Configuration { word } => configuration::run(context, word.as_deref()),
        Role::Explain { name, id } => explain::run(context, &name, &id),
        Role::Health => health::run(context),
        Role::Completions { shell } => extras::completions(shell),
        Role::Man { dir } => extras::man(Path::new(&dir)),
    }
}

/// Ends a command that failed with an error of its own.
pub(crate) fn fail(exit: Exit, error: &dyn std::fmt::Display) -> Exit {
    show::talk(&format!("error: {error}"));
    exit
}

/// The action of a role that a word resembles: somebody mistyped it, and it was taken for a name.
pub(crate) fn similar_action(role: &str, word: &str) -> Option<String> {
    let cli = <Cli as clap::CommandFactory>::command();
    let actions = cli.find_subcommand(role)?.get_subcommands().map(clap::Command::get_name);
    let near = actions.map(|action| (strsim::damerau_levenshtein(action, word), action));
    near.filter(|(distance, _)| *distance <= 2).min().map(|(_, action)| action.to_owned())
}
