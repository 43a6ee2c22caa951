//! Who means harm: a source in which root is the attacker, whoever has taken over rsync or the transport user, and what
//! becomes of the data of a source that was encrypted. `docs/threat-model.md` says which test shows what.

mod brake;
mod cage;
mod flood;
mod forge;
mod gate;
mod lies;
mod model;
mod steps;
