//! R: bring a generation back.

pub mod choose;
pub mod gate;
pub mod selection;
mod unpack;
pub mod write_out;
