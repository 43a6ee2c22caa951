//! `handover sink` from the outside: what crosses the wire, what is proven and what is damaged, what is kept, what goes,
//! and how one looks into the store.

mod damage;
mod fetch;
mod keep;
mod look;
mod operator;
mod retire;
pub mod room;
