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
    // Where no cron looks, and never over another.
    let cron_d = crate::harness::names(file.parent().unwrap());
    assert_eq!(cron_d, ["handover-source"]);
    let root = lab.path("root");
    let kept = root.join(lab.path("state/replaced").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(kept.join("handover-source.1")).unwrap(), changed);
    let again = ours.replace("0 3 * * *", "15 2 * * *");
    fs::write(&file, &again).unwrap();
    cron(&["--force"]);
    assert_eq!(fs::read_to_string(kept.join("handover-source.1")).unwrap(), changed);
    assert_eq!(fs::read_to_string(kept.join("handover-source.2")).unwrap(), again);
    // What an earlier version left there is said.
    fs::write(file.with_file_name("handover-source.old"), &changed).unwrap();
    cron(&[]).says(&["handover-source.old", "move it away"]);

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
fn init_and_authorize_answer_programs_too() {
    let lab = lab();
    let json = |args: &[&str], code| lab.run(&[args, &["--json"]].concat()).exits(code).json();
    let texts = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let root = lab.path("root");
    let cron = ["source", "init", "--schedule", "cron", "--root", root.to_str().unwrap()];
    let dry = json(&[&cron[..], &["--dry-run"]].concat(), 0);
    assert_eq!((&dry["dry_run"], &dry["exit"]), (&true.into(), &"ok".into()), "{dry:#}");
    assert!(texts(&dry["changes"]).iter().any(|text| text.starts_with("make the folder ")), "{dry:#}");
    assert!(texts(&dry["details"]).iter().any(|text| text.contains("0 3 * * * root")), "{dry:#}");
    assert!(!lab.path("home").exists());
    let done = json(&cron, 0);
    assert_eq!((&done["changes"], &done["details"]), (&dry["changes"], &serde_json::json!([])));
    assert!(
        texts(&done["next"]).iter().any(|text| text.contains("handover source authorize FILE")),
        "{done:#}"
    );
    assert_eq!(json(&cron, 0)["changes"], serde_json::json!([]));
    fs::rename(lab.path("home"), lab.path("gone")).unwrap();
    let refused = json(&cron, 14);
    assert!(refused["error"].as_str().unwrap().contains("--new-home"), "{refused:#}");
    assert_eq!(refused["exit"], "storage");
    fs::rename(lab.path("gone"), lab.path("home")).unwrap();
    let sink = json(&["sink", "init", "--user", "daemon"], 0);
    let line = texts(&sink["next"]).into_iter().find(|text| text.starts_with("echo '")).unwrap();
    fs::write(lab.path("key"), line.split('\'').nth(1).unwrap()).unwrap();

    let file = lab.path("let-in");
    let authorize = |more: &[&str], outcome: &str| {
        let args = ["source", "authorize", "key", "--authorized-keys", file.to_str().unwrap()];
        let told = json(&[&args[..], more].concat(), 0);
        assert_eq!((&told["outcome"], &told["channel"]), (&outcome.into(), &"data".into()), "{told:#}");
        assert!(told["fingerprint"].as_str().unwrap().starts_with("SHA256:"), "{told:#}");
        told
    };
    let told = authorize(&["--dry-run"], "added");
    assert!(!lab.path("let-in").exists() && told["dry_run"] == true);
    let told = authorize(&[], "added");
    assert_eq!(lab.text("let-in").trim_end(), told["line"].as_str().unwrap());
    authorize(&[], "already");
    authorize(&["--from", "192.0.2.1"], "replaced");
    authorize(&["--remove"], "removed");
    authorize(&["--remove"], "absent");
}

#[test]
fn what_root_is_to_run_must_be_roots_alone() {
    use std::os::unix::fs::chown;

    let lab = lab();
    let folder = lab.path("opt");
    fs::create_dir(&folder).unwrap();
    let binary = folder.join("handover");
    // By another program: a child of another test that has the file open for writing would keep it from being run.
    assert!(Command::new("cp").arg(HANDOVER).arg(&binary).status().unwrap().success());
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&folder, 0o755);
    mode(&binary, 0o755);
    let root = lab.path("root");
    let run = |args: &[&str]| {
        let mut command = lab.program(binary.to_str().unwrap(), args);
        Ran::new(&command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap())
    };
    let schedule = ["source", "init", "--schedule", "cron", "--root", root.to_str().unwrap()];
    let refused = |fix: &str| {
        for dry in [&["--dry-run"][..], &[]] {
            let ran = run(&[&schedule[..], dry].concat()).exits(10);
            assert!(ran.err.contains(fix) && ran.err.contains("must be root's alone"), "{fix}: {ran:?}");
        }
        assert!(!lab.path("home").exists() && !root.exists(), "something was made: {fix}");
    };
    let config = lab.path("handover.toml");
    let shown = |path: &std::path::Path| path.display().to_string();
    for path in [&binary, &folder, &config] {
        chown(path, Some(65534), Some(65534)).unwrap();
        refused(&format!("-> chown root: {}", shown(path)));
        chown(path, Some(0), Some(0)).unwrap();
        let before = fs::metadata(path).unwrap().mode() & 0o7777;
        for writable in [0o020, 0o002] {
            mode(path, before | writable);
            refused(&format!("-> chmod go-w {}", shown(path)));
        }
        mode(path, before);
    }
    // A link is as good as what it leads to.
    let real = folder.join("real.toml");
    fs::rename(&config, &real).unwrap();
    std::os::unix::fs::symlink(&real, &config).unwrap();
    mode(&real, 0o666);
    refused(&format!("-> chmod go-w {}", shown(&real)));
    // Where nothing is scheduled, nothing of root's names it; the gate's line would.
    run(&["source", "init", "--schedule", "none"]).exits(0);
    mode(&real, 0o644);
    mode(&binary, 0o775);
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA2hKKcYQ0EQ9pVLTnBFpjYXI6nN8VTJcvF3oQm5GmMr sink";
    fs::write(lab.path("key"), key).unwrap();
    let authorize = ["source", "authorize", "key", "--authorized-keys", "keys"];
    run(&authorize).exits(10).says(&["must be root's alone", "chmod go-w"]);
    assert!(!lab.path("keys").exists());
    mode(&binary, 0o755);
    run(&schedule).exits(0);
    assert!(root.join("etc/cron.d/handover-source").exists());
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
