//! Asking whoever sits at the terminal. Where nobody does, nobody agrees.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::{Context, fail, show};
use crate::report::Exit;

/// Whether somebody is there to answer: input is a terminal, and no program reads the output.
pub(super) fn is_somebody_there(context: &Context) -> bool {
    !context.json && io::stdin().is_terminal()
}

/// Asks, and gives the answer; `None` where nobody is there.
pub(super) fn answer(context: &Context, question: &str) -> Option<String> {
    if !is_somebody_there(context) {
        return None;
    }
    show::talk(question);
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.ok().map(|_| answer.trim().to_owned())
}

/// Whether somebody at the terminal says yes.
pub(super) fn agrees(context: &Context, question: &str) -> bool {
    answer(context, question).is_some_and(|answer| matches!(answer.as_str(), "y" | "Y" | "yes"))
}

/// Ends a command that nobody agreed to; `more` is what to give instead of an answer.
pub(super) fn nobody_agreed(more: &str) -> Exit {
    let text = format!(
        "nobody agreed to it, and nothing was changed\n  -> look at it with --dry-run, then give {more}"
    );
    fail(Exit::Usage, &text)
}
