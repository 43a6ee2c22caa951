//! The worst days: `docs/disaster.md`, typed as it stands there, each of its three situations from the accident to the next backup.

use std::{path::Path, time::Instant};

use crate::{
    hosts::{Host, Image, Lab},
    page::{self, Step},
    pair::{self, SINK_USER, WWW},
    recipes, rounds,
};

/// What every table holds.
const TABLES: [&str; 5] =
    ["fixed", "pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"];
/// True at any instant of the load.
const INVARIANT: &str = "select (select sum(abalance) from pgbench_accounts) = (select sum(tbalance) from pgbench_tellers) and \
                         (select sum(abalance) from pgbench_accounts) = (select coalesce(sum(delta), 0) from pgbench_history)";
const ETC: &str = "[[source.element]]\nname = \"etc\"\nkind = \"tree\"\npaths = [\"/etc/handover\"]\n";
/// What `init` wrote, so that everything runs by itself: no systemd runs in these containers.
const CLOCKS: [(&str, &str); 2] =
    [("source", "/etc/cron.d/handover-source"), ("sink", "/etc/cron.d/handover-sink")];

/// Rows and checksum of every table.
fn sums(host: &Host, database: &str) -> String {
    let of = |table: &str| {
        let sql = format!(
            "select '{table}', count(*), md5(string_agg(t::text, chr(10) order by t::text)) from {table} t"
        );
        recipes::query(host, database, &sql)
    };
    TABLES.map(of).join("\n")
}

/// The two hosts, and what a person at them knows.
struct Night {
    steps: Vec<Step>,
    shop: Host,
    vault: Host,
    id: String,
    seal: String,
    fingerprint: String,
    /// Seconds that each restore into the application took.
    took: Vec<f64>,
}

impl Night {
    fn host(&self, name: &str) -> &Host {
        match name {
            "source" => &self.shop,
            "sink" => &self.vault,
            other => panic!("there is no host {other}"),
        }
    }

    /// Goes on with the situation that was begun, to the end of the block that holds a text.
    fn until(&mut self, text: &str) {
        loop {
            assert!(!self.steps.is_empty(), "the page has no block with {text}");
            let step = self.steps.remove(0);
            let done = matches!(&step, Step::Type { script, .. } if script.contains(text));
            self.take(step);
            if done {
                return;
            }
        }
    }

    fn take(&mut self, step: Step) {
        let variables = format!("ID='{}' SEAL='{}' FINGERPRINT='{}'", self.id, self.seal, self.fingerprint);
        match step {
            Step::Carry { from, to } => {
                let fill = |path: &str| path.replace("$ID", &self.id);
                page::carry((self.host(&from.0), &fill(&from.1)), (self.host(&to.0), &fill(&to.1)));
            }
            Step::Type { on, script } => match on.strip_suffix(", at a terminal") {
                Some(on) => {
                    let start = Instant::now();
                    let said = page::type_at_terminal(self.host(on), &variables, &script, "y");
                    self.took.push(start.elapsed().as_secs_f64());
                    assert!(said.contains("go on? [y/N]") && said.contains(" restored: "), "{said}");
                }
                // What the provider copied while it was moved is torn, and said so.
                None if script.contains("--verify --from") => {
                    let done = self.host(&on).run(&format!("set -eu; {variables}\n{script}"));
                    assert!([0, 13].contains(&done.code), "{done:?}");
                }
                None => {
                    let done = page::type_in(self.host(&on), &variables, &script);
                    if script.contains("ssh-keygen -lf") {
                        self.fingerprint =
                            done.text().lines().last().unwrap().split(' ').nth(1).unwrap().to_owned();
                    }
                    if let Some((_, rest)) = done.stderr.split_once("seal ") {
                        self.seal = rest.split_whitespace().next().unwrap().to_owned();
                    }
                }
            },
        }
    }

    fn begin(&mut self, situation: &str) {
        assert!(self.steps.is_empty(), "not all of the page was typed: {:?}", self.steps);
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/disaster.md")).unwrap();
        let section = text.split("\n## ").find(|section| section.starts_with(situation));
        let section = section.unwrap_or_else(|| panic!("the page has no situation {situation}"));
        self.steps = page::steps(section);
        let typed = self.steps.iter().filter(|step| matches!(step, Step::Type { .. })).count();
        assert_eq!(typed, section.matches("```sh").count(), "a block does not say on which host it is typed");
        self.took.clear();
    }

    /// Whether the clock runs on a host as `init` set it.
    fn runs_by_itself(&self, on: &str) -> bool {
        let (_, file) = CLOCKS.iter().find(|(name, _)| *name == on).unwrap();
        let done = self.host(on).run(&format!("cat {file}"));
        assert_eq!(
            self.host(on).run("ls /etc/cron.d/handover-* | wc -l").text().trim() != "0",
            done.code == 0
        );
        let collects = format!("/usr/bin/handover --quiet {on} run\n");
        assert!(done.code != 0 || done.text().contains(&collects), "{done:?}");
        done.code == 0
    }

