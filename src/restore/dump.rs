//! Dumps on their way back: prepare, restore, probe into a scratch target beside the live one; promote; discard.

use std::fs::File;

use super::error::{Error, Result};
use crate::{
    config::{Command, Dump, Element, ElementKind},
    sys::{
        child::{self, Job},
        random,
    },
};

/// The dump of an element that is one.
pub fn of(element: &Element) -> Option<&Dump> {
    match &element.kind {
        ElementKind::Dump(dump) => Some(dump),
        ElementKind::Tree(_) | ElementKind::Archive(_) => None,
    }
}

/// A name beside the live target that nothing else has: letters, digits and `_` are added, as names of databases take them.
pub fn scratch(target: &str) -> Result<String> {
    Ok(format!("{target}_handover_{}", random::hex(4)?))
}

/// Commands that must have `{target}` in their arguments for a scratch target, and lack it.
pub fn without_target(element: &Element) -> Vec<&'static str> {
    let steps = &element.steps;
    let all = [
        ("prepare", &steps.prepare),
        ("restore", &steps.restore),
        ("probe", &steps.probe),
        ("discard", &steps.discard),
    ];
    all.into_iter()
        .filter(|(_, command)| command.as_ref().is_some_and(|c| !has_target(c)))
        .map(|(name, _)| name)
        .collect()
}

fn has_target(command: &Command) -> bool {
    command.iter().skip(1).any(|argument| argument.contains("{target}"))
}

/// A target that is being filled.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The element.
    pub element: &'a Element,
    /// What stands for `{target}`.
    pub name: &'a str,
}

impl Target<'_> {
    /// prepare, restore, probe: what is loaded works.
    pub fn load(&self, dump: File) -> Result<()> {
        self.step("prepare", self.element.steps.prepare.as_ref(), None)?;
        self.step("restore", self.element.steps.restore.as_ref(), Some(dump))?;
        self.probe()
    }

    /// Proves that the target is usable.
    pub fn probe(&self) -> Result<()> {
        self.step("probe", self.element.steps.probe.as_ref(), None)
    }

    /// Puts the target in the place of the live one; a signal does not stop it halfway.
    pub fn promote(&self) -> Result<()> {
        self.always("promote", self.element.steps.promote.as_ref())
    }

    /// Removes the target, also when we were asked to stop.
    pub fn discard(&self) -> Result<()> {
        self.always("discard", self.element.steps.discard.as_ref())
    }

    fn always(&self, what: &str, command: Option<&Command>) -> Result<()> {
        let Some(command) = command else { return Ok(()) };
        let argv = self.filled(command);
        child::run_always(&self.job(&argv))
            .map_err(|e| Error::of_command(self.element.name.as_str(), what, e))
    }

    fn step(&self, what: &str, command: Option<&Command>, stdin: Option<File>) -> Result<()> {
        let Some(command) = command else { return Ok(()) };
        let argv = self.filled(command);
        child::run(&self.job(&argv), stdin, None)
            .map_err(|e| Error::of_command(self.element.name.as_str(), what, e))
    }

    fn filled(&self, command: &Command) -> Vec<String> {
        command.iter().map(|word| word.replace("{target}", self.name)).collect()
    }

    fn job<'b>(&'b self, argv: &'b [String]) -> Job<'b> {
        Job { argv, user: self.element.user.as_deref(), env: &[], timeout: self.element.timeout }
    }
}
