//! What `init` installs so that everything runs by itself.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Command,
};

use crate::harness::{HANDOVER, Lab, Ran};

/// A source, and a sink of another user; what is installed goes below `{lab}/root`.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.config_text(
        "state = \"{lab}/state\"\n[source]\nname = \"shop\"\nhome = \"{lab}/home\"\nreserve = \"0B\"\n\
         [[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [\"{lab}/tree\"]\n\
         [source.logs]\nhome = \"{lab}/loghome\"\npaths = [\"{lab}/tree/*.log\"]\n\
         [sink]\nhome = \"{lab}/sink\"\nreserve = \"0B\"\nidentity = \"{lab}/keys/id\"\nknown_hosts = \"{lab}/keys/known\"\n\
         [logsink]\nhome = \"{lab}/logsink\"\nreserve = \"0B\"\nidentity = \"{lab}/keys/logid\"\nknown_hosts = \"{lab}/keys/known\"\n",
    );
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    lab
}

fn init(lab: &Lab, role: &str, more: &[&str]) -> Ran {
    let root = lab.path("root");
    let user: &[&str] = if role == "source" { &[] } else { &["--user", "daemon"] };
    let base = [role, "init", "--root", root.to_str().unwrap()];
    lab.run(&[&base[..], user, more].concat()).exits(0)
}

fn units(lab: &Lab) -> Vec<String> {
    crate::harness::names(&lab.path("root/etc/systemd/system"))
        .into_iter()
        .filter(|name| name.starts_with("handover-"))
        .collect()
}

/// The exposure that systemd computes for a service, in tenths.
fn exposure(lab: &Lab, unit: &str) -> u32 {
    let file = lab.path("root/etc/systemd/system").join(unit);
    let said = Command::new("systemd-analyze")
        .args(["security", "--offline=1", "--no-pager"])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let level =
        said.lines().find_map(|line| line.split_once("Overall exposure level for")).map(|(_, rest)| rest);
    let level = level.and_then(|rest| rest.split(": ").nth(1)).unwrap_or_else(|| panic!("{unit}: {said}"));
    level.split(' ').next().unwrap().replace('.', "").parse().unwrap()
}

#[test]
fn the_units_that_init_installs_are_accepted_by_systemd_and_as_closed_as_the_docs_say() {
    let lab = lab();
    for role in ["source", "sink", "logsink"] {
        let dry = init(&lab, role, &["--schedule", "systemd", "--dry-run"]);
        let unit = lab.path(format!("root/etc/systemd/system/handover-{role}.service"));
        let wrote = format!("would write {} (root's, 0644)", unit.display());
        for word in [wrote.as_str(), "  ExecStart=", "would run systemctl enable"] {
            assert!(dry.err.contains(word), "{word}: {dry:?}");
        }
        assert!(!unit.exists(), "a dry run wrote something");
        init(&lab, role, &["--schedule", "systemd"]);
        // Again: nothing is left to do.
        let again = init(&lab, role, &["--schedule", "systemd"]);
        assert!(again.err.contains("nothing to do"), "{again:?}");
    }
    let units = units(&lab);
    assert_eq!(units.len(), 12, "{units:?}");
    let folder = lab.path("root/etc/systemd/system");
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(units.iter().map(|unit| folder.join(unit)))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("handover")).collect();
    assert_eq!(ours, [""; 0], "systemd-analyze verify");
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/install.md")).unwrap();
    for unit in units.iter().filter(|unit| unit.ends_with(".service")) {
        let text = fs::read_to_string(folder.join(unit)).unwrap();
        let start = format!("ExecStart={HANDOVER} --config {} --quiet", lab.path("handover.toml").display());
        assert!(text.contains(&start), "{unit}: {text}");
        assert_eq!(text.contains("User=daemon"), !unit.contains("source"), "{unit}");
        let level = exposure(&lab, unit);
        let row = page.lines().find_map(|line| line.strip_prefix(&format!("| `{unit}` | ")));
        let row = row.unwrap_or_else(|| panic!("docs/install.md has no row for {unit}"));
        let most: u32 = row.split(' ').next().unwrap().replace('.', "").parse().unwrap();
        assert!(level <= most, "{unit}: {level} tenths, and the page says {most}");
    }
    for timer in units.iter().filter(|unit| unit.ends_with(".timer")) {
        let link = folder.join("timers.target.wants").join(timer);
        assert!(link.symlink_metadata().is_ok(), "{timer} is not enabled");
    }
    assert_ne!(fs::metadata(lab.path("sink")).unwrap().uid(), 0);
}

