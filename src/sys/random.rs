//! Random names for lineages, stores and temporary files.

use super::{Error, Result};

/// `bytes` random bytes as lower-case hexadecimal digits, from the kernel.
pub fn hex(bytes: usize) -> Result<String> {
    let mut buffer = vec![0_u8; bytes];
    let mut filled = 0;
    while filled < bytes {
        filled += rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::new("read random bytes from", "the kernel", e))?;
    }
    Ok(buffer.iter().map(|b| format!("{b:02x}")).collect())
}
