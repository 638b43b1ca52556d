// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Builds the bare-metal payload (`tests/payload/guest`) into a file that a multiboot loader takes, and reads its verdict.
//!
//! The guest is a cargo workspace of its own: freestanding code with its own flags (`guest/.cargo/config.toml`) for the
//! host's target, linked at 4 MiB. Multiboot (version 1) wants ELF32, so `objcopy` of binutils rewrites the linked ELF64;
//! the code stays 64-bit and is entered from a 32-bit stub. Nothing is built when nothing changed.
//!
//! The image must hold no vector instruction: a KVM that interprets guest code knows few of them. `build` checks that.

mod verdict;

pub use verdict::Verdict;

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

/// Name of the binary of the guest package.
const BINARY: &str = "payload-vtd";
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the payload and returns the path of the ELF32 image, `target/payload/payload-vtd.elf` of the workspace.
///
/// # Errors
/// When cargo, objcopy or objdump fail or are missing, or when the image holds vector instructions.
pub fn build() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Absolute, because cargo runs in the guest's directory.
    let target = std::path::absolute(target_dir(package))?.join("payload");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // Cargo takes the guest's flags from the directory it runs in; flags of the caller must not replace them.
    build
        .current_dir(package.join("guest"))
        .args(["build", "--quiet", "--release", "--locked"]);
    build.arg("--target-dir").arg(&target);
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
    ] {
        build.env_remove(name);
    }
    run(&mut build)?;

    let linked = target.join(TARGET).join("release").join(BINARY);
    let listing = run(Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn"])
        .arg(&linked))?;
    let vector = listing
        .lines()
        .find(|line| line.contains("%xmm") || line.contains("%ymm"));
    ensure!(
        vector.is_none(),
        "the payload holds a vector instruction: {}",
        vector.unwrap_or_default()
    );

    let image = target.join(format!("{BINARY}.elf"));
    // Written beside and renamed, so that two builds at once, of two processes or two threads, leave a whole file.
    static BUILDS: AtomicU32 = AtomicU32::new(0);
    let build = BUILDS.fetch_add(1, Ordering::Relaxed);
    let fresh = target.join(format!("{BINARY}.{}.{build}.tmp", std::process::id()));
    run(Command::new("objcopy")
        .args(["-I", "elf64-x86-64", "-O", "elf32-i386"])
        .arg(&linked)
        .arg(&fresh))?;
    std::fs::rename(&fresh, &image).with_context(|| format!("cannot write {}", image.display()))?;
    Ok(image)
}

/// The workspace's target directory: where the caller's build goes.
fn target_dir(package: &Path) -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => package.join("../../target"),
    }
}

/// Runs a command to its end and returns what it printed.
fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let arguments = command.get_args().collect::<Vec<_>>().join(OsStr::new(" "));
    ensure!(
        output.status.success(),
        "{name} {} failed ({}):\n{}",
        arguments.to_string_lossy(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
