// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The payload on QEMU's own VT-d unit: an implementation that is not ours says whether the checks are right.
//!
//! QEMU runs in software (TCG), so this needs no `/dev/kvm`. What QEMU is known to get wrong is named in
//! `guest/src/oracle.rs`. Without `qemu-system-x86_64` the tests fail: `make test` installs it.
#![cfg(test)]

use std::process::Command;

use payload::Verdict;

/// Runs the payload's `words` on QEMU with these properties of its `intel-iommu` and `edu`; serial output and exit status.
fn qemu(iommu: &str, edu: &str, words: &str) -> (Option<Verdict>, String, Option<i32>) {
    let image = payload::build().unwrap();
    let output = Command::new("timeout")
        .args([
            "300",
            "qemu-system-x86_64",
            "-accel",
            "tcg",
            "-machine",
            "q35",
            "-cpu",
            "max",
        ])
        .args(["-smp", "4", "-m", "256M"])
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ])
        .args([
            "-device",
            &format!("intel-iommu,intremap=on{iommu}"),
            "-device",
            &format!("edu{edu}"),
        ])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"])
        .arg("-kernel")
        .arg(image)
        .args(["-append", words])
        .output()
        .expect("cannot run `timeout 300 qemu-system-x86_64`");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (Verdict::parse(&text), text, output.status.code())
}

fn assert_good(iommu: &str, edu: &str, words: &str) -> String {
    let (verdict, text, status) = qemu(iommu, edu, words);
    let verdict = verdict
        .unwrap_or_else(|| panic!("the payload did not reach its end, status {status:?}:\n{text}"));
    assert!(verdict.good(), "{verdict:#?}");
    assert_eq!(status, Some(1), "the exit device's status for 0");
    text
}

#[test]
fn payload_on_qemu_with_caching_mode_passes() {
    assert_good(",caching-mode=on,aw-bits=48", "", "oracle=qemu");
}

#[test]
fn payload_on_qemu_without_caching_mode_and_with_39_bits_passes_its_dma_checks() {
    assert_good(
        ",caching-mode=off,aw-bits=39",
        "",
        "oracle=qemu translation contexts faults fault-log",
    );
}

#[test]
fn payload_on_qemu_with_a_64_bit_edu_passes_what_needs_one() {
    assert_good(
        ",caching-mode=off,aw-bits=48",
        ",dma_mask=0xffffffffffffffff",
        "oracle=qemu edu64 translation faults interrupt-faults",
    );
}

#[test]
fn payload_on_qemu_starts_all_cpus_and_interrupts_the_last() {
    let text = assert_good("", "", "oracle=qemu manycpu");
    assert!(text.contains("manycpu: 4 cpus, MSI on APIC id 3"), "{text}");
}

/// The checks do fail: without `oracle=qemu` those that QEMU gets wrong are reported, and the exit status says so.
#[test]
fn payload_on_qemu_without_exceptions_reports_what_qemu_gets_wrong() {
    let (verdict, text, status) = qemu("", "", "handshakes");
    let verdict = verdict.unwrap_or_else(|| panic!("the payload did not reach its end:\n{text}"));
    assert_eq!(
        verdict.failures,
        ["FAIL: handshakes: CFI sets CFIS: expected true got false"]
    );
    assert_eq!(status, Some(3), "the exit device's status for 1");
}

#[test]
fn payload_with_an_unknown_word_fails_and_names_it() {
    let (verdict, text, status) = qemu("", "", "handshakes hanshakes oracle=qemu");
    assert_eq!(verdict.map(|verdict| verdict.failed), Some(1), "{text}");
    assert!(
        text.contains("unknown word on the command line: hanshakes"),
        "{text}"
    );
    assert_eq!(status, Some(3));
}
