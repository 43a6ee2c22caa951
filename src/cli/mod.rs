//! The shell around the steps: arguments, dispatch, text and JSON, exit codes. Only here is printed.

pub mod args;
mod authorize;
mod check;
mod enroll;
mod extras;
mod gate;
mod live;
mod logsink;
mod progress;
mod restore;
mod setup;
mod show;
mod sink;
mod source;
pub mod when;

use std::{path::Path, process::ExitCode};

use clap::Parser as _;

use self::args::{Cli, Role};
use crate::{
    config::{self, Config, Surroundings},
    report::Exit,
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
}

impl Context {
    /// Loads the configuration for a role; mistakes are printed, each with its line and the fix.
    fn load(&self, role: config::Role) -> Result<Config, Exit> {
        config::load(&self.config, &Surroundings::here(), role).map_err(|errors| {
            show::talk(&errors.to_string());
            Exit::Configuration
        })
    }
}

/// This host's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Parses the command line, runs what it asks for, and gives the exit code.
pub fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = crate::remote::hidden(&args) {
        return code;
    }
    sys::limits::raise_open_files();
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
    if let Err(e) = sys::signals::listen() {
        show::talk(&format!("handover: cannot listen to signals: {e}"));
        return ExitCode::from(Exit::Internal.code());
    }
    ExitCode::from(dispatch(cli).code())
}

fn dispatch(cli: Cli) -> Exit {
    let context = Context { config: cli.config, json: cli.json, quiet: cli.quiet, verbose: cli.verbose };
    match cli.role {
        Role::Source(args) => source::dispatch(&context, args),
        Role::Sink(args) => {
            let action = args.action.unwrap_or(args::SinkAction::Run(args.run));
            sink::dispatch(&context, config::SinkRole::Data, action)
        }
        Role::Logsink(args) => logsink::dispatch(&context, args),
        Role::Restore(args) => restore::dispatch(&context, args),
        Role::Check { live } => check::run(&context, live),
        Role::Completions { shell } => extras::completions(shell),
        Role::Man { dir } => extras::man(Path::new(&dir)),
    }
}

/// Ends a command that failed with an error of its own.
pub(crate) fn fail(exit: Exit, error: &dyn std::fmt::Display) -> Exit {
    show::talk(&format!("error: {error}"));
    exit
}
