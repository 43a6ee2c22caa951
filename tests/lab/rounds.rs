//! B1, B2, R: two sources, one sink, several rounds.

use std::{collections::HashMap, time::Duration};

use crate::{
    hosts::{Host, Image, Lab},
    pair::{self, SINK_USER, WWW},
};

/// All that a file system knows.
pub const SHOP: &str = r#"
mkdir -p '/srv/www/odd names' /srv/www/photos /srv/www/links /srv/www/empty /srv/www/bin /srv/www/shared
cd /srv/www
for i in $(seq 200); do head -c $((i * 137 % 9000)) /dev/urandom > photos/$i.jpg; done
head -c 5000000 /dev/urandom > film
cd 'odd names'
echo a > 'two  spaces'; echo c > "$(printf 'not utf-8 \377\376')"; echo d > -rf; echo e > '*'; echo f > 'back\slash'
echo g > "$(printf 'tab\t"quote')"; echo h > "$(printf '%0250d' 0)"; : > 'empty file'
cd ..
truncate -s 3M sparse; printf x | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none
ln film links/hard; ln film 'odd names/hard too'
ln -s ../film links/relative; ln -s /does/not/exist links/dangling
mkfifo pipe; mknod null c 1 3
cp /bin/true bin/setuid; cp /bin/true bin/capable
chown -R 33:33 photos; chown -h 1234:5678 links/dangling; chown 4242:4343 pipe
chmod 4755 bin/setuid; chmod 3775 shared; chmod 0000 'odd names/-rf'; chmod 0500 empty
setcap cap_net_raw+ep bin/capable
setfattr -n user.note -v kept film; setfattr -n user.binary -v 0x00ff0a empty
setfacl -m u:1234:r,g:99:rw film; setfacl -d -m u:1234:rwx shared
touch -h -d 1999-12-31T23:59:59.123456789Z links/relative links/dangling bin empty photos/7.jpg
"#;

/// Few things, and deep.
const BLOG: &str = r"
mkdir -p /srv/www; cd /srv/www
for i in $(seq 40); do mkdir level-$i; cd level-$i; echo $i > file; done
head -c 100000 /dev/zero | tr '\0' b > /srv/www/same-1; cp /srv/www/same-1 /srv/www/same-2
";

const CHANGES: [&str; 3] = [
    r"cd /srv/www; mv photos pictures; rm pictures/1?.jpg; echo new > pictures/new
      printf changed | dd of=film bs=1 seek=2500000 conv=notrunc status=none",
    r"cd /srv/www; chown 77:88 film; chmod 0600 pictures/20.jpg; setfattr -x user.note film; rm links/hard; ln -sfn film links/relative
      setfacl -b shared; touch -d 2001-01-01T00:00:00.5Z pictures",
    r"cd /srv/www; rm -r 'odd names'; head -c 300000 /dev/urandom > pictures/20.jpg; cp -a film film2; mkdir -p a/b/c",
];

#[test]
fn two_sources_are_fetched_kept_and_brought_back_as_they_were_in_every_round() {
    let lab = Lab::new();
    let (shop, blog) =
        (pair::source(&lab, "shop", Image::Host, WWW), pair::source(&lab, "blog", Image::Host, WWW));
    let vault = pair::sink(&lab, "vault", "");
    pair::enroll(&vault, &shop);
    pair::enroll(&vault, &blog);
    shop.must(SHOP);
    blog.must(BLOG);
    let mut was: HashMap<(&str, String), String> = HashMap::new();
    for round in 0..4 {
        if round > 0 {
            shop.must(CHANGES[round - 1]);
            blog.must(&format!("echo {round} > /srv/www/level-1/round; rm -f /srv/www/same-{round}"));
        }
        for source in [&shop, &blog] {
            let name = source.name.as_str();
            was.insert(
                (if name == "shop" { "shop" } else { "blog" }, pair::collect(source)),
                pair::manifest(source, "/srv/www"),
            );
        }
        let quiet = vault.must_as(SINK_USER, "handover --quiet sink run");
        assert_eq!(quiet.text() + &quiet.stderr, "", "cron would mail this");
    }
    let different: std::collections::HashSet<&String> = was.values().collect();
    assert_eq!(different.len(), 8, "a comparison that sees no change proves nothing");
    for (source, host) in [("shop", &shop), ("blog", &blog)] {
        let all: Vec<String> =
            was.keys().filter(|(name, _)| *name == source).map(|(_, id)| id.clone()).collect();
        let mut all = all;
        all.sort();
        assert_eq!(pair::kept(host), all[2..], "{source}: keep = 2 on the source");
        let stored = pair::stored(&vault, source);
        assert_eq!(stored, all[1..], "{source}: keep = 3 on the sink");
        assert_eq!(pair::condemned(&vault, source), all[..1], "{source}: what went can be taken back");
        for id in stored {
            let to = pair::restore(&vault, source, &id);
            let is = pair::manifest(&vault, &format!("{to}/srv/www"));
            pair::assert_same(&was[&(source, id.clone())], &is, &format!("{source} {id}"));
        }
    }
    the_newest_comes_back_on_a_host_that_was_never_a_source(&lab, &vault, &was);
}

