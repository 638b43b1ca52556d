// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Starts another kernel from the running one: `kexec now|crash KERNEL INITRD CMDLINE`.
//!
//! - `now`: by an orderly kexec, at once
//! - `crash`: loads it for the moment when this kernel panics, and returns

use std::ffi::{CString, c_long};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use rustix::system::{RebootCommand, reboot};

/// `KEXEC_FILE_ON_CRASH` of linux/kexec.h.
const ON_CRASH: c_long = 2;

/// Runs `kexec ARGUMENTS…`.
pub fn run(args: &[&str]) -> Result<()> {
    let &[when, kernel, initrd, cmdline] = args else {
        bail!("kexec takes now or crash, a kernel, an initrd and a command line")
    };
    let flags = match when {
        "now" => 0,
        "crash" => ON_CRASH,
        _ => bail!("kexec knows no '{when}'"),
    };
    load(kernel, initrd, cmdline, flags).with_context(|| format!("loading the kernel {kernel}"))?;
    println!("KEXEC {when}: loaded {kernel}");
    if when == "now" {
        rustix::fs::sync();
        reboot(RebootCommand::Kexec).context("starting the loaded kernel")?;
    }
    Ok(())
}

/// kexec_file_load(2), for which there is no safe wrapper.
fn load(kernel: &str, initrd: &str, cmdline: &str, flags: c_long) -> Result<()> {
    let kernel = File::open(kernel).with_context(|| format!("opening {kernel}"))?;
    let initrd = File::open(initrd).with_context(|| format!("opening {initrd}"))?;
    let cmdline = CString::new(cmdline)?;
    let size = cmdline.as_bytes_with_nul().len();
    #[expect(unsafe_code, reason = "no library wraps this system call")]
    // SAFETY: the kernel only reads, `size` bytes at `cmdline`, which lives until the call has returned.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.as_raw_fd(),
            size,
            cmdline.as_ptr(),
            flags,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error()).context("kexec_file_load")
    }
}
