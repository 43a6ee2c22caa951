//! Progress on a terminal: what is done, how fast, how long still. Nothing under cron; with `--verbose` a line for each
//! step instead, also where nobody watches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Context;
use crate::sys::{
    progress::{Look, Progress},
    words,
};

/// Shows some counters until it is dropped.
#[derive(Debug)]
pub struct Display {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// Shows the counters, each under its name, if somebody watches. To be called before the first step begins.
    pub fn start(context: &Context, named: Vec<(String, Arc<Progress>)>) -> Self {
        if context.verbose {
            for (name, progress) in &named {
                let name = name.clone();
                progress.listen(move |phase| super::show::talk(&format!("phase: {name}: {phase}")));
            }
        }
        let silent = context.quiet || context.json || context.verbose;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = (!silent && super::show::is_terminal()).then(|| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || draw(&named, &stop))
        });
        Self { stop, thread }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            // Only the drawing failed.
        }
    }
}

fn draw(named: &[(String, Arc<Progress>)], stop: &AtomicBool) {
    let bars = MultiProgress::new();
    let mut shown: Vec<(ProgressBar, String)> = named
        .iter()
        .map(|(name, _)| (bars.add(ProgressBar::new_spinner().with_prefix(name.clone())), String::new()))
        .collect();
    while !stop.load(Ordering::Relaxed) {
        for ((_, progress), (bar, phase)) in named.iter().zip(&mut shown) {
            let look = progress.look();
            if look.phase != *phase {
                phase.clone_from(&look.phase);
                bar.reset();
            }
            show(bar, &look);
        }
        thread::sleep(Duration::from_millis(100));
    }
    for (bar, _) in shown {
        bar.finish_and_clear();
    }
}

fn show(bar: &ProgressBar, look: &Look) {
    let template = if look.total_bytes > 0 {
        bar.set_length(look.total_bytes);
        "{prefix}  {msg}  {bar:20} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left"
    } else if look.bytes > 0 {
        "{prefix}  {msg}  {bytes}  {binary_bytes_per_sec}  {elapsed}"
    } else {
        "{prefix}  {msg}  {elapsed}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let files = match (look.files, look.total_files) {
        (0, 0) => String::new(),
        (files, 0) => format!(", {}", words::files(files)),
        (files, total) => format!(", {files} of {total} files"),
    };
    bar.set_message(format!("{}{files}", look.phase));
    bar.set_position(look.bytes);
    bar.tick();
}
