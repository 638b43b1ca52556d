// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo lab test`: the workspace's tests and every scenario, added up.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::paths;

/// How many tests ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Ran and were right.
    pub passed: u64,
    /// Ran and were wrong.
    pub failed: u64,
    /// Could not run here.
    pub skipped: u64,
}

impl Count {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Runs `cargo test --workspace`, passing its output on, and counts. A run that failed without a failed test (it did
/// not build, a test program crashed) counts as one failure.
pub fn workspace_tests() -> Result<Count> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(paths::workspace());
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo test")?;
    let output = child.stdout.take().context("cargo's output is a pipe")?;
    let mut count = Count::default();
    let mut out = std::io::stdout();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        if let Some(more) = summary(&String::from_utf8_lossy(&line)) {
            count = count.plus(more);
        }
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        println!("cargo test failed ({status}) although no test did");
        count.failed = 1;
    }
    Ok(count)
}

/// Reads a test program's closing line: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn summary(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        let part = counts
            .split(';')
            .find_map(|part| part.trim().strip_suffix(word));
        part.and_then(|number| number.trim().parse().ok())
    };
    Some(Count {
        passed: number("passed")?,
        failed: number("failed")?,
        skipped: number("ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_reads_the_counts_of_a_closing_line() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s";
        assert_eq!(
            summary(line),
            Some(Count {
                passed: 12,
                failed: 2,
                skipped: 1
            })
        );
    }

    #[test]
    fn summary_of_any_other_line_is_none() {
        assert_eq!(summary("test runner::tests::x ... ok"), None);
        assert_eq!(summary("running 3 tests"), None);
    }

    #[test]
    fn count_prints_as_the_contract_says() {
        let count = Count {
            passed: 3,
            failed: 0,
            skipped: 1,
        };
        assert_eq!(
            count.plus(count).to_string(),
            "6 passed, 0 failed, 2 skipped"
        );
    }
}
