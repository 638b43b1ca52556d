// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Taking turns with whoever is at the other end of the console.

use std::io::{self, Write};

use anyhow::{Context, Result, bail};

/// Says that the program has come to `place`, and waits for a line; what it says.
pub fn wait_at(place: &str) -> Result<String> {
    let mut said = io::stdout();
    writeln!(said, "DMATEST at {place}.")?;
    said.flush()?;
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    if read.context("reading the console")? == 0 {
        bail!("nobody is there to go on at {place}");
    }
    Ok(line.trim().to_owned())
}
