//! `handover logsink`: the commands of a sink over the logs, and `cat`.

use super::{
    Context,
    args::{LogsinkAction, LogsinkArgs, SinkAction},
    sink,
};
use crate::{config::SinkRole, report::Exit};

pub(super) fn dispatch(context: &Context, args: LogsinkArgs) -> Exit {
    match args.action {
        None => sink::dispatch(context, SinkRole::Logs, SinkAction::Run(args.run)),
        Some(LogsinkAction::Same(action)) => sink::dispatch(context, SinkRole::Logs, action),
        Some(LogsinkAction::Cat(_)) => todo!(),
    }
}
