// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The part of the transport that workers reach: status, vectors and the way to the driver (virtio 1.2 section 4.1.5).
//!
//! With MSI-X each queue and the configuration have a vector each; otherwise the interrupt status byte says why the pin is
//! asserted, and reading it takes the pin back. There is no lock here besides the function's own.

use super::common::{NO_VECTOR, byte};
use crate::pci::function::{Function, InterruptMode};
use crate::virtio::{Notifier, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_NEEDS_RESET};
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

/// Bits of the interrupt status byte.
const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

/// The function, and what its workers share with it.
#[derive(Debug)]
pub struct Shared {
    /// The PCI function.
    pub function: Function,
    status: AtomicU8,
    isr: AtomicU8,
    config_vector: AtomicU16,
    queue_vectors: Vec<AtomicU16>,
}

impl Shared {
    /// The state after power-on of a function with `queues` queues.
    #[must_use]
    pub fn new(function: Function, queues: usize) -> Self {
        Self {
            function,
            status: AtomicU8::new(0),
            isr: AtomicU8::new(0),
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
        }
    }

    /// The device status.
    #[must_use]
    pub fn status(&self) -> u8 {
        self.status.load(Ordering::Acquire)
    }

    /// Adds bits to the device status.
    pub fn add_status(&self, bits: u8) {
        self.status.fetch_or(bits, Ordering::AcqRel);
    }

    /// Sets the vector for configuration changes.
    pub fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(vector, Ordering::Release);
    }

    /// Sets the vector of a queue.
    pub fn set_queue_vector(&self, queue: u16, vector: u16) {
        if let Some(register) = self.queue_vectors.get(usize::from(queue)) {
            register.store(vector, Ordering::Release);
        }
    }

    /// Back to the state after power-on, but for the function. No worker runs any more.
    pub fn reset(&self) {
        self.set_config_vector(NO_VECTOR);
        for register in &self.queue_vectors {
            register.store(NO_VECTOR, Ordering::Release);
        }
        self.isr.store(0, Ordering::Release);
        self.function.set_intx(false);
        self.status.store(0, Ordering::Release);
    }

    /// Reads the interrupt status byte, which clears it and takes the pin back.
    pub fn take_isr(&self) -> u8 {
        let isr = self.isr.swap(0, Ordering::AcqRel);
        self.update_pin();
        isr
    }

    /// The pin says whether the byte holds a reason; a worker may have added one since.
    fn update_pin(&self) {
        self.function
            .update_intx(|_| self.isr.load(Ordering::Acquire) != 0);
    }

    /// Sets DEVICE_NEEDS_RESET and says so, if the driver was told that the device works.
    pub fn fail(&self) {
        self.add_status(byte(VIRTIO_CONFIG_S_NEEDS_RESET));
        if self.status() & byte(VIRTIO_CONFIG_S_DRIVER_OK) != 0 {
            self.interrupt(self.config_vector.load(Ordering::Acquire), ISR_CONFIG);
        }
    }

    fn interrupt(&self, vector: u16, reason: u8) {
        if self.function.interrupt_mode() == InterruptMode::Msix {
            if vector != NO_VECTOR {
                self.function.signal(vector);
            }
        } else {
            self.isr.fetch_or(reason, Ordering::AcqRel);
            self.update_pin();
        }
    }
}

impl Notifier for Shared {
    fn used(&self, queue: u16) {
        if let Some(vector) = self.queue_vectors.get(usize::from(queue)) {
            self.interrupt(vector.load(Ordering::Acquire), ISR_QUEUE);
        }
    }

    fn needs_reset(&self, _queue: u16) {
        self.fail();
    }
}
