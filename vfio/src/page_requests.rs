// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page requests of passed-through devices: from the host's fault queue to the guest's page request queue, and the guest's
//! answers back.
//!
//! The host's kernel names a group of requests by a cookie and awaits one answer. The guest names it by PASID and group, so
//! what is outstanding is remembered, for each device up to a limit, at which all of it is given up: a guest that never answers
//! keeps its own device waiting, and nobody else. What the guest cannot see, because its queue overflows or its context
//! forbids page requests, is answered at once. When a device or a PASID is detached the kernel answers what it asked; the
//! guest's answer, if one comes, is lost.
//!
//! One thread serves the queue. Lock rule: the lock is held over nothing but the list of what is outstanding; not over calls
//! of the unit, which may answer before it returns.

use crate::uapi::Errno;
use crate::uapi::fault_queue::{FaultQueue, HostPageRequest, HostResponse};
use iommu::address::IovaRange;
use iommu::ats::{AtsEndpoint, Completion, PageResponse, ResponseCode};
use iommu::ids::{Pasid, Requester};
use iommu::invalidation::DeviceSpaces;
use iommu::page_request::{PageRequest, PageRequestOutcome};
use iommu::unit::Unit;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

/// Groups of one device that may be outstanding: four times as many as it has names for, since PASIDs have their own.
const MOST_OUTSTANDING: usize = 2048;
/// Bits of a group that the guest sees.
const GROUP: u32 = 0x1ff;

/// Where requests come from.
pub trait HostQueue: fmt::Debug + Send + Sync {
    /// The requests that wait: whole groups.
    ///
    /// # Errors
    /// The host refuses.
    fn read(&self) -> Result<Vec<HostPageRequest>, Errno>;

    /// Answers the group that `cookie` names.
    ///
    /// # Errors
    /// The host refuses.
    fn respond(&self, cookie: u32, response: HostResponse) -> Result<(), Errno>;
}

impl HostQueue for FaultQueue {
    fn read(&self) -> Result<Vec<HostPageRequest>, Errno> {
        self.read()
    }

    fn respond(&self, cookie: u32, response: HostResponse) -> Result<(), Errno> {
        self.respond(cookie, response)
    }
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PageRequestStats {
    /// Requests of the host.
    pub requests: u64,
    /// Groups answered by the guest.
    pub answered: u64,
    /// Groups answered for the guest, which did not see them.
    pub unseen: u64,
    /// Answers of the guest to what nobody asked.
    pub unexpected: u64,
}

#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    answered: AtomicU64,
    unseen: AtomicU64,
    unexpected: AtomicU64,
    failures: AtomicU64,
}

/// The way from one fault queue to the units and back.
#[derive(Debug)]
pub struct PageRequests {
    queue: Arc<dyn HostQueue>,
    devices: Mutex<BTreeMap<u32, Known>>,
    tally: Tally,
}

/// A device.
#[derive(Debug)]
struct Known {
    unit: Weak<Unit>,
    requester: Arc<Requester>,
    /// The unit knows it weakly.
    endpoint: Arc<dyn AtsEndpoint>,
    outstanding: BTreeMap<(Option<Pasid>, u16), u32>,
}

/// Who is told of a request, and what is given up for it.
type Told = (Arc<Unit>, Arc<Requester>, Vec<u32>);

/// The device as its unit sees it.
#[derive(Debug)]
struct Endpoint {
    id: u32,
    requests: Weak<PageRequests>,
}

impl AtsEndpoint for Endpoint {
    /// Nothing is to be done: what the host drops of its own cache it drops of the device's, before the guest's invalidation
    /// of the unit is done.
    fn invalidate(&self, _spaces: DeviceSpaces, _range: IovaRange) -> Completion {
        Completion::Completed
    }

    fn respond(&self, response: PageResponse) {
        if let Some(requests) = self.requests.upgrade() {
            requests.answer(self.id, &response);
        }
    }
}

impl PageRequests {
    /// The way from `queue`; no device is known.
    #[must_use]
    pub fn new(queue: Arc<dyn HostQueue>) -> Arc<Self> {
        Arc::new(Self {
            queue,
            devices: Mutex::default(),
            tally: Tally::default(),
        })
    }

    /// The device that the host calls `id` is `requester` behind `unit`, from now on.
    pub fn add(self: &Arc<Self>, id: u32, unit: &Arc<Unit>, requester: Arc<Requester>) {
        let endpoint: Arc<dyn AtsEndpoint> = Arc::new(Endpoint {
            id,
            requests: Arc::downgrade(self),
        });
        unit.register_endpoint(requester.clone(), &endpoint);
        let known = Known {
            unit: Arc::downgrade(unit),
            requester,
            endpoint,
            outstanding: BTreeMap::new(),
        };
        self.devices().insert(id, known);
    }

    /// The device leaves: what it asks is refused, and what the guest answers is lost.
    pub fn remove(&self, id: u32) {
        let known = self.devices().remove(&id);
        drop(known.map(|known| known.endpoint));
    }

