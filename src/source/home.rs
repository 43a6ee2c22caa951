//! What `source init` leaves in the state of a channel: that there is a home, so that it is missed when it is gone.

use std::path::Path;

use super::{collect::Error, delivery::gate_facts, state};
use crate::{
    config,
    manifest::Channel,
    store::handover_point::{HandoverPoint, known},
    sys::Dir,
};

/// Notes in the state of the role (`<state>/source`) that the channel has a home. With `anew`, that the one which is there
/// now is it, whatever was before: lineage and sequence go on.
pub fn note(
    config: &config::Source,
    channel: Channel,
    home: &Path,
    state: &Path,
    anew: bool,
) -> Result<(), Error> {
    Dir::create_all(state, 0o700)?;
    let facts = state::begun(&Dir::create_all(known::state_of(channel, state), 0o700)?)?;
    if anew {
        gate_facts(config, channel, &facts.lineage).write(&HandoverPoint::open(home, channel)?)?;
    }
    Ok(())
}
