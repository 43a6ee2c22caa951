//! `handover logsink`: the commands of a sink over the logs, and `cat`.

use std::{
    io::{self, Write},
    ops::Range,
    os::unix::ffi::OsStrExt as _,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Context,
    args::{CatArgs, LogsinkAction, LogsinkArgs, SinkAction},
    fail, show,
    sink::{self, Outcome, Sink},
};
use crate::{
    config::SinkRole,
    logsink::{
        index::{Index, Log, Trouble},
        stream::{self, Extent, Stopped},
    },
    report::Exit,
    store::SourceStore,
    sys::clock,
};

const ROLE: SinkRole = SinkRole::Logs;

pub(super) fn dispatch(context: &Context, args: LogsinkArgs) -> Exit {
    let args = match args.action {
        None => return sink::dispatch(context, ROLE, SinkAction::Run(args.run)),
        Some(LogsinkAction::Same(action)) => return sink::dispatch(context, ROLE, action),
        Some(LogsinkAction::Cat(args)) => args,
    };
    let done = sink::with_sink(context, ROLE, None, |_, sink| {
        sink::as_owner(sink.config)?;
        cat(context, sink, &args)
    });
    match done {
        Ok(exit) | Err(exit) => exit,
    }
}

fn cat(context: &Context, sink: &Sink<'_>, args: &CatArgs) -> Outcome {
    let store = sink.kept(&args.name)?;
    let index = Index::read(&store).map_err(|e| sink.refuse(&e))?;
    let now = clock::now();
    let since = args.since.map_or(Timestamp::MIN, |when| when.at(now));
    let until = args.until.map_or(Timestamp::MAX, |when| when.at(now));
    let printing = Printing { sink, store: &store, index: &index, within: since..until };
    let mut exit = Exit::Ok;
    for trouble in &index.trouble {
        exit = exit.worst(say(trouble));
    }
    let logs = chosen(&index, args)?;
    Ok(exit.worst(if args.list { printing.list(context, &logs) } else { printing.print(&logs)? }))
}

fn say(trouble: &Trouble) -> Exit {
    if trouble.damage {
        return fail(Exit::VerificationFailed, &trouble.text);
    }
    show::talk(&format!("warning: {}", trouble.text));
    Exit::Ok
}

/// The logs that were asked for: each must be there. Without a name, all files; the journal is no text.
fn chosen(index: &Index, args: &CatArgs) -> Result<Vec<Log>, Exit> {
    let is_asked = |log: &&Log| match log {
        Log::File(_) => args.list || !args.journal,
        Log::Journal => args.list || args.journal,
    };
    if args.path.is_empty() {
        return Ok(index.logs.keys().filter(is_asked).cloned().collect());
    }
    let named = args.path.iter().map(|path| Log::File(path.as_os_str().as_bytes().to_vec()));
    let named: Vec<Log> = named.collect();
    match named.iter().find(|log| !index.logs.contains_key(log)) {
        None => Ok(named),
        Some(log) => {
            let text = format!("{} has no log {log} here: see `handover logsink cat {0} --list`", args.name);
            Err(fail(Exit::Usage, &text))
        }
    }
}

/// What is printed, and from where.
struct Printing<'a> {
    sink: &'a Sink<'a>,
    store: &'a SourceStore,
    index: &'a Index,
    within: Range<Timestamp>,
}

/// A log in a list.
#[derive(Serialize)]
struct Row {
    log: String,
    journal: bool,
    bytes: u64,
    missing: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Printing<'_> {
    fn extent(&self, log: &Log) -> Option<Extent> {
        self.index.logs.get(log).and_then(|parts| stream::extent(parts, &self.within))
    }

    fn list(&self, context: &Context, logs: &[Log]) -> Exit {
        let rows = logs.iter().filter_map(|log| {
            let Extent { bytes, missing, first, last } = self.extent(log)?;
            Some(Row { log: log.to_string(), journal: *log == Log::Journal, bytes, missing, first, last })
        });
        let rows: Vec<Row> = rows.collect();
        if context.json {
            return show::json(&rows);
        }
        let lines = rows.into_iter().map(|row| {
            let missing = if row.missing == 0 { String::new() } else { row.missing.to_string() };
            vec![row.log, row.bytes.to_string(), row.first.to_string(), row.last.to_string(), missing]
        });
        show::data(&show::table(&["log", "bytes#", "collected from", "to", "missing#"], lines.collect()));
        Exit::Ok
    }

    /// Prints them; with a line above each if there are several, as `head` and `tail` do.
    fn print(&self, logs: &[Log]) -> Outcome {
        let logs: Vec<&Log> = logs.iter().filter(|log| self.extent(log).is_some()).collect();
        let stdout = io::stdout().lock();
        let shown = io::IsTerminal::is_terminal(&stdout);
        let mut out = Output { inner: stdout, shown, ended: true, begun: false };
        let mut exit = Exit::Ok;
        for log in &logs {
            match self.print_one(log, logs.len() > 1, &mut out) {
                Ok(printed) => exit = exit.worst(printed),
                // Whoever read has seen enough.
                Err(Stopped::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(exit),
                Err(Stopped::Output(e)) => return Err(fail(Exit::Storage, &format!("cannot print: {e}"))),
                Err(Stopped::Store(e)) => return Err(self.sink.refuse(&e)),
            }
        }
        Ok(exit)
    }

    fn print_one(&self, log: &Log, titled: bool, out: &mut Output<impl Write>) -> Result<Exit, Stopped> {
        if titled {
            out.title(log).map_err(Stopped::Output)?;
        }
        let mut exit = Exit::Ok;
        let mut tell = |trouble| exit = exit.worst(say(&trouble));
        stream::write(self.store, self.index, log, &self.within, out, &mut tell)?;
        out.flush().map_err(Stopped::Output)?;
        Ok(exit)
    }
}

/// Standard output, and whether a line is open on it.
struct Output<W> {
    inner: W,
    /// It is a terminal: what a log says must not become an order to it.
    shown: bool,
    ended: bool,
    begun: bool,
}

impl<W: Write> Output<W> {
    fn title(&mut self, log: &Log) -> io::Result<()> {
        let before = match (self.begun, self.ended) {
            (false, _) => "",
            (true, true) => "\n",
            (true, false) => "\n\n",
        };
        self.write_all(format!("{before}==> {log} <==\n").as_bytes())
    }
}

/// Writes text for a terminal: control characters by their number.
fn show_on(out: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    for plain in bytes.chunk_by(|a, b| is_control(*a) == is_control(*b)) {
        if plain.first().copied().is_some_and(is_control) {
            plain.iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))?;
        } else {
            out.write_all(plain)?;
        }
    }
    Ok(bytes.len())
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t')
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = if self.shown { show_on(&mut self.inner, bytes)? } else { self.inner.write(bytes)? };
        if let Some(last) = bytes[..written].last() {
            (self.begun, self.ended) = (true, *last == b'\n');
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gives_no_orders_to_a_terminal() {
        let mut out = Vec::new();
        assert_eq!(show_on(&mut out, b"a\x1b]52;c;x\x07\tb\r\n").unwrap(), 14);
        assert_eq!(out, b"a\\x1b]52;c;x\\x07\tb\\x0d\n");
    }
}
