//! The MariaDB recipe of `docs/recipes.md`, as it stands there, with all that a database can hold: it is written to while it is
//! dumped, spoiled, restored, drilled; a promotion is cut.

use std::time::Duration;

use crate::{
    hosts::{Host, Image, Lab},
    pair, recipes,
};

const WAITING: &str = "/home/dataBackupSource/transport-outgoing";

const SCHEMA: &str = "
    create table orders (id int primary key, text varchar(100)) engine=innodb;
    insert into orders select seq, md5(seq) from seq_1_to_20000;
    create table accounts (id int primary key, balance int default 0, transfers int default 0) engine=innodb;
    insert into accounts (id) select seq from seq_1_to_100;
    create table transfers (id int primary key auto_increment, account int not null, amount int, raw varbinary(16),
        foreign key (account) references accounts (id)) engine=innodb;
    create table `odd \"na``me` (`a b` varchar(20)) engine=innodb;
    insert into `odd \"na``me` values ('ünï\\n''quoted''');
    create sequence numbers start with 5;
    create table ticks (at datetime) engine=innodb;
    create view busy as select account, count(*) as n from transfers group by account;
    create view busiest as select max(n) as n from busy;
    create function twice(i int) returns int deterministic return i * 2;
    create event tick on schedule every 1 second do insert into ticks values (now());
    create event never on schedule every 1 second disable do insert into ticks values (null);
    delimiter //
    create trigger counted after insert on transfers for each row begin
        update accounts set transfers = transfers + 1 where id = new.account;
    end //
    create procedure transfer(a int, b int) begin
        start transaction;
        update accounts set balance = balance - 1 where id = a;
        update accounts set balance = balance + 1 where id = b;
        insert into transfers (account, amount, raw) values (a, 1, unhex(md5(rand())));
        commit;
    end //";

/// True at any instant of the load, and so in any whole dump.
const SUMS: &str = "select (select sum(balance) from accounts) = 0 and (select sum(transfers) from accounts) = \
                    (select count(*) from transfers) and (select n from busiest) > 0";
/// What nobody changes.
const FIXED: &str = "checksum table orders, `odd \"na``me`";
/// Everything but tables, by name.
const CODE: &str = "select group_concat(kind, ' ', name order by kind, name separator ', ') from (
    select 'trigger' kind, trigger_name name from information_schema.triggers where trigger_schema = database()
    union all select lower(routine_type), routine_name from information_schema.routines where routine_schema = database()
    union all select 'view', table_name from information_schema.views where table_schema = database()
    union all select lower(concat(status, ' event')), event_name from information_schema.events where event_schema = database()
    union all select lower(table_type), table_name from information_schema.tables
        where table_schema = database() and table_type <> 'VIEW') all_of_it";

fn sql(host: &Host, database: &str, sql: &str) -> String {
    host.put("/root/query.sql", sql.as_bytes(), 0o644);
    let client = "mariadb --batch --skip-column-names --default-character-set=utf8mb4";
    host.must(&format!("{client} {database} </root/query.sql")).text().trim().to_owned()
}

fn bases(host: &Host) -> Vec<String> {
    sql(host, "", "show databases like 'shop%'").lines().map(str::to_owned).collect()
}

/// The one that was live before.
fn kept(host: &Host) -> String {
    let bases = bases(host);
    assert!(bases.len() == 2 && bases[0] == "shop" && bases[1].starts_with("shop_replaced_"), "{bases:?}");
    bases[1].clone()
}

/// A server with the database, and a source with the recipe.
fn shop(lab: &Lab) -> Host {
    let shop = recipes::source(lab, Image::Databases, "mariadb");
    recipes::script(&shop, "mariadb");
    shop.must("service mariadb start");
    sql(&shop, "", "set global event_scheduler = on; create database shop collate utf8mb4_unicode_ci");
    sql(&shop, "shop", SCHEMA);
    shop
}