    /// A line that is worth looking at.
    fn tell(&self, what: &str, compared: &str) {
        let took = self.took.iter().map(|s| format!("{s:.1} s")).collect::<Vec<_>>().join(" and ");
        println!("{what}\n   generation {}, restored into the application in {took}; {compared}", self.id);
    }
}

/// The same from the provider's copy of the source's own host: its file system, beside what is there now.
fn whole_host(night: &mut Night, files: &str, right: &str) {
    recipes::query(&night.shop, "shop", "drop table fixed");
    night.shop.must("rm -r /srv/www/photos");
    let from = "--from /root/provider/home/dataBackupSource";
    let list = night.shop.run(&format!("handover --json restore list --verify {from}"));
    let rows = list.json()["candidates"].as_array().unwrap().clone();
    let has = |row: &serde_json::Value| row["id"] == night.id.as_str() && row["condition"] == "whole";
    assert!(rows.iter().any(has), "{list:?}");
    let start = Instant::now();
    night.shop.must(&format!("handover restore {} {from} --yes", night.id));
    night.took = vec![start.elapsed().as_secs_f64()];
    assert_eq!(sums(&night.shop, "shop"), right, "every table, row by row");
    pair::assert_same(files, &pair::manifest(&night.shop, "/srv/www"), "file by file");
    night.tell("C. the same from the provider's copy of the source's host", "tables and files the same");
}

fn start_database(host: &Host) {
    host.must("pg_ctlcluster 15 main start");
}

/// The application: a database and files.
fn application(lab: &Lab) -> Host {
    let recipe = recipes::block("toml", "name = \"postgresql\"").split_once("\n\n").unwrap().1;
    let shop = pair::source(lab, "shop", Image::Databases, &format!("{recipe}\n{WWW}\n{ETC}"));
    recipes::script(&shop, "swap-postgresql");
    start_database(&shop);
    shop.must_as("postgres", "createdb shop && pgbench --quiet -i -s 2 shop");
    let fixed = "create table fixed as select id, md5(id::text) as text from generate_series(1, 50000) id";
    recipes::query(&shop, "shop", fixed);
    shop.must(rounds::SHOP);
    shop
}

#[test]
fn three_disasters_end_with_the_application_as_it_was() {
    let lab = Lab::new();
    let (shop, vault) = (application(&lab), pair::sink(&lab, "vault", ""));
    pair::enroll(&vault, &shop);
    // As the operator of `docs/install.md` has it on both hosts.
    shop.must("handover source init");
    vault.must("handover sink init");
    let none = String::new;
    let mut night = Night {
        steps: Vec::new(),
        shop,
        vault,
        id: none(),
        seal: none(),
        fingerprint: none(),
        took: Vec::new(),
    };
    lost_data(&mut night);
    lost_host(&mut night, &lab);
    lost_store(&mut night);
    assert!(night.steps.is_empty(), "not all of the page was typed: {:?}", night.steps);
}

