// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An address bus: accesses in, devices out.
//!
//! The port space, the memory-mapped space and nothing else of the machine is such a bus. An address that no device claims
//! reads all-ones and swallows writes, as on hardware. Lock rule: the table is locked for the look-up only, never while a
//! device runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// What a bus leads to. Offsets are bytes from the start of the range that the device was inserted at.
pub trait BusDevice: fmt::Debug + Send + Sync {
    /// Fills `data` (1, 2, 4 or 8 bytes). It holds all-ones at entry, so a device that does not answer leaves it alone.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Takes `data` (1, 2, 4 or 8 bytes).
    fn write(&self, offset: u64, data: &[u8]);
}

/// A range cannot be given to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The range is empty or passes the end of the address space.
    #[error("bus range at {base:#x} of {len:#x} bytes is empty or wraps")]
    BadRange {
        /// First address.
        base: u64,
        /// Bytes.
        len: u64,
    },
    /// Another device is there.
    #[error("bus range at {base:#x} of {len:#x} bytes overlaps the device at {other:#x}")]
    Overlap {
        /// First address.
        base: u64,
        /// Bytes.
        len: u64,
        /// Where the other device begins.
        other: u64,
    },
}

#[derive(Clone, Debug)]
struct Slot {
    last: u64,
    device: Arc<dyn BusDevice>,
}

/// A bus.
#[derive(Debug, Default)]
pub struct Bus {
    slots: RwLock<BTreeMap<u64, Slot>>,
}

impl Bus {
    /// Gives the `len` bytes from `base` on to `device`.
    ///
    /// # Errors
    /// The range is empty, wraps, or is taken.
    pub fn insert(&self, base: u64, len: u64, device: Arc<dyn BusDevice>) -> Result<(), BusError> {
        let last = len
            .checked_sub(1)
            .and_then(|extra| base.checked_add(extra))
            .ok_or(BusError::BadRange { base, len })?;
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((&other, slot)) = slots.range(..=last).next_back()
            && slot.last >= base
        {
            return Err(BusError::Overlap { base, len, other });
        }
        slots.insert(base, Slot { last, device });
        Ok(())
    }

    /// Takes the range that begins at `base` away from its device; whether there was one.
    pub fn remove(&self, base: u64) -> bool {
        self.slots
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&base)
            .is_some()
    }

    /// Reads `data.len()` bytes at `address`. All-ones where nothing answers, also when the access only begins in a device.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((offset, device)) = self.find(address, data.len()) {
            device.read(offset, data);
        }
    }

    /// Writes `data` at `address`. Lost where nothing answers.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.find(address, data.len()) {
            device.write(offset, data);
        }
    }

    fn find(&self, address: u64, len: usize) -> Option<(u64, Arc<dyn BusDevice>)> {
        let last = address.checked_add((len as u64).checked_sub(1)?)?;
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let (&base, slot) = slots.range(..=address).next_back()?;
        (last <= slot.last).then(|| (address - base, Arc::clone(&slot.device)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<(u64, usize)>>);

    impl BusDevice for Recorder {
        fn read(&self, offset: u64, data: &mut [u8]) {
            self.0.lock().unwrap().push((offset, data.len()));
            data.fill(0x5a);
        }
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.len()));
        }
    }

    #[test]
    fn read_of_nothing_is_all_ones() {
        let mut data = [0; 4];
        Bus::default().read(0x1000, &mut data);
        assert_eq!(data, [0xff; 4]);
    }

    #[test]
    fn access_inside_a_range_reaches_its_device_with_the_offset() {
        let (bus, device) = (Bus::default(), Arc::new(Recorder::default()));
        bus.insert(0x1000, 0x10, device.clone()).unwrap();
        let mut data = [0; 4];
        bus.read(0x100c, &mut data);
        assert_eq!(data, [0x5a; 4]);
        assert_eq!(*device.0.lock().unwrap(), [(0xc, 4)]);
    }

    #[test]
    fn access_across_the_end_reaches_nobody() {
        let (bus, device) = (Bus::default(), Arc::new(Recorder::default()));
        bus.insert(0x1000, 0x10, device.clone()).unwrap();
        bus.write(0x100e, &[0; 4]);
        assert!(device.0.lock().unwrap().is_empty());
    }

    #[test]
    fn range_to_the_last_byte_is_accepted_and_beyond_is_refused() {
        let bus = Bus::default();
        let device = Arc::new(Recorder::default());
        assert!(bus.insert(u64::MAX - 0xf, 0x10, device.clone()).is_ok());
        assert_eq!(
            bus.insert(u64::MAX, 2, device),
            Err(BusError::BadRange {
                base: u64::MAX,
                len: 2
            })
        );
    }

    #[test]
    fn overlap_names_the_other_device() {
        let bus = Bus::default();
        let device = Arc::new(Recorder::default());
        bus.insert(0x1000, 0x10, device.clone()).unwrap();
        let taken = bus.insert(0xfff, 2, device.clone());
        assert_eq!(
            taken,
            Err(BusError::Overlap {
                base: 0xfff,
                len: 2,
                other: 0x1000
            })
        );
        assert!(bus.remove(0x1000));
        assert!(bus.insert(0xfff, 2, device).is_ok());
    }
}
