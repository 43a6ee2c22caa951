//! `README.txt`: how to verify and restore a generation with plain tools, to be followed at three in the morning.

use super::{Channel, GenerationId};
use crate::sys::name::Name;

/// Its steps are run as they stand by `tests/it/format.rs`.
const TEXT: &str = include_str!("readme.txt");

/// The text for one generation.
pub fn text(source: &Name, id: &GenerationId, channel: Channel) -> String {
    TEXT.replace("@ID@", id.as_str())
        .replace("@CHANNEL@", channel.as_str())
        .replace("@SOURCE@", source.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_what_everybody_gets_wrong_and_names_the_generation() {
        let text = text(&"shop".parse().unwrap(), &"20261123T030000Z".parse().unwrap(), Channel::Data);
        assert!(text.starts_with("Owner, mode and time of every file are in manifest.mtree"));
        assert!(text.contains("generation 20261123T030000Z of the data of \"shop\""));
        assert!(!text.contains("@ID@") && !text.contains("@SOURCE@") && !text.contains("@CHANNEL@"));
    }
}
