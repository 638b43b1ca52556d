// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! All followed devices of a unit: from what happened to what is to be told, and from the answer to the guest's faults.

use super::batch::{ContextNamed, Named, tell_tables};
use super::device::{Batch, Device};
use super::guest::Guest;
use super::{
    Answer, DeviceHandle, FollowError, FollowEvent, FollowedDevice, FollowedStatus, Invalidated,
    Unmet,
};
use crate::address::Iova;
use crate::fault::{Fault, FaultReason, FaultSubject};
use crate::ids::Pasid;
use crate::invalidation::Invalidation;
use crate::request::{Access, Request};
use crate::translator::TableMode;
use std::collections::BTreeMap;

/// The followed devices.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    devices: BTreeMap<DeviceHandle, Device>,
}

impl Roster {
    pub(crate) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Adds a device; what it goes through is the batch.
    pub(crate) fn add(
        &mut self,
        followed: FollowedDevice,
        guest: &Guest<'_>,
    ) -> Result<Batch, FollowError> {
        let handle = followed.handle;
        if self.devices.contains_key(&handle) {
            return Err(FollowError::HandleTaken(handle));
        }
        self.devices.insert(handle, Device::new(followed));
        Ok(self.reread(handle, guest))
    }

    /// Forgets a device.
    pub(crate) fn remove(&mut self, handle: DeviceHandle) {
        self.devices.remove(&handle);
    }

    /// What was told of each device.
    pub(crate) fn status(&self) -> Vec<FollowedStatus> {
        self.devices.values().map(Device::status).collect()
    }

    /// Reads all of one device anew.
    pub(crate) fn reread(&mut self, handle: DeviceHandle, guest: &Guest<'_>) -> Batch {
        let mut batch = Batch::default();
        if let Some(device) = self.devices.get_mut(&handle) {
            device.reread(guest, None, &mut batch);
        }
        batch
    }

    /// Reads everything anew, because the root pointer is another one. With `contents`, tables that stay may say something
    /// else, too.
    pub(crate) fn reread_all(&mut self, guest: &Guest<'_>, contents: bool) -> Batch {
        let mut batch = Batch::default();
        for device in self.devices.values_mut() {
            device.reread(guest, None, &mut batch);
        }
        if contents && self.devices.values().any(Device::uses_tables) {
            batch
                .events
                .push(FollowEvent::Invalidated(Invalidated::ALL));
        }
        batch
    }

    /// Forgets everything but the devices.
    pub(crate) fn reset(&mut self) -> Batch {
        for device in self.devices.values_mut() {
            device.reset();
        }
        Batch {
            events: vec![FollowEvent::Reset],
            ..Batch::default()
        }
    }

    /// What `invalidations` come to. What devices go through comes before what tables say: a device that leaves a table is
    /// not to suffer from what becomes of it. A device whose bus was renumbered is looked at whatever is named.
    pub(crate) fn invalidated(
        &mut self,
        guest: &Guest<'_>,
        invalidations: &[Invalidation],
    ) -> Batch {
        let named = Named::by(invalidations);
        let mut batch = Batch::default();
        for device in self.devices.values_mut() {
            let named_context = match device.has_moved() {
                true => ContextNamed::Yes,
                false => named.context(device.followed.requester.source()),
            };
            match named_context {
                ContextNamed::Yes => {
                    device.reread(guest, None, &mut batch);
                    continue;
                }
                ContextNamed::Domains(domains) => device.reread(guest, Some(domains), &mut batch),
                ContextNamed::No => {}
            }
            if !named.entries.is_empty() {
                device.reread_pasids(guest, &named.entries, &mut batch);
            }
        }
        let devices = &self.devices;
        let is_used = |tables: &Invalidated| {
            devices.values().any(|device| match tables.domain {
                Some(domain) => device.uses(domain),
                None => device.uses_tables(),
            })
        };
        tell_tables(&named.tables, is_used, &mut batch.events);
        batch
    }

