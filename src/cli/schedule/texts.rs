//! The units and cron files of `packaging/`, made to fit this host.

use std::path::Path;

use crate::sys;

/// The file, and what stands in it.
pub(super) type Text = (&'static str, &'static str);

macro_rules! units {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../packaging/systemd/", $name)))),*]
    };
}

const SOURCE: [Text; 4] = units![
    "handover-source.service",
    "handover-source.timer",
    "handover-source-watch.service",
    "handover-source-watch.timer",
];
const SINK: [Text; 4] = units![
    "handover-sink.service",
    "handover-sink.timer",
    "handover-sink-watch.service",
    "handover-sink-watch.timer",
];
const LOGSINK: [Text; 4] = units![
    "handover-logsink.service",
    "handover-logsink.timer",
    "handover-logsink-watch.service",
    "handover-logsink-watch.timer",
];
const CRON: [Text; 3] = [
    ("handover-source", include_str!("../../../packaging/cron/handover-source")),
    ("handover-sink", include_str!("../../../packaging/cron/handover-sink")),
    ("handover-logsink", include_str!("../../../packaging/cron/handover-logsink")),
];

/// The configuration's usual place: units name no other one.
pub(super) const CONFIG: &str = "/etc/handover/handover.toml";

/// The units of a role.
pub(super) fn units(role: &str) -> &'static [Text] {
    match role {
        "source" => &SOURCE,
        "sink" => &SINK,
        _ => &LOGSINK,
    }
}

/// The cron file of a role.
pub(super) fn cron(role: &str) -> Text {
    let name = |text: &&Text| text.0.strip_prefix("handover-") == Some(role);
    CRON.iter().find(name).copied().unwrap_or(CRON[0])
}

/// What is different on this host from what the shipped texts say.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Facts<'a> {
    /// `source`, `sink` or `logsink`.
    pub(in crate::cli) role: &'static str,
    /// handover, by its absolute path.
    pub(in crate::cli) handover: &'a Path,
    /// The configuration file.
    pub(in crate::cli) config: &'a Path,
    /// The state folder of all roles.
    pub(in crate::cli) state: &'a Path,
    /// Each usual home, and the one that it is here.
    pub(in crate::cli) homes: Vec<(&'static str, &'a Path)>,
    /// The usual user, and whoever it is here.
    pub(in crate::cli) user: Option<(&'static str, String)>,
}

impl Facts<'_> {
    /// A shipped text with the paths and the user of this host. A path that a unit or a cron line would misread is an
    /// error.
    pub(super) fn fit(&self, text: &str) -> Result<String, String> {
        let handover = word(self.handover)?;
        let config = word(self.config)?;
        let mut text = text.replace("/var/lib/handover", &word(self.state)?);
        for (usual, here) in &self.homes {
            text = text.replace(usual, &word(here)?);
        }
        if let Some((usual, here)) = &self.user {
            let here = word(Path::new(here))?;
            text = text.replace(&format!("={usual}\n"), &format!("={here}\n"));
            text = text.replace(&format!(" {usual} "), &format!(" {here} "));
        }
        let call = if config == CONFIG { handover } else { format!("{handover} --config {config}") };
        text = text.replace("/usr/bin/handover", &call);
        Ok(text.replace(&format!("ConditionPathExists={CONFIG}"), &format!("ConditionPathExists={config}")))
    }
}

/// A path that systemd and cron take as one plain word.
fn word(path: &Path) -> Result<String, String> {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-@".contains(c);
    if text.is_empty() || !text.chars().all(plain) {
        return Err(format!(
            "{} cannot stand in a unit or a cron file: use a path of letters, digits and /._+-@, or --schedule none",
            sys::show(text.as_bytes())
        ));
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(role: &'static str) -> Facts<'static> {
        Facts {
            role,
            handover: Path::new("/usr/bin/handover"),
            config: Path::new(CONFIG),
            state: Path::new("/var/lib/handover"),
            homes: vec![("/home/dataBackupSink", Path::new("/home/dataBackupSink"))],
            user: Some(("dataBackupSink", "dataBackupSink".to_owned())),
        }
    }

    #[test]
    fn on_a_usual_host_the_texts_are_those_of_the_package() {
        for role in ["source", "sink", "logsink"] {
            for (name, text) in units(role).iter().chain([&cron(role)]) {
                assert!(name.starts_with(&format!("handover-{role}")), "{name}");
                assert_eq!(facts(role).fit(text).unwrap(), *text, "{name}");
            }
        }
    }

    #[test]
    fn what_is_elsewhere_on_this_host_is_so_in_its_units() {
        let here = Facts {
            handover: Path::new("/opt/handover"),
            config: Path::new("/srv/h.toml"),
            state: Path::new("/srv/state"),
            homes: vec![("/home/dataBackupSink", Path::new("/srv/backups"))],
            user: Some(("dataBackupSink", "keeper".to_owned())),
            ..facts("sink")
        };
        let unit = here.fit(units("sink")[0].1).unwrap();
        for line in [
            "ConditionPathExists=/srv/h.toml",
            "User=keeper",
            "Group=keeper",
            "ExecStart=/opt/handover --config /srv/h.toml --quiet sink run",
            "BindPaths=/srv/backups",
            "ReadWritePaths=/srv/state/sink",
        ] {
            assert!(unit.lines().any(|l| l == line), "{line} is missing in {unit}");
        }
        assert!(!unit.contains("dataBackupSink") && !unit.contains("/var/lib"), "{unit}");
        let cron = here.fit(cron("sink").1).unwrap();
        assert!(cron.contains("\n0 4 * * * keeper /opt/handover --config /srv/h.toml --quiet sink run\n"));
        for bad in ["/a b", "/a%", "/a\n", ""] {
            assert!(Facts { config: Path::new(bad), ..facts("sink") }.fit("").is_err(), "{bad:?}");
        }
    }
}
