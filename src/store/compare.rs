//! A checked generation beside those that are stored: what of them it does not hold any more.

use std::collections::BTreeMap;

use super::{
    Error, Result, Stored,
    anomaly::{self, Compared, Judged, Limits},
    meta::{items, proven_items},
    place::Checked,
};
use crate::{
    manifest::{GenerationId, lost, merge::Items},
    sys::{name::Name, signals},
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
            let elements: Vec<&[u8]> = names.iter().map(|name| name.as_str().as_bytes()).collect();
            let (mut old, mut new) = (|| checked(items(&old)?), || checked(proven_items(&self.place.tree)?));
            let losses = lost::lost(&mut old, &mut new, &elements, &|loss| anomaly::matters(limits, loss))?;
            let of = |(element, loss)| Compared::new(element, with.clone(), loss);
            compared.extend(names.into_iter().zip(losses).map(of));
        }
        Ok(anomaly::judge(limits, compared, stored))
    }
}

fn checked(items: Items<'static, Error>) -> Result<Items<'static, Error>> {
    Ok(Box::new(items.map(|item| signals::check().map_err(Error::from).and(item))))
}
