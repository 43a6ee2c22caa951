//! What was tried to break the promise, counted where it is tried: one line for each layer of faults.

use std::{fs::OpenOptions, io::Write as _};

/// Appends `layer<TAB>tried<TAB>survived<TAB>lost` to the file that `HANDOVER_PROOF` names, if it names one: `lab/proofs`
/// makes the table of it, with the lines of a layer added up. Call it before the assertion that nothing is lost, with
/// what was counted: never with figures that stand in the code.
#[expect(clippy::print_stdout, reason = "whoever runs the test wants to see how much was tried")]
pub fn proof(layer: &str, tried: usize, lost: usize) {
    println!("{layer}: {tried} tried, {lost} lost");
    let Some(file) = std::env::var_os("HANDOVER_PROOF") else { return };
    let line = format!("{layer}\t{tried}\t{}\t{lost}\n", tried - lost);
    // Other tests append at the same time: one write is one line.
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}
