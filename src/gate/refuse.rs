//! What the gate says when it says no: for the operator of the sink, with the next step, and nothing about this host
//! that the sink need not know.

use super::protocol::Refused;
use crate::{
    manifest::{GenerationId, Seal},
    store,
};

/// The store here has a problem. Its texts name paths of this home only, and are safe to show.
pub fn store(error: &store::Error) -> Refused {
    Refused(format!("the source has a problem with its own store: {error}"))
}

/// The generation is not here to be sent.
pub fn not_here(id: &GenerationId) -> Refused {
    Refused(format!("generation {id} is neither waiting nor stored here: ask for the offers again"))
}

/// The seal is another one.
pub fn other_seal(id: &GenerationId, seal: &Seal) -> Refused {
    Refused(format!(
        "generation {id} does not have the seal {seal} here: nothing was changed; compare `sink list` with the ledger of \
         the source before either copy is trusted"
    ))
}

/// What came on stdin is no receipt for this generation.
pub fn bad_receipt(id: &GenerationId, why: &str) -> Refused {
    Refused(format!("this is no receipt for generation {id}: {why}"))
}

/// What came on stdin is too long.
pub fn too_long(limit: u64) -> Refused {
    Refused(format!("more than {limit} bytes came on stdin: nothing was changed"))
}

/// What came on stdin cannot be read.
pub fn unreadable(error: &std::io::Error) -> Refused {
    Refused(format!("stdin cannot be read, nothing was changed: {error}"))
}

/// The answer cannot be delivered.
pub fn undelivered(error: &std::io::Error) -> Refused {
    Refused(format!("the answer cannot be delivered: {error}"))
}

/// A request to send where only an answer can be given.
pub fn no_answer() -> Refused {
    Refused("a request to send is answered by rsync, not by a text".to_owned())
}

/// The sender cannot be started.
pub fn unsendable(error: &dyn std::fmt::Display) -> Refused {
    Refused(format!("the source cannot start its sender: {error}"))
}