fn the_newest_comes_back_on_a_host_that_was_never_a_source(
    lab: &Lab,
    vault: &crate::hosts::Host,
    was: &HashMap<(&str, String), String>,
) {
    let id = pair::stored(vault, "shop").pop().unwrap();
    let fresh = lab.host("fresh", Image::Host);
    let packed = vault.must(&format!("tar -C {}/shop -c {id}", pair::STORE)).stdout;
    fresh.put("/srv/generation.tar", &packed, 0o600);
    fresh.must(&format!(
        "mkdir /srv/copy && tar -C /srv/copy -xf /srv/generation.tar && handover restore --from /srv/copy/{id} --to /srv/out"
    ));
    pair::assert_same(&was[&("shop", id)], &pair::manifest(&fresh, "/srv/out/srv/www"), "another host");
}

#[test]
fn cron_runs_both_sides_and_says_nothing() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Host, WWW);
    let vault = pair::sink(&lab, "vault", "");
    pair::enroll(&vault, &shop);
    shop.must("mkdir -p /srv/www && echo hello > /srv/www/index.html");
    let was = pair::manifest(&shop, "/srv/www");
    // Each side runs once, the sink a minute after the source: a source that runs again before the sink did has to
    // say so, and nothing here bounds how long a loaded machine takes for its first fetch.
    let (source_at, sink_at) = (minute(&shop, 1), minute(&shop, 2));
    for (host, role, at) in [(&vault, "sink", sink_at), (&shop, "source", source_at)] {
        // No systemd runs here, so cron it is. Only the time is another, and what a command prints, which cron would
        // mail, is kept in a file instead.
        let (init, file) = (format!("handover {role} init"), format!("/etc/cron.d/handover-{role}"));
        assert!(host.run(&init).stderr.contains(&format!("write {file}")));
        host.must(&format!(
            "sed -i 's/^[0-9]* [0-9]* \\(.* run\\)$/{at} \\1 >>\\/tmp\\/mailed 2>\\&1/; /watch$/d' {file}"
        ));
        // It is ours now, and stays so.
        let said = host.run(&init).stderr;
        assert!(said.contains("was left as it is") && said.contains(&format!("- {at} ")), "{said}");
    }
    let waited = vault.wait_for(&format!("ls -d {}/shop/2*Z*", pair::STORE), Duration::from_secs(240));
    println!("cron had both done after {} s", waited.as_secs());
    shop.must("rm /etc/cron.d/handover-source");
    vault.must("rm /etc/cron.d/handover-sink");
    shop.wait_for("test -n \"$(ls /home/dataBackupSource/store)\"", Duration::from_secs(60));
    let id = pair::stored(&vault, "shop").remove(0);
    assert!(pair::kept(&shop).contains(&id));
    let to = pair::restore(&vault, "shop", &id);
    pair::assert_same(&was, &pair::manifest(&vault, &format!("{to}/srv/www")), "what cron brought");
    for host in [&shop, &vault] {
        assert_eq!(host.must("cat /tmp/mailed").text(), "", "{}: cron would mail this", host.name);
    }
}

/// The minute and hour fields of a cron line, so many full minutes after the next one begins (the first leaves cron
/// at least ten seconds to read the line).
fn minute(host: &Host, after: u32) -> String {
    host.must(&format!("date -d \"+10 seconds +{after} minutes\" '+%-M %-H'")).text().trim().to_owned()
}
