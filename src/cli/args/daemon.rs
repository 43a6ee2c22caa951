//! `handover source daemon` and its like.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::config::{self, Cron};

/// When a daemon runs; what is not said here, the configuration says.
#[derive(Debug, Clone, Args)]
pub struct DaemonArgs {
    /// Run by a cron expression, as "0 2 * * *": minute, hour, day of month, month, day of week, and a time zone if it is
    /// not that of the host. Instead of `schedule` or `every` in the configuration
    #[arg(long, value_name = "CRON", conflicts_with = "every")]
    pub schedule: Option<Cron>,
    /// Run so often, as 1h. Instead of `schedule` or `every` in the configuration
    #[arg(long, value_name = "TIME", value_parser = config::duration_of_text)]
    pub every: Option<Duration>,
    /// Begin each run up to so much later, as 10m. Instead of `jitter` in the configuration
    #[arg(long, value_name = "TIME", value_parser = config::duration_of_text)]
    pub jitter: Option<Duration>,
    /// Watch so often, as 1h. Instead of `watch_every` in the configuration
    #[arg(long, value_name = "TIME", value_parser = config::duration_of_text)]
    pub watch_every: Option<Duration>,
    /// Print the next times at which it would run, and end
    #[arg(long)]
    pub dry_run: bool,
    /// So many of them
    #[arg(long, value_name = "COUNT", default_value_t = 5, requires = "dry_run",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
}

/// `handover source daemon`.
#[derive(Debug, Args)]
pub struct SourceDaemonArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become part of the help text")]
    pub times: DaemonArgs,
    /// Run an ssh server too, of which sinks reach the gates and nothing else; for a container, where there is no other
    #[arg(long, env = "HANDOVER_SSH")]
    pub ssh: bool,
    /// The port of that ssh server
    #[arg(long, value_name = "PORT", default_value_t = 2222, value_parser = clap::value_parser!(u16).range(1..))]
    pub ssh_port: u16,
    /// The public keys of the sink, one a line, for that ssh server; read again at SIGHUP
    #[arg(long, value_name = "FILE", default_value = "/etc/handover/sink_keys")]
    pub sink_keys: PathBuf,
    /// The same for the sink of the logs
    #[arg(long, value_name = "FILE", default_value = "/etc/handover/logsink_keys")]
    pub logsink_keys: PathBuf,
}