    /// How often what happened.
    #[must_use]
    pub fn stats(&self) -> PageRequestStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PageRequestStats {
            requests: read(&self.tally.requests),
            answered: read(&self.tally.answered),
            unseen: read(&self.tally.unseen),
            unexpected: read(&self.tally.unexpected),
        }
    }

    /// Tells the guest of the requests that wait.
    pub fn serve(&self) {
        let requests = match self.queue.read() {
            Ok(requests) => requests,
            Err(error) => return self.failed("read page requests", error),
        };
        for request in requests {
            self.tally.requests.fetch_add(1, Ordering::Relaxed);
            self.tell(&request);
        }
    }

    fn tell(&self, host: &HostPageRequest) {
        let group = u16::try_from(host.group & GROUP).unwrap_or_default();
        let Some((unit, requester, given_up)) = self.note(host, group) else {
            return self.refuse(host);
        };
        for cookie in given_up {
            self.tally.unseen.fetch_add(1, Ordering::Relaxed);
            self.respond(cookie, ResponseCode::InvalidRequest);
        }
        let request = PageRequest {
            source: requester.source(),
            pasid: host.pasid,
            address: host.address,
            read: host.read,
            write: host.write,
            execute: host.execute,
            privileged: host.privileged,
            last: host.last,
            group,
        };
        let code = match unit.page_request(&request) {
            PageRequestOutcome::Queued => return,
            PageRequestOutcome::Lost if !host.last => return,
            PageRequestOutcome::Lost => ResponseCode::InvalidRequest,
            PageRequestOutcome::Answered(code) => code,
        };
        self.tally.unseen.fetch_add(1, Ordering::Relaxed);
        if let Some(cookie) = self.take(host.device, host.pasid, group) {
            self.respond(cookie, code);
        }
    }

    /// Remembers the group, before the guest can answer it. Who can be told, and the cookies of those that are given up to
    /// make room; `None` when nobody can be told.
    fn note(&self, host: &HostPageRequest, group: u16) -> Option<Told> {
        let mut devices = self.devices();
        let known = devices.get_mut(&host.device)?;
        let unit = known.unit.upgrade()?;
        let name = (host.pasid, group);
        let full = known.outstanding.len() >= MOST_OUTSTANDING;
        let given_up = if full && !known.outstanding.contains_key(&name) {
            std::mem::take(&mut known.outstanding)
        } else {
            BTreeMap::new()
        };
        known.outstanding.insert(name, host.cookie);
        let given_up = given_up.into_values().collect();
        Some((unit, known.requester.clone(), given_up))
    }

    fn take(&self, device: u32, pasid: Option<Pasid>, group: u16) -> Option<u32> {
        let mut devices = self.devices();
        devices
            .get_mut(&device)?
            .outstanding
            .remove(&(pasid, group))
    }

    fn refuse(&self, host: &HostPageRequest) {
        if host.last {
            self.tally.unseen.fetch_add(1, Ordering::Relaxed);
            self.respond(host.cookie, ResponseCode::InvalidRequest);
        }
    }

    fn answer(&self, id: u32, response: &PageResponse) {
        let counter = match self.take(id, response.pasid, response.group) {
            Some(cookie) => {
                self.respond(cookie, response.code);
                &self.tally.answered
            }
            None => &self.tally.unexpected,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn respond(&self, cookie: u32, code: ResponseCode) {
        let response = match code {
            ResponseCode::Success => HostResponse::Success,
            ResponseCode::InvalidRequest | ResponseCode::Failure => HostResponse::Invalid,
        };
        if let Err(error) = self.queue.respond(cookie, response) {
            self.failed("answer a page request", error);
        }
    }

    fn failed(&self, what: &str, error: Errno) {
        let times = self.tally.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if times.is_power_of_two() {
            tracing::warn!(%error, times, "the host refused to {what}");
        }
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<u32, Known>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that serves a fault queue. It ends when this is dropped.
#[derive(Debug)]
pub struct PageRequestThread {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl PageRequestThread {
    /// Serves `queue`, which is that of `requests`.
    ///
    /// # Errors
    /// The host gives no thread or no event.
    pub fn start(requests: Arc<PageRequests>, queue: Arc<FaultQueue>) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("page-requests".to_owned())
            .spawn(move || serve(&requests, &queue, &stopped))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for PageRequestThread {
    fn drop(&mut self) {
        // The counter is 0, so that this neither blocks nor fails.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(requests: &PageRequests, queue: &FaultQueue, stop: &OwnedFd) {
    loop {
        let mut files = [
            PollFd::new(stop, PollFlags::IN),
            PollFd::from_borrowed_fd(queue.as_fd(), PollFlags::IN),
        ];
        match poll(&mut files, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                tracing::error!(%error, "page requests of devices are served no longer");
                return;
            }
        }
        let [stop, queue] = files.map(|file| file.revents());
        if !stop.is_empty() {
            return;
        }
        if queue.contains(PollFlags::IN) {
            requests.serve();
        } else if !queue.is_empty() {
            tracing::error!("the host's fault queue is gone");
            return;
        }
    }
}

#[cfg(test)]
mod tests;
