// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `edu` (1234:11e8), the small DMA and interrupt device that drivers and tests are taught with: a liveness register, a
//! factorial, interrupts on demand, and a 4 KiB buffer that DMA fills and empties.
//!
//! Registers as QEMU's device of that name has them. DMA and factorial run on the device's own thread, so no processor waits
//! for them. A transfer that is blocked, or that does not stay within the buffer, moves nothing and ends as any other.
//!
//! Lock rule: one lock around the registers, never held during DMA, a message or a change of the line. Dropping the device
//! waits for its thread. Not supported: function level reset.

mod registers;

use crate::irq::IrqLine;
use crate::pci::bar::BarKind;
use crate::pci::config::Identity;
use crate::pci::function::{Function, FunctionBuilder, InterruptMode, IntxPin};
use crate::pci::{BarWindow, PciFunction};
use crate::rest::Rest;
use iommu::address::Iova;
use iommu::dma::DmaSpace;
use iommu::ids::Requester;
use iommu::msi::MsiSender;
use registers::{BUFFER_SIZE, Job, Registers, Transfer};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The address bits that the device drives by default: 28.
pub const DEFAULT_DMA_MASK: u64 = (1 << 28) - 1;

const BAR_SIZE: u64 = 1 << 20;

#[derive(Debug)]
struct Shared {
    function: Function,
    dma: Arc<DmaSpace>,
    dma_mask: u64,
    registers: Mutex<Registers>,
    changed: Condvar,
    rest: Rest,
}

/// The device.
#[derive(Debug)]
pub struct Edu {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

impl Edu {
    /// A device whose DMA goes through `dma`, after `dma_mask` was applied to its addresses, and whose messages leave through
    /// `msi` as the space's requester.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub fn new(
        dma: Arc<DmaSpace>,
        msi: Arc<dyn MsiSender>,
        dma_mask: u64,
    ) -> std::io::Result<Arc<Self>> {
        let mut builder = FunctionBuilder::endpoint(&Identity {
            vendor: 0x1234,
            device: 0x11e8,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            class: 0x00_ff00,
            revision: 0x10,
        });
        let memory = BarKind::Memory32 {
            prefetchable: false,
        };
        builder
            .bar(0, memory, BAR_SIZE)
            .intx(IntxPin::A)
            .msi(1, false);
        let shared = Arc::new(Shared {
            function: builder.build(Arc::clone(dma.requester()), msi),
            dma,
            dma_mask,
            registers: Mutex::default(),
            changed: Condvar::new(),
            rest: Rest::default(),
        });
        let theirs = Arc::clone(&shared);
        let worker = thread::Builder::new()
            .name("edu".to_owned())
            .spawn(move || theirs.work())?;
        Ok(Arc::new(Self {
            shared,
            worker: Some(worker),
        }))
    }
}

impl Drop for Edu {
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

    /// The thread: jobs one after another, until the device goes.
    fn work(&self) {
        let mut buffer = vec![0; BUFFER_SIZE];
        loop {
            let mut registers = self.lock();
            registers.working = false;
            self.changed.notify_all();
            let mut registers = self
                .changed
                .wait_while(registers, |r| !r.quit && r.job().is_none())
                .unwrap_or_else(PoisonError::into_inner);
            if registers.quit {
                return;
            }
            let Some(job) = registers.job() else { continue };
            registers.working = true;
            drop(registers);
            let _work = self.rest.work();
            let event = match job {
                Job::Transfer(transfer) => {
                    self.transfer(transfer, &mut buffer);
                    self.lock().end_transfer()
                }
                Job::Factorial(number) => {
                    let result = registers::factorial(number);
                    self.lock().end_factorial(result)
                }
            };
            if let Some(bits) = event {
                self.raise(bits);
            }
        }
    }

    fn transfer(&self, transfer: Transfer, buffer: &mut [u8]) {
        let Some(inside) = transfer.range() else {
            return;
        };
        let iova = Iova(transfer.memory() & self.dma_mask);
        let section = self.dma.section();
        // The unit has recorded what it blocked; the device has no way to tell.
        if transfer.to_memory() {
            let _ = section.write(iova, &buffer[inside]);
        } else {
            let mut data = vec![0; inside.len()];
            if section.read(iova, &mut data).is_ok() {
                buffer[inside].copy_from_slice(&data);
            }
        }
    }

    fn raise(&self, bits: u32) {
        let status = {
            let mut registers = self.lock();
            registers.interrupt |= bits;
            registers.interrupt
        };
        if status == 0 {
            return;
        }
        match self.function.interrupt_mode() {
            InterruptMode::Intx => self.update_line(),
            InterruptMode::Msi | InterruptMode::Msix => self.function.signal(0),
        }
    }

    fn acknowledge(&self, bits: u32) {
        self.lock().interrupt &= !bits;
        self.update_line();
    }

    /// The pin follows the status. The status is read again afterwards: another thread may have changed it meanwhile, and
    /// whoever changes it last must have the last word.
    fn update_line(&self) {
        let mut level = self.lock().interrupt != 0;
        loop {
            self.function.set_intx(level);
            let now = self.lock().interrupt != 0;
            if now == level {
                return;
            }
            level = now;
        }
    }
}

impl PciFunction for Edu {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.shared.function.config_read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        let outcome = self.shared.function.config_write(offset, data);
        if outcome.bus_master_lost {
            self.shared.dma.quiesce();
        }
    }

    fn windows(&self) -> Vec<BarWindow> {
        self.shared.function.windows()
    }

    fn bar_read(&self, _bar: u8, offset: u64, data: &mut [u8]) {
        if registers::takes(offset, data.len())
            && let Some(value) = self.shared.lock().read(offset)
        {
            let len = data.len();
            data.copy_from_slice(&value.to_le_bytes()[..len]);
        }
    }

    fn bar_write(&self, _bar: u8, offset: u64, data: &[u8]) {
        if !registers::takes(offset, data.len()) {
            return;
        }
        let mut bytes = [0; 8];
        bytes[..data.len()].copy_from_slice(data);
        let [a, b, c, d, ..] = bytes;
        let low = u32::from_le_bytes([a, b, c, d]);
        match offset {
            registers::RAISE => self.shared.raise(low),
            registers::ACKNOWLEDGE => self.shared.acknowledge(low),
            _ => {
                let value = u64::from_le_bytes(bytes);
                if self.shared.lock().write(offset, value) {
                    self.shared.changed.notify_all();
                }
            }
        }
    }

    fn requester(&self) -> &Arc<Requester> {
        self.shared.function.requester()
    }

    fn connect_intx(&self, _gsi: u8, line: Arc<dyn IrqLine>) {
        self.shared.function.connect_intx(line);
    }

    fn pause(&self) {
        self.shared.rest.close();
    }

    fn resume(&self) {
        self.shared.rest.open();
    }

    fn reset(&self) {
        let mut registers = self.shared.lock();
        registers.resetting = true;
        let mut registers = self
            .shared
            .changed
            .wait_while(registers, |r| r.working || r.job().is_some())
            .unwrap_or_else(PoisonError::into_inner);
        registers.reset();
        drop(registers);
        self.shared.function.reset();
    }
}

#[cfg(test)]
mod tests;
