// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `dmatest` (1234:d7a7), a device that makes every kind of request a remapping unit can be asked: with and without PASID,
//! with privilege, as instruction fetch, translated by itself (ATS), and for pages that are not there (PRI).
//!
//! A driver writes commands into a ring of slots in BAR 0 and moves the tail; the device's thread carries them out in order
//! and writes the answers into the slots. docs/dmatest.md describes registers and commands.
//!
//! Lock rule: registers, then cache or configuration space; none is held during DMA, a translation request, a page request or a
//! message. A reset ends the present command at its next piece, or its wait for a page, and waits for that. Dropping the
//! device waits for its thread. Not supported: INTx, page request groups of several pages, stop markers.

mod access;
mod atc;
mod capabilities;
mod command;
mod engine;
mod registers;
mod upstream;

pub use upstream::{Grant, Refused, Upstream};

use crate::irq::IrqLine;
use crate::pci::bar::BarKind;
use crate::pci::config::Identity;
use crate::pci::express::DeviceType;
use crate::pci::function::{Function, FunctionBuilder};
use crate::pci::msix::MsixLayout;
use crate::pci::{BarWindow, PciFunction};
use crate::rest::Rest;
use atc::Atc;
use capabilities::Capabilities;
use command::BUFFER_BYTES;
use iommu::address::IovaRange;
use iommu::ats::{AtsEndpoint, Completion, PageResponse, ResponseCode};
use iommu::dma::DmaSpace;
use iommu::ids::Requester;
use iommu::invalidation::DeviceSpaces;
use iommu::msi::MsiSender;
use registers::{BUFFER, Counts, RING, Registers};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use upstream::Spaces;

const REGISTERS_BAR: u8 = 0;
const REGISTERS_BAR_SIZE: u64 = 128 << 10;
const MSIX: MsixLayout = MsixLayout {
    bar: 2,
    vectors: 16,
    table: 0,
    pending: 0x800,
};
const MSIX_BAR_SIZE: u64 = 4096;

/// Which capabilities the device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmatestOptions {
    /// Bits of a PASID, up to 20; with 0 there is no PASID capability.
    pub pasid_bits: u8,
    /// It can ask for pages, which needs `ats`.
    pub pri: bool,
    /// It can cache translations.
    pub ats: bool,
}

impl Default for DmatestOptions {
    /// Everything.
    fn default() -> Self {
        Self {
            pasid_bits: 20,
            pri: true,
            ats: true,
        }
    }
}

#[derive(Debug)]
struct Shared {
    function: Function,
    capabilities: Capabilities,
    spaces: Spaces,
    upstream: Arc<dyn Upstream>,
    registers: Mutex<Registers>,
    changed: Condvar,
    rest: Rest,
    atc: Mutex<Atc>,
    buffer: Mutex<Vec<u8>>,
}

/// The device.
#[derive(Debug)]
pub struct Dmatest {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

impl Dmatest {
    /// A device whose requests without PASID go through `dma` and all others through `upstream`, and whose messages leave
    /// through `msi` as the space's requester.
    ///
    /// # Errors
    /// Its thread cannot be started.
    ///
    /// # Panics
    /// The options are impossible: PASIDs of more than 20 bits, or PRI without ATS.
    pub fn new(
        options: &DmatestOptions,
        place: DeviceType,
        dma: Arc<DmaSpace>,
        upstream: Arc<dyn Upstream>,
        msi: Arc<dyn MsiSender>,
    ) -> std::io::Result<Arc<Self>> {
        assert!(options.ats || !options.pri, "PRI needs ATS");
        let mut builder = builder(place);
        let capabilities = Capabilities::install(&mut builder, options);
        let shared = Arc::new(Shared {
            function: builder.build(Arc::clone(dma.requester()), msi),
            capabilities,
            spaces: Spaces::new(dma, Arc::clone(&upstream)),
            upstream,
            registers: Mutex::default(),
            changed: Condvar::new(),
            rest: Rest::default(),
            atc: Mutex::default(),
            buffer: Mutex::new(vec![0; BUFFER_BYTES]),
        });
        let theirs = Arc::clone(&shared);
        let worker = thread::Builder::new()
            .name("dmatest".to_owned())
            .spawn(move || theirs.work())?;
        Ok(Arc::new(Self {
            shared,
            worker: Some(worker),
        }))
    }
}

fn builder(place: DeviceType) -> FunctionBuilder {
    let mut builder = FunctionBuilder::endpoint(&Identity {
        vendor: 0x1234,
        device: 0xd7a7,
        subsystem_vendor: 0x1234,
        subsystem: 0xd7a7,
        class: 0xff_0000,
        revision: 0x01,
    });
    let memory = BarKind::Memory64 {
        prefetchable: false,
    };
    builder
        .bar(REGISTERS_BAR, memory, REGISTERS_BAR_SIZE)
        .bar(MSIX.bar, memory, MSIX_BAR_SIZE)
        .express_with_prefixes(place)
        .power_management()
        .msix(MSIX);
    builder
}

impl Drop for Dmatest {
    fn drop(&mut self) {
        self.shared.lock().quit = true;
        self.shared.rest.open();
        self.shared.changed.notify_all();
        if let Some(worker) = self.worker.take() {
            // The thread's panic has been reported; there is nothing to add.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn atc(&self) -> MutexGuard<'_, Atc> {
        self.atc.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn buffer(&self) -> MutexGuard<'_, Vec<u8>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, which: impl FnOnce(&mut Counts) -> &mut u32) {
        let mut registers = self.lock();
        let count = which(&mut registers.counts);
        *count = count.wrapping_add(1);
    }

    /// The thread: commands one after another, until the device goes.
    fn work(&self) {
        loop {
            let mut registers = self.lock();
            registers.working = false;
            self.changed.notify_all();
            let mut registers = self
                .changed
                .wait_while(registers, |r| !r.quit && r.next().is_none())
                .unwrap_or_else(PoisonError::into_inner);
            if registers.quit {
                return;
            }
            let Some(slot) = registers.next() else {
                continue;
            };
            registers.working = true;
            drop(registers);
            let completion = self.execute(&slot);
            let mut registers = self.lock();
            registers.complete(&completion);
            let cancelled = registers.is_cancelled();
            drop(registers);
            if let Some(vector) = command::interrupt(&slot)
                && !cancelled
            {
                let _work = self.rest.work();
                self.function.signal(vector);
            }
        }
    }
}

impl AtsEndpoint for Dmatest {
    fn invalidate(&self, spaces: DeviceSpaces, range: IovaRange) -> Completion {
        let shared = &self.shared;
        shared.count(|counts| &mut counts.invalidations);
        shared.atc().invalidate(spaces, range);
        shared.spaces.plain().quiesce();
        let control = shared.lock().control;
        if control.withhold_completion() {
            Completion::TimedOut
        } else if control.wrong_completion() {
            Completion::Wrong
        } else {
            Completion::Completed
        }
    }

