//! What needs several hosts: two or three containers, real ssh, real rsync, real cron, real databases.
//!
//! Docker must be there: a missing one fails these tests. `lab/test --without-containers` leaves them out.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test fails by panicking; clippy knows tests by their attribute alone and not the helpers beside them"
)]

#[path = "../../lab/hosts/mod.rs"]
mod hosts;
mod pair;
#[path = "../it/proof.rs"]
mod proof;

mod bad_days;
mod bench;
mod confined;
mod cut;
mod database;
mod deb;
mod disaster;
mod enroll;
mod image;
mod logs;
mod lost;
mod mail;
mod mariadb;
mod operations;
mod page;
mod quick_start;
mod recipes;
mod rounds;
mod service;
mod start;
mod tour;
