//! The recipes of `docs/recipes.md`, as they stand there, against the real thing.

use crate::{
    hosts::{Host, Image, Lab},
    pair,
};

const PAGE: &str = include_str!("../../docs/recipes.md");

/// The block of a kind that holds a text.
pub fn block(kind: &str, holds: &str) -> &'static str {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    let found = blocks.filter_map(|b| b.strip_prefix(kind)?.strip_prefix('\n')).find(|b| b.contains(holds));
    found.unwrap_or_else(|| panic!("docs/recipes.md has no block with {holds}"))
}

/// A source with the element of a recipe.
pub fn source(lab: &Lab, image: Image, element: &str) -> Host {
    let text = block("toml", &format!("name = \"{element}\""));
    pair::source(lab, "shop", image, text.split_once("\n\n").unwrap().1)
}

pub fn script(host: &Host, name: &str) {
    host.put(
        &format!("/etc/handover/{name}"),
        block("sh", &format!("/etc/handover/{name}")).as_bytes(),
        0o755,
    );
}

/// Puts what waits into the drop point.
pub fn deliver(host: &Host) {
    host.must("cp -r /home/dataBackupSource/transport-outgoing/2* /home/dataBackupSource/restore/");
}

pub fn query(host: &Host, database: &str, sql: &str) -> String {
    let psql = format!("psql --no-psqlrc -At -v ON_ERROR_STOP=1 -d {database} -c \"{sql}\"");
    host.must_as("postgres", &psql).text().trim().to_owned()
}

const BASES: &str =
    "select string_agg(datname, ' ' order by datname) from pg_database where not datistemplate";

#[test]
fn postgresql() {
    let lab = Lab::new();
    let shop = source(&lab, Image::Databases, "postgresql");
    script(&shop, "swap-postgresql");
    shop.must("pg_ctlcluster 15 main start");
    shop.must_as("postgres", "createdb shop && pgbench --quiet -i -s 3 shop");
    query(
        &shop,
        "shop",
        "create table fixed as select id, md5(id::text) as text from generate_series(1, 50000) id",
    );
    let sum = "select count(*), md5(string_agg(id || text, chr(10) order by id)) from fixed";
    let fixed = query(&shop, "shop", sum);
    shop.must_as("postgres", "nohup pgbench --client 2 --time 300 shop >/tmp/pgbench 2>&1 & sleep 2");
    pair::collect(&shop);
    // A drill while all is well, under load: nothing of it is left.
    let drill =
        shop.must("handover --json restore drill --from /home/dataBackupSource/transport-outgoing").json();
    assert_eq!((&drill["ok"], &drill["elements"][0]["probed"]), (&true.into(), &true.into()), "{drill}");
    assert_eq!(query(&shop, "postgres", BASES), "postgres shop");
    // The day: a table is gone, and the load goes on.
    query(&shop, "shop", "drop table fixed");
    deliver(&shop);
    let report = shop.must("handover --json restore --yes").json();
    assert_eq!(report["promoted"], 1, "{report}");
    assert_eq!(query(&shop, "shop", sum), fixed);
    let bases = query(&shop, "postgres", BASES);
    let kept =
        bases.split(' ').find(|name| name.starts_with("shop_replaced_")).unwrap_or_else(|| panic!("{bases}"));
    assert_eq!(bases.split(' ').count(), 3, "{bases}");
    assert!(query(&shop, kept, "select count(*) from pgbench_accounts").parse::<u64>().unwrap() > 0);
    let sums = query(
        &shop,
        "shop",
        "select (select sum(abalance) from pgbench_accounts) = (select coalesce(sum(delta), 0) from pgbench_history)",
    );
    assert_eq!(sums, "t", "what was loaded is of no single instant");
    shop.must("handover restore clean --yes");
    shop.must("pkill pgbench || true");
    // A dump that does not load: the live one goes on.
    shop.must("sed -i 's/from pgbench_accounts/from nowhere/' /etc/handover/handover.toml");
    let before = query(&shop, "postgres", BASES);
    let done = shop.run("handover --json restore --yes --from /home/dataBackupSource/transport-outgoing");
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!((query(&shop, "postgres", BASES), query(&shop, "shop", sum)), (before, fixed));
}

#[test]
fn sqlite() {
    let lab = Lab::new();
    let shop = source(&lab, Image::Host, "sqlite");
    script(&shop, "swap-sqlite");
    shop.must(
        "mkdir /srv/app && cd /srv/app && sqlite3 app.db 'pragma journal_mode = wal; create table t (a, b); \
         insert into t values (1, 1)' && chown nobody: app.db && chmod 640 app.db",
    );
    // Both columns grow together, in one transaction each: any whole state has the same sums.
    let writer = "while [ ! -e /tmp/stop ]; do sqlite3 /srv/app/app.db '.timeout 10000' \
                  'begin; insert into t values (random() % 1000, 0); update t set b = a where b = 0; commit'; done; touch /tmp/stopped";
    shop.must(&format!("nohup sh -c \"{writer}\" >/tmp/writer 2>&1 & sleep 2"));
    let sums = "sqlite3 /srv/app/app.db 'select count(*) > 1, sum(a) = sum(b) from t'";
    pair::collect(&shop);
    let drill =
        shop.must("handover --json restore drill --from /home/dataBackupSource/transport-outgoing").json();
    assert_eq!(drill["ok"], true, "{drill}");
    shop.must("touch /tmp/stop; while [ ! -e /tmp/stopped ]; do sleep 0.1; done");
    shop.must("sqlite3 /srv/app/app.db 'delete from t'");
    deliver(&shop);
    let report = shop.must("handover --json restore --yes").json();
    assert_eq!(report["promoted"], 1, "{report}");
    assert_eq!(shop.must(sums).text().trim(), "1|1");
    assert_eq!(shop.must("stat -c '%U %a' /srv/app/app.db").text().trim(), "nobody 640");
    assert_eq!(shop.must("sqlite3 /srv/app/app.db.replaced-* 'select count(*) from t'").text().trim(), "0");
    assert_eq!(shop.must("ls /srv/app").text().lines().filter(|name| name.contains("_handover_")).count(), 0);
}

#[test]
fn a_directory_with_a_service() {
    let lab = Lab::new();
    let shop = source(&lab, Image::Databases, "site");
    shop.must(
        "mkdir -p /srv/site/cache && echo old >/srv/site/index.html && echo hot >/srv/site/cache/c && chown -R www-data: /srv/site && \
         echo 'server { listen 80; root /srv/site; }' >/etc/nginx/sites-enabled/default && service nginx start",
    );
    let page = "exec 3<>/dev/tcp/127.0.0.1/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3";
    let served = |shop: &Host| shop.must(&format!("bash -c \"{page}\"")).text().trim().to_owned();
    let before = pair::manifest(&shop, "/srv/site");
    pair::collect(&shop);
    let drill =
        shop.must("handover --json restore drill --from /home/dataBackupSource/transport-outgoing").json();
    assert_eq!(drill["ok"], true, "{drill}");
    shop.must("rm /srv/site/index.html && echo new >/srv/site/index.html && touch /srv/site/more");
    assert_eq!(served(&shop), "new");
    deliver(&shop);
    let report = shop.must("handover --json restore --yes").json();
    assert_eq!((&report["exchanged"], &report["in_place"]), (&1.into(), &0.into()), "{report}");
    assert_eq!(served(&shop), "old");
    // What was carried over has a second name in what is kept.
    shop.must("handover restore clean --yes");
    pair::assert_same(&before, &pair::manifest(&shop, "/srv/site"), "the directory");
}
