//! A checked generation beside those that are stored: what of them it does not hold any more. And what is about to go
//! beside what stays.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Error, Result, SourceStore, Stored,
    anomaly::{self, Compared, Judged, Limits, Losing},
    meta::{items, proven_items},
    place::Checked,
};
use crate::{
    manifest::{GenerationId, lost, merge::Items},
    sys::{Dir, name::Name, signals},
};

impl Checked {
    /// Compares it with what is stored of its source, in order, and judges it by these limits. Reads two manifests, and no
    /// content.
    pub fn judge(&self, limits: Limits, stored: &[Stored]) -> Result<Judged> {
        let mut baselines: BTreeMap<&GenerationId, Vec<Name>> = BTreeMap::new();
        for (element, with) in anomaly::baselines(stored, &self.found.generation) {
            baselines.entry(with).or_default().push(element);
        }
        let mut compared = Vec::new();
        for (with, names) in baselines {
            let old = self.place.store.open(with)?;
            let new = || checked(proven_items(&self.place.tree)?);
            compared.extend(compare((with, &old), &new, names, limits)?);
        }
        compared.sort_by(|a, b| a.element.cmp(&b.element));
        Ok(anomaly::judge(limits, compared, stored))
    }
}

impl SourceStore {
    /// What the newest of the stored generations, given in order, lack of those that are about to go for good. Reads the
    /// manifests of both, and no content.
    pub fn losing(
        &self,
        limits: Limits,
        stored: &[Stored],
        going: &BTreeSet<&GenerationId>,
    ) -> Result<Losing> {
        let mut pairs: BTreeMap<(&GenerationId, &GenerationId), Vec<Name>> = BTreeMap::new();
        for last in anomaly::last_copies(stored, going) {
            pairs.entry((last.goes, last.left)).or_default().push(last.element);
        }
        let mut compared = Vec::new();
        for ((goes, left), names) in pairs {
            let left = self.open(left)?;
            compared.extend(compare((goes, &self.open(goes)?), &|| checked(items(&left)?), names, limits)?);
        }
        Ok(anomaly::judge_last(limits, &compared, stored))
    }
}

fn compare(
    (with, old): (&GenerationId, &Dir),
    new: &dyn Fn() -> Result<Items<'static, Error>>,
    names: Vec<Name>,
    limits: Limits,
) -> Result<Vec<Compared>> {
    let elements: Vec<&[u8]> = names.iter().map(|name| name.as_str().as_bytes()).collect();
    let (mut old, mut new) = (|| checked(items(old)?), || new());
    let losses = lost::lost(&mut old, &mut new, &elements, &|loss| anomaly::matters(limits, loss))?;
    let of = |(element, loss)| Compared::new(element, with.clone(), loss);
    Ok(names.into_iter().zip(losses).map(of).collect())
}

fn checked(items: Items<'static, Error>) -> Result<Items<'static, Error>> {
    Ok(Box::new(items.map(|item| signals::check().map_err(Error::from).and(item))))
}
