//! `handover restore`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::Which;
use crate::{config, manifest::Seal, sys::name::Name};

/// `handover restore`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RestoreArgs {
    /// What to do; without it: run
    #[command(subcommand)]
    pub action: Option<RestoreAction>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become part of the help text")]
    pub run: RestoreRunArgs,
}

/// What `handover restore` can do.
#[derive(Debug, Subcommand)]
pub enum RestoreAction {
    /// Bring a generation back into the running application, or below --to (the default)
    Run(RestoreRunArgs),
    /// Show what a restore would do, change nothing: the same as --dry-run
    Plan(RestoreRunArgs),
    /// List the generations that could be restored
    List(ListArgs),
    /// Let a sink deliver generations to this host, for a while
    Grant(RestoreGrantArgs),
    /// Answer one request of a sink that delivers: what a granted key is bound to, not a command for people
    #[command(hide = true)]
    Gate(RestoreGateArgs),
    /// Try whether the newest generation can be restored, beside the running application
    Drill(DrillArgs),
    /// Put back what the last restore replaced: its files and folders, while `restore clean` has not removed them
    Undo {
        /// Show it, change nothing
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// End a restore or an undo that was cut and can be neither finished nor undone: files are put back as far as they can
        /// be, dumps stay as they are, services start; what remains to be done by hand is named
        #[arg(long)]
        give_up: bool,
    },
    /// Remove what restores have replaced and kept
    Clean(CleanArgs),
}

/// `handover restore run` and `handover restore plan`.
#[derive(Debug, Args)]
pub struct RestoreRunArgs {
    /// The generation, or `newest`
    #[arg(default_value = "newest")]
    pub id: Which,
    /// Write everything below this folder as if it were `/`, and touch nothing else; it must be empty or missing
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Where to look: a generation's folder or tar, or a folder that holds some. Without it: this host's restore/
    /// folder; with --to, and nothing there, its Source-Store
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Only these elements
    #[arg(long, value_name = "NAME")]
    pub element: Vec<Name>,
    /// Only these paths (as on the source) and what is below them
    #[arg(long, value_name = "PATH")]
    pub path: Vec<PathBuf>,
    /// Trust this seal, though this host's ledger does not know it: as `sink list` and `source run --json` show it
    #[arg(long, value_name = "SEAL")]
    pub trust: Option<Seal>,
    /// Take a generation of the source with this name
    #[arg(long = "as", value_name = "NAME")]
    pub as_name: Option<Name>,
    /// Take an older generation where the newest is torn
    #[arg(long)]
    pub allow_older: bool,
    /// Restore also what had failed when it was collected, as far as it is there
    #[arg(long)]
    pub allow_partial: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Show what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `handover restore list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Where to look, instead of this host's restore/ folder
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Read all of them and compare every hash
    #[arg(long)]
    pub verify: bool,
    /// List what restores have replaced and kept instead
    #[arg(long, conflicts_with_all = ["from", "verify"])]
    pub replaced: bool,
}

/// `handover restore grant`.
#[derive(Debug, Args)]
pub struct RestoreGrantArgs {
    /// A file with the public key that `handover sink deliver --show-key` prints on the sink, or `-` for standard input
    #[arg(long, value_name = "FILE", required_unless_present_any = ["list", "revoke"])]
    pub key: Option<PathBuf>,
    /// For how long, as 90m or 2h; a week at most
    #[arg(long = "for", value_name = "TIME", default_value = "2h", value_parser = config::duration_of_text)]
    pub time: Duration,
    /// Let it in only from these addresses, as sshd's `from=` takes them
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Show who may deliver, and until when
    #[arg(long, conflicts_with_all = ["key", "revoke"])]
    pub list: bool,
    /// Take the access of this key away, or of all
    #[arg(long, value_name = "KEY|FINGERPRINT|all", conflicts_with = "key")]
    pub revoke: Option<String>,
    /// The file to add it to, where sshd does not look in the user's home (its `AuthorizedKeysFile`)
    #[arg(long, value_name = "FILE")]
    pub authorized_keys: Option<PathBuf>,
    /// Show what would be changed, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `handover restore gate`.
#[derive(Debug, Args)]
pub struct RestoreGateArgs {
    /// The home, instead of that of the user who runs this
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// `handover restore drill`.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// The generation, or `newest`
    #[arg(default_value = "newest")]
    pub id: Which,
    /// Where to look, instead of this host's Source-Store
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Only these elements
    #[arg(long, value_name = "NAME")]
    pub element: Vec<Name>,
    /// The scratch folder is made in this one, instead of in the home
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Show what would be tried, where and by which commands; nothing is written out, and no command is run
    #[arg(long)]
    pub dry_run: bool,
}

/// `handover restore clean`.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Show what would be removed, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}
