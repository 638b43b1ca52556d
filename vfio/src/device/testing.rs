// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device and a machine for tests: they write down what is done to them.

use super::direct::{Direct, MemorySlots};
use super::interrupts::{InterruptRoutes, VectorRoute};
use super::port::{IrqKind, Port};
use super::reset::ResetError;
use crate::uapi::Errno;
use iommu::address::Gpa;
use iommu::ids::Requester;
use iommu::msi::MsiMessage;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// A device whose configuration space is plain bytes.
#[derive(Debug, Default)]
pub(super) struct RecordingPort {
    log: Mutex<Vec<String>>,
    fail: Mutex<Option<i32>>,
    fail_kind: Mutex<Option<(IrqKind, i32)>>,
    fail_reset: Mutex<Option<i32>>,
    events: Mutex<Vec<OwnedFd>>,
    pub(super) image: Mutex<Vec<u8>>,
}

impl RecordingPort {
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// The next call fails with this number and is not written down.
    pub(super) fn fail_next(&self, errno: i32) {
        *self.fail.lock().unwrap() = Some(errno);
    }

    /// Arming `kind` fails with this number and is not written down.
    pub(super) fn fail_kind(&self, kind: IrqKind, errno: i32) {
        *self.fail_kind.lock().unwrap() = Some((kind, errno));
    }

    /// Resets fail with this number.
    pub(super) fn fail_reset(&self, errno: i32) {
        *self.fail_reset.lock().unwrap() = Some(errno);
    }

    /// The event that was armed as `number`, pins, vectors and others together.
    pub(super) fn event(&self, number: usize) -> OwnedFd {
        self.events.lock().unwrap()[number].try_clone().unwrap()
    }

    fn note(&self, what: String) -> Result<(), Errno> {
        if let Some(errno) = self.fail.lock().unwrap().take() {
            return Err(Errno::new(errno));
        }
        self.log.lock().unwrap().push(what);
        Ok(())
    }
}

impl Port for RecordingPort {
    fn config_read(&self, at: u16, data: &mut [u8]) -> io::Result<()> {
        let image = self.image.lock().unwrap();
        for (byte, value) in data.iter_mut().zip(image.iter().skip(usize::from(at))) {
            *byte = *value;
        }
        Ok(())
    }

    fn config_write(&self, at: u16, data: &[u8]) -> io::Result<()> {
        Ok(self.note(format!("config {at:#x} {data:x?}"))?)
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.note(format!("read {bar} {offset:#x} {}", data.len()))?;
        data.fill(0x5a);
        Ok(())
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> io::Result<()> {
        Ok(self.note(format!("write {bar} {offset:#x} {data:x?}"))?)
    }

    fn arm(
        &self,
        kind: IrqKind,
        first: u32,
        events: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), Errno> {
        match *self.fail_kind.lock().unwrap() {
            Some((failing, errno)) if failing == kind => return Err(Errno::new(errno)),
            _ => {}
        }
        let kept = events.iter().flatten();
        let kept = kept.map(|event| event.try_clone_to_owned().unwrap());
        self.events.lock().unwrap().extend(kept);
        let events: Vec<_> = events
            .iter()
            .map(|event| if event.is_some() { "some" } else { "none" })
            .collect();
        self.note(format!("arm {kind:?} {first} {}", events.join(" ")))
    }

    fn disarm(&self, kind: IrqKind) -> Result<(), Errno> {
        self.note(format!("disarm {kind:?}"))
    }

    fn mask_intx(&self, masked: bool) -> Result<(), Errno> {
        self.note(format!("mask {masked}"))
    }

    fn reset(&self) -> Result<(), ResetError> {
        if let Some(errno) = *self.fail_reset.lock().unwrap() {
            return Err(Errno::new(errno).into());
        }
        Ok(self.note("reset".to_owned())?)
    }
}

/// A machine with routes and memory slots.
#[derive(Debug, Default)]
pub(super) struct Machine {
    routes: Mutex<Vec<Weak<RouteState>>>,
    slots: Mutex<Vec<(u64, u8, u64, u64)>>,
    keeps_slots: AtomicBool,
}

#[derive(Debug)]
struct RouteState {
    event: OwnedFd,
    message: Mutex<Option<MsiMessage>>,
    sets: AtomicUsize,
    pending: AtomicBool,
}

#[derive(Debug)]
struct Route(Arc<RouteState>);

impl Machine {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The messages of all routes that are left.
    pub(super) fn messages(&self) -> Vec<Option<MsiMessage>> {
        let routes = self.routes.lock().unwrap();
        let left = routes.iter().filter_map(Weak::upgrade);
        left.map(|route| *route.message.lock().unwrap()).collect()
    }

    /// How often each route that is left was told its message.
    pub(super) fn sets(&self) -> Vec<usize> {
        let routes = self.routes.lock().unwrap();
        let left = routes.iter().filter_map(Weak::upgrade);
        left.map(|route| route.sets.load(Ordering::Relaxed))
            .collect()
    }

    /// The host's kernel signals the route that was made as `number`.
    pub(super) fn signal(&self, number: usize) {
        let route = self.routes.lock().unwrap()[number].upgrade().unwrap();
        let waits = route.message.lock().unwrap().is_none();
        route.pending.store(waits, Ordering::Relaxed);
    }

    /// Whether parts of BARs cannot be unmapped from now on.
    pub(super) fn keep_slots(&self, keep: bool) {
        self.keeps_slots.store(keep, Ordering::Relaxed);
    }

    /// Where parts of BARs are mapped now: guest-physical address, BAR, offset and bytes.
    pub(super) fn slots(&self) -> Vec<(u64, u8, u64, u64)> {
        self.slots.lock().unwrap().clone()
    }
}

impl InterruptRoutes for Machine {
    fn route(&self, _requester: &Arc<Requester>) -> io::Result<Box<dyn VectorRoute>> {
        let state = Arc::new(RouteState {
            event: File::open("/dev/null")?.into(),
            message: Mutex::new(None),
            sets: AtomicUsize::new(0),
            pending: AtomicBool::new(false),
        });
        self.routes.lock().unwrap().push(Arc::downgrade(&state));
        Ok(Box::new(Route(state)))
    }
}

impl MemorySlots for Machine {
    fn map(&self, gpa: Gpa, direct: &Direct) -> io::Result<()> {
        let part = direct.part();
        let slot = (gpa.0, direct.bar(), part.start, part.end - part.start);
        self.slots.lock().unwrap().push(slot);
        Ok(())
    }

    fn unmap(&self, gpa: Gpa, direct: &Direct) -> io::Result<()> {
        if self.keeps_slots.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut slots = self.slots.lock().unwrap();
        let before = slots.len();
        slots.retain(|slot| (slot.0, slot.1, slot.2) != (gpa.0, direct.bar(), direct.part().start));
        assert_eq!(slots.len() + 1, before, "it was mapped");
        Ok(())
    }
}

impl VectorRoute for Route {
    fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    fn set(&self, message: Option<MsiMessage>) -> io::Result<()> {
        *self.0.message.lock().unwrap() = message;
        self.0.sets.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_pending(&self) -> bool {
        self.0.pending.load(Ordering::Relaxed)
    }
}
