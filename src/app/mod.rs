//! The application's side: its services, hooks and commands.

pub mod hooks;
pub mod services;
pub mod unfinished;