    /// Takes the answer to a batch and returns what the guest has to learn. `mode` names the faults; there are none where
    /// nothing is translated.
    pub(crate) fn answered(
        &mut self,
        batch: &Batch,
        answer: &Answer,
        mode: Option<TableMode>,
    ) -> Vec<Fault> {
        let mut faults = Vec::new();
        for handle in &answer.resynced {
            self.resynced(*handle);
        }
        for (device, pasid) in &batch.beyond {
            let unmet = Unmet::Binding(*device, *pasid);
            faults.extend(self.fault(&unmet, mode));
        }
        let results = answer.results.iter().chain(std::iter::repeat(&Ok(())));
        for (event, result) in batch.events.iter().zip(results) {
            match result {
                Ok(()) => self.accepted(event),
                Err(_) if matches!(event, FollowEvent::Unbind { .. }) => {
                    faults.extend(self.stuck(event, mode));
                }
                Err(refusal) => {
                    faults.extend(self.unmet(&refusal.unmet, mode));
                }
            }
        }
        faults
    }

    /// Takes what is not in effect. Returns the faults for what the guest does not know yet.
    pub(crate) fn unmet(&mut self, unmet: &[Unmet], mode: Option<TableMode>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let can_learn = has_faults(mode);
        for unmet in unmet {
            let Some(device) = self.devices.get_mut(&unmet.device()) else {
                continue;
            };
            let is_new = match *unmet {
                Unmet::Attachment(_) => device.refuse(None, can_learn),
                Unmet::Binding(_, pasid) => device.refuse(Some(pasid), can_learn),
                Unmet::Unsynced { .. } => device.lose(can_learn),
            };
            if is_new {
                faults.extend(self.fault(unmet, mode));
            }
        }
        faults
    }

    /// Everything is in effect for a device.
    pub(crate) fn resynced(&mut self, handle: DeviceHandle) {
        if let Some(device) = self.devices.get_mut(&handle) {
            device.accept_all();
        }
    }

    /// The host did not let go of a PASID. Returns the fault, once until everything is in effect again.
    fn stuck(&mut self, event: &FollowEvent, mode: Option<TableMode>) -> Option<Fault> {
        let FollowEvent::Unbind { device, pasid } = *event else {
            return None;
        };
        let is_new = self.devices.get_mut(&device)?.lose(has_faults(mode));
        is_new.then(|| self.fault(&Unmet::Binding(device, pasid), mode))?
    }

    fn accepted(&mut self, event: &FollowEvent) {
        let (handle, pasid) = match *event {
            FollowEvent::Attach { device, .. } => (device, None),
            FollowEvent::Bind { device, pasid, .. } | FollowEvent::Rebind { device, pasid, .. } => {
                (device, Some(pasid))
            }
            _ => return,
        };
        if let Some(device) = self.devices.get_mut(&handle) {
            device.accept(pasid);
        }
    }

    /// What the guest sees of something that is not in effect.
    fn fault(&self, unmet: &Unmet, mode: Option<TableMode>) -> Option<Fault> {
        let device = self.devices.get(&unmet.device())?;
        let scalable = match mode? {
            TableMode::Legacy => false,
            TableMode::Scalable => true,
            TableMode::Abort | TableMode::Reserved => return None,
        };
        let (reason, pasid, address) = match *unmet {
            Unmet::Attachment(_) if scalable => {
                (FaultReason::ScalableContextInvalid, None, Iova(0))
            }
            Unmet::Attachment(_) => (FaultReason::ContextInvalid, None, Iova(0)),
            Unmet::Binding(_, pasid) => (FaultReason::PasidInvalid, Some(pasid), Iova(0)),
            Unmet::Unsynced { pasid, first, .. } if scalable => {
                (FaultReason::SecondStageUnreadable, pasid, first)
            }
            Unmet::Unsynced { first, .. } => (FaultReason::TableUnreadable, None, first),
        };
        Some(Fault {
            reason,
            subject: FaultSubject::Dma(request(device, pasid, address)),
            record: !device.is_silent(pasid),
        })
    }
}

/// Whether the guest learns anything by faults: there are none where nothing is translated, nor where everything is aborted.
const fn has_faults(mode: Option<TableMode>) -> bool {
    matches!(mode, Some(TableMode::Legacy | TableMode::Scalable))
}

/// The request that would fault.
fn request(device: &Device, pasid: Option<Pasid>, address: Iova) -> Request {
    Request {
        pasid,
        ..Request::untranslated(device.followed.requester.source(), address, Access::Read)
    }
}
