//! What a restore would do, before anything is touched: the same value is shown and carried out.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{
    build, dump,
    error::{Error, Result},
    proven::Proven,
    sought,
    trees::{self, Survey},
    units::{self, Guard, Unit},
};
use crate::{
    config::{Element, ElementKind},
    manifest::{Generation, Kind},
    report::{
        Finding, Kind as FindingKind,
        restore::{PlannedElement, PlannedPath},
    },
    sys::{holders, mounts::Mounts, name::Name, show},
};

/// What a plan is made from.
pub struct Ground<'a> {
    /// The elements of the configuration of now.
    pub elements: &'a [Element],
    /// handover's own folders.
    pub own: &'a [PathBuf],
    /// The generation.
    pub generation: &'a Generation,
    /// Its manifest, proven.
    pub proven: &'a Proven,
    /// Only these elements; all if empty.
    pub wanted: &'a [Name],
    /// Only these paths; all if empty.
    pub paths: &'a [PathBuf],
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Paths that are replaced.
    pub units: Vec<Unit>,
    /// Dumps that are loaded: the element's position in the configuration, and the dump's path in the manifest.
    pub dumps: Vec<(usize, Vec<u8>)>,
    /// The same for people.
    pub shown: Vec<PlannedElement>,
    /// What is worth knowing before.
    pub findings: Vec<Finding>,
}

