// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Virtio over PCI, modern interface only (virtio 1.2 section 4.1).
//!
//! A device sits on the root bus as an integrated endpoint, or below a root port. Its DMA and its messages leave under the
//! identity of its [`DmaSpace`], so the IOMMU sees all of them.
//!
//! A reset stops the workers, waits for the request that each may have under way, and only then reads back as status 0.
//! Lock order: registers, then workers, then the function. No lock is held while a worker is joined but the registers', which
//! workers never take. A notification takes the workers' lock for reading.

mod common;
mod interrupt;
mod layout;

use super::log_limit::LogLimit;
use super::ring::Ring;
use super::worker::Worker;
use super::{
    COMMON_FEATURES, Notifier, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VirtioDevice,
};
use crate::irq::IrqLine;
use crate::pci::config::Identity;
use crate::pci::express::DeviceType;
use crate::pci::function::{FunctionBuilder, IntxPin};
use crate::pci::{BarWindow, PciFunction};
use common::{CommonConfig, Effect, byte};
use interrupt::Shared;
use iommu::dma::DmaSpace;
use iommu::ids::Requester;
use iommu::msi::MsiSender;
use layout::Place;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

static START_FAILURES: LogLimit = LogLimit::new();

const VENDOR: u16 = 0x1af4;
const FIRST_DEVICE: u16 = 0x1040;

/// A virtio device as a PCI function.
#[derive(Debug)]
pub struct VirtioPci {
    device: Box<dyn VirtioDevice>,
    space: Arc<DmaSpace>,
    shared: Arc<Shared>,
    registers: Mutex<CommonConfig>,
    /// By queue; empty while the driver is not ready.
    workers: RwLock<Vec<Option<Worker>>>,
    /// Offset of the capability by which the BAR is reached from configuration space.
    window: u16,
}

impl VirtioPci {
    /// Puts `device` on the bus: `place` is [`DeviceType::IntegratedEndpoint`] on the root bus, [`DeviceType::Endpoint`] below
    /// a root port. It reaches memory through `space`, whose requester it is, and sends its messages through `msi`.
    #[must_use]
    pub fn new(
        device: Box<dyn VirtioDevice>,
        place: DeviceType,
        space: Arc<DmaSpace>,
        msi: Arc<dyn MsiSender>,
    ) -> Arc<Self> {
        let id = FIRST_DEVICE + device.id();
        let mut builder = FunctionBuilder::endpoint(&Identity {
            vendor: VENDOR,
            device: id,
            subsystem_vendor: VENDOR,
            subsystem: id,
            class: device.class(),
            revision: 1,
        });
        let queues = device.queue_sizes().len();
        let count = u16::try_from(queues).unwrap_or(u16::MAX);
        let window = layout::install(&mut builder, count, device.config().len());
        builder
            .intx(IntxPin::A)
            .power_management()
            .express(place, true);
        let function = builder.build(Arc::clone(space.requester()), msi);
        let registers =
            CommonConfig::new(device.features() | COMMON_FEATURES, device.queue_sizes());
        Arc::new(Self {
            device,
            space,
            shared: Arc::new(Shared::new(function, queues)),
            registers: Mutex::new(registers),
            workers: RwLock::new(Vec::new()),
            window,
        })
    }

    /// Stops the device for good or until its driver starts it again: when this returns, no thread of it is left and no DMA
    /// is under way.
    pub fn stop(&self) {
        self.reset_device(&mut self.registers());
    }

