// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration space in two layers: bit by bit, what the guest reads comes from us or from the device, and what it writes
//! goes to us, to the device, to both or nowhere.
//!
//! The kernel's VFIO virtualises the device's side too, so a bit that goes there is harmless to the host whatever it is.

use devices::pci::config::{CONFIG_SIZE, ConfigSpace, Identity};

/// What has to be written to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostWrite {
    /// Where.
    pub at: u16,
    bytes: [u8; 4],
    len: usize,
}

impl HostWrite {
    /// The bytes, 1 to 4.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The same without `bits` of the byte at `at`.
    #[must_use]
    pub fn without(mut self, at: u16, bits: u8) -> Self {
        let byte = at.checked_sub(self.at).map(usize::from);
        if let Some(byte) = byte.and_then(|byte| self.bytes.get_mut(byte)) {
            *byte &= !bits;
        }
        self
    }
}

/// The two layers.
#[derive(Debug)]
pub(super) struct View {
    /// Our layer, with what the guest may change in it.
    pub(super) ours: ConfigSpace,
    /// Bits that the guest reads from us.
    emulated: Vec<u8>,
    /// Bits of the guest's writes that go to the device.
    forwarded: Vec<u8>,
}

impl View {
    /// Everything is ours and nothing is forwarded.
    pub(super) fn new(identity: &Identity) -> Self {
        Self {
            ours: ConfigSpace::endpoint(identity),
            emulated: vec![0xff; usize::from(CONFIG_SIZE)],
            forwarded: vec![0; usize::from(CONFIG_SIZE)],
        }
    }

    /// The `len` bytes from `at` on are the device's, to read and to write.
    pub(super) fn give(&mut self, at: u16, len: u16) {
        self.set_masks(
            at,
            &vec![0; usize::from(len)],
            &vec![0xff; usize::from(len)],
        );
    }

    /// From `at` on: the bits of `emulated` are read from us, those of `forwarded` are written to the device. The masks are
    /// equally long and end in the space.
    pub(super) fn set_masks(&mut self, at: u16, emulated: &[u8], forwarded: &[u8]) {
        let from = usize::from(at);
        self.emulated[from..from + emulated.len()].copy_from_slice(emulated);
        self.forwarded[from..from + forwarded.len()].copy_from_slice(forwarded);
    }

    /// Puts a constant of ours at `at`: the guest reads it and cannot change it.
    pub(super) fn fix(&mut self, at: u16, bytes: &[u8]) {
        self.ours.set_bytes(at, bytes);
        self.ours.allow_write(at, &vec![0; bytes.len()]);
        let zeros = vec![0; bytes.len()];
        self.set_masks(at, &vec![0xff; bytes.len()], &zeros);
    }

    /// Whether any bit of the bytes from `at` on is read from the device.
    pub(super) fn needs_host(&self, at: u16, len: usize) -> bool {
        let from = usize::from(at);
        let bytes = self.emulated.iter().skip(from).take(len);
        bytes.into_iter().any(|mask| *mask != 0xff)
    }

    /// Replaces in `data`, which the device answered, the bits that are ours.
    pub(super) fn read(&self, at: u16, data: &mut [u8]) {
        let mut ours = vec![0; data.len()];
        self.ours.read(at, &mut ours);
        let masks = self.emulated.iter().skip(usize::from(at));
        for ((byte, ours), mask) in data.iter_mut().zip(ours).zip(masks) {
            *byte = *byte & !mask | ours & mask;
        }
    }

    /// Writes to our layer; what has to be written to the device.
    pub(super) fn write(&mut self, at: u16, data: &[u8]) -> Option<HostWrite> {
        self.ours.write(at, data);
        let masks = self.forwarded.iter().skip(usize::from(at));
        let mut write = HostWrite {
            at,
            bytes: [0; 4],
            len: data.len().min(4),
        };
        let mut any = false;
        for ((to, from), mask) in write.bytes.iter_mut().zip(data).zip(masks) {
            *to = from & mask;
            any |= *mask != 0;
        }
        any.then_some(write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_from_the_layer_that_has_them() {
        let mut view = View::new(&Identity::default());
        view.give(0x80, 4);
        view.set_masks(0x82, &[0xf0], &[0x0f]);
        view.ours.set_bytes(0x80, &[0xaa; 4]);
        let mut data = [0x55; 4];
        view.read(0x80, &mut data);
        assert_eq!(data, [0x55, 0x55, 0xa5, 0x55]);
        assert!(view.needs_host(0x82, 1) && !view.needs_host(0x84, 4));
        let write = view.write(0x80, &[0xff; 4]).unwrap();
        assert_eq!(
            (write.at, write.bytes()),
            (0x80, &[0xff, 0xff, 0x0f, 0xff][..])
        );
        assert_eq!(view.write(0x84, &[0xff; 4]), None);
    }
}
