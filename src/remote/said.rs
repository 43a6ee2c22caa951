//! What a program said on stderr, bounded: the beginning, where causes are, and the end, where verdicts are.

use std::collections::VecDeque;

use crate::sys::show;

const HEAD: usize = 4096;
const TAIL: usize = 4096;

/// The beginning and the end of a text of any length.
#[derive(Debug, Default, Clone)]
pub struct Said {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: bool,
}

impl Said {
    /// Adds what was said next.
    pub fn add(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        if self.tail.len() > TAIL {
            self.left_out = true;
            self.tail.drain(..self.tail.len() - TAIL);
        }
    }

    /// Its lines, joined and safe to show.
    pub fn text(&self) -> String {
        let mut bytes = self.head.clone();
        if self.left_out {
            bytes.extend_from_slice(b"\n...\n");
        }
        bytes.extend(&self.tail);
        let lines = bytes.split(|b| *b == b'\n' || *b == b'\r').filter(|line| !line.is_empty());
        lines.map(show).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_its_beginning_and_its_end() {
        let mut said = Said::default();
        said.add(b"first\n");
        (0..10_000).for_each(|n| said.add(format!("line {n}\n").as_bytes()));
        said.add(b"last \x1b[2J\n");
        let text = said.text();
        assert!(text.starts_with("first; line 0; "), "{text}");
        assert!(text.ends_with("line 9999; last \\u{1b}[2J"), "{text}");
        assert!(text.contains("; ...; ") && text.len() < 2 * (HEAD + TAIL));
    }
}
