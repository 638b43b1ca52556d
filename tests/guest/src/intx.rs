// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pin of QEMU's `edu`, driven from user space through the guest kernel's own VFIO: `intx`.
//!
//! Random data goes piece by piece into the device and out of it to other memory, and the device's pin tells of the end of each
//! transfer. A pin that is still asserted when it is unmasked must signal again, and one that was acknowledged must not. At the
//! end stands `INTX ok N interrupts`.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::os::fd::{AsRawFd, OwnedFd};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_INTX_IRQ_INDEX,
};
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

use crate::ioctl::{SetIrq, call};
use crate::memory::Memory;
use crate::pci::Function;
use crate::vfio;
use crate::vfio::group::Container;

/// Where its memory is in its own address space.
const BUFFER: u32 = 0x4_0000;
/// Bytes of a transfer. All 4096 of its memory at once make QEMU take offence at its own bounds.
const CHUNK: u32 = 2048;
/// Bytes that are moved there and back.
const BYTES: u32 = 32 << 10;
/// Where the device finds the data, and where it puts them; it has 28 address bits.
const FROM: u32 = 0x0100_0000;
const TO: u32 = 0x0200_0000;
/// How long an interrupt may take on a busy machine, and how long none is waited for.
const PATIENCE: i64 = 60;
const SILENCE: i64 = 1;

mod register {
    pub const IDENTIFICATION: usize = 0x00;
    pub const CAUSE: usize = 0x24;
    pub const RAISE: usize = 0x60;
    pub const ACKNOWLEDGE: usize = 0x64;
    pub const SOURCE: usize = 0x80;
    pub const DESTINATION: usize = 0x88;
    pub const COUNT: usize = 0x90;
    pub const COMMAND: usize = 0x98;
}

/// Commands: start, from the device to memory, with an interrupt at the end.
const START: u32 = 1;
const TO_MEMORY: u32 = 2;
const INTERRUPT: u32 = 4;
/// The interrupt's cause after a transfer.
const TRANSFERRED: u32 = 0x100;

/// Runs `intx`.
pub fn run() -> Result<()> {
    let function = Function::find(0x1234, 0x11e8)?;
    function.bind_to_vfio()?;
    let container = Container::open(&function)?;
    let (from, to) = (Memory::new(BYTES as usize)?, Memory::new(BYTES as usize)?);
    from.fill(51)?;
    container.map(&from, FROM.into(), false)?;
    container.map(&to, TO.into(), true)?;
    let mut edu = Edu::new(container)?;
    for at in (0..BYTES).step_by(CHUNK as usize) {
        edu.transfer(FROM + at, BUFFER, START | INTERRUPT)?;
        edu.transfer(BUFFER, TO + at, START | TO_MEMORY | INTERRUPT)?;
    }
    to.check(51)?;
    edu.hold()?;
    let line = std::fs::read_to_string("/proc/interrupts")?;
    let line = line.lines().find(|line| line.contains("vfio-intx"));
    println!("{}", line.context("no interrupt of VFIO's is listed")?);
    println!("INTX ok {} interrupts", edu.interrupts);
    Ok(())
}

struct Edu {
    container: Container,
    registers: MmapRegion,
    event: OwnedFd,
    interrupts: u32,
}

impl Edu {
    fn new(container: Container) -> Result<Self> {
        let registers = vfio::enable(&container.device)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let trigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        let mut set = SetIrq::with_event(trigger, VFIO_PCI_INTX_IRQ_INDEX, event.as_raw_fd());
        call(&container.device, &mut set).context("enabling the pin")?;
        let edu = Self {
            container,
            registers,
            event,
            interrupts: 0,
        };
        match edu.read(register::IDENTIFICATION)? {
            0x0100_00ed => Ok(edu),
            other => bail!("edu says {other:#x}"),
        }
    }

    fn transfer(&mut self, source: u32, destination: u32, command: u32) -> Result<()> {
        self.write(register::SOURCE, source)?;
        self.write(register::DESTINATION, destination)?;
        self.write(register::COUNT, CHUNK)?;
        self.write(register::COMMAND, command)?;
        self.expect_interrupt(TRANSFERRED)?;
        self.write(register::ACKNOWLEDGE, TRANSFERRED)?;
        self.unmask()
    }

    /// A pin that stays asserted signals after each end, and no more once it is released.
    fn hold(&mut self) -> Result<()> {
        self.write(register::RAISE, 1)?;
        for _ in 0..3 {
            self.expect_interrupt(1)?;
            self.unmask()?;
        }
        self.expect_interrupt(1)?;
        self.write(register::ACKNOWLEDGE, 1)?;
        self.unmask()?;
        if self.wait(SILENCE)? {
            bail!("the pin signals though nothing asserts it");
        }
        Ok(())
    }

    fn expect_interrupt(&mut self, cause: u32) -> Result<()> {
        if !self.wait(PATIENCE)? {
            bail!(
                "interrupt {} did not come; edu's cause is {:#x}",
                self.interrupts,
                self.read(register::CAUSE)?
            );
        }
        self.interrupts += 1;
        match self.read(register::CAUSE)? {
            seen if seen == cause => Ok(()),
            seen => bail!("interrupt of cause {seen:#x}, not {cause:#x}"),
        }
    }

    /// Whether the pin signalled within so many seconds.
    fn wait(&self, seconds: i64) -> Result<bool> {
        let mut polled = [PollFd::from_borrowed_fd(self.event.as_fd(), PollFlags::IN)];
        let limit = Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        };
        if poll(&mut polled, Some(&limit))? == 0 {
            return Ok(false);
        }
        rustix::io::read(&self.event, &mut [0; 8])?;
        Ok(true)
    }

    fn unmask(&self) -> Result<()> {
        let unmask = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
        let mut set = SetIrq::without_data(unmask, VFIO_PCI_INTX_IRQ_INDEX);
        call(&self.container.device, &mut set).context("unmasking the pin")?;
        Ok(())
    }

    fn read(&self, at: usize) -> Result<u32> {
        Ok(self
            .registers
            .as_volatile_slice()
            .load(at, std::sync::atomic::Ordering::SeqCst)?)
    }

    fn write(&self, at: usize, value: u32) -> Result<()> {
        let slice = self.registers.as_volatile_slice();
        Ok(slice.store(value, at, std::sync::atomic::Ordering::SeqCst)?)
    }
}
