// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program from outside: exit status, last line and result file, with guests of a few instructions or none.
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

/// A multiboot image that says "F" on the serial port, without an end of line, and powers off.
fn guest() -> Vec<u8> {
    const CODE: &[u8] = &[
        0xba, 0xf8, 0x03, 0, 0, // mov edx, 0x3f8
        0xb0, b'F', // mov al, 'F'
        0xee, // out dx, al
        0xba, 0x00, 0x06, 0, 0, // mov edx, 0x600
        0xb0, 0x34, // mov al, 0x34
        0xee, // out dx, al
        0xf4, // hlt
    ];
    let mut file = vec![0; 96];
    let mut put = |at: usize, value: &[u8]| file[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x01\x01\x01");
    put(18, &[3, 0]);
    // Entry, program headers: one of 32 bytes at 52; load 17 bytes at 96 to 4 MiB.
    for (at, word) in [(24, 0x40_0000u32), (28, 52), (42, 32), (44, 1)] {
        put(at, &word.to_le_bytes());
    }
    for (at, word) in (52..)
        .step_by(4)
        .zip([1u32, 96, 0x40_0000, 0x40_0000, 17, 17, 7, 4])
    {
        put(at, &word.to_le_bytes());
    }
    put(
        84,
        &[0x02, 0xb0, 0xad, 0x1b, 0, 0, 0, 0, 0xfe, 0x4f, 0x52, 0xe4],
    );
    file.extend(CODE);
    file
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn power_off_ends_the_run_by_what_the_console_said_before() {
    let dir = tempfile::tempdir().unwrap();
    let (kernel, result) = (dir.path().join("kernel"), dir.path().join("result"));
    fs::write(&kernel, guest()).unwrap();
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
