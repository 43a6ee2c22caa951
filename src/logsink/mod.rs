//! B3: logs. They are fetched, proven and kept by the steps of [`crate::sink`]; here is only what logs have and data have
//! not: the pieces of a log lie in many generations, and are read as one.

pub mod index;
pub mod stream;