#[test]
fn what_a_person_changed_stays_until_it_is_forced_and_is_kept_then() {
    let lab = lab();
    let file = lab.path("root/etc/cron.d/handover-source");
    let cron = |more: &[&str]| init(&lab, "source", &[&["--schedule", "cron"][..], more].concat());
    let dry =
        cron(&["--dry-run"]).says(&["handover-source (root's, 0644)", "0 3 * * * root ", "20 * * * * root "]);
    // The home is not there yet, so nobody is let in: what is to be done on the other side is said.
    dry.says(&["handover source authorize FILE", "sink enroll shop "]);
    assert!(!file.exists());
    cron(&[]);
    let ours = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o644);
    assert!(ours.contains(&format!("root {HANDOVER} --config ")), "{ours}");
    cron(&[]).says(&["nothing to do"]);

    let changed = ours.replace("0 3 * * *", "30 1 * * *");
    fs::write(&file, &changed).unwrap();
    cron(&[]).says(&["was left as it is; --force replaces it", "  - 30 1 * * * root", "  + 0 3 * * * root"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), changed);
    cron(&["--force", "--dry-run"]).says(&["would replace", "  - 30 1 * * * root", "  + 0 3 * * * root"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), changed);
    cron(&["--force"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), ours);
    assert_eq!(fs::read_to_string(file.with_file_name("handover-source.old")).unwrap(), changed);

    // What an earlier version wrote, and nobody changed, is renewed without a question.
    let text = lab.text("handover.toml").replace("/state\"", "/state2\"");
    fs::rename(lab.path("handover.toml"), lab.path("other.toml")).unwrap();
    fs::write(lab.path("other.toml"), text).unwrap();
    let other = lab.path("other.toml");
    let args = ["--config", other.to_str().unwrap()];
    cron(&args).says(&["renew ", "an earlier handover wrote"]);
    assert!(fs::read_to_string(&file).unwrap().contains("other.toml"));
}

#[test]
fn units_that_a_package_brought_are_enabled_and_not_written_twice() {
    let lab = lab();
    init(&lab, "source", &["--schedule", "systemd"]);
    // As a package has them: without the line that says whose they are.
    let (etc, shipped) = (lab.path("root/etc/systemd/system"), lab.path("root/usr/lib/systemd/system"));
    fs::create_dir_all(&shipped).unwrap();
    for unit in units(&lab) {
        let text = fs::read_to_string(etc.join(&unit)).unwrap();
        fs::write(shipped.join(&unit), text.split_once('\n').unwrap().1).unwrap();
        fs::remove_file(etc.join(&unit)).unwrap();
    }
    fs::remove_dir_all(etc.join("timers.target.wants")).unwrap();
    let ran = init(&lab, "source", &["--schedule", "systemd"]);
    assert!(!ran.err.contains("write ") && ran.err.contains("run systemctl enable"), "{ran:?}");
    assert_eq!(units(&lab), [""; 0]);
    assert!(etc.join("timers.target.wants/handover-source.timer").symlink_metadata().is_ok());
}

#[test]
fn without_the_usual_place_of_the_configuration_nothing_is_scheduled_unasked() {
    let lab = lab();
    let ran = lab.run(&["source", "init"]).exits(0);
    assert!(
        ran.err.contains("no schedule was installed: the configuration is not /etc/handover/handover.toml")
    );
    // A sink that is root's, as the source is on its host, does not fit the units.
    let lab = Lab::new();
    let root = lab.path("root");
    let args = ["sink", "init", "--schedule", "systemd", "--root", root.to_str().unwrap()];
    lab.run(&args).exits(10).says(&["--schedule cron"]);
}
