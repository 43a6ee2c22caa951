//! A database is dumped while it is written to.

use crate::{
    hosts::{Host, Image, Lab},
    pair,
};

const DUMP: &str = r#"
[[source.element]]
name = "db"
kind = "dump"
user = "postgres"
command = ["pg_dump", "--format=custom", "shop"]
file = "shop.dump"
min_size = "1KiB"
check = ["pg_restore", "--list"]
"#;

/// What pgbench keeps true in every transaction: each sum is the same, at any instant, and so in any whole dump.
const SUMS: &str = "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), \
                    (select sum(bbalance) from pgbench_branches), (select coalesce(sum(delta), 0) from pgbench_history)";
/// A table that nobody changes.
const FIXED: &str = "select count(*), md5(string_agg(id || text, chr(10) order by id)) from fixed";

fn query(host: &Host, sql: &str) -> String {
    host.must_as("postgres", &format!("psql --no-psqlrc -At -v ON_ERROR_STOP=1 -d shop -c \"{sql}\"")).text()
}

#[test]
fn a_database_under_load_is_dumped_fetched_and_loaded_elsewhere() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Databases, DUMP);
    let spare = lab.host("spare", Image::Databases);
    let vault = pair::sink(&lab, "vault", "");
    pair::enroll(&vault, &shop);
    for host in [&shop, &spare] {
        host.must("pg_ctlcluster 15 main start");
        host.must_as("postgres", "createdb shop");
    }
    query(&shop, "create table fixed as select id, md5(id::text) as text from generate_series(1, 50000) id");
    shop.must_as("postgres", "pgbench --quiet -i -s 3 shop");
    let fixed = query(&shop, FIXED);
    shop.must_as("postgres", "nohup pgbench --client 2 --time 300 shop >/tmp/pgbench 2>&1 & sleep 2");

    let before: u64 = query(&shop, "select count(*) from pgbench_history").trim().parse().unwrap();
    let id = pair::collect(&shop);
    let after: u64 = query(&shop, "select count(*) from pgbench_history").trim().parse().unwrap();
    shop.must("pkill pgbench");
    assert!(before > 0 && after > before, "there was no load: {before}, {after}");
    pair::fetch(&vault);

    let to = pair::restore(&vault, "shop", &id);
    spare.put("/srv/shop.dump", &vault.get(&format!("{to}/db/shop.dump")), 0o644);
    spare.must_as("postgres", "pg_restore --exit-on-error --dbname=shop /srv/shop.dump");
    assert_eq!(query(&spare, FIXED), fixed, "the table that nobody changed");
    let sums = query(&spare, SUMS);
    let sums: Vec<&str> = sums.trim().split('|').collect();
    assert_eq!(sums.len(), 4);
    assert!(sums.iter().all(|sum| *sum == sums[0]), "the dump is of no single instant: {sums:?}");
    let count: u64 = query(&spare, "select count(*) from pgbench_history").trim().parse().unwrap();
    assert!((before..=after).contains(&count), "{before} <= {count} <= {after}");
    println!("dumped with {count} transactions done, between {before} and {after}");
}

#[test]
fn a_database_that_is_down_fails_the_element_and_the_exit_code_says_so() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Databases, &format!("{DUMP}{}", pair::WWW));
    shop.must("mkdir -p /srv/www && echo hello > /srv/www/index.html");
    let done = shop.run("handover --json source run");
    assert_eq!(done.code, 3, "{done:?}");
    let elements = done.json()["generation"]["elements"].clone();
    assert_eq!((&elements[0]["ok"], &elements[1]["ok"]), (&false.into(), &true.into()), "{elements}");
}
