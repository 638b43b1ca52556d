// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The contract's ways to end a run of Remora: exit status, the last line on stderr, the result file; all three must agree.

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::{Ended, Lab};

/// Options by which a run writes the file that [`expect_ending`] reads.
pub const RESULT: [&str; 2] = ["--result", "result.json"];

/// Fails unless the run ended with `status`, its last line on stderr begins with `remora: REASON: ` and holds `message`, and
/// its result file says the same. The file is removed, so that the next run's is its own.
pub fn expect_ending(
    lab: &Lab<'_>,
    ended: &Ended,
    status: i32,
    reason: &str,
    message: &str,
) -> Result<Value> {
    expect_last_line(ended, status, reason, message)?;
    let path = lab.dir().join(RESULT[1]);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("reading the result {}", path.display()))?;
    fs::remove_file(&path)?;
    let result: Value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
    if result["reason"] != reason || result["status"] != status {
        bail!("the result file does not say {reason} and {status}: {text}");
    }
    Ok(result)
}

/// As [`expect_ending`], of a run without a result file.
pub fn expect_last_line(ended: &Ended, status: i32, reason: &str, message: &str) -> Result<()> {
    ended.expect_status(status)?;
    let last = ended.stderr.lines().last().unwrap_or_default();
    if !last.starts_with(&format!("remora: {reason}: ")) || !last.contains(message) {
        bail!("the last line on stderr is not 'remora: {reason}: …{message}…': '{last}'");
    }
    Ok(())
}

/// Fails unless stderr is one line and stdout empty: the complaint of a run that never began.
pub fn expect_one_line(ended: &Ended) -> Result<()> {
    let lines = ended.stderr.lines().count();
    if lines != 1 || !ended.stdout.is_empty() {
        bail!(
            "{lines} lines on stderr instead of one, or something on stdout:\n{}\n{}",
            ended.stderr,
            ended.stdout
        );
    }
    Ok(())
}
