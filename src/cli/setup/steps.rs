//! The steps of `init`: each says what it does, or would do, and does it only where it is missing.

use std::path::Path;

use serde::Serialize;

use crate::{
    cli::{Context, fail, show},
    report::Exit,
    sys::{self, Dir, accounts, durable, users},
};

/// Why something was not made: the exit code and the text.
pub(in crate::cli) type Failed = (Exit, String);

pub(in crate::cli) fn configuration(e: &dyn std::fmt::Display) -> Failed {
    (Exit::Configuration, e.to_string())
}

pub(in crate::cli) fn of_system(e: &sys::Error) -> Failed {
    (if e.is_storage() { Exit::Storage } else { Exit::Configuration }, e.to_string())
}

/// What `init` did, or would do, for programs.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// What was changed, or would be.
    changes: Vec<String>,
    /// The lines of the files that would be written, in a dry run.
    details: Vec<String>,
    /// What was not done, and somebody should know.
    notes: Vec<String>,
    /// What remains to be done on the other side: texts, and lines to be typed there.
    next: Vec<String>,
    dry_run: bool,
    exit: Option<Exit>,
    /// Why it ended before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Says what is done, or would be; with `--json` once, at the end.
pub(in crate::cli) struct Steps<'a> {
    pub(super) context: &'a Context,
    pub(in crate::cli) dry_run: bool,
    done: Done,
}

impl<'a> Steps<'a> {
    pub(super) fn new(context: &'a Context, dry_run: bool) -> Self {
        let done = Done { dry_run, ..Done::default() };
        Self { context, dry_run, done }
    }

    pub(in crate::cli) fn say(&mut self, text: &dyn std::fmt::Display) {
        self.done.changes.push(text.to_string());
        if self.context.json {
        } else if self.dry_run {
            show::talk(&format!("would {text}"));
        } else if !self.context.quiet {
            show::talk(&text.to_string());
        }
    }

    /// Lines that belong to what was just said, for those who only look.
    pub(in crate::cli) fn detail(&mut self, lines: &[String]) {
        if self.dry_run {
            self.lines(lines);
        }
    }

    /// Lines that belong to what was just said.
    pub(in crate::cli) fn lines(&mut self, lines: &[String]) {
        self.done.details.extend_from_slice(lines);
        if !self.context.json {
            lines.iter().for_each(|line| show::talk(line));
        }
    }

    /// Something that is not done here, and that somebody should know.
    pub(in crate::cli) fn note(&mut self, text: &str) {
        self.done.notes.push(text.to_owned());
        if !self.context.quiet && !self.context.json {
            show::talk(&format!("note: {text}"));
        }
    }

    /// That there was nothing to do, if so.
    pub(super) fn settle(&self, nothing: &str) {
        if self.done.changes.is_empty() && !self.context.quiet && !self.context.json {
            show::talk(nothing);
        }
    }

    /// What remains to be done elsewhere.
    pub(super) fn next(&mut self, text: &str) {
        self.done.next.push(text.to_owned());
        if !self.context.json {
            show::talk(text);
        }
    }

    /// The same of a line that is carried over as it is.
    pub(super) fn next_line(&mut self, line: &str) {
        self.done.next.push(line.to_owned());
        if !self.context.json {
            show::data(line);
        }
    }

    /// How it ended.
    pub(super) fn end(mut self, result: Result<(), Failed>) -> Exit {
        let exit = match result {
            Ok(()) => Exit::Ok,
            Err((exit, text)) => {
                self.done.error = Some(text.clone());
                fail(exit, &text)
            }
        };
        self.done.exit = Some(exit);
        if self.context.json {
            show::json(&self.done);
        }
        exit
    }

    /// The user: the one that was named, or the usual one where the home is the usual one. `None` leaves all to whoever
    /// runs this.
    pub(super) fn user(
        &mut self,
        named: Option<&str>,
        home: &Path,
        usual: &str,
        login: bool,
    ) -> Result<Owner, Failed> {
        let name = match named {
            Some(_) if !users::is_root() => {
                let text = "only root can give folders to another user: leave --user out".to_owned();
                return Err((Exit::Usage, text));
            }
            Some(name) => name,
            None if users::is_root() && home == Path::new("/home").join(usual) => usual,
            None => return Ok(Owner::Us),
        };
        for step in accounts::plan(name, home, login).map_err(|e| of_system(&e))? {
            self.say(&step);
            if !self.dry_run {
                step.run().map_err(|e| configuration(&e))?;
            }
        }
        match users::find(name).map_err(|e| of_system(&e))? {
            Some(user) => Ok(Owner::User(user)),
            None if self.dry_run => Ok(Owner::ToBeMade(name.to_owned())),
            None => Err((Exit::Configuration, format!("the user {name} was made and is not in /etc/passwd"))),
        }
    }

    /// A folder with its owner and mode.
    pub(super) fn folder(&mut self, path: &Path, owner: &Owner, mode: u32) -> Result<(), Failed> {
        let shown = sys::show(path.as_os_str().as_encoded_bytes());
        let (uid, gid) = owner.ids();
        let dir = match Dir::open(path) {
            Err(e) if e.is_not_found() => {
                self.say(&format_args!("make the folder {shown} ({}'s, {mode:04o})", owner.name()));
                if self.dry_run {
                    return Ok(());
                }
                Dir::create_all(path, mode).map_err(|e| of_system(&e))?
            }
            other => other.map_err(|e| of_system(&e))?,
        };
        let stat = dir.stat_self().map_err(|e| of_system(&e))?;
        if (stat.st_uid, stat.st_gid) != (uid, gid) && !matches!(owner, Owner::ToBeMade(_)) {
            self.say(&format_args!("give {shown} to user {uid}, group {gid}"));
            if !self.dry_run {
                dir.give_to(uid, gid).map_err(|e| of_system(&e))?;
            }
        }
        if stat.st_mode & 0o7777 != mode {
            self.say(&format_args!("set the mode of {shown} to {mode:04o}"));
            if !self.dry_run {
                dir.set_mode(mode).map_err(|e| of_system(&e))?;
            }
        }
        match path.parent().filter(|_| !self.dry_run) {
            Some(parent) => {
                Dir::open(parent).and_then(|dir| durable::sync_dir(&dir)).map_err(|e| of_system(&e))
            }
            None => Ok(()),
        }
    }
}

/// Whose what is made becomes.
pub(super) enum Owner {
    /// Of whoever runs this.
    Us,
    /// Of a user who is there.
    User(users::User),
    /// Of a user who would be made.
    ToBeMade(String),
}

impl Owner {
    pub(super) fn ids(&self) -> (u32, u32) {
        match self {
            Self::User(user) => (user.uid, user.gid),
            Self::Us | Self::ToBeMade(_) => (users::euid(), users::egid()),
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        match self {
            Self::User(user) => user.name.clone(),
            Self::ToBeMade(name) => name.clone(),
            Self::Us => match users::find_id(users::euid()) {
                Ok(Some(user)) => user.name,
                _ => users::euid().to_string(),
            },
        }
    }
}
