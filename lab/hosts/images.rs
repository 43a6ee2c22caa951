//! The images of the lab, made once for each state of the binary by `lab/containers`.

use std::{collections::HashMap, path::Path, process::Command, sync::OnceLock};

/// What a host is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Debian with sshd, cron, a log, and handover.
    Host,
    /// The same with PostgreSQL 15, MariaDB 10.11 and nginx, which the tests start.
    Databases,
    /// Debian with sshd, cron and a log, without handover.
    Bare,
    /// The same with a mail server, which `mail-server` starts.
    Mail,
    /// The image that ships, as it is: no host, one command.
    Shipped,
}

impl Image {
    /// Its name and tag.
    pub fn name_and_tag(self) -> (String, String) {
        let key = match self {
            Self::Host => "host",
            Self::Databases => "databases",
            Self::Bare => "bare",
            Self::Mail => "mail",
            Self::Shipped => "shipped",
        };
        let image = images().get(key).unwrap_or_else(|| panic!("lab/containers made no image {key}"));
        let (name, tag) = image.rsplit_once(':').unwrap();
        (name.to_owned(), tag.to_owned())
    }
}

fn images() -> &'static HashMap<String, String> {
    static IMAGES: OnceLock<HashMap<String, String>> = OnceLock::new();
    IMAGES.get_or_init(prepare)
}

/// The binary that cargo built beside this test, in images.
#[expect(clippy::disallowed_methods, reason = "the lab starts programs of its own, not those of handover")]
fn prepare() -> HashMap<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/containers");
    let output = Command::new(script).arg(env!("CARGO_BIN_EXE_handover")).output().unwrap();
    assert!(
        output.status.success(),
        "lab/containers failed; leave the lab out with `lab/test --without-containers`:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