#[test]
fn a_mariadb_under_load_comes_back_with_all_that_is_in_it() {
    let lab = Lab::new();
    let shop = shop(&lab);
    let (fixed, code) = (sql(&shop, "shop", FIXED), sql(&shop, "shop", CODE));
    let transfer = "call transfer(1 + floor(rand() * 100), 1 + floor(rand() * 100));";
    shop.must(&format!("nohup sh -c \"yes '{transfer}' | mariadb shop\" >/tmp/load 2>&1 &"));
    shop.wait_for(
        "test $(mariadb -Ne 'select count(*) from shop.transfers') -gt 100",
        Duration::from_secs(60),
    );
    let done = |host: &Host| -> u64 { sql(host, "shop", "select count(*) from transfers").parse().unwrap() };
    let before = done(&shop);
    pair::collect(&shop);
    let after = done(&shop);
    let drill = shop.must(&format!("handover --json restore drill --from {WAITING}")).json();
    assert_eq!((&drill["ok"], &drill["elements"][0]["probed"]), (&true.into(), &true.into()), "{drill}");
    assert_eq!(bases(&shop), ["shop"], "a drill leaves nothing");

    // The day: the load ends, a table is gone, the others are spoiled.
    shop.must("pkill yes; while pidof yes; do sleep 0.1; done");
    sql(
        &shop,
        "shop",
        "drop table orders; update accounts set balance = 7; drop view busiest; create table extra (i int);
         create view mine as select i from extra; create procedure other() select 1",
    );
    recipes::deliver(&shop);
    // Whoever asks meanwhile finds every table that is always there.
    shop.must(
        "nohup sh -c 'while [ ! -e /tmp/stop ]; do mariadb shop -e \"select (select count(*) from accounts), (select count(*) from transfers)\" \
         >/dev/null || exit; done; touch /tmp/never-missing' >/tmp/reader 2>&1 &",
    );
    let report = shop.must("handover --json restore --yes").json();
    assert_eq!(report["promoted"], 1, "{report}");
    shop.must("touch /tmp/stop");
    shop.wait_for("test -e /tmp/never-missing || { cat /tmp/reader >&2; false; }", Duration::from_secs(20));
    assert_eq!(sql(&shop, "shop", FIXED), fixed);
    assert_eq!(sql(&shop, "shop", SUMS), "1", "what was loaded is of no single instant");
    assert_eq!(sql(&shop, "shop", CODE), code);
    let count = done(&shop);
    assert!(
        0 < before && before <= count && count <= after && before < after,
        "{before} <= {count} <= {after}"
    );
    println!(
        "MariaDB: dumped with {count} transactions done, between {before} and {after}, and back with: {code}"
    );

    // It works: the trigger counts, the event ticks, keys hold.
    sql(&shop, "shop", "call transfer(1, 2); select nextval(numbers), twice(2)");
    assert_eq!(sql(&shop, "shop", SUMS), "1");
    let ticks = "select count(*) from shop.ticks where at > now() - interval 5 second";
    shop.wait_for(&format!("test $(mariadb -Ne '{ticks}') -gt 0"), Duration::from_secs(60));
    let orphan = shop.run("mariadb shop -e 'delete from accounts'");
    assert!(orphan.stderr.contains("foreign key"), "{orphan:?}");
    // What was live is whole beside it, and asleep.
    let old = kept(&shop);
    assert_eq!(sql(&shop, &old, "select sum(balance), (select count(*) from mine) from accounts"), "700\t0");
    let code = sql(&shop, &old, CODE);
    for there in ["slaveside_disabled event tick", "procedure other", "trigger counted", "view mine"] {
        assert!(code.contains(there), "{code}");
    }
    assert!(!code.contains("orders"), "{code}");
}

#[test]
fn a_mariadb_that_cannot_be_restored_is_left_alone_and_a_cut_promotion_is_finished() {
    let lab = Lab::new();
    let shop = shop(&lab);
    let config = String::from_utf8(shop.get("/etc/handover/handover.toml")).unwrap();
    let dump_by = |command: &str| {
        let line = config.lines().find(|line| line.starts_with("command = ")).unwrap();
        let text = config.replace(line, &format!("command = ['sh', '-c', '{command}']"));
        shop.put("/etc/handover/handover.toml", text.as_bytes(), 0o644);
    };
    let good = pair::collect(&shop);
    let (fixed, code) = (sql(&shop, "shop", FIXED), sql(&shop, "shop", CODE));

    // Right hashes, broken SQL.
    dump_by("mariadb-dump shop | sed s/^INSERT.INTO.*orders/nonsense/");
    // 4: nobody has fetched the one before.
    let collected = shop.run("handover --json source run");
    assert_eq!(collected.code, 4, "{collected:?}");
    let bad = collected.json()["generation"]["id"].clone();
    let listed = shop.must(&format!("handover --json restore list --verify --from {WAITING}")).json();
    assert_eq!(
        (&listed["candidates"][0]["id"], &listed["candidates"][0]["condition"]),
        (&bad, &"whole".into())
    );
    let drill = shop.run(&format!("handover --json restore drill --from {WAITING}"));
    assert_eq!((drill.code, &drill.json()["ok"]), (3, &false.into()), "{drill:?}");
    let restored = shop.run(&format!("handover --json restore --yes --from {WAITING}"));
    assert_eq!(restored.code, 3, "{restored:?}");
    assert!(restored.text().contains("nonsense"), "it does not say why: {restored:?}");
    assert_eq!((bases(&shop), sql(&shop, "shop", FIXED)), (vec!["shop".to_owned()], fixed.clone()));
    assert_eq!(sql(&shop, "shop", CODE), code);

    // A dump that says itself where it goes is refused when it is made.
    dump_by("mariadb-dump --databases shop");
    let done = shop.run("handover source run");
    assert!(done.code == 3 && done.stderr.contains("names a database"), "{done:?}");

    // Killed when the tables are exchanged and nothing else is; then, while that is finished, when all is but the old one.
    shop.put("/etc/handover/handover.toml", config.as_bytes(), 0o644);
    sql(&shop, "shop", "drop table orders");
    let restore = format!("handover restore {good} --yes --from {WAITING}");
    for (at, has_triggers) in [("shop", false), ("shop_replaced_*", true)] {
        let stops = format!(
            "#!/bin/sh\ncase $* in {at}) touch /tmp/there; exec sleep 100 ;; esac\nexec /usr/bin/mariadb \"$@\"\n"
        );
        shop.put("/usr/local/bin/mariadb", stops.as_bytes(), 0o755);
        let cut = shop.run(&format!(
            "rm -f /tmp/there; {restore} & run=$!; while [ ! -e /tmp/there ] && kill -0 $run; do sleep 0.1; done
             kill -9 $run; pkill -KILL -f '/etc/handover/mariadb swap'; wait $run"
        ));
        assert_eq!(cut.code, 137, "{cut:?}");
        shop.must("rm /usr/local/bin/mariadb");
        assert_eq!(sql(&shop, "shop", FIXED), fixed);
        let there = sql(&shop, "shop", CODE);
        assert_eq!(there.contains("trigger"), has_triggers, "it was not cut where it was to be: {there}");
    }
    let finished = shop.must(&restore);
    assert!(finished.stderr.contains("finished"), "{finished:?}");
    assert_eq!((sql(&shop, "shop", FIXED), sql(&shop, "shop", CODE)), (fixed, code));
    kept(&shop);
}
