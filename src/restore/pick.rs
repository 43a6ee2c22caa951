//! Which candidate is restored, why that one, and whether it may be trusted: decisions only.

use std::{collections::BTreeMap, path::Path};

use super::{
    error::{Error, Result},
    find::{Candidate, Place},
};
use crate::{
    manifest::{Channel, Generation, GenerationId, Seal},
    report::{Finding, Kind},
    store::{Found, places},
    sys::{name::Name, show},
};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// This generation, or the newest.
    pub id: Option<GenerationId>,
    /// The name of the source; whoever has one is ours where it is not known.
    pub source: Option<Name>,
    /// The channel.
    pub channel: Channel,
    /// Only these elements; all if empty.
    pub elements: Vec<Name>,
    /// Take an older one where the newest is torn.
    pub allow_older: bool,
    /// Take one in which an element had failed.
    pub allow_partial: bool,
    /// Take a torn one as far as it is there: only where nothing live is replaced.
    pub allow_torn: bool,
    /// A seal that is trusted though the ledger does not know it.
    pub trust: Option<Seal>,
}

/// Why a seal is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// This host's ledger has it.
    Ledger,
    /// The operator gave it.
    Given,
    /// It is not.
    Unknown,
    /// The ledger has another one for this id.
    Other,
}

/// Whether a generation was made here, as far as root knows.
pub fn trust(found: &Found, ledger: &BTreeMap<GenerationId, Seal>, given: Option<Seal>) -> Trust {
    match ledger.get(found.id()) {
        _ if given == Some(found.seal) => Trust::Given,
        Some(seal) if *seal == found.seal => Trust::Ledger,
        Some(_) => Trust::Other,
        None => Trust::Unknown,
    }
}

/// The sources of what was found, each once.
fn sources(list: &[Candidate], channel: Channel) -> Vec<&Name> {
    let found = list.iter().filter_map(|c| c.found.as_ref()).map(|f| &f.generation);
    let mut all: Vec<&Name> = found.filter(|g| g.channel == channel).map(|g| &g.source).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn joined(names: &[&Name]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" and ")
}

impl Wish {
    /// Whether a place holds anything of what is wanted, torn or not.
    pub fn is_in(&self, list: &[Candidate]) -> bool {
        list.iter().any(|c| self.is_ours(c) && self.id.as_ref().is_none_or(|id| c.id == *id))
    }

    /// For a place that somebody named and from which nothing live is replaced: takes what is there for what is wanted, if it is of
    /// one source, and logs where there is no data. Gives what is worth saying of that.
    pub fn settle(&mut self, list: &[Candidate], place: &str, is_given: bool) -> Result<Option<String>> {
        if sources(list, self.channel).is_empty() && !sources(list, Channel::Logs).is_empty() {
            self.channel = Channel::Logs;
        }
        let there = sources(list, self.channel);
        if is_given || there.is_empty() || self.source.as_ref().is_some_and(|ours| there.contains(&ours)) {
            return Ok(None);
        }
        let [one] = there.as_slice() else {
            let fix = format!("say which: --as {}", there[0]);
            return Err(Error::refused(format!("what is in {place} is of {}", joined(&there)), fix));
        };
        let said = self.source.as_ref().map(|ours| format!("it is of {one}, and this host is {ours}"));
        self.source = Some((*one).clone());
        Ok(said)
    }

