//! What a drill would do: which elements it tries, where, and by which commands. Nothing that is live is named to any of them.

use std::path::Path;

use super::{
    copy::TEMPORARY,
    dump,
    error::{Error, Result},
    pick::Wish,
    proven::Proven,
    run::Setup,
    selection::{Places, Selection},
};
use crate::{config::Element, manifest::Generation, report::restore::RehearsedElement, sys::show};

/// The elements that are tried, each proven to name no live target to any command.
pub(super) fn wanted<'a>(
    setup: &Setup<'a>,
    generation: &Generation,
    wish: &Wish,
) -> Result<Vec<&'a Element>> {
    let mut elements = Vec::new();
    for stored in &generation.elements {
        if !wish.elements.is_empty() && !wish.elements.contains(&stored.name) {
            continue;
        }
        let Some(element) = setup.source.elements.iter().find(|e| e.name == stored.name) else {
            return Err(Error::refused(
                format!("the configuration has no element {}", stored.name),
                "add it, or leave it out with --element",
            ));
        };
        allow(element)?;
        elements.push(element);
    }
    Ok(elements)
}

/// Refuses an element whose commands would touch the live one.
fn allow(element: &Element) -> Result<()> {
    let (name, steps) = (&element.name, &element.steps);
    if let Some(step) = dump::without_target(element).first() {
        return Err(Error::refused(
            format!("`{step}` of {name} lacks {{target}}, so a drill would touch the live one"),
            format!(
                "write {{target}} in `{step}` where the live one is named, or leave {name} out with --element"
            ),
        ));
    }
    if dump::of(element).is_none() {
        return Ok(());
    }
    for (step, command) in [("restore", &steps.restore), ("discard", &steps.discard)] {
        if command.is_none() {
            return Err(Error::refused(
                format!("{name} has no `{step}`, so it cannot be drilled"),
                format!(
                    "add {step} = [..] with {{target}} to the element, or leave {name} out with --element"
                ),
            ));
        }
    }
    Ok(())
}

/// The same for people: what of the generation would be restored below the folder in which the scratch folder is made.
pub(super) fn shown(
    elements: &[&Element],
    (proven, generation): (&Proven, &Generation),
    above: &Path,
) -> Result<Vec<RehearsedElement>> {
    elements.iter().map(|element| one(element, (proven, generation), above)).collect()
}

fn one(
    element: &Element,
    (proven, generation): (&Proven, &Generation),
    above: &Path,
) -> Result<RehearsedElement> {
    let selection = Selection { elements: vec![element.name.clone()], paths: Vec::new() };
    let places = Places::new(generation, &selection)
        .map_err(|_| Error::Internal("an element of the drill is not in the generation"))?;
    let wanted = proven.count(&places)?;
    let place = above.join(format!("{TEMPORARY}RANDOM")).join(element.name.as_str());
    let place = show(place.as_os_str().as_encoded_bytes());
    let steps = &element.steps;
    let live = element.steps.target.as_deref().unwrap_or_default();
    let (target, commands) = match dump::of(element) {
        None => (place.clone(), vec![("probe", &steps.probe)]),
        Some(_) => (
            format!("{live}_handover_RANDOM"),
            vec![
                ("prepare", &steps.prepare),
                ("restore", &steps.restore),
                ("probe", &steps.probe),
                ("discard", &steps.discard),
            ],
        ),
    };
    let filled = |(step, command): (&str, &Option<crate::config::Command>)| {
        let words = command.as_ref()?.iter().map(|word| word.replace("{target}", &target));
        Some(format!("{step}: {}", words.collect::<Vec<_>>().join(" ")))
    };
    Ok(RehearsedElement {
        name: element.name.to_string(),
        kind: element.kind.as_str().to_owned(),
        files: wanted.files,
        bytes: wanted.bytes,
        place,
        commands: commands.into_iter().filter_map(filled).collect(),
    })
}
