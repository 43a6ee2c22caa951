//! The paths in a `rejected.json`, read one by one: what does not fit is refused before it is held.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::reject::Room;
use crate::manifest::entry;

/// Reads the list `paths`, and takes its bytes and their number off `room`.
pub(super) fn read(json: &[u8], room: &mut Room) -> serde_json::Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    serde_json::Deserializer::from_slice(json).deserialize_map(File { room, paths: &mut paths })?;
    Ok(paths)
}

struct File<'a> {
    room: &'a mut Room,
    paths: &'a mut Vec<Vec<u8>>,
}

impl<'de> Visitor<'de> for File<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `paths`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { room, paths } = self;
        while let Some(key) = map.next_key::<String>()? {
            if key == "paths" {
                map.next_value_seed(List { room: &mut *room, paths: &mut *paths })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct List<'a> {
    room: &'a mut Room,
    paths: &'a mut Vec<Vec<u8>>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of paths")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(path) = list.next_element_seed(Path)? {
            if !self.room.take(path.len()) {
                return Err(A::Error::custom("it names more paths than are taken from all notes together"));
            }
            self.paths.push(path);
        }
        Ok(())
    }
}

/// A path as text or as numbers, never longer than one of a manifest.
struct Path;

impl<'de> DeserializeSeed<'de> for Path {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Path {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a path of at most {} bytes, as text or as numbers", entry::TOO_LONG)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        if text.len() > entry::TOO_LONG {
            return Err(E::invalid_length(text.len(), &self));
        }
        Ok(text.as_bytes().to_vec())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        let mut path = Vec::new();
        while let Some(byte) = list.next_element::<u8>()? {
            if path.len() >= entry::TOO_LONG {
                return Err(A::Error::invalid_length(path.len() + 1, &self));
            }
            path.push(byte);
        }
        Ok(path)
    }
}
