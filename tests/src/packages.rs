// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The Debian packages that the lab stands on: what is missing is installed, or named in one line.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::progress::Progress;
use crate::{browser, paths, process};

/// What shows that a package is there.
enum Sign {
    /// A program on PATH.
    Program(&'static str),
    /// A file.
    File(&'static str),
    /// A busybox that needs no shared library.
    StaticBusybox,
}

/// To run L1 and what is tested in it.
const RUN: &[(Sign, &str)] = &[
    (Sign::Program("qemu-system-x86_64"), "qemu-system-x86"),
    (Sign::StaticBusybox, "busybox-static"),
    (Sign::Program("setpriv"), "util-linux"),
    // For the bare-metal payload: objcopy and objdump.
    (Sign::Program("objcopy"), "binutils"),
];

/// To build the lab kernel.
const BUILD: &[(Sign, &str)] = &[
    (Sign::Program("gcc"), "gcc"),
    (Sign::Program("make"), "make"),
    (Sign::Program("flex"), "flex"),
    (Sign::Program("bison"), "bison"),
    (Sign::Program("bc"), "bc"),
    (Sign::Program("perl"), "perl"),
    (Sign::Program("xz"), "xz-utils"),
    (Sign::File("/usr/include/libelf.h"), "libelf-dev"),
    (Sign::File("/usr/include/openssl/opensslv.h"), "libssl-dev"),
];

/// To look at pages.
const LOOK: &[(Sign, &str)] = &[(Sign::Program(browser::PROGRAM), browser::PROGRAM)];

/// Makes sure that L1 can run.
pub fn for_running() -> Result<()> {
    provide(RUN)
}

/// Makes sure that a kernel can be built.
pub fn for_building() -> Result<()> {
    provide(BUILD)
}

/// Makes sure that pages can be looked at.
pub fn for_looking() -> Result<()> {
    provide(LOOK)
}

/// The statically linked busybox.
pub fn busybox() -> Option<&'static Path> {
    let candidates = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    candidates
        .into_iter()
        .find(|path| fs::read(path).is_ok_and(|bytes| !names_loader(&bytes)))
}

/// The machine's distribution as os-release(5) names it: ID and VERSION_CODENAME.
pub fn distribution() -> (String, String) {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    (field("ID"), field("VERSION_CODENAME"))
}

/// A dynamically linked program names its loader near its start.
fn names_loader(program: &[u8]) -> bool {
    let head = &program[..program.len().min(4096)];
    head.windows(8).any(|bytes| bytes == b"ld-linux")
}

fn is_there(sign: &Sign) -> bool {
    match sign {
        Sign::Program(name) => {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path).any(|dir| dir.join(name).is_file())
        }
        Sign::File(path) => Path::new(path).exists(),
        Sign::StaticBusybox => busybox().is_some(),
    }
}

fn provide(wanted: &[(Sign, &str)]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(sign, _)| !is_there(sign))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if distribution().0 != "debian" {
        bail!(
            "missing on this machine (names are Debian's): {names}; install them with your package manager"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("missing packages: {names}; as root: apt-get install {names}");
    }
    install(&missing)?;
    match wanted.iter().find(|(sign, _)| !is_there(sign)) {
        Some((_, package)) => bail!(
            "the package {package} was installed but does not give what the lab needs from it"
        ),
        None => Ok(()),
    }
}

fn install(missing: &[&str]) -> Result<()> {
    let _progress = Progress::start(&format!("installing {}", missing.join(" ")), 0);
    let log = paths::cache("logs")?.join("apt.log");
    let mut update = process::bound("apt-get");
    process::logged(
        update.args(["-o", "DPkg::Lock::Timeout=600", "update"]),
        &log,
        |_| {},
    )
    .context("refreshing the package lists")?;
    let mut install = process::bound("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install
        .args([
            "-o",
            "DPkg::Lock::Timeout=600",
            "install",
            "-y",
            "--no-install-recommends",
        ])
        .args(missing);
    process::logged(&mut install, &log, |_| {}).context("installing packages")
}