impl Ground<'_> {
    /// Makes the plan.
    pub fn plan(&self) -> Result<Plan> {
        let mounts = Mounts::read()?;
        let mut plan = Plan::default();
        for stored in &self.generation.elements {
            if !self.wanted.is_empty() && !self.wanted.contains(&stored.name) {
                continue;
            }
            let at = self.configured(stored.name.as_str(), &stored.kind)?;
            self.element(at, &mounts, &mut plan)?;
        }
        for path in self.paths {
            let is_of = |target: &PathBuf| target.starts_with(path) || path.starts_with(target);
            if !plan.units.iter().flat_map(|unit| &unit.targets).any(is_of) {
                let shown = show(path.as_os_str().as_encoded_bytes());
                return Err(Error::Unknown {
                    text: format!("{shown} is in no path of the configuration of this host"),
                    fix: format!("its paths are: {}; or restore with --to DIR", self.configured_paths()),
                });
            }
        }
        let paths: Vec<Vec<u8>> = self.paths.iter().map(|path| build::relative(path)).collect();
        sought::check(self.proven, self.generation, self.wanted, &paths)?;
        // What lies in another one first, so that the outer one carries over what is then in its place.
        plan.units.sort_by_key(|unit| std::cmp::Reverse(unit.root.iter().count()));
        if plan.units.is_empty() && plan.dumps.is_empty() {
            let text = "nothing of what was asked for is in a path of the configuration";
            return Err(Error::refused(text, "name other paths with --path, or restore with --to DIR"));
        }
        Ok(plan)
    }

    fn configured_paths(&self) -> String {
        let files = self.elements.iter().filter_map(|element| match &element.kind {
            ElementKind::Tree(files) | ElementKind::Archive(files) => Some(&files.paths),
            ElementKind::Dump(_) => None,
        });
        files.flatten().map(|path| show(path.as_os_str().as_encoded_bytes())).collect::<Vec<_>>().join(", ")
    }

    fn configured(&self, name: &str, kind: &str) -> Result<usize> {
        let elsewhere = "; or leave it out with --element, or restore it with --to DIR";
        let Some(at) = self.elements.iter().position(|e| e.name.as_str() == name) else {
            return Err(Error::refused(
                format!("the configuration of this host has no element {name}, so its place is not known"),
                format!(
                    "add [[source.element]] with name = \"{name}\" (the generation's own configuration is in its generation.toml){elsewhere}"
                ),
            ));
        };
        let here = self.elements[at].kind.as_str();
        let is_files = |kind: &str| kind == "tree" || kind == "archive";
        if here != kind && !(is_files(here) && is_files(kind)) {
            return Err(Error::refused(
                format!(
                    "{name} is a {here} in the configuration of this host, and a {kind} in the generation"
                ),
                format!("name the element as it was{elsewhere}"),
            ));
        }
        Ok(at)
    }

    fn element(&self, at: usize, mounts: &Mounts, plan: &mut Plan) -> Result<()> {
        let element = &self.elements[at];
        let (mut paths, mut steps) = (Vec::new(), Vec::new());
        match &element.kind {
            ElementKind::Tree(files) | ElementKind::Archive(files) => {
                self.nothing_foreign(element, &files.paths)?;
                for unit in units::of(element, files, self.paths, self.own, mounts)? {
                    paths.push(self.path(&unit)?);
                    units::join(&mut plan.units, unit);
                }
                if paths.is_empty() {
                    return Ok(());
                }
                steps.extend(element.steps.probe.as_ref().map(|_| "probe".to_owned()));
            }
            ElementKind::Dump(dump) if self.paths.is_empty() => {
                plan.dumps.push((at, self.dump_path(element, &dump.file)?));
                steps = self.dump_steps(element, plan)?;
            }
            ElementKind::Dump(_) => return Ok(()),
        }
        plan.shown.push(PlannedElement {
            name: element.name.to_string(),
            kind: element.kind.as_str().to_owned(),
            paths,
            services: element.services.clone(),
            steps,
        });
        Ok(())
    }

    /// Where to put what no configured path holds is not known.
    fn nothing_foreign(&self, element: &Element, paths: &[PathBuf]) -> Result<()> {
        if !self.paths.is_empty() || !matches!(element.kind, ElementKind::Tree(_)) {
            return Ok(());
        }
        match build::foreign(self.proven, element.name.as_str(), paths)? {
            None => Ok(()),
            Some(path) => Err(Error::refused(
                format!(
                    "{} of {} is in no path of the configuration of this host",
                    show(&path),
                    element.name
                ),
                "add the path it is in to `paths`, or restore with --to DIR, or take single paths with --path",
            )),
        }
    }

    fn path(&self, unit: &Unit) -> Result<PlannedPath> {
        let mut survey = Survey::default();
        trees::survey(&unit.root, self.since(), &Guard::new(&unit.rules)?, &mut survey)?;
        Ok(PlannedPath {
            path: show(unit.root.as_os_str().as_encoded_bytes()),
            how: unit.how.as_str().to_owned(),
            why: unit.why.clone(),
            live_files: survey.files,
            live_bytes: survey.bytes,
            newer: survey.newer,
            newer_examples: survey.examples,
            open: holders::of(&unit.root),
        })
    }

    fn since(&self) -> Timestamp {
        self.generation.started
    }

    fn dump_path(&self, element: &Element, file: &str) -> Result<Vec<u8>> {
        let expected = format!("{}/{file}", element.name).into_bytes();
        let mut found: Vec<Vec<u8>> = Vec::new();
        self.proven.each(&mut |entry| {
            let is_of = entry
                .path
                .strip_prefix(element.name.as_str().as_bytes())
                .is_some_and(|r| r.starts_with(b"/"));
            if is_of && matches!(entry.kind, Kind::File { .. }) {
                found.push(entry.path.clone());
            }
            Ok(())
        })?;
        match found.as_slice() {
            _ if found.contains(&expected) => Ok(expected),
            [one] => Ok(one.clone()),
            _ => Err(Error::refused(
                format!("generation {} holds no dump of {}", self.generation.id, element.name),
                "leave the element out with --element, or take another generation",
            )),
        }
    }

    fn dump_steps(&self, element: &Element, plan: &mut Plan) -> Result<Vec<String>> {
        let (name, steps) = (&element.name, &element.steps);
        if steps.restore.is_none() {
            return Err(Error::refused(
                format!("{name} has no `restore` command, so its dump cannot be loaded"),
                "add restore = [..] to the element; or leave it out with --element, or restore with --to DIR",
            ));
        }
        if steps.promote.is_some() {
            if let Some(step) = dump::without_target(element).first() {
                return Err(Error::Configuration {
                    text: format!(
                        "`{step}` of {name} lacks {{target}}: it would touch the live one before the new one is proven"
                    ),
                    fix: format!("write {{target}} in `{step}` where the live one is named"),
                });
            }
        } else {
            let text =
                "there is no `promote`: the live one is filled directly, and a failure cannot be undone";
            plan.findings.push(Finding::new(FindingKind::Warning, name.as_str(), text));
        }
        let all = [
            ("prepare", &steps.prepare),
            ("restore", &steps.restore),
            ("probe", &steps.probe),
            ("promote", &steps.promote),
        ];
        Ok(all.into_iter().filter(|(_, c)| c.is_some()).map(|(step, _)| step.to_owned()).collect())
    }
}
