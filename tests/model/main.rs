//! What is proven by trying all of it: the protocol by a model, retention by a simulated year, the parsers by what
//! nobody would write. See `docs/proofs.md`.
//!
//! `HANDOVER_LONG=1` makes each of them go further.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test builds its world by plain means and fails by panicking; clippy knows tests by their attribute alone and not the helpers beside them"
)]

mod checked;
mod parsers;
#[path = "../it/proof.rs"]
mod proof;
mod protocol;
mod year;

/// Whether to go further than continuous integration does.
fn is_long() -> bool {
    std::env::var_os("HANDOVER_LONG").is_some_and(|value| value == "1")
}
