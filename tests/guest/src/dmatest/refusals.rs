// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses that the IOMMU has to refuse: the device says so, and the kernel logs who, where and why.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::OFlags;

use super::driver::{BLOCKED, Command, Dmatest};
use crate::pci::Function;

/// Linux logs three single faults in five seconds and drops the others: `DEFAULT_RATELIMIT_BURST` is 10, and each takes a line
/// for the status register, one for the record and one for the look at the next.
const BURST: usize = 3;
const INTERVAL: Duration = Duration::from_millis(5300);

/// How long the kernel may take to log a fault.
const PATIENCE: Duration = Duration::from_secs(5);

/// By this the line of a fault is known.
const FAULT: &str = "Request device [";

/// By this the line of a fault that the host's kernel logs, which programs after this one find in the log of theirs.
const PASSED: &str = "DMATEST refused";

/// What the kernel's own page tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Legacy,
    SecondStage,
    FirstStage,
    /// Some of a host that passes the device through: its faults are the host's to log.
    Passed,
}

impl Mode {
    /// By its name on the command line.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "legacy" => Ok(Self::Legacy),
            "second" => Ok(Self::SecondStage),
            "first" => Ok(Self::FirstStage),
            "passed" => Ok(Self::Passed),
            _ => bail!("there is no mode '{name}'"),
        }
    }

    fn reason(self, why: Why, read: bool) -> u8 {
        match (self, why) {
            (_, Why::Reason(reason)) => reason,
            (Self::Legacy, Why::NoTable) => 0x02,
            (Self::Legacy, _) if read => 0x06,
            (Self::Legacy, _) => 0x05,
            (_, Why::NoTable) => 0x59,
            (_, Why::ReadOnly) => 0x85,
            (Self::SecondStage, Why::Absent) => 0x79,
            (Self::FirstStage | Self::Passed, Why::Absent) => 0x71,
        }
    }
}

/// Why an access has to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing is attached.
    NoTable,
    /// The page is not mapped in the kernel's table.
    Absent,
    /// The page is mapped for reading only.
    ReadOnly,
    /// With this fault reason.
    Reason(u8),
}

/// The kernel's log from a moment on, and what was refused since.
pub struct Refusals {
    log: File,
    device: String,
    mode: Mode,
    count: u32,
    /// When the last faults were logged, at most [`BURST`] of them.
    recent: VecDeque<Instant>,
}

impl Refusals {
    /// Refusals of `function`'s accesses from now on.
    pub fn new(function: &Function, mode: Mode) -> Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits())?;
        let log = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open("/dev/kmsg");
        let mut refusals = Self {
            log: log.context("opening the kernel's log")?,
            device: function.id.clone(),
            mode,
            count: 0,
            recent: VecDeque::new(),
        };
        // What programs before this one had refused may have been just now.
        while let Some(record) = refusals.record()? {
            if record.contains(FAULT) || record.contains(PASSED) {
                refusals.logged();
            }
        }
        Ok(refusals)
    }

    /// Fails unless `command` is refused at its access to the page of `address`, for this reason.
    pub fn expect(
        &mut self,
        device: &mut Dmatest,
        command: &Command,
        address: u64,
        why: Why,
    ) -> Result<()> {
        self.pace();
        let answer = device.run(command)?;
        if (answer.status, answer.fault_address) != (BLOCKED, address) {
            bail!("{command:x?} was to be refused at {address:#x}, but: {answer:x?}");
        }
        self.count += 1;
        let read = command.only_reads();
        let request = request(read, command.requested_pasid());
        let page = address & !0xfff;
        if self.mode == Mode::Passed {
            // The host's kernel logs it, and no more of them at a time than this one would.
            let said = format!("{PASSED} {request} at {page:#x}");
            println!("{said}");
            fs::write("/dev/kmsg", format!("<6>{said}\n")).context("noting it in the log")?;
            self.logged();
            return Ok(());
        }
        self.find(&self.line(&request, page, self.mode.reason(why, read)))
    }

    /// Waits until the kernel has logged a fault that no command is answered with: the IOMMU could not do for this PASID what
    /// the kernel says.
    pub fn unmet(&mut self, pasid: u32, address: u64, reason: u8) -> Result<()> {
        let line = self.line(&request(true, Some(pasid)), address, reason);
        self.find(&line)
    }

    /// Fails if the kernel has logged a fault that nobody has looked at.
    pub fn expect_none(&mut self) -> Result<()> {
        while let Some(record) = self.record()? {
            if record.contains(FAULT) {
                bail!("the kernel logged '{}'", record.trim());
            }
        }
        Ok(())
    }

    /// What the kernel logs of a fault of this device.
    fn line(&self, request: &str, page: u64, reason: u8) -> String {
        format!(
            "DMAR: {request} Request device [{}] fault addr {page:#x} [fault reason {reason:#04x}]",
            self.device
        )
    }

    /// Waits until the kernel would log another fault: however it counts, there are never more than [`BURST`] in one interval.
    fn pace(&mut self) {
        if self.recent.len() == BURST
            && let Some(first) = self.recent.pop_front()
        {
            sleep(INTERVAL.saturating_sub(first.elapsed()));
        }
    }

    fn logged(&mut self) {
        if self.recent.len() == BURST {
            self.recent.pop_front();
        }
        self.recent.push_back(Instant::now());
    }

    /// Waits for a line of the log; another fault's line is a failure.
    fn find(&mut self, wanted: &str) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match self.record()? {
                Some(record) if record.contains(wanted) => {
                    self.logged();
                    return Ok(());
                }
                Some(record) if record.contains(FAULT) => {
                    bail!(
                        "the kernel logged '{}' instead of '{wanted}'",
                        record.trim()
                    )
                }
                Some(_) => {}
                None => sleep(Duration::from_millis(2)),
            }
        }
        bail!("the kernel did not log '{wanted}'")
    }

    /// The next record of the log, if there is one.
    fn record(&mut self) -> Result<Option<String>> {
        let mut record = [0; 8192];
        match self.log.read(&mut record) {
            Ok(length) => Ok(Some(
                String::from_utf8_lossy(&record[..length]).into_owned(),
            )),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("reading the kernel's log"),
        }
    }
}

/// A request as the kernel's log has it.
fn request(read: bool, pasid: Option<u32>) -> String {
    let access = if read { "Read" } else { "Write" };
    match pasid {
        Some(pasid) => format!("[DMA {access} PASID {pasid:#x}]"),
        None => format!("[DMA {access} NO_PASID]"),
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused", self.count)
    }
}
