//! A service that is stopped while its data is collected.

use std::time::Duration;

use crate::{
    hosts::{Image, Lab},
    pair,
};

/// An element that stops nginx and keeps what this command prints.
fn element(command: &str) -> String {
    format!(
        "[[source.element]]\nname = \"state\"\nkind = \"dump\"\ncommand = [\"sh\", \"-c\", \"{command}\"]\n\
         file = \"state\"\nservices = [\"nginx\"]\n{}",
        pair::WWW
    )
}

const SERVES: &str = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/80; printf \"GET /index.html HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3' | grep hello";
const DOWN: &str = "! bash -c 'exec 3<>/dev/tcp/127.0.0.1/80' 2>/dev/null";

#[test]
fn a_service_is_down_while_its_element_is_collected_and_runs_again_whatever_happens() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Databases, &element("service nginx status || echo is down"));
    let vault = pair::sink(&lab, "vault", "");
    pair::enroll(&vault, &shop);
    shop.must("mkdir -p /srv/www && echo hello > /srv/www/index.html");
    shop.must("sed -i 's|root /var/www/html;|root /srv/www;|' /etc/nginx/sites-enabled/default && service nginx start");
    shop.wait_for(SERVES, Duration::from_secs(60));

    let id = pair::collect(&shop);
    shop.wait_for(SERVES, Duration::from_secs(60));
    pair::fetch(&vault);
    let to = pair::restore(&vault, "shop", &id);
    let state = vault.must(&format!("cat {to}/state/state")).text();
    assert!(state.contains("is down"), "it ran while its element was collected: {state}");

    // Killed while the service is down: it stays down until the next run, which starts it before all else and says so.
    let old = shop.must("cat /etc/handover/handover.toml").text();
    let slow = old.replace("service nginx status || echo is down", "touch /tmp/collecting; sleep 600");
    assert_ne!(old, slow);
    shop.put("/etc/handover/handover.toml", slow.as_bytes(), 0o644);
    shop.must("nohup handover source run >/dev/null 2>&1 &");
    shop.wait_for("test -e /tmp/collecting", Duration::from_secs(60));
    shop.must("pkill -KILL -x handover");
    shop.must(DOWN);
    shop.put("/etc/handover/handover.toml", old.as_bytes(), 0o644);
    let done = shop.run("handover source run");
    assert!(done.stderr.contains("left services stopped; started: nginx"), "{done:?}");
    shop.wait_for(SERVES, Duration::from_secs(60));
}
