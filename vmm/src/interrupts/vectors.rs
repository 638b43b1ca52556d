// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Vectors of passed-through devices: the host's kernel signals an event, and the guest gets the message that its driver
//! programmed, remapped.
//!
//! As a rule KVM delivers by itself (KVM_IRQFD): the message is remapped in advance, stands in the kernel's routes, and is
//! remapped again whenever the unit tells of a change, before the guest hears that its invalidation is done. While a route is
//! replaced the event stays with KVM, which changes over at once, so no signal is lost.
//!
//! A message that cannot be remapped in advance (its table entry blocks it, or posts it, or it is no interrupt's address) has no
//! route. Its event is then served by a thread, which sends the message as an emulated device would: at each signal the
//! unit looks at the entry, and the guest gets the fault that it would get from hardware, or the interrupt, if the entry has
//! become present meanwhile. That is also what happens to a vector whose route the kernel refuses.
//!
//! A masked vector is served by nobody. Its event keeps the signal, and whoever serves it next delivers it.
//!
//! Lock rule: one lock over all vectors, before the route table's. It is held while the thread sends a message, so nothing
//! is delivered for a vector that was masked or taken away. The unit never waits for it inside an interrupt section.

use super::table::{MOST_ROUTES, RouteTable};
use super::{Remap, is_interrupt};
use crate::layout;
use iommu::ids::Requester;
use iommu::msi::{MsiMessage, MsiSender};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use vfio::device::interrupts::{InterruptRoutes, VectorRoute};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// What the thread is woken by to end; no interrupt has this number.
const STOP: u64 = u64::MAX;

/// The vectors of a machine.
#[derive(Debug)]
pub struct VectorRoutes {
    shared: Arc<Shared>,
    stop: EventFd,
    worker: Option<JoinHandle<()>>,
}

impl VectorRoutes {
    /// No vectors yet, whose routes will stand in `table`.
    ///
    /// # Errors
    /// The host has no file descriptor or thread left.
    pub fn new(table: Arc<RouteTable>) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            table,
            vectors: Mutex::default(),
            waiting: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            refused: AtomicU64::new(0),
        });
        let stop = event()?;
        shared.watch(&stop, STOP)?;
        let worker = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("vfio-vectors".to_owned())
                .spawn(move || shared.serve())?
        };
        Ok(Arc::new(Self {
            shared,
            stop,
            worker: Some(worker),
        }))
    }

    /// Routes for devices whose messages `remap` remaps and `messages` sends.
    #[must_use]
    pub fn behind(
        &self,
        remap: Arc<dyn Remap>,
        messages: Arc<dyn MsiSender>,
    ) -> Arc<dyn InterruptRoutes> {
        Arc::new(Behind {
            shared: Arc::clone(&self.shared),
            remap,
            messages,
        })
    }

    /// Remaps every vector again; call it after remapping changed. When it returns nothing is delivered as before.
    pub fn refresh(&self) {
        self.shared.refresh();
    }
}

impl Drop for VectorRoutes {
    fn drop(&mut self) {
        let woken = self.stop.write(1);
        if woken.is_ok()
            && let Some(worker) = self.worker.take()
        {
            // A worker that panicked has said so.
            drop(worker.join());
        }
    }
}

/// Who takes the signals of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// They wait.
    Nobody,
    /// KVM, by the route.
    Kernel,
    /// The thread.
    Worker,
}

#[derive(Debug)]
struct Vector {
    event: Arc<EventFd>,
    remap: Arc<dyn Remap>,
    messages: Arc<dyn MsiSender>,
    requester: Arc<Requester>,
    /// As programmed; `None` while the vector is masked.
    message: Option<MsiMessage>,
    server: Server,
}

impl Vector {
    /// What a signal becomes, where that can be told in advance.
    fn preview(&self) -> Option<MsiMessage> {
        let message = self.message.filter(|message| is_interrupt(*message))?;
        self.remap.preview(self.requester.source(), message)
    }

