//! Lines of the restore gate: each ends by itself, and can be listed and taken out again.

use std::path::Path;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::{Error, GATE, PublicKey, RESTORE, edit};

/// As sshd reads a time in UTC; without the `Z` it is this host's own time.
const EXPIRY: &str = "%Y%m%d%H%M%S";

/// A line of the restore gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who is let in.
    pub key: PublicKey,
    /// Until when.
    pub until: Timestamp,
    /// From where, if not from anywhere.
    pub from: Option<String>,
}

impl Grant {
    /// Reads a line as [`Binding::line`] writes it, the time perhaps this host's own; `None` for any other.
    fn parse(line: &str) -> Option<Self> {
        let (options, rest) = line.strip_prefix("restrict,")?.split_once("command=\"")?;
        let (command, key) = rest.split_once("\" ")?;
        let option = |name: &str| {
            let value = options.split_once(&format!("{name}=\""))?.1;
            value.split_once('"').map(|(value, _)| value.to_owned())
        };
        let ours = command.contains(RESTORE) && !command.contains(GATE);
        let until = parse_expiry(&option("expiry-time")?)?;
        ours.then_some(Self { key: PublicKey::parse(key).ok()?, until, from: option("from") })
    }
}

/// When a grant ends, in the form that the sshd of this host reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    at: Timestamp,
    utc: bool,
}

impl Until {
    /// Ends then. `version` is what this host's sshd says of itself: before 9.1 it took only times of the host's own
    /// clock, and a line with another for none.
    pub fn new(at: Timestamp, version: &str) -> Self {
        let numbers = version.split("OpenSSH_").nth(1).unwrap_or_default();
        let mut numbers = numbers.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let version = match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
            _ => None,
        };
        Self { at, utc: version.is_none_or(|version| version >= (9, 1)) }
    }
}

impl std::fmt::Display for Until {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.utc {
            return write!(f, "{}Z", self.at.strftime(EXPIRY));
        }
        write!(f, "{}", self.at.to_zoned(TimeZone::system()).strftime(EXPIRY))
    }
}

fn parse_expiry(text: &str) -> Option<Timestamp> {
    let (digits, zone) = match text.strip_suffix('Z') {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    let full = format!("{digits}{}", "0".repeat(14_usize.saturating_sub(digits.len())));
    let time = DateTime::strptime(EXPIRY, full).ok()?;
    time.to_zoned(zone).ok().map(|time| time.timestamp())
}

/// Which grants are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoke {
    /// All of them.
    All,
    /// Those whose time is over.
    Expired(Timestamp),
    /// That of this key: its fingerprint, the key itself, or what its owner wrote behind it.
    Key(String),
}

impl Revoke {
    fn means(&self, grant: &Grant) -> bool {
        match self {
            Self::All => true,
            Self::Expired(now) => grant.until <= *now,
            Self::Key(text) => {
                let text = text.trim();
                grant.key.fingerprint() == text
                    || text.split_whitespace().any(|word| word == grant.key.blob)
                    || (!grant.key.comment.is_empty() && grant.key.comment == text)
            }
        }
    }
}

/// The grants of a file; none if it is missing.
pub fn grants(file: &Path) -> Result<Vec<Grant>, Error> {
    edit(file, true, |old| Ok((old.to_owned(), old.lines().filter_map(Grant::parse).collect())))
}