/// A: a table dropped and files deleted under load, and the night's backup has the damage already.
fn lost_data(night: &mut Night) {
    night.shop.must_as("postgres", "nohup pgbench --client 2 --time 600 shop >/tmp/pgbench 2>&1 & sleep 2");
    let files = pair::manifest(&night.shop, "/srv/www");
    let report = night.shop.must("handover --json source run").json();
    night.id = report["generation"]["id"].as_str().unwrap().to_owned();
    let (count, bytes) =
        (&report["generation"]["files"], report["generation"]["bytes"].as_u64().unwrap() / 1_000_000);
    pair::fetch(&night.vault);

    recipes::query(&night.shop, "shop", "drop table fixed");
    night
        .shop
        .must("cd /srv/www; rm -r photos/1* 'odd names'; chmod 777 film; setfattr -x user.binary empty");
    night.shop.must("handover source run");
    pair::fetch(&night.vault);

    night.begin("A. ");
    assert!(night.runs_by_itself("source") && night.runs_by_itself("sink"));
    night.until("--to /root/look");
    assert!(!night.runs_by_itself("source") && !night.runs_by_itself("sink"), "the clock was not stopped");
    let dump = "cat /root/look/postgresql/shop.dump | runuser -u postgres -- pg_restore --exit-on-error --dbname=reference";
    night.shop.must_as("postgres", "createdb reference");
    night.shop.must(dump);
    let right = sums(&night.shop, "reference");
    assert_eq!(recipes::query(&night.shop, "reference", INVARIANT), "t", "the dump is of no single instant");
    assert_eq!(pair::manifest(&night.shop, "/root/look/srv/www"), files);

    night.until("--path /srv/www/photos");
    let photos = |text: &str| {
        text.lines().filter(|line| line.starts_with("photos/")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        photos(&pair::manifest(&night.shop, "/srv/www")),
        photos(&files),
        "the part that was asked for"
    );
    assert!(night.shop.run("test -e '/srv/www/odd names'").code != 0, "more came back than was asked for");

    night.until("handover restore \"$ID\" --from /home/dataBackupSource/store\n");
    assert_eq!(sums(&night.shop, "shop"), right, "every table, row by row");
    pair::assert_same(&files, &pair::manifest(&night.shop, "/srv/www"), "file by file");
    night.tell(
        &format!("A. a table dropped and files deleted under load ({count} files, {bytes} MB, the backup after it damaged too)"),
        &format!(
            "{} tables by checksum as in its dump, {} lines of all attributes the same",
            TABLES.len(),
            files.lines().count()
        ),
    );
    // The application goes on.
    night.shop.must_as("postgres", "pgbench --transactions 10 shop");
    night.until("handover sink run");
    assert!(night.runs_by_itself("source") && night.runs_by_itself("sink"), "the clock stands still");
}

/// B: the host is gone with all that was on it.
fn lost_host(night: &mut Night, lab: &Lab) {
    night.id = pair::kept(&night.shop).pop().unwrap();
    let (files, right) = (pair::manifest(&night.shop, "/srv/www"), sums(&night.shop, "shop"));
    // Its place in the network is free again when it is gone.
    let gone = std::mem::replace(&mut night.shop, lab.host("spare", Image::Bare));
    drop(gone);
    night.shop = lab.host("shop", Image::Databases);
    start_database(&night.shop);
    night.begin("B. ");
    night.until("--trust \"$SEAL\"");
    assert_eq!(night.shop.run("test -e /srv/www").code, 1, "a plan changes nothing");
    assert!(
        !night.runs_by_itself("source") && !night.runs_by_itself("sink"),
        "it collects before it has its data"
    );
    night.until("--trust \"$SEAL\"");
    assert_eq!(sums(&night.shop, "shop"), right, "every table, row by row");
    pair::assert_same(&files, &pair::manifest(&night.shop, "/srv/www"), "file by file");
    night.shop.must_as("postgres", "pgbench --transactions 10 shop");
    night.tell(
        &format!(
            "B. the host is gone; a new one got everything from the sink, trusted by its seal {}…",
            &night.seal[..16]
        ),
        "tables and files the same as on the old host",
    );
    night.until("handover sink run");
    let stored = pair::stored(&night.vault, "shop");
    assert!(stored.last() > Some(&night.id), "the new host's first backup did not arrive: {stored:?}");
    assert!(night.runs_by_itself("source") && night.runs_by_itself("sink"), "the clock stands still");
}

/// C: the store is gone; the provider copied the sink's home file by file, while it was at work.
fn lost_store(night: &mut Night) {
    night.id = pair::stored(&night.vault, "shop").pop().unwrap();
    let (files, right) = (pair::manifest(&night.shop, "/srv/www"), sums(&night.shop, "shop"));
    night.shop.must("handover source run");
    night.vault.run(
        "mkdir /root/away; setpriv --reuid=dataBackupSink --regid=dataBackupSink --clear-groups handover sink run >/dev/null 2>&1 & \
         cp -r /home/dataBackupSink /root/away/provider 2>/dev/null; wait",
    );
    night.vault.must("rm -rf /home/dataBackupSink/* && mv /root/away/provider /root/provider");
    // What the provider copied of the source's host, the day before: owners, modes and times are lost on the way.
    night
        .shop
        .must("mkdir /root/provider && cp -r --parents /home /etc /srv /var/lib/handover /root/provider");
    recipes::query(&night.shop, "shop", "drop table fixed");
    night.shop.must("rm -r /srv/www/*; rm -r /home/dataBackupSource/store/*");

    night.begin("C. ");
    let broken = night.vault.run_as(SINK_USER, "handover sink run");
    assert_eq!(broken.code, 14, "a store that is gone must not look like an empty one: {broken:?}");
    night.until("handover restore list --verify --from /root/provider");
    let held = night.vault.run("handover --json restore list --verify --from /root/provider").json();
    let rows = held["candidates"].as_array().unwrap();
    let whole = rows.iter().filter(|row| row["condition"] == "whole").count();

    night.until("handover restore plan");
    night.until("handover restore \"$ID\"");
    assert_eq!(sums(&night.shop, "shop"), right, "every table, row by row");
    pair::assert_same(&files, &pair::manifest(&night.shop, "/srv/www"), "file by file");
    night.shop.must_as("postgres", "pgbench --transactions 10 shop");
    night.tell(
        &format!(
            "C. the sink's store is gone; of its provider's copy {whole} of {} generations are whole",
            rows.len()
        ),
        "tables and files the same; the sink goes on with that copy as its store",
    );
    whole_host(night, &files, &right);
    // The sink knows its store again, and fetches what came meanwhile.
    night.shop.must("handover source run");
    let waiting = night.shop.must("ls /home/dataBackupSource/transport-outgoing").text();
    night.until("handover sink run");
    let stored = pair::stored(&night.vault, "shop");
    assert!(
        stored.contains(&night.id) && stored.last().map(String::as_str) == waiting.lines().last(),
        "{stored:?}, {waiting}"
    );
}
