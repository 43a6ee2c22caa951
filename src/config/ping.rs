//! `[[ping]]`: addresses that are called when a run begins, ends well or fails, as a dead man's switch elsewhere.

use std::{fmt, time::Duration};

use super::{
    SinkRole,
    table::{Given, Read, Table},
    value,
};

pub(super) const HEADER: &str = "[[ping]]";
pub(super) const KEYS: &[&str] = &["url", "for", "timeout"];

/// An address that is called when a run begins, ends well or fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// The address.
    pub url: PingUrl,
    /// Whose runs.
    pub role: PingRole,
    /// No attempt takes longer.
    pub timeout: Duration,
}

/// The address of a ping. Whoever knows it can send one, so it is a secret: its path is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PingUrl(pub String);

impl fmt::Debug for PingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whose runs a ping tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingRole {
    /// `handover source`.
    Source,
    /// `handover sink`.
    Sink,
    /// `handover logsink`.
    Logsink,
}

impl From<SinkRole> for PingRole {
    fn from(role: SinkRole) -> Self {
        match role {
            SinkRole::Data => Self::Sink,
            SinkRole::Logs => Self::Logsink,
        }
    }
}

impl Ping {
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let why = "it is what is called; write for example url = \"https://hc.example.org/ping/..\"";
        let url = table.required("url", why, url);
        let why = "it says whose runs are told; write for example for = \"source\"";
        let role = table.required("for", why, |given| {
            let words =
                [("source", PingRole::Source), ("sink", PingRole::Sink), ("logsink", PingRole::Logsink)];
            value::word(given, &words)
        });
        let timeout = table.or("timeout", Duration::from_secs(10), value::deadline("10s"));
        Some(Self { url: url?, role: role?, timeout })
    }
}

fn url(given: &Given<'_>) -> Read<PingUrl> {
    let is_web =
        |uri: &ureq::http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    match given.value.as_str().map(|text| (text, text.parse::<ureq::http::Uri>())) {
        Some((text, Ok(uri))) if is_web(&uri) => Ok(PingUrl(text.to_owned())),
        _ => given.expected("an address with https:// or http://", "\"https://hc.example.org/ping/..\""),
    }
}