    /// The newest of this source, torn or not.
    pub fn newest<'c>(&self, list: &'c [Candidate]) -> Option<&'c Candidate> {
        list.iter().find(|candidate| self.is_ours(candidate))
    }

    /// The position of the one to be restored, and why that one. `place` is where they were found, of this home.
    pub fn pick(&self, list: &[Candidate], place: &str, home: &Path) -> Result<(usize, String)> {
        let ours: Vec<usize> = (0..list.len()).filter(|i| self.is_ours(&list[*i])).collect();
        let Some(newest) = ours.first().copied() else { return Err(self.nothing(list, place, home)) };
        let at = match &self.id {
            None => newest,
            Some(id) => match ours.iter().copied().find(|i| list[*i].id == *id) {
                Some(at) => at,
                None => {
                    let there: Vec<&str> = ours.iter().map(|i| list[*i].id.as_str()).collect();
                    let text = format!("generation {id} is not in {place}");
                    return Err(Error::refused(text, format!("there are: {}", there.join(", "))));
                }
            },
        };
        let at = self.whole(list, &ours, at)?;
        self.without_failures(list, &ours, at)?;
        let why = match (&self.id, at == newest) {
            (Some(_), _) => "it was asked for",
            (None, true) => "it is the newest",
            (None, false) => "it is the newest that is not torn",
        };
        Ok((at, format!("{why}{}", lineages(list, &ours))))
    }

    fn is_ours(&self, candidate: &Candidate) -> bool {
        candidate.found.as_ref().is_none_or(|f| {
            f.generation.channel == self.channel
                && self.source.as_ref().is_none_or(|source| f.generation.source == *source)
        })
    }

    fn nothing(&self, list: &[Candidate], place: &str, home: &Path) -> Error {
        let others = sources(list, self.channel);
        match (others.first(), &self.source) {
            (Some(other), Some(ours)) => Error::refused(
                format!("what is in {place} is of {}, and this host is {ours}", joined(&others)),
                format!("if it belongs here all the same: --as {other}"),
            ),
            _ => Error::refused(
                format!("no generation of data is in {place}"),
                format!(
                    "bring one there: on the sink `handover sink deliver`, or copy it by hand; or name another place with --from DIR. The Source-Store: --from {}; what was restored before: --from {}",
                    home.join(places::STORE).display(),
                    home.join(places::RESTORED).display()
                ),
            ),
        }
    }

    /// A torn one is never taken in silence, nor is another one in its place.
    fn whole(&self, list: &[Candidate], ours: &[usize], at: usize) -> Result<usize> {
        let Some(why) = list[at].torn(&self.elements).first().map(|why| (*why).to_owned()) else {
            return Ok(at);
        };
        let is_good = |i: &usize| list[*i].found.is_some() && list[*i].torn(&self.elements).is_empty();
        // The same one may lie there once more, and whole.
        if let Some(twin) = ours.iter().copied().find(|i| list[*i].id == list[at].id && is_good(i)) {
            return Ok(twin);
        }
        let place = show(list[at].shown.as_os_str().as_encoded_bytes());
        let is_older = |i: &usize| list[*i].id != list[at].id && is_good(i);
        let older = ours.iter().copied().skip_while(|i| *i != at).skip(1).find(is_older);
        match older {
            Some(older) if self.allow_older => Ok(older),
            _ if self.allow_torn && list[at].found.is_some() => Ok(at),
            Some(older) => {
                let older = &list[older].id;
                Err(Error::refused(
                    format!("generation {} in {place} is torn: {why}", list[at].id),
                    format!("the next older one is {older}: name it, or give --allow-older"),
                ))
            }
            None => Err(Error::refused(
                format!("generation {} in {place} is torn: {why}", list[at].id),
                format!(
                    "no older one is there; bring another copy of it (beside {place}, or in its stead), or take single elements with --element"
                ),
            )),
        }
    }

    /// What is worth saying where the one at this position was taken for another one of its id, which is torn.
    pub fn torn_twin(&self, list: &[Candidate], at: usize) -> Option<Finding> {
        let chosen = &list[at];
        let is_twin = |c: &&Candidate| c.id == chosen.id && self.is_ours(c);
        let torn = list.iter().filter(is_twin).find(|c| !c.torn(&self.elements).is_empty())?;
        let place = |c: &Candidate| show(c.shown.as_os_str().as_encoded_bytes());
        let why = torn.torn(&self.elements).first().map(|why| (*why).to_owned()).unwrap_or_default();
        let text = format!("{} is torn ({why}): {} is taken instead", place(torn), place(chosen));
        let fix = format!("remove {} when all is well", place(torn));
        (place(torn) != place(chosen))
            .then(|| Finding::new(Kind::Warning, chosen.id.as_str(), text).with_fix(fix))
    }

    fn without_failures(&self, list: &[Candidate], ours: &[usize], at: usize) -> Result<()> {
        let failed = list[at].found.as_ref().map(|f| self.failed(&f.generation)).unwrap_or_default();
        let Some(name) = failed.first().filter(|_| !self.allow_partial) else { return Ok(()) };
        let has_it = |i: &&usize| {
            let found = list[**i].found.as_ref();
            found.is_some_and(|f| f.generation.elements.iter().any(|e| e.name.as_str() == *name && e.ok))
                && list[**i].torn(&self.elements).is_empty()
        };
        let good = ours.iter().find(has_it).map(|i| list[*i].id.to_string());
        let good = good.map_or_else(
            || "no other one here has it".to_owned(),
            |id| format!("the newest that has it whole is {id}"),
        );
        Err(Error::refused(
            format!(
                "in generation {} {} had failed when it was collected",
                list[at].id,
                failed.join(" and ")
            ),
            format!("{good}; or take the others with --element, or all that there is with --allow-partial"),
        ))
    }

    /// Elements that are wanted and had failed.
    pub fn failed<'g>(&self, generation: &'g Generation) -> Vec<&'g str> {
        let is_wanted = |name: &Name| self.elements.is_empty() || self.elements.contains(name);
        generation.elements.iter().filter(|e| !e.ok && is_wanted(&e.name)).map(|e| e.name.as_str()).collect()
    }

    /// Refuses a choice of elements of which this generation lacks one, and names those that it has.
    pub fn check_elements(&self, generation: &Generation) -> Result<()> {
        let has = |name: &&Name| generation.elements.iter().any(|e| e.name == **name);
        let unknown: Vec<&Name> = self.elements.iter().filter(|name| !has(name)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let there: Vec<&str> = generation.elements.iter().map(|e| e.name.as_str()).collect();
        Err(Error::Unknown {
            text: format!("generation {} has no element {}", generation.id, joined(&unknown)),
            fix: format!("it has: {}", there.join(", ")),
        })
    }

    /// Refuses what is not known to be made here.
    pub fn check_trust(&self, found: &Found, trust: Trust) -> Result<()> {
        let (id, seal) = (found.id(), found.seal);
        let fix = format!(
            "compare the seal with `handover sink list` on the sink, or a report of `handover source run --json`; if it is the same: --trust {seal}"
        );
        match trust {
            Trust::Ledger | Trust::Given => Ok(()),
            Trust::Unknown => {
                let text = format!("the ledger of this host does not know generation {id} with seal {seal}");
                Err(Error::refused(text, fix))
            }
            Trust::Other => {
                let text =
                    format!("the ledger of this host has another seal for generation {id}: it was changed");
                Err(Error::refused(text, fix))
            }
        }
    }
}

