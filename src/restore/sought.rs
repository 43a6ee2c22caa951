//! Paths that were asked for and are in nothing: found out before anything is touched, with those that are near.

use super::{
    error::{Error, Result},
    proven::Proven,
    selection::{Place, Places, Selection},
    unpack,
};
use crate::{
    manifest::Generation,
    sys::{name::Name, show},
};

/// So many near paths are named.
const NEAR: usize = 3;

/// Refuses if one of these paths (without the leading slash) neither is in the generation nor has anything of it below it.
/// An archive that cannot be read says nothing: whoever unpacks it says what is wrong with it.
pub fn check(proven: &Proven, generation: &Generation, elements: &[Name], paths: &[Vec<u8>]) -> Result<()> {
    let all = Selection { elements: elements.to_vec(), paths: Vec::new() };
    let places = Places::new(generation, &all)
        .map_err(|_| Error::Internal("an element that was found is not in the generation"))?;
    let mut sought: Vec<Sought<'_>> =
        paths.iter().map(|path| Sought { path, is_there: false, above: 0 }).collect();
    let is_told = each(proven, &places, &mut |there| {
        sought.iter_mut().for_each(|sought| sought.see(there));
        sought.iter().any(|sought| !sought.is_there)
    })?;
    let Some(missing) = sought.iter().find(|sought| !sought.is_there).filter(|_| is_told) else {
        return Ok(());
    };
    let (above, name) = missing.split();
    let mut near: Vec<(usize, Vec<u8>)> = Vec::new();
    each(proven, &places, &mut |there| {
        if let Some(child) = child(there, above)
            && near.iter().all(|(_, known)| known != child)
        {
            near.push((distance(child, name), child.to_vec()));
            near.sort();
            near.truncate(NEAR);
        }
        true
    })?;
    Err(unknown(generation, missing.path, above, &near))
}

fn unknown(generation: &Generation, path: &[u8], above: &[u8], near: &[(usize, Vec<u8>)]) -> Error {
    let absolute = |parts: [&[u8]; 2]| {
        let path = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'/');
        format!("/{}", show(&path))
    };
    let named: Vec<String> = near.iter().map(|(_, name)| absolute([above, name])).collect();
    Error::Unknown {
        text: format!("generation {} has nothing at {} or below it", generation.id, absolute([path, b""])),
        fix: match named.is_empty() {
            true => format!(
                "nothing of it is near that; it has only what its elements hold: {}",
                names(generation)
            ),
            false => format!("near it are: {}", named.join(", ")),
        },
    }
}

fn names(generation: &Generation) -> String {
    generation.elements.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// What is looked for.
struct Sought<'a> {
    path: &'a [u8],
    is_there: bool,
    /// The length of the longest folder on its way that is there.
    above: usize,
}

impl Sought<'_> {
    fn see(&mut self, there: &[u8]) {
        self.is_there |= is_within(there, self.path);
        let common = self.path.iter().zip(there).take_while(|(a, b)| a == b).count();
        let ends = |path: &[u8], at: usize| path.get(at).is_none_or(|b| *b == b'/');
        let whole = (0..=common).rev().find(|at| ends(self.path, *at) && ends(there, *at));
        self.above = self.above.max(whole.unwrap_or(0));
    }

    /// The folder that is there, and the name that is not in it.
    fn split(&self) -> (&[u8], &[u8]) {
        let (above, rest) = self.path.split_at(self.above);
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        (above, rest.split(|b| *b == b'/').next().unwrap_or_default())
    }
}

/// Calls `see` with every path of the source that these places hold, without the leading slash: archives last, and only while
/// it says that it wants more. Whether all could be told.
fn each(proven: &Proven, places: &Places<'_>, see: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool> {
    let (mut archives, mut more) = (Vec::new(), true);
    proven.each(&mut |entry| {
        match places.of(&entry.path) {
            Place::At { path, .. } => more = see(path),
            Place::Archive => archives.push(entry.path.clone()),
            Place::Nowhere | Place::Target => {}
        }
        Ok(())
    })?;
    for archive in archives {
        if !more {
            break;
        }
        let Ok(file) = proven.open(&archive) else { return Ok(false) };
        if !unpack::names(&file, &mut |path| more = see(path))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first name of a path below a folder.
fn child<'p>(path: &'p [u8], above: &[u8]) -> Option<&'p [u8]> {
    let rest = if above.is_empty() { path } else { path.strip_prefix(above)?.strip_prefix(b"/")? };
    rest.split(|b| *b == b'/').next().filter(|name| !name.is_empty())
}

fn is_within(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn distance(a: &[u8], b: &[u8]) -> usize {
    strsim::damerau_levenshtein(&String::from_utf8_lossy(a), &String::from_utf8_lossy(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_the_first_name_that_is_not_there() {
        let split = |path: &str, there: &[&str]| {
            let mut sought = Sought { path: path.as_bytes(), is_there: false, above: 0 };
            there.iter().for_each(|there| sought.see(there.as_bytes()));
            let (above, name) = sought.split();
            (
                sought.is_there,
                String::from_utf8_lossy(above).into_owned(),
                String::from_utf8_lossy(name).into_owned(),
            )
        };
        let tree = ["srv", "srv/www", "srv/www/photos", "srv/www/photos/1.jpg"];
        let told = |is_there, above: &str, name: &str| (is_there, above.to_owned(), name.to_owned());
        assert_eq!(split("srv/www/photo/1.jpg", &tree), told(false, "srv/www", "photo"));
        assert_eq!(split("srv/www/photos/2.jpg", &tree), told(false, "srv/www/photos", "2.jpg"));
        assert_eq!(split("opt", &tree), told(false, "", "opt"));
        assert!(split("srv/www/photos", &tree).0 && split("srv", &tree[3..]).0);
    }
}
