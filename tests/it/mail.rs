//! Mail, alarms, watch and pings, with real servers on loopback.

mod alarms;
mod days;
mod ping;
pub mod server;
mod smtp;