/// Said aloud where there is more than one lineage: then ids decide, which a wrong clock can spoil.
fn lineages(list: &[Candidate], ours: &[usize]) -> String {
    let mut all: Vec<&str> =
        ours.iter().filter_map(|i| list[*i].found.as_ref().map(|f| f.generation.lineage.as_str())).collect();
    all.sort_unstable();
    all.dedup();
    match all.len() {
        0 | 1 => String::new(),
        n => format!("; there are {n} lineages (the host was rebuilt), and between them the id decides"),
    }
}

/// The newest first: by sequence within a lineage; lineages, and what does not tell its own, by their newest id. Of the same
/// generation found twice, a folder comes before a tar.
pub(super) fn order(list: &mut Vec<Candidate>) {
    let mut groups: Vec<(Option<String>, Vec<Candidate>)> = Vec::new();
    for candidate in list.drain(..) {
        let lineage = candidate.found.as_ref().map(|f| f.generation.lineage.clone());
        match groups.iter_mut().find(|(known, _)| lineage.is_some() && *known == lineage) {
            Some((_, group)) => group.push(candidate),
            None => groups.push((lineage, vec![candidate])),
        }
    }
    let sequence = |c: &Candidate| c.found.as_ref().map_or(0, |f| f.generation.sequence);
    for (_, group) in &mut groups {
        group.sort_by(|a, b| {
            let is_tar = |c: &Candidate| matches!(c.place, Place::Tar(_));
            (sequence(b), &b.id, is_tar(a)).cmp(&(sequence(a), &a.id, is_tar(b)))
        });
    }
    groups.sort_by(|(_, a), (_, b)| {
        let newest = |group: &[Candidate]| group.iter().map(|c| c.id.clone()).max();
        newest(b).cmp(&newest(a))
    });
    list.extend(groups.into_iter().flat_map(|(_, group)| group));
}
