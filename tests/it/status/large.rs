//! A store of many generations is told of without reading what they hold.

use std::{fs, time::Instant};

use handover::manifest::Digest;

use crate::harness::Lab;

const GENERATIONS: u64 = 400;

/// Makes of the one stored generation so many, without manifest and content: whoever needs them fails.
fn multiply(lab: &Lab, id: &str) {
    let store = lab.path("sink/store/shop");
    let generation = fs::read_to_string(store.join(id).join("generation.toml")).unwrap();
    let receipt = fs::read_to_string(store.join(id).join("receipt.toml")).unwrap();
    let seal = Digest::of(generation.as_bytes()).to_string();
    // As large as that of a real host: its configuration stands in it.
    let generation = generation
        .replace("config = \"\"\"", &format!("config = \"\"\"{}\n", "# a line of it\n".repeat(300)));
    for n in 2..=GENERATIONS {
        let (day, hour) = (1 + n / 24, n % 24);
        let other = format!("202605{day:02}T{hour:02}0000Z");
        let dir = store.join(&other);
        fs::create_dir(&dir).unwrap();
        let text = generation.replace(id, &other);
        let own = receipt
            .replace(id, &other)
            .replace(&seal, &Digest::of(text.as_bytes()).to_string())
            .replace("\nsequence = 1\n", &format!("\nsequence = {n}\n"));
        fs::write(dir.join("generation.toml"), text).unwrap();
        fs::write(dir.join("receipt.toml"), own).unwrap();
    }
    fs::remove_file(store.join(id).join("manifest.mtree")).unwrap();
    fs::remove_dir_all(store.join(id).join("data")).unwrap();
}

#[test]
fn four_hundred_generations_are_told_of_without_reading_a_manifest() {
    let lab = Lab::in_memory();
    lab.write("a", "one");
    let id = lab.init().both();
    multiply(&lab, &id);
    let before = Instant::now();
    let status = lab.run(&["sink", "status", "--json"]).exits(0).json();
    let took = before.elapsed();
    assert_eq!(status[0]["generations"], GENERATIONS, "{status:#}");
    assert_eq!(status[0]["sequence"], GENERATIONS);
    assert_eq!(status[0]["damaged"].as_array().unwrap().len(), 0);
    let one = lab.run(&["sink", "status", "--prometheus", "-"]).exits(0);
    assert!(one.out.contains("handover_generations{role=\"sink\",channel=\"data\",source=\"shop\"} 400\n"));
    println!("status of {GENERATIONS} generations: {} ms", took.as_millis());
}
