//! What status says, and that it is true after crashes: for people, for Nagios, for Prometheus; and what one generation
//! went through.

mod crash;
mod explain;
mod large;
mod monitor;
