//! `[[sink.source]]` and `[[logsink.source]]`: one source that a sink fetches from, and how it is reached.

use std::time::Duration;

use super::{
    Anomaly, Keep, Limits, Place, Sink, SinkRole,
    table::{Given, Read, Table},
    value,
};
use crate::sys::name::Name;

pub(super) const KEYS: &[&str] = &[
    "name",
    "host",
    "port",
    "user",
    "jump",
    "identity",
    "known_hosts",
    "path",
    "keep",
    "alarm_after",
    "bandwidth",
    "limits",
    "anomaly",
];
/// The keys of `[[logsink.source]]`.
pub(super) const LOG_KEYS: &[&str] = KEYS.split_at(KEYS.len() - 1).0;

/// The keys of a role.
pub(super) fn keys(role: SinkRole) -> &'static [&'static str] {
    match role {
        SinkRole::Data => KEYS,
        SinkRole::Logs => LOG_KEYS,
    }
}

/// One source that a sink fetches from; what it does not say itself is the sink's.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkSource {
    /// The name that the source gives itself.
    pub name: Name,
    /// Where it is.
    pub place: Place,
    /// Generations kept of it.
    pub keep: Keep,
    /// Nothing new came for so long: alarm.
    pub alarm_after: Duration,
    /// Bytes in a second; unlimited if there is none.
    pub bandwidth: Option<u64>,
    /// How much is taken from it.
    pub limits: Limits,
    /// What makes a generation of it suspicious.
    pub anomaly: Anomaly,
}

impl SinkSource {
    /// Reads one source; what it leaves out is as the sink says.
    pub(super) fn read(table: &Table<'_>, sink: &Sink) -> Option<Self> {
        let why = "it is the name that the source gives itself; write for example name = \"shop\"";
        let name = table.required("name", why, value::name);
        let place = Place::read(table, sink);
        let source = Self {
            keep: Keep::read(table, sink.role, sink.keep),
            alarm_after: table.or("alarm_after", sink.alarm_after, value::deadline("26h")),
            bandwidth: table.optional("bandwidth", bandwidth).or(sink.bandwidth),
            limits: Limits::read(table, sink.limits),
            anomaly: Anomaly::read(table, sink.role, sink.anomaly),
            name: name?,
            place: place?,
        };
        Some(source)
    }
}

/// Bytes in a second; rsync counts them in units of 1 KiB.
pub(super) fn bandwidth(given: &Given<'_>) -> Read<u64> {
    match value::size(given) {
        Ok(bytes) if bytes < 1024 => {
            Err("less than 1 KiB in a second; write for example bandwidth = \"5MiB\"".to_owned())
        }
        Ok(bytes) => Ok(bytes),
        Err(_) => given.expected("bytes in a second, with kB, MB, GB, KiB, MiB or GiB", "\"5MiB\""),
    }
}
