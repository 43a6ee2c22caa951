//! What passes through is hashed on its way.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use super::Digest;

/// A reader or writer that hashes every byte that it gives or takes: the proof of a file costs no second pass over it.
#[derive(Debug)]
pub struct Hashing<T> {
    inner: T,
    hasher: Sha256,
    bytes: u64,
}

impl<T> Hashing<T> {
    /// Wraps it. Whatever buffers goes around a reader and inside of a writer.
    pub fn new(inner: T) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// The sha256 of the bytes so far: of the whole once a reader has come to its end.
    pub fn digest(&self) -> Digest {
        Digest(self.hasher.clone().finalize().into())
    }

    /// How many bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was wrapped.
    pub fn into_inner(self) -> T {
        self.inner
    }

    fn seen(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<R: Read> Hashing<R> {
    /// Reads what is left and gives the sha256 of the whole: also where a reader of the format stopped early.
    pub fn drain(&mut self) -> io::Result<Digest> {
        io::copy(self, &mut io::sink())?;
        Ok(self.digest())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.seen(&buffer[..read]);
        Ok(read)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.seen(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_or_written_is_what_was_hashed() {
        let mut reader = Hashing::new(&b"some bytes"[..]);
        reader.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(reader.digest(), Digest::of(b"some"));
        assert_eq!(reader.drain().unwrap(), Digest::of(b"some bytes"));
        let mut writer = Hashing::new(Vec::new());
        writer.write_all(b"some bytes").unwrap();
        assert_eq!((writer.digest(), writer.bytes()), (Digest::of(b"some bytes"), 10));
    }
}
