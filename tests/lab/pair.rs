//! Sources and a sink, set up as an operator sets them up.

use serde_json::Value;

use crate::hosts::{Host, Image, Lab};

/// The user whom the sink runs as.
pub const SINK_USER: &str = "dataBackupSink";
/// The user whom the log sink runs as.
pub const LOGSINK_USER: &str = "logBackupSink";
/// Where the sink keeps what it has of its sources.
pub const STORE: &str = "/home/dataBackupSink/store";

/// Starts a source whose configuration ends so.
pub fn source(lab: &Lab, name: &str, image: Image, elements: &str) -> Host {
    source_on(lab.host(name, image), name, elements)
}

/// Makes a host a source whose configuration ends so.
pub fn source_on(host: Host, name: &str, elements: &str) -> Host {
    let config = format!("[source]\nname = \"{name}\"\nkeep = 2\nreserve = 0\n\n{elements}");
    host.put("/etc/handover/handover.toml", config.as_bytes(), 0o644);
    host.must("handover source init --schedule none");
    host
}

/// An element that is all of `/srv/www`.
pub const WWW: &str = "[[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [\"/srv/www\"]\n";

/// Starts a sink with these lines in its `[sink]`.
pub fn sink(lab: &Lab, name: &str, lines: &str) -> Host {
    sink_on(lab.host(name, Image::Host), lines)
}

/// Makes a host a sink with these lines in its `[sink]`.
pub fn sink_on(host: Host, lines: &str) -> Host {
    let config = format!(
        "[sink]\nkeep = 3\nreserve = 0\nidentity = \"/etc/handover/sink_ed25519\"\n\
         known_hosts = \"/etc/handover/known_hosts\"\n{lines}"
    );
    host.put("/etc/handover/handover.toml", config.as_bytes(), 0o644);
    host.must("handover sink init --schedule none");
    host
}

/// Carries the sink's public key to the source, and the fingerprint of the source's host key to the sink.
pub fn enroll(sink: &Host, source: &Host) {
    authorize(sink, source);
    enroll_only(sink, source);
}

/// Lets the sink in.
pub fn authorize(sink: &Host, source: &Host) {
    source.put("/root/sink.pub", &sink.get("/etc/handover/sink_ed25519.pub"), 0o644);
    source.must("handover source authorize /root/sink.pub");
}

/// Tells the sink of the source.
pub fn enroll_only(sink: &Host, source: &Host) {
    let name = &source.name;
    let fingerprint = fingerprint(source);
    sink.must(&format!("handover sink enroll {name} {name}.example.org --fingerprint {fingerprint}"));
}

/// Sets the log sink up beside the sink, as an operator does: `init`, the key carried over, `enroll`.
pub fn enroll_logs(sink: &Host, source: &Host) {
    let mut config = sink.get("/etc/handover/handover.toml");
    config.extend_from_slice(
        b"\n[logsink]\nreserve = 0\nidentity = \"/etc/handover/logsink_ed25519\"\n\
          known_hosts = \"/etc/handover/known_hosts\"\n",
    );
    sink.put("/etc/handover/handover.toml", &config, 0o644);
    sink.must("handover logsink init --schedule none");
    source.put("/root/logsink.pub", &sink.get("/etc/handover/logsink_ed25519.pub"), 0o644);
    source.must("handover source authorize --channel logs /root/logsink.pub");
    let (name, fingerprint) = (&source.name, fingerprint(source));
    sink.must(&format!("handover logsink enroll {name} {name}.example.org --fingerprint {fingerprint}"));
}

/// Of a source's host key, as an operator reads it there.
pub fn fingerprint(source: &Host) -> String {
    let said = source.must("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").text();
    said.split(' ').nth(1).unwrap().to_owned()
}

/// Collects as cron does, quietly. The generation's id.
pub fn collect(source: &Host) -> String {
    source.must("handover --json source run").json()["generation"]["id"].as_str().unwrap().to_owned()
}

/// Fetches. The report.
pub fn fetch(sink: &Host) -> Value {
    sink.must_as(SINK_USER, "handover --json sink run").json()
}

/// The ids that the sink keeps of a source, in order.
pub fn stored(sink: &Host, source: &str) -> Vec<String> {
    let list = sink.must_as(SINK_USER, &format!("handover --json sink list {source}")).json();
    let is_kept = |row: &&Value| row["state"] != "condemned";
    ids(&list.as_array().unwrap().iter().filter(is_kept).cloned().collect())
}

/// The ids that the sink's retention has condemned, and that can be taken back.
pub fn condemned(sink: &Host, source: &str) -> Vec<String> {
    let list = sink.must_as(SINK_USER, &format!("handover --json sink list {source}")).json();
    ids(&list.as_array().unwrap().iter().filter(|row| row["state"] == "condemned").cloned().collect())
}

/// The ids that the source has kept.
pub fn kept(source: &Host) -> Vec<String> {
    ids(&source.must("handover --json source status").json()["stored"])
}

fn ids(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().unwrap_or_else(|| panic!("no list: {rows}"));
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// All that a tree is, content and attributes.
pub fn manifest(host: &Host, path: &str) -> String {
    host.must(&format!("manifest '{path}'")).text()
}

/// Writes a generation out on the sink's host, in an empty folder. Where.
pub fn restore(sink: &Host, source: &str, id: &str) -> String {
    let to = format!("/srv/restored/{source}-{id}");
    sink.must(&format!("mkdir -p /srv/restored && handover restore {id} --from {STORE}/{source} --to {to}"));
    to
}

/// Fails with the lines that differ.
#[track_caller]
pub fn assert_same(was: &str, is: &str, what: &str) {
    let (old, new): (Vec<_>, Vec<_>) = (was.lines().collect(), is.lines().collect());
    let missing: Vec<_> = old.iter().filter(|line| !new.contains(line)).take(20).collect();
    let extra: Vec<_> = new.iter().filter(|line| !old.contains(line)).take(20).collect();
    assert!(was == is, "{what}: it is not the same; missing: {missing:#?}; too much: {extra:#?}");
}
