//! README.md, its quick start on one machine: typed as it is written.

use std::path::Path;

use crate::hosts::{Image, Lab};

/// The blocks of a kind in a part of the page.
fn blocks(part: &str, kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    part.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

#[test]
fn the_quick_start_goes_as_the_readme_says() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let part = page.split("## Quick start on one machine").nth(1).expect("the quick start has gone");
    let part = part.split("\n## ").next().unwrap();
    let (scripts, configurations) = (blocks(part, "sh"), blocks(part, "toml"));
    let [build, typed] = &scripts[..] else { panic!("other blocks than to build and to type: {scripts:?}") };
    let [configuration] = &configurations[..] else { panic!("not one configuration: {configurations:?}") };
    assert!(part.contains("`/etc/handover/handover.toml`, with both roles"));

    let lab = Lab::new();
    let host = lab.host("shop", Image::Host);
    // What cargo has built is here already; where the page puts it, it is put.
    assert_eq!(build.lines().next(), Some("cargo build --release"));
    let install = build.lines().nth(1).unwrap().replace("target/release/handover", "/usr/bin/handover");
    host.must(&format!("{install} && rm /usr/bin/handover"));
    // The application that the configuration names.
    host.must("mkdir -p /var/www/shop/cache && echo hello >/var/www/shop/index.html && echo x >/var/www/shop/cache/x");
    host.must("i=0; { echo 'create table t (x);'; while [ $i -lt 99 ]; do i=$((i+1)); echo \"insert into t values ('row $i of a shop');\"; done; } | sqlite3 /srv/shop.db");
    host.put("/etc/handover/handover.toml", configuration.as_bytes(), 0o644);
    let mut lines = 0;
    for line in typed.lines().filter(|line| !line.trim().is_empty()) {
        host.must(line);
        lines += 1;
    }
    assert!(lines >= 8, "only {lines} lines were typed");
    let back = host.must("cat /srv/restored/var/www/shop/index.html").text();
    assert_eq!(back, "hello\n");
    host.must("test ! -e /srv/restored/var/www/shop/cache/x");
    assert!(
        host.must("find /srv/restored -name shop.sql -exec grep -c 'row 99' {} +").text().starts_with('1')
    );
    assert!(host.must("handover sink list shop").text().contains("shop"));
}
