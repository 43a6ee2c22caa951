//! `handover source` from the outside: what it takes and leaves, what may fail without taking the rest along, what is
//! read again and what never, and what it says when nobody fetches.

mod elements;
mod gone;
mod point;
mod stop;
mod unchanged;