    fn registers(&self) -> MutexGuard<'_, CommonConfig> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn reset_device(&self, registers: &mut CommonConfig) {
        let workers = {
            let mut running = self.workers.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *running)
        };
        workers.iter().flatten().for_each(Worker::begin_stop);
        drop(workers);
        registers.reset();
        self.shared.reset();
    }

    fn write_common(&self, at: usize, data: &[u8]) {
        let mut registers = self.registers();
        let features_ok = self.shared.status() & byte(VIRTIO_CONFIG_S_FEATURES_OK) != 0;
        match registers.write(at, data, features_ok) {
            Effect::None => {}
            Effect::Status(written) => self.write_status(&mut registers, written),
            Effect::ConfigVector(vector) => self.shared.set_config_vector(vector),
            Effect::QueueVector(queue, vector) => self.shared.set_queue_vector(queue, vector),
        }
    }

    fn write_status(&self, registers: &mut CommonConfig, written: u8) {
        let status = self.shared.status();
        let next = registers.next_status(status, written);
        let ready = byte(VIRTIO_CONFIG_S_DRIVER_OK);
        let agreed = next & byte(VIRTIO_CONFIG_S_FEATURES_OK) != 0;
        if next == 0 {
            self.reset_device(registers);
        } else if next & !status & ready != 0 {
            // A driver that goes on although its features were refused gets no device.
            self.shared
                .add_status(if agreed { next } else { next & !ready });
            if agreed {
                self.start(registers);
            }
        } else {
            self.shared.add_status(next);
        }
    }

    fn start(&self, registers: &CommonConfig) {
        match self.spawn_workers(registers) {
            Ok(workers) => {
                *self.workers.write().unwrap_or_else(PoisonError::into_inner) = workers;
            }
            Err(error) => {
                if let Some(number) = START_FAILURES.admit() {
                    tracing::warn!(
                        device = self.device.name(),
                        number,
                        error = &*error,
                        "virtio device cannot start; it needs a reset"
                    );
                }
                self.shared.fail();
            }
        }
    }

    fn spawn_workers(
        &self,
        registers: &CommonConfig,
    ) -> Result<Vec<Option<Worker>>, Box<dyn std::error::Error>> {
        let features = registers.driver_features();
        let handlers = self.device.activate(features)?;
        let mut workers = Vec::with_capacity(handlers.len());
        for (index, (handler, queue)) in (0..).zip(handlers.into_iter().zip(registers.queues())) {
            if !queue.enabled {
                workers.push(None);
                continue;
            }
            let notifier: Arc<dyn Notifier> = self.shared.clone();
            let space = Arc::clone(&self.space);
            let ring = Ring::new(
                index,
                queue.layout,
                queue.max_size,
                features,
                space,
                Arc::clone(&notifier),
            )?;
            let worker = Worker::spawn(self.device.name(), ring, handler, notifier)?;
            // What the driver made available before it was ready has had no notification.
            worker.kick().wake();
            workers.push(Some(worker));
        }
        Ok(workers)
    }

    fn notify(&self, queue: u16) {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(worker)) = workers.get(usize::from(queue)) {
            worker.kick().wake();
        }
    }

    /// The access that the window capability describes: offset into the BAR and bytes, if it is a possible one.
    fn window_access(&self) -> Option<(u64, usize)> {
        let field = |at: u16| {
            let mut bytes = [0; 4];
            self.shared
                .function
                .config_read(self.window + at, &mut bytes);
            u32::from_le_bytes(bytes)
        };
        let [bar, ..] = field(4).to_le_bytes();
        let (offset, len) = (u64::from(field(8)), field(12));
        let possible = bar == layout::BAR
            && matches!(len, 1 | 2 | 4)
            && offset.is_multiple_of(len.into())
            && offset < layout::BAR_SIZE;
        possible.then_some((offset, len as usize))
    }
}

/// Offset of the data in the window capability.
const WINDOW_DATA: u16 = 16;

impl PciFunction for VirtioPci {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.shared.function.config_read(offset, data);
        if offset == self.window + WINDOW_DATA
            && let Some((at, len)) = self.window_access()
            && let Some(data) = data.get_mut(..len)
        {
            data.fill(0xff);
            self.bar_read(layout::BAR, at, data);
        }
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        let outcome = self.shared.function.config_write(offset, data);
        if outcome.bus_master_lost {
            self.space.quiesce();
        }
        if outcome.function_level_reset {
            self.reset();
        } else if offset == self.window + WINDOW_DATA
            && let Some((at, len)) = self.window_access()
            && let Some(data) = data.get(..len)
        {
            self.bar_write(layout::BAR, at, data);
        }
    }

    fn windows(&self) -> Vec<BarWindow> {
        self.shared.function.windows()
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        if self.shared.function.bar_read(bar, offset, data) {
            return;
        }
        match Place::at(offset) {
            Some(Place::Common(at)) => {
                data.fill(0);
                self.registers().read(at, data, self.shared.status());
            }
            Some(Place::Isr) => {
                data.fill(0);
                if let Some(first) = data.first_mut() {
                    *first = self.shared.take_isr();
                }
            }
            Some(Place::Device(at)) => {
                data.fill(0);
                for (to, from) in data.iter_mut().zip(self.device.config().iter().skip(at)) {
                    *to = *from;
                }
            }
            Some(Place::Notify(_)) | None => {}
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) {
        if self.shared.function.bar_write(bar, offset, data) {
            return;
        }
        match Place::at(offset) {
            Some(Place::Common(at)) => self.write_common(at, data),
            Some(Place::Notify(queue)) => self.notify(queue),
            Some(Place::Isr | Place::Device(_)) | None => {}
        }
    }

    fn requester(&self) -> &Arc<Requester> {
        self.shared.function.requester()
    }

    fn connect_intx(&self, _gsi: u8, line: Arc<dyn IrqLine>) {
        self.shared.function.connect_intx(line);
    }

    fn pause(&self) {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        workers.iter().flatten().for_each(Worker::pause);
    }

    fn resume(&self) {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        workers.iter().flatten().for_each(Worker::resume);
    }

    fn reset(&self) {
        let mut registers = self.registers();
        self.reset_device(&mut registers);
        self.shared.function.reset();
    }
}

#[cfg(test)]
mod tests;
