//! What of this host makes a transport less safe than it could be: told once in a run.

use crate::{
    remote::{
        self, Tools,
        rsync::{self, Verdict, Version},
    },
    report::{Finding, Kind},
    sys::sandbox::{self, Support},
};

/// What is to be said of the kernel and of rsync here.
pub(super) fn findings(tools: &Tools) -> Vec<Finding> {
    let version = rsync::version(&tools.rsync);
    judge(sandbox::support(), &version, tools.sandbox_required)
}

fn judge(support: Support, version: &remote::Result<Version>, required: bool) -> Vec<Finding> {
    let kernel = support.warning().map(|text| {
        let missing = required && support.landlock_abi.is_none();
        let kind = if missing { Kind::Configuration } else { Kind::Warning };
        let fix = if missing {
            "use a kernel with Landlock (5.13 or newer, switched on), or write sandbox = \"auto\""
        } else {
            "use a kernel with Landlock of version 6 (Linux 6.12 or newer)"
        };
        Finding::new(kind, "sandbox", text).with_fix(fix)
    });
    let verdict = version.as_ref().map(|version| version.verdict());
    let rsync = match verdict {
        Ok(Verdict::Good) => None,
        Ok(Verdict::Warn(text)) => Some((Kind::Warning, text)),
        Ok(Verdict::Refuse(text)) => Some((Kind::Configuration, text)),
        Err(e) => Some((Kind::Configuration, e.to_string())),
    };
    let fix = "install a newer rsync here; `handover check --live` shows which one is found";
    let rsync = rsync.map(|(kind, text)| Finding::new(kind, "rsync", text).with_fix(fix));
    kernel.into_iter().chain(rsync).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(abi: Option<u32>, version: Version, required: bool) -> Vec<(String, Kind)> {
        let found = judge(Support { landlock_abi: abi }, &Ok(version), required);
        assert!(found.iter().all(|f| f.fix.is_some()));
        found.into_iter().map(|f| (f.subject, f.kind)).collect()
    }

    #[test]
    fn what_is_missing_is_a_warning_and_an_error_where_it_is_required() {
        let warned = |what: &str| vec![(what.to_owned(), Kind::Warning)];
        let refused = |what: &str| vec![(what.to_owned(), Kind::Configuration)];
        assert_eq!(kinds(Some(6), Version::SAFE, true), []);
        assert_eq!(kinds(None, Version::SAFE, false), warned("sandbox"));
        assert_eq!(kinds(None, Version::SAFE, true), refused("sandbox"));
        assert_eq!(kinds(Some(6), Version(3, 2, 7), true), warned("rsync"));
        assert_eq!(kinds(Some(6), Version(3, 2, 4), false), refused("rsync"));
        assert_eq!(kinds(Some(3), Version(3, 2, 7), true).len(), 2);
    }
}
