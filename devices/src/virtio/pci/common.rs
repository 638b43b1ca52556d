// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The common configuration structure (virtio 1.2 section 4.1.4.3): registers, no effects.
//!
//! Reads of any width are served from a snapshot of the structure; writes count only at the offset and width of a field, where
//! 64-bit fields may be written as two halves. A queue's registers are frozen once it is enabled.

use super::layout::COMMON_LEN;
use crate::virtio::ring::QueueLayout;
use crate::virtio::{REQUIRED_FEATURES, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET};

/// "No vector" in the MSI-X vector registers.
pub const NO_VECTOR: u16 = 0xffff;

/// One queue's registers.
#[derive(Clone, Copy, Debug)]
pub struct QueueRegisters {
    /// What the device offers.
    pub max_size: u16,
    /// What the driver chose.
    pub layout: QueueLayout,
    /// MSI-X vector.
    pub vector: u16,
    /// The driver is done with it.
    pub enabled: bool,
}

impl QueueRegisters {
    fn new(max_size: u16) -> Self {
        Self {
            max_size,
            layout: QueueLayout {
                size: max_size,
                ..QueueLayout::default()
            },
            vector: NO_VECTOR,
            enabled: false,
        }
    }
}

/// What a write asks the transport to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The driver wrote the device status; see [`CommonConfig::next_status`].
    Status(u8),
    /// The driver chose another vector for configuration changes.
    ConfigVector(u16),
    /// The driver chose another vector for a queue.
    QueueVector(u16, u16),
}

/// The registers.
#[derive(Debug)]
pub struct CommonConfig {
    offered: u64,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    config_vector: u16,
    queue_select: u16,
    queues: Vec<QueueRegisters>,
}

impl CommonConfig {
    /// The registers of a device that offers the features `offered` and has queues of these sizes.
    #[must_use]
    pub fn new(offered: u64, queue_sizes: &[u16]) -> Self {
        Self {
            offered,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            config_vector: NO_VECTOR,
            queue_select: 0,
            queues: queue_sizes
                .iter()
                .copied()
                .map(QueueRegisters::new)
                .collect(),
        }
    }

    /// Back to the state after power-on.
    pub fn reset(&mut self) {
        let sizes: Vec<_> = self.queues.iter().map(|queue| queue.max_size).collect();
        *self = Self::new(self.offered, &sizes);
    }

    /// The queues, in order.
    #[must_use]
    pub fn queues(&self) -> &[QueueRegisters] {
        &self.queues
    }

    /// The features that the driver wrote.
    #[must_use]
    pub fn driver_features(&self) -> u64 {
        self.driver_features
    }

    /// The status after the driver wrote `written` over `status`; 0 asks for a reset. Bits are only ever added, and
    /// FEATURES_OK only if the device can work with the driver's features.
    #[must_use]
    pub fn next_status(&self, status: u8, written: u8) -> u8 {
        if written == 0 {
            return 0;
        }
        let mut added = written & !status & !byte(VIRTIO_CONFIG_S_NEEDS_RESET);
        let unknown = self.driver_features & !self.offered;
        let missing = REQUIRED_FEATURES & !self.driver_features;
        if unknown != 0 || missing != 0 {
            added &= !byte(VIRTIO_CONFIG_S_FEATURES_OK);
        }
        status | added
    }

    /// Reads at `at`. `status` is the device status.
    pub fn read(&self, at: usize, data: &mut [u8], status: u8) {
        let snapshot = self.snapshot(status);
        for (to, from) in data.iter_mut().zip(snapshot.iter().skip(at)) {
            *to = *from;
        }
    }

