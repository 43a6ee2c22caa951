//! The image that ships, run as docs/container.md says: a source with few capabilities, and a sink with none.
#![expect(
    clippy::disallowed_methods,
    reason = "the lab writes files and starts programs of its own, not those of handover"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::hosts::{Image, Lab};

const PATIENCE: Duration = Duration::from_secs(120);
/// As docs/container.md has it, each with its reason.
const SOURCE: &str = "--read-only --security-opt no-new-privileges --tmpfs /run --cap-drop ALL --cap-add CHOWN \
                      --cap-add DAC_OVERRIDE --cap-add FOWNER --cap-add KILL --cap-add SETGID --cap-add SETUID \
                      --cap-add SYS_CHROOT";
const SINK: &str = "--read-only --security-opt no-new-privileges --cap-drop ALL --user 1234:1234";

/// Docker's own client, as an operator types it.
fn docker(line: &str) -> (bool, String) {
    let output = Command::new("docker").args(line.split_whitespace()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn must(line: &str) -> String {
    let (well, said) = docker(line);
    assert!(well, "docker {line}\n{said}");
    said
}

#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> (bool, String)) -> Duration {
    let start = Instant::now();
    loop {
        let (so, said) = is_so();
        if so {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "not so: {what}\n{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Containers and volumes of this test, which go with it.
struct Appliances {
    name: String,
    folder: tempfile::TempDir,
    image: String,
}

impl Drop for Appliances {
    fn drop(&mut self) {
        for role in ["source", "sink"] {
            docker(&format!("rm --force {0}-{role}", self.name));
            docker(&format!("volume rm --force {0}-{role}", self.name));
        }
    }
}

impl Appliances {
    fn new(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (name, tag) = Image::Shipped.name_and_tag();
        for part in ["source", "sink", "www"] {
            fs::create_dir(folder.path().join(part)).unwrap();
        }
        let sink = folder.path().join("sink");
        std::os::unix::fs::chown(&sink, Some(1234), Some(1234)).unwrap();
        Self { name: lab.name().to_owned(), folder, image: format!("{name}:{tag}") }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// `docker run` up to the command of handover; the configuration can be written only while it is set up.
    fn run(&self, role: &str, how: &str, mode: &str, command: &str) -> String {
        let (name, folder, process) = (&self.name, self.folder.path().display(), std::process::id());
        let of_role = if role == "source" { SOURCE } else { SINK };
        must(&format!(
            "run {how} --network {name} --network-alias {role} --label handover.lab.process={process} {of_role} \
             --volume {name}-{role}:/home --volume {folder}/{role}:/etc/handover:{mode} \
             --volume {folder}/www:/srv/www:ro {} {role} {command}",
            self.image
        ))
    }

    fn start(&self, role: &str) -> Duration {
        let begun = Instant::now();
        let how = format!("--detach --name {}-{role} --health-interval 1s --health-retries 1", self.name);
        self.run(role, &how, "ro", "daemon");
        self.wait_for_log(role, "daemon: next run");
        begun.elapsed()
    }

    fn wait_for_log(&self, role: &str, text: &str) {
        wait_for(text, || {
            let said = must(&format!("logs {}-{role}", self.name));
            (said.contains(text), said)
        });
    }

    /// Stops it; it must end by itself before Docker ends it.
    fn stop(&self, role: &str) {
        must(&format!("stop --time 10 {}-{role}", self.name));
        let code = must(&format!("inspect --format={{{{.State.ExitCode}}}} {}-{role}", self.name));
        assert_eq!(code.trim(), "0", "{role} had to be killed");
    }

    fn exec(&self, role: &str, line: &str) -> String {
        must(&format!("exec {}-{role} {line}", self.name))
    }

    fn becomes(&self, role: &str, health: &str) {
        wait_for(health, || {
            let said = must(&format!("inspect --format={{{{.State.Health.Status}}}} {}-{role}", self.name));
            (said.trim() == health, said)
        });
    }

    fn configure(&self, role: &str, text: &str) {
        let file = self.path(role).join("handover.toml");
        fs::write(&file, text).unwrap();
        std::os::unix::fs::chown(&file, Some(1234), Some(1234)).unwrap();
    }

    fn stored(&self) -> usize {
        let (well, said) = docker(&format!("exec {}-sink ls /home/dataBackupSink/store/shop", self.name));
        if well { said.lines().filter(|line| !line.starts_with('.')).count() } else { 0 }
    }
}

fn write_www(www: &Path, name: &str, bytes: &[u8]) {
    fs::write(www.join(name), bytes).unwrap();
    std::os::unix::fs::chown(www.join(name), Some(1234), Some(1234)).unwrap();
}

const SHOP: &str = "[source]\nname = \"shop\"\nreserve = 0\nevery = \"4s\"\n\
                    [[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [\"/srv/www\"]\n";
const VAULT: &str = "[sink]\nreserve = 0\nevery = \"2s\"\nalarm_after = \"30s\"\nsandbox = \"required\"\n\
                     identity = \"/etc/handover/sink_ed25519\"\nknown_hosts = \"/etc/handover/known_hosts\"\n";

#[test]
fn the_image_is_a_source_and_a_sink_without_privileges_that_pull_on_schedule_stop_and_resume() {
    let lab = Lab::new();
    let all = Appliances::new(&lab);
    let www = all.path("www");
    write_www(&www, "index.html", b"hello");
    all.configure("source", SHOP);
    all.configure("sink", VAULT);
    all.run("sink", "--rm", "rw", "init --schedule none");
    fs::copy(all.path("sink/sink_ed25519.pub"), all.path("source/sink_keys")).unwrap();
    all.run("source", "--rm", "rw", "init --schedule none");
    let starting = all.start("source");
    let log = must(&format!("logs {}-source", all.name));
    let fingerprint = log.lines().find_map(|line| line.split_once("host key ")).unwrap().1.to_owned();
    all.run("sink", "--rm", "rw", &format!("enroll shop source --port 2222 --fingerprint {fingerprint}"));
    all.start("sink");
    wait_for("two generations are stored", || (all.stored() >= 2, String::new()));
    all.becomes("source", "healthy");
    all.becomes("sink", "healthy");
    let memory = must(&format!(
        "stats --no-stream --format={{{{.Name}}}}:{{{{.MemUsage}}}} {0}-source {0}-sink",
        all.name
    ));

    // In the middle of a transfer both are stopped, and both go on where they were.
    all.stop("sink");
    let enrolled = fs::read_to_string(all.path("sink/handover.toml")).unwrap();
    all.configure("sink", &enrolled.replace("reserve = 0", "reserve = 0\nbandwidth = \"1MiB\""));
    let film: Vec<u8> = (0..24_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    write_www(&www, "film", &film);
    must(&format!("start {}-sink", all.name));
    wait_for("a part of it has arrived", || {
        let said = all.exec("sink", "du -sk /home/dataBackupSink/incoming");
        let size: u64 = said.split_whitespace().next().unwrap().parse().unwrap();
        (size > 2000, said)
    });
    all.stop("sink");
    all.stop("source");
    all.configure("sink", &enrolled);
    must(&format!("start {}-source", all.name));
    must(&format!("start {}-sink", all.name));
    wait_for("the film is stored", || {
        docker(&format!("exec {}-sink handover sink dump shop newest www/srv/www/film --quiet", all.name))
    });
    let restore = "handover restore newest --from /home/dataBackupSink/store/shop --to /home/restored";
    all.exec("sink", restore);
    must(&format!("cp {}-sink:/home/restored/srv/www/film {}", all.name, all.path("back").display()));
    assert!(fs::read(all.path("back")).unwrap() == film, "another film came back");

    all.stop("source");
    all.becomes("sink", "unhealthy");
    let size = must(&format!("image inspect --format={{{{.Size}}}} {}", all.image));
    println!(
        "image: {} bytes; started in {starting:?}; idle: {}",
        size.trim(),
        memory.trim().replace('\n', ", ")
    );
}

/// The first block of docs/container.md that begins so.
fn block(begins: &str) -> String {
    let page = include_str!("../../docs/container.md");
    let from = page.find(&format!("```{begins}")).expect("the page has lost its block");
    let text = page[from..].split_once('\n').unwrap().1;
    text[..text.find("```").unwrap()].to_owned()
}

#[test]
fn an_image_with_the_client_of_a_database_dumps_it_over_tcp() {
    let lab = Lab::new();
    let db = lab.host("db", Image::Databases);
    db.must(
        "echo \"listen_addresses = '*'\" >>/etc/postgresql/15/main/postgresql.conf
         echo 'host shop backup all scram-sha-256' >>/etc/postgresql/15/main/pg_hba.conf
         pg_ctlcluster 15 main start",
    );
    db.must_as("postgres", "createdb shop && psql -d shop -c \"create role backup login superuser password 'secret'\" \
                            -c 'create table fixed as select id, md5(id::text) from generate_series(1, 5000) id'");

    let mut all = Appliances::new(&lab);
    let derived = format!("{}-with-client", all.name);
    fs::write(
        all.path("Dockerfile"),
        block("dockerfile").replace("FROM handover", &format!("FROM {}", all.image)),
    )
    .unwrap();
    must(&format!("build --quiet --tag {derived} {}", all.folder.path().display()));
    all.image = derived;
    let configuration = block("toml\n[source]").replacen("\n\n", "\nreserve = 0\n\n", 1);
    fs::write(all.path("source/handover.toml"), configuration).unwrap();
    fs::write(all.path("source/pgpass"), "db:5432:shop:backup:secret\n").unwrap();
    fs::set_permissions(all.path("source/pgpass"), fs::Permissions::from_mode(0o600)).unwrap();
    all.run("source", "--rm", "rw", "init --schedule none");
    all.run("source", "--rm", "ro", "run");

    let waiting =
        format!("run --rm --network none --entrypoint sh --volume {0}-source:/home {1}", all.name, all.image);
    let listing = Command::new("docker")
        .args(waiting.split_whitespace())
        .args(["-c", "pg_restore --list /home/dataBackupSource/transport-outgoing/*/data/db/shop.dump"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[listing.stdout, listing.stderr].concat()).into_owned();
    assert!(
        said.contains("TABLE DATA public fixed backup") || said.contains("TABLE DATA public fixed postgres"),
        "{said}"
    );
    must(&format!("rmi {}", all.image));
}

#[test]
fn the_image_says_what_it_is_and_completes_in_three_shells() {
    let lab = Lab::new();
    let (name, tag) = Image::Shipped.name_and_tag();
    let label = |key: &str| {
        let format = format!("{{{{index .Config.Labels \"org.opencontainers.image.{key}\"}}}}");
        let image = format!("{name}:{tag}");
        let output = Command::new("docker").args(["image", "inspect", "--format", &format, &image]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    };
    assert_eq!(label("title"), "handover");
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    let created = label("created");
    assert!(created.len() == 20 && created.starts_with("20") && created.ends_with('Z'), "{created}");
    let revision = label("revision");
    assert!(revision == "unknown" || revision.len() == 40, "{revision}");
    for file in [
        "/usr/share/bash-completion/completions/handover",
        "/usr/share/zsh/vendor-completions/_handover",
        "/usr/share/fish/vendor_completions.d/handover.fish",
    ] {
        let process = std::process::id();
        let said = must(&format!(
            "run --rm --label handover.lab.process={process} --network {} --entrypoint cat {name}:{tag} {file}",
            lab.name()
        ));
        assert!(said.contains("handover") && said.lines().count() > 50, "{file}: {said}");
    }
}

/// The services of a compose file as `config` prints them: name, and the lines of each.
fn services(printed: &str) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    let inside = printed.lines().skip_while(|line| *line != "services:").skip(1);
    for line in inside.take_while(|line| line.starts_with(' ')) {
        match line.strip_prefix("  ").filter(|rest| !rest.starts_with([' ', '-'])) {
            Some(name) => all.push((name.trim_end_matches(':').to_owned(), Vec::new())),
            None => all.last_mut().unwrap().1.push(line.trim().to_owned()),
        }
    }
    all
}

#[test]
fn the_compose_file_is_read_by_compose_and_gives_no_more_than_the_page_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/compose.yaml");
    let file = file.to_str().unwrap();
    let ways: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
    let Some(way) = ways.into_iter().find(|way| {
        let found = Command::new(way[0]).args(&way[1..]).arg("version").output();
        found.is_ok_and(|output| output.status.success())
    }) else {
        println!(
            "LEFT OUT: neither `docker compose` nor docker-compose is here: docker/compose.yaml was not read"
        );
        return;
    };
    let output = Command::new(way[0]).args(&way[1..]).args(["-f", file, "config"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let services = services(&printed);
    assert_eq!(
        services.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["shop", "vault"],
        "{printed}"
    );
    for (name, lines) in &services {
        let run = if name == "shop" { SOURCE } else { SINK };
        let has = |text: &str| lines.iter().any(|line| line.replace(['"', '\''], "") == text);
        // What docs/container.md gives to `docker run`, and nothing beside it.
        let mut capabilities = Vec::new();
        for (option, value) in run.split_whitespace().zip(run.split_whitespace().skip(1)) {
            match option {
                "--cap-add" => capabilities.push(value),
                "--user" => assert!(has(&format!("user: {value}")), "{name}: {option} {value}: {lines:?}"),
                "--cap-drop" | "--security-opt" | "--tmpfs" => {
                    let value = value.replace("no-new-privileges:true", "no-new-privileges");
                    assert!(has(&format!("- {value}")), "{name}: {option} {value}: {lines:?}");
                }
                _ => {}
            }
        }
        assert!(has("read_only: true"), "{name}: {lines:?}");
        let given = lines.iter().position(|line| line == "cap_add:");
        let given: Vec<&str> = given.map_or_else(Vec::new, |at| {
            lines[at + 1..].iter().map_while(|line| line.strip_prefix("- ")).collect()
        });
        assert_eq!(given, capabilities, "{name}");
    }
}
