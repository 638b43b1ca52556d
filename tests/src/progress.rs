// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Progress of what is slow: a bar or spinner on a terminal, plain lines elsewhere. All of it on stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal: time between two lines.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// One slow task.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: String,
    steps: u64,
    terminal: bool,
    last_line: Instant,
}

impl Progress {
    /// Begins a task of about `steps` steps; 0 when that is not known.
    pub fn start(what: &str, steps: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if steps == 0 {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::new(steps)
        };
        let template = if steps == 0 {
            "{spinner} {msg} [{elapsed}]"
        } else {
            "{msg} [{bar:40}] {percent}% [{elapsed}, about {eta} left]"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        if terminal {
            bar.enable_steady_tick(Duration::from_millis(200));
        } else {
            eprintln!("lab: {what} ...");
        }
        Self {
            bar,
            what: what.to_owned(),
            steps,
            terminal,
            last_line: Instant::now(),
        }
    }

    /// One step is done.
    pub fn step(&mut self) {
        if self.steps > 0 && self.bar.position() + 1 < self.steps {
            self.bar.inc(1);
        }
        if !self.terminal && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let percent = self.bar.position() * 100 / self.steps.max(1);
            eprintln!("lab: {} ... {percent}%", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if self.bar.elapsed() >= LINE_EVERY {
            eprintln!(
                "lab: {}: took {} s",
                self.what,
                self.bar.elapsed().as_secs()
            );
        }
    }
}