    fn snapshot(&self, status: u8) -> [u8; COMMON_LEN as usize] {
        let mut bytes = [0; COMMON_LEN as usize];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &self.device_feature_select.to_le_bytes());
        put(4, &half(self.offered, self.device_feature_select));
        put(8, &self.driver_feature_select.to_le_bytes());
        put(12, &half(self.driver_features, self.driver_feature_select));
        put(16, &self.config_vector.to_le_bytes());
        let count = u16::try_from(self.queues.len()).unwrap_or(u16::MAX);
        put(18, &count.to_le_bytes());
        // The generation at 21 stays 0: no configuration here ever changes.
        put(20, &[status]);
        put(22, &self.queue_select.to_le_bytes());
        if let Some(queue) = self.queues.get(usize::from(self.queue_select)) {
            put(24, &queue.layout.size.to_le_bytes());
            put(26, &queue.vector.to_le_bytes());
            put(28, &u16::from(queue.enabled).to_le_bytes());
            put(30, &self.queue_select.to_le_bytes());
            put(32, &queue.layout.desc.to_le_bytes());
            put(40, &queue.layout.driver.to_le_bytes());
            put(48, &queue.layout.device.to_le_bytes());
        }
        bytes
    }

    /// Writes `data` at `at`. `features_ok` says that features are agreed and cannot be changed any more.
    pub fn write(&mut self, at: usize, data: &[u8], features_ok: bool) -> Effect {
        let mut wide = [0; 8];
        let Some(low) = wide.get_mut(..data.len()) else {
            return Effect::None;
        };
        low.copy_from_slice(data);
        let value = u64::from_le_bytes(wide);
        let [b0, b1, b2, b3, ..] = wide;
        let (word, dword) = (
            u16::from_le_bytes([b0, b1]),
            u32::from_le_bytes([b0, b1, b2, b3]),
        );
        match (at, data.len()) {
            (0, 4) => self.device_feature_select = dword,
            (8, 4) => self.driver_feature_select = dword,
            (12, 4) if !features_ok => self.set_driver_features(dword),
            (16, 2) => return self.set_config_vector(word),
            (20, 1) => return Effect::Status(b0),
            (22, 2) => self.queue_select = word,
            (26, 2) => return self.set_queue_vector(word),
            (24 | 28, 2) | (32..=52, 4 | 8) => self.write_queue(at, data.len(), value),
            _ => {}
        }
        Effect::None
    }

    fn set_driver_features(&mut self, value: u32) {
        let shift = match self.driver_feature_select {
            0 => 0,
            1 => 32,
            _ => return,
        };
        let kept = self.driver_features & !(u64::from(u32::MAX) << shift);
        self.driver_features = kept | u64::from(value) << shift;
    }

    /// A vector that does not exist reads back as none.
    fn known_vector(&self, vector: u16) -> u16 {
        if usize::from(vector) <= self.queues.len() {
            vector
        } else {
            NO_VECTOR
        }
    }

    fn set_config_vector(&mut self, vector: u16) -> Effect {
        self.config_vector = self.known_vector(vector);
        Effect::ConfigVector(self.config_vector)
    }

    fn set_queue_vector(&mut self, vector: u16) -> Effect {
        let vector = self.known_vector(vector);
        let index = self.queue_select;
        match self.queues.get_mut(usize::from(index)) {
            None => Effect::None,
            Some(queue) => {
                queue.vector = vector;
                Effect::QueueVector(index, vector)
            }
        }
    }

    fn write_queue(&mut self, at: usize, len: usize, value: u64) {
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) else {
            return;
        };
        if queue.enabled {
            return;
        }
        let layout = &mut queue.layout;
        match at {
            24 => layout.size = u16::try_from(value).unwrap_or(0),
            28 => queue.enabled = value == 1,
            32..40 => set_address(&mut layout.desc, at - 32, len, value),
            40..48 => set_address(&mut layout.driver, at - 40, len, value),
            _ => set_address(&mut layout.device, at - 48, len, value),
        }
    }
}

/// Sets a 64-bit register, whole or by halves.
fn set_address(register: &mut u64, at: usize, len: usize, value: u64) {
    match (at, len) {
        (0, 8) => *register = value,
        (0, 4) => *register = *register >> 32 << 32 | value,
        (4, 4) => *register = *register & u64::from(u32::MAX) | value << 32,
        _ => {}
    }
}

fn half(features: u64, select: u32) -> [u8; 4] {
    let [a, b, c, d, e, f, g, h] = features.to_le_bytes();
    match select {
        0 => [a, b, c, d],
        1 => [e, f, g, h],
        _ => [0; 4],
    }
}

/// The low byte of a status bit.
pub(super) const fn byte(bit: u32) -> u8 {
    bit.to_le_bytes()[0]
}
