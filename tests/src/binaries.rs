// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The programs under test, built freshly and statically linked, so that they run in L1 and in any guest alike.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where the built programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The monitor.
    pub remora: PathBuf,
    /// Helper programs for guests: one program, its first argument says which.
    pub guest_tools: PathBuf,
    /// Helper programs for L1 that use its VFIO: one program, its first argument says which.
    pub host_tools: PathBuf,
}

/// Builds them. Cargo's own messages go to stderr.
pub fn build() -> Result<Binaries> {
    let dir = paths::target().join("lab").join("build");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(paths::workspace()).stdin(Stdio::null());
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "vmm",
        "--package",
        "guest-tools",
        "--package",
        "host-tools",
    ]);
    // With a target named, the flags hold for our programs and not for build scripts.
    cargo
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(&dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status().context("starting cargo")?;
    if !status.success() {
        bail!("building the programs under test failed");
    }
    let place = dir.join(TARGET).join("release");
    Ok(Binaries {
        remora: place.join("remora"),
        guest_tools: place.join("guest-tools"),
        host_tools: place.join("host-tools"),
    })
}