    fn respond(&self, response: PageResponse) {
        let shared = &self.shared;
        let expected = shared.lock().respond(&response);
        if expected {
            if response.code == ResponseCode::Failure {
                shared.set_pri_status(|status| status.with_response_failure(true));
            }
        } else {
            shared.set_pri_status(|status| status.with_unexpected_group(true));
        }
        shared.update_stopped();
        shared.changed.notify_all();
    }
}

impl PciFunction for Dmatest {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.shared.function.config_read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        let shared = &self.shared;
        let before = shared.allowed();
        let outcome = shared.function.config_write(offset, data);
        if outcome.function_level_reset {
            self.reset();
            return;
        }
        if outcome.bus_master_lost {
            shared.spaces.quiesce();
        }
        shared.obey(&before);
        shared.obey_pri(offset, data);
    }

    fn windows(&self) -> Vec<BarWindow> {
        self.shared.function.windows()
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        let shared = &self.shared;
        if bar != REGISTERS_BAR {
            let _ = shared.function.bar_read(bar, offset, data);
        } else if let Some(inside) = offset.checked_sub(BUFFER) {
            let buffer = shared.buffer();
            let from = usize::try_from(inside).unwrap_or(usize::MAX);
            if let Some(found) = from
                .checked_add(data.len())
                .and_then(|end| buffer.get(from..end))
            {
                data.copy_from_slice(found);
            }
        } else if let Some(inside) = offset.checked_sub(RING) {
            shared.lock().read_ring(inside, data);
        } else if is_register_access(offset, data.len()) {
            let cached = shared.atc().len();
            let registers = shared.lock();
            for (at, dword) in (offset..).step_by(4).zip(data.chunks_exact_mut(4)) {
                dword.copy_from_slice(&registers.read(at, cached).to_le_bytes());
            }
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) {
        let shared = &self.shared;
        if bar != REGISTERS_BAR {
            let _ = shared.function.bar_write(bar, offset, data);
        } else if let Some(inside) = offset.checked_sub(BUFFER) {
            let mut buffer = shared.buffer();
            let from = usize::try_from(inside).unwrap_or(usize::MAX);
            for (byte, at) in data.iter().zip(from..) {
                if let Some(place) = buffer.get_mut(at) {
                    *place = *byte;
                }
            }
        } else if let Some(inside) = offset.checked_sub(RING) {
            shared.lock().write_ring(inside, data);
        } else if is_register_access(offset, data.len()) {
            let mut registers = shared.lock();
            for (at, dword) in (offset..).step_by(4).zip(data.chunks_exact(4)) {
                let value = u32::from_le_bytes([dword[0], dword[1], dword[2], dword[3]]);
                registers.write(at, value);
            }
            drop(registers);
            shared.changed.notify_all();
        }
    }

    fn requester(&self) -> &Arc<Requester> {
        self.shared.function.requester()
    }

    fn connect_intx(&self, _gsi: u8, _line: Arc<dyn IrqLine>) {}

    fn pause(&self) {
        self.shared.rest.close();
    }

    fn resume(&self) {
        self.shared.rest.open();
    }

    fn reset(&self) {
        let shared = &self.shared;
        let mut registers = shared.lock();
        registers.resets += 1;
        shared.changed.notify_all();
        let mut registers = shared
            .changed
            .wait_while(registers, |r| r.working)
            .unwrap_or_else(PoisonError::into_inner);
        registers.reset();
        drop(registers);
        shared.atc().clear();
        shared.buffer().fill(0);
        shared.function.reset();
        shared.lock().resets -= 1;
    }
}

/// Registers take aligned accesses of 4 and 8 bytes.
fn is_register_access(offset: u64, len: usize) -> bool {
    matches!(len, 4 | 8) && offset.is_multiple_of(len as u64)
}

#[cfg(test)]
mod tests;
