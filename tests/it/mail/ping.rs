//! Pings, with a real web server that notes what it is asked for.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use super::server::configure;
use crate::harness::{Lab, findings};

const WEB: &str = r#"
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        open(sys.argv[1], "a").write(self.path + " " + body.replace("\n", "|") + "\n")
        self.send_response(500 if "broken" in self.path else 200)
        self.end_headers()
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"#;

struct Web(Child, u16);

impl Web {
    fn start(lab: &Lab) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        let mut child =
            command.args(["-c", WEB]).arg(lab.path("tmp/asked")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim().parse().unwrap())
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Adds pings and takes `[mail]` out.
fn pings(lab: &Lab, all: &[(&str, &str)]) {
    configure(lab, "", "", "smtp://localhost", "");
    let text = lab.text("handover.toml");
    let tables: String = all
        .iter()
        .map(|(role, url)| format!("[[ping]]\nurl = \"{url}\"\nfor = \"{role}\"\ntimeout = \"2s\"\n"))
        .collect();
    lab.config_text(&format!("{}\n{tables}", text.split("[mail]").next().unwrap()));
}

#[test]
fn a_run_tells_that_it_begins_and_that_it_ended_well_or_failed() {
    let lab = Lab::new();
    let web = Web::start(&lab);
    let url = |path: &str| format!("http://127.0.0.1:{}/{path}", web.1);
    pings(&lab, &[("source", &url("one")), ("sink", &url("two?rid=7"))]);
    lab.write("file", "x");
    lab.init();
    lab.source(0);
    lab.sink(0);
    // Nothing is told of what only looks.
    lab.run(&["source", "--dry-run"]).exits(0);
    lab.run(&["sink", "run", "--dry-run"]).exits(0);
    std::fs::rename(lab.path("tree"), lab.path("gone")).unwrap();
    lab.source(3);
    let asked = lab.text("tmp/asked");
    let lines: Vec<&str> = asked.lines().collect();
    let begin =
        ["/one/start ", "/one exit 0 ok||", "/two/start?rid=7 ", "/two?rid=7 exit 0 ok||", "/one/start "];
    assert_eq!(lines[..5], begin, "{asked}");
    assert!(lines.len() == 6 && lines[5].starts_with("/one/fail exit 3 some-failed|www: "), "{asked}");
}

#[test]
fn a_ping_that_fails_is_a_warning_without_its_address_and_fails_no_backup() {
    let lab = Lab::new();
    let web = Web::start(&lab);
    let broken = format!("http://127.0.0.1:{}/broken/secret", web.1);
    pings(&lab, &[("source", &broken), ("source", "http://no-such-host.invalid/secret")]);
    lab.write("file", "x");
    lab.init();
    let report = lab.source(0);
    let said = findings(&report, "warning");
    assert_eq!(said.len(), 4, "{said:#?}");
    assert!(said.iter().all(|line| line.contains("the ping to ") && !line.contains("secret")), "{said:#?}");
    assert!(said[0].contains("500"), "{said:#?}");
    // Three attempts at the beginning, three at the end.
    assert_eq!(lab.text("tmp/asked").lines().count(), 6);
}

#[test]
fn a_ping_that_hangs_is_given_up_in_time_and_fails_no_backup() {
    let lab = Lab::new();
    // It takes connections and never says a word.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/secret", mute.local_addr().unwrap().port());
    pings(&lab, &[("source", &url)]);
    lab.write("file", "x");
    lab.init();
    let start = std::time::Instant::now();
    let report = lab.source(0);
    assert!(report["generation"]["id"].is_string(), "{report:#}");
    let (said, took) = (findings(&report, "warning"), start.elapsed());
    assert!(said.len() == 2 && said.iter().all(|line| line.contains("the ping to ")), "{said:#?}");
    // Three attempts of 2 s at the beginning and three at the end, with pauses.
    assert!(
        took > std::time::Duration::from_secs(2) && took < std::time::Duration::from_secs(60),
        "{took:?}"
    );
    lab.sink(0);
}