/// Takes grants out of the file, and gives them. All other lines stay as they are.
pub fn revoke(file: &Path, which: &Revoke, dry_run: bool) -> Result<Vec<Grant>, Error> {
    let gone: Vec<Grant> = grants(file)?.into_iter().filter(|grant| which.means(grant)).collect();
    if gone.is_empty() {
        return Ok(gone);
    }
    edit(file, dry_run, |old| {
        let goes = |line: &&str| Grant::parse(line).is_some_and(|grant| which.means(&grant));
        let stay: String = old.split_inclusive('\n').filter(|line| !goes(&line.trim_end())).collect();
        Ok((stay, old.lines().filter(goes).filter_map(Grant::parse).collect()))
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write by hand what others have put into the file")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gate::keys::{
        Binding, Outcome, To, allow,
        tests::{KEY, binding, key},
    };

    #[test]
    fn a_grant_ends_by_itself_and_is_listed_revoked_and_swept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("authorized_keys");
        let until: Timestamp = "2026-11-23T05:06:07Z".parse().unwrap();
        let grant = Binding { to: To::Restore(Until::new(until, "")), ..binding() };
        assert_eq!(
            grant.line(&key()).unwrap(),
            format!(
                "restrict,expiry-time=\"20261123050607Z\",command=\"/usr/bin/handover restore gate\" {KEY}"
            )
        );
        std::fs::write(&file, "# mine\n").unwrap();
        assert!(grants(&file).unwrap().is_empty());
        allow(&file, &key(), &grant, false).unwrap();
        // For the same key longer, from one place.
        let longer = Binding {
            to: To::Restore(Until::new(until + Duration::from_secs(60), "")),
            from: Some("::1".to_owned()),
            ..grant
        };
        assert_eq!(allow(&file, &key(), &longer, false).unwrap(), Outcome::Replaced);
        let all = grants(&file).unwrap();
        assert_eq!((all.len(), all[0].from.as_deref()), (1, Some("::1")));
        assert_eq!(all[0].until.to_string(), "2026-11-23T05:07:07Z");
        // The read gate is another matter, for which it takes another key.
        assert!(matches!(allow(&file, &key(), &binding(), false), Err(Error::Taken { line: 2, .. })));
        assert!(revoke(&file, &Revoke::Expired(until), false).unwrap().is_empty());
        assert!(revoke(&file, &Revoke::Key("SHA256:other".to_owned()), false).unwrap().is_empty());
        assert_eq!(revoke(&file, &Revoke::Key(key().fingerprint()), true).unwrap().len(), 1);
        assert_eq!(grants(&file).unwrap().len(), 1, "a dry run changes nothing");
        let over = Revoke::Expired(until + Duration::from_secs(60));
        assert_eq!(revoke(&file, &over, false).unwrap(), all);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine\n");
    }

    #[test]
    fn an_sshd_that_knows_no_utc_gets_its_own_time() {
        let at: Timestamp = "2026-11-23T05:06:07Z".parse().unwrap();
        for new in [
            "OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.13",
            "OpenSSH_10.0p2",
            "OpenSSH_9.1",
            "",
            "dropbear",
        ] {
            assert_eq!(Until::new(at, new).to_string(), "20261123050607Z", "{new}");
        }
        for old in ["unknown option -- V\nOpenSSH_8.9p1 Ubuntu-3, OpenSSL 3.0.2", "OpenSSH_9.0p1"] {
            let text = Until::new(at, old).to_string();
            assert!(!text.ends_with('Z'), "{text}");
            assert_eq!(parse_expiry(&text), Some(at), "{old}");
        }
    }

    #[test]
    fn times_are_read_as_sshd_reads_them_and_lines_of_others_are_no_grants() {
        for (text, time) in [
            ("20261123050607Z", Some("2026-11-23T05:06:07Z")),
            ("202611230506Z", Some("2026-11-23T05:06:00Z")),
            ("20261123Z", Some("2026-11-23T00:00:00Z")),
            ("20261399Z", None),
            ("never", None),
        ] {
            assert_eq!(parse_expiry(text).map(|t| t.to_string()).as_deref(), time, "{text}");
        }
        let local = parse_expiry("20261123050607").unwrap().to_zoned(TimeZone::system());
        assert_eq!(local.strftime(EXPIRY).to_string(), "20261123050607");
        let line = |command: &str| format!("restrict,expiry-time=\"20261123Z\",command=\"{command}\" {KEY}");
        assert!(Grant::parse(&line("/usr/bin/handover restore gate --home /x")).is_some());
        for other in [
            line("/usr/bin/handover source gate --channel data"),
            format!("# {}", line("/x restore gate")),
            KEY.to_owned(),
        ] {
            assert_eq!(Grant::parse(&other), None, "{other}");
        }
    }
}