    fn is_signalled(&self) -> bool {
        let event = borrow(&self.event);
        let mut polled = [PollFd::new(&event, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

#[derive(Debug)]
struct Shared {
    table: Arc<RouteTable>,
    /// By global system interrupt.
    vectors: Mutex<BTreeMap<u32, Vector>>,
    /// The events that the thread serves.
    waiting: OwnedFd,
    /// Routes that the kernel refused.
    refused: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Vector>> {
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, event: &EventFd, name: u64) -> io::Result<()> {
        let name = epoll::EventData::new_u64(name);
        epoll::add(&self.waiting, borrow(event), name, epoll::EventFlags::IN)?;
        Ok(())
    }

    /// Hands the event of `gsi` over. Signals that come in between wait in the event.
    fn hand_over(&self, gsi: u32, vector: &mut Vector, to: Server) -> io::Result<()> {
        if vector.server == to {
            return Ok(());
        }
        match std::mem::replace(&mut vector.server, Server::Nobody) {
            Server::Nobody => {}
            Server::Kernel => self.table.apics().detach(&vector.event, gsi)?,
            Server::Worker => epoll::delete(&self.waiting, borrow(&vector.event))?,
        }
        match to {
            Server::Nobody => {}
            Server::Kernel => self.table.apics().attach(&vector.event, gsi)?,
            Server::Worker => self.watch(&vector.event, u64::from(gsi))?,
        }
        vector.server = to;
        Ok(())
    }

    /// Has the vector served as its message asks for.
    fn settle(&self, gsi: u32, vector: &mut Vector) -> io::Result<()> {
        if vector.message.is_none() {
            return self.hand_over(gsi, vector, Server::Nobody);
        }
        let Some(remapped) = vector.preview() else {
            return self.hand_over(gsi, vector, Server::Worker);
        };
        let routed = self.table.change([(gsi, Some(remapped))]);
        self.settle_routed(gsi, vector, &routed)
    }

    /// KVM serves what has its route, and otherwise the thread does.
    fn settle_routed(
        &self,
        gsi: u32,
        vector: &mut Vector,
        routed: &io::Result<()>,
    ) -> io::Result<()> {
        let attached = match routed {
            Ok(()) => self.hand_over(gsi, vector, Server::Kernel),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        attached.or_else(|error| {
            // Powers of two keep a guest that changes it again and again from filling the log.
            let count = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                tracing::warn!(
                    "an interrupt of a passed-through device is slow, as KVM refuses its route ({count} so far): {error}"
                );
            }
            self.hand_over(gsi, vector, Server::Worker)
        })
    }

    fn refresh(&self) {
        let mut vectors = self.lock();
        let mut changes = Vec::new();
        for (&gsi, vector) in vectors.iter_mut() {
            match vector.preview() {
                Some(remapped) => changes.push((gsi, Some(remapped))),
                // What is blocked from now on leaves its old route before anybody hears that it is.
                None if vector.message.is_some() => {
                    report(self.hand_over(gsi, vector, Server::Worker));
                }
                None => {}
            }
        }
        let routed = self.table.change(changes.iter().copied());
        for (gsi, _) in changes {
            if let Some(vector) = vectors.get_mut(&gsi) {
                report(self.settle_routed(gsi, vector, &routed));
            }
        }
    }

    fn serve(&self) {
        let mut ready = Vec::with_capacity(16);
        loop {
            ready.clear();
            match epoll::wait(
                &self.waiting,
                rustix::buffer::spare_capacity(&mut ready),
                None,
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!("interrupts that are not routed are lost: {error}");
                    return;
                }
            }
            for event in &ready {
                match u32::try_from(event.data.u64()) {
                    Ok(gsi) => self.fire(gsi),
                    Err(_) => return,
                }
            }
        }
    }

    /// Sends the message of a vector that was signalled, if it is still the thread's to send.
    fn fire(&self, gsi: u32) {
        let mut vectors = self.lock();
        let Some(vector) = vectors.get_mut(&gsi) else {
            return;
        };
        if vector.server != Server::Worker || vector.event.read().is_err() {
            return;
        }
        if let Some(message) = vector.message {
            vector.messages.send(&vector.requester, message);
        }
        // An entry may become present without an invalidation (VT-d specification 6.1).
        if vector.preview().is_some() {
            report(self.settle(gsi, vector));
        }
    }
}

/// One unit's devices.
#[derive(Debug)]
struct Behind {
    shared: Arc<Shared>,
    remap: Arc<dyn Remap>,
    messages: Arc<dyn MsiSender>,
}

impl InterruptRoutes for Behind {
    fn route(&self, requester: &Arc<Requester>) -> io::Result<Box<dyn VectorRoute>> {
        let event = Arc::new(event()?);
        let mut vectors = self.shared.lock();
        let mut free = layout::IOAPIC_PINS..MOST_ROUTES;
        let Some(gsi) = free.find(|gsi| !vectors.contains_key(gsi)) else {
            return Err(io::Error::other(format!(
                "KVM routes {MOST_ROUTES} interrupts, and all are used"
            )));
        };
        let vector = Vector {
            event: Arc::clone(&event),
            remap: Arc::clone(&self.remap),
            messages: Arc::clone(&self.messages),
            requester: Arc::clone(requester),
            message: None,
            server: Server::Nobody,
        };
        vectors.insert(gsi, vector);
        Ok(Box::new(Handle {
            shared: Arc::clone(&self.shared),
            event,
            gsi,
        }))
    }
}

/// A vector as its device has it.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    event: Arc<EventFd>,
    gsi: u32,
}

impl VectorRoute for Handle {
    fn event(&self) -> BorrowedFd<'_> {
        borrow(&self.event)
    }

    fn set(&self, message: Option<MsiMessage>) -> io::Result<()> {
        let mut vectors = self.shared.lock();
        let vector = vectors.get_mut(&self.gsi).ok_or(io::ErrorKind::NotFound)?;
        vector.message = message;
        self.shared.settle(self.gsi, vector)
    }

    fn is_pending(&self) -> bool {
        let vectors = self.shared.lock();
        let vector = vectors.get(&self.gsi);
        vector.is_some_and(|vector| vector.server == Server::Nobody && vector.is_signalled())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut vectors = self.shared.lock();
        if let Some(mut vector) = vectors.remove(&self.gsi) {
            report(self.shared.hand_over(self.gsi, &mut vector, Server::Nobody));
            self.shared.table.forget(self.gsi);
        }
    }
}

fn event() -> io::Result<EventFd> {
    EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)
}

#[expect(unsafe_code, reason = "the event only tells the number of its file")]
fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the event owns the file, and the result lives no longer than the reference to it.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

fn report(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!("an interrupt of a passed-through device is lost: {error}");
    }
}

#[cfg(test)]
mod tests;
