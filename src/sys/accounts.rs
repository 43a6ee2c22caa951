//! Making the users that handover runs as: system users without a password, whom only their key lets in.

use std::{path::Path, time::Duration};

use super::{child, show, users};

/// Something to do for an account, with the command that does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it is, as "make the user x".
    pub text: String,
    argv: Vec<String>,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.text, self.argv.join(" "))
    }
}

impl Step {
    /// Does it.
    pub fn run(&self) -> Result<(), child::Failure> {
        child::run(
            &child::Job { argv: &self.argv, user: None, env: &[], timeout: Duration::from_secs(60) },
            None,
            None,
        )
    }
}

/// What is missing of a user: nothing, the user, or a shell. `login` tells whether somebody logs in as that user: then a
/// shell is needed, in which sshd runs the command that a key is bound to. The password is `*`, which nothing matches;
/// the `!` of a locked account would make sshd turn keys away too.
pub fn plan(name: &str, home: &Path, login: bool) -> super::Result<Vec<Step>> {
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let shell = if login { "/bin/sh" } else { "/usr/sbin/nologin" };
    match users::find(name)? {
        None => {
            let mut argv =
                words(&["useradd", "--system", "--user-group", "--no-create-home", "--shell", shell]);
            argv.extend(words(&["--password", "*", "--home-dir"]));
            argv.extend([home.to_string_lossy().into_owned(), name.to_owned()]);
            Ok(vec![Step { text: format!("make the user {}", show(name.as_bytes())), argv }])
        }
        Some(user) if login && is_closed(&user.shell) => Ok(vec![Step {
            text: format!(
                "give {name} a shell, as its commands cannot run in {}",
                show(user.shell.as_bytes())
            ),
            argv: words(&["usermod", "--shell", shell, name]),
        }]),
        Some(_) => Ok(Vec::new()),
    }
}

/// A shell that runs nothing.
fn is_closed(shell: &str) -> bool {
    shell.ends_with("/nologin") || shell.ends_with("/false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_is_there_is_left_as_it_is() {
        assert_eq!(plan("root", Path::new("/root"), true).unwrap(), []);
    }

    #[test]
    fn a_missing_user_is_made_with_a_password_that_nothing_matches() {
        let steps = plan("noSuchUserHere", Path::new("/home/x"), true).unwrap();
        let [step] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(
            step.to_string(),
            "make the user noSuchUserHere: useradd --system --user-group --no-create-home --shell /bin/sh --password * --home-dir /home/x noSuchUserHere"
        );
        assert!(is_closed("/usr/sbin/nologin") && is_closed("/bin/false") && !is_closed("/bin/sh"));
    }
}
