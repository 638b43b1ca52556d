// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program from outside: exit status, last line and result file of runs that end before there is a guest.
#![cfg(test)]

use std::fs;
use std::process::{Command, Stdio};

fn remora(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remora"));
    command.args(args).stdin(Stdio::null());
    command
}

#[test]
fn status_of_wrong_usage_is_2_although_nobody_reads_stderr() {
    for args in [
        &["run", "--no-such-option"][..],
        &["run", "--kernel", "/nonexistent"],
        &["run", "--kernel", "/nonexistent", "--log", "trace"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = remora(args).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(2), "{args:?}: {status}");
    }
}

#[test]
fn result_of_a_wrong_option_replaces_that_of_an_earlier_run() {
    let dir = tempfile::tempdir().unwrap();
    let result = dir.path().join("result");
    fs::write(&result, r#"{"reason":"poweroff","status":0}"#).unwrap();
    let path = result.to_str().unwrap();
    for wrong in [["--cpus", "0"], ["--log", "a=b=c"]] {
        let output = remora(&["run", "--kernel", "/nonexistent", "--result", path])
            .args(wrong)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = fs::read_to_string(&result).unwrap();
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&told["reason"], &told["status"]),
            (&"usage".into(), &2.into())
        );
        let stderr = String::from_utf8(output.stderr).unwrap();
        let last = stderr.lines().last().unwrap();
        assert!(last.starts_with("remora: usage: "), "{last}");
        assert!(last.contains(wrong[0]), "{last}");
    }
}
