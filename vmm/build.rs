// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Finds out whether tests that need KVM can run here, so that they are reported as ignored, with the reason, where not.

use std::fs::OpenOptions;

fn main() {
    println!("cargo:rerun-if-changed=/dev/kvm");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(has_kvm)");
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    if kvm.is_ok() {
        println!("cargo:rustc-cfg=has_kvm");
    }
}
