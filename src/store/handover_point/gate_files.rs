//! Files in `gate/`: what root tells the gate. The transport user reads them and can change none.

use super::{HandoverPoint, owned};
use crate::{
    store::Result,
    sys::{Dir, durable},
};

const MODE: u32 = 0o640;

impl HandoverPoint {
    /// Writes a whole file that the gate may read.
    pub fn tell_gate(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(owned::write(&self.gate, name, bytes, MODE, self.new_file_owner())?)
    }

    /// Appends a line to a file that the gate may read. Beyond `limit` bytes the older half of the lines is dropped.
    pub fn tell_gate_more(&self, name: &str, line: &str, limit: u64) -> Result<()> {
        match self.gate.stat_if_any(name)? {
            None => self.tell_gate(name, b"")?,
            Some(stat) if stat.st_size.unsigned_abs() > limit => {
                // The limit is looked at before each line, so the file is never much longer.
                let bytes = self.gate.read(name, limit.saturating_mul(2))?;
                self.tell_gate(name, durable::younger_half(&bytes))?;
            }
            Some(_) => {}
        }
        Ok(durable::append_line(&self.gate, name, line, MODE)?)
    }

    /// `gate/`, to read from.
    pub fn gate(&self) -> &Dir {
        &self.gate
    }
}
