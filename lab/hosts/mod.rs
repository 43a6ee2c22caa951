//! The lab: hosts as containers, in a network of their own, from images of the binary under test.
//!
//! Everything that is started carries the lab's name, and is removed when its value goes, after a panic too; what a
//! killed run left behind is removed by the next one. Needs Docker: without it a lab fails, and says what is missing.

mod host;
mod images;
mod network;

pub use host::{Done, Home, Host};
pub use images::Image;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use network::Network;

/// A network, and what it takes to start hosts in it.
pub struct Lab {
    network: Arc<Network>,
    _turn: MutexGuard<'static, ()>,
}

/// One lab at a time: what is measured and timed in one is not to depend on another.
static TURN: Mutex<()> = Mutex::new(());

impl Lab {
    /// An empty network of its own.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("handover-lab-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // A test that failed while it held its turn has cleaned up all the same.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self { network: Arc::new(Network::create(&name)), _turn: turn }
    }

    /// The name of its network, and the beginning of the names of all that is in it.
    pub fn name(&self) -> &str {
        &self.network.name
    }

    /// Runs the image that ships with these arguments, until it ends.
    pub fn run_shipped(&self, arguments: &[&str]) -> Done {
        Host::run_once(&self.network, Image::Shipped, arguments)
    }

    /// Starts a host that the others reach as `name` and as `name.example.org`.
    pub fn host(&self, name: &str, image: Image) -> Host {
        self.host_with(name, image, Home::Volume)
    }

    /// The same with another `/home`.
    pub fn host_with(&self, name: &str, image: Image, home: Home<'_>) -> Host {
        Host::start(&self.network, name, image, home)
    }
}
