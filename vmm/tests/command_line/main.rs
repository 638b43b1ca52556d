// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program from outside: exit status, last line and result file, with guests of a few instructions or none.
#![cfg(test)]

mod control;
mod guest;

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

/// Says "F" on the serial port, without an end of line, and powers off.
const SAYS_F: &[u8] = &[
    0xba, 0xf8, 0x03, 0, 0, // mov edx, 0x3f8
    0xb0, b'F', // mov al, 'F'
    0xee, // out dx, al
    0xba, 0x00, 0x06, 0, 0, // mov edx, 0x600
    0xb0, 0x34, // mov al, 0x34
    0xee, // out dx, al
    0xf4, // hlt
];

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn power_off_ends_the_run_by_what_the_console_said_before() {
    let dir = tempfile::tempdir().unwrap();
    let (kernel, result) = (dir.path().join("kernel"), dir.path().join("result"));
    fs::write(&kernel, guest::image(SAYS_F)).unwrap();
    let table: &[(&[&str], i32, &str)] = &[
        (&[], 0, "poweroff"),
        (&["--expect", "F"], 0, "expected"),
        (&["--expect", "G"], 1, "missing"),
        (&["--fail-on", "F"], 1, "fail-on"),
        (&["--fail-on", "F", "--expect", "G"], 1, "fail-on"),
        (&["--fail-on", "G"], 0, "poweroff"),
    ];
    for (options, status, reason) in table {
        let output = remora(&["run", "--memory", "16M", "--kernel"])
            .arg(&kernel)
            .arg("--result")
            .arg(&result)
            .args(*options)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*status), "{options:?}: {stderr}");
        assert_eq!(output.stdout, b"F", "{options:?}");
        let text = fs::read_to_string(&result).unwrap();
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["reason"], *reason, "{options:?}: {stderr}");
    }
}
