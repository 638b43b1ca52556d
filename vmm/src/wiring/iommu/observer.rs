// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a unit does, as events of the machine.

use crate::events::{Event, Events};
use iommu::fault::{Fault, FaultSubject};
use iommu::request::Access;
use iommu::unit::Observer;
use std::sync::Arc;

/// Tells of one unit.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) unit: usize,
    pub(super) events: Arc<Events>,
}

impl Observer for Telling {
    fn fault(&self, fault: &Fault, count: u64) {
        self.events.tell(Event::GuestFault {
            unit: self.unit,
            reason: fault.reason.code(),
            what: describe(fault),
            count,
        });
    }

    fn translation(&self, on: bool) {
        let unit = self.unit;
        self.events.tell(if on {
            Event::IommuEnabled { unit }
        } else {
            Event::IommuDisabled { unit }
        });
    }
}

/// Who wanted what, and why it was blocked.
fn describe(fault: &Fault) -> String {
    let reason = fault.reason;
    match &fault.subject {
        FaultSubject::Dma(request) | FaultSubject::PageRequest(request) => {
            let what = match (&fault.subject, request.access) {
                (FaultSubject::PageRequest(_), _) => "page request",
                (_, Access::Read) => "read",
                (_, Access::Write) => "write",
                (_, Access::Atomic) => "atomic",
            };
            let pasid = request
                .pasid
                .map_or_else(String::new, |pasid| format!(" with PASID {}", pasid.get()));
            format!(
                "{what} of {} at {}{pasid}: {reason:?}",
                request.source, request.address
            )
        }
        FaultSubject::Interrupt { source, index } => {
            format!("interrupt {index} of {source}: {reason:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iommu::address::Iova;
    use iommu::fault::FaultReason;
    use iommu::ids::SourceId;
    use iommu::request::Request;

    #[test]
    fn fault_is_told_with_source_address_and_reason() {
        let events = Events::new().unwrap();
        let telling = Telling {
            unit: 1,
            events: Arc::clone(&events),
        };
        let source = SourceId::new(0, 0x18);
        let request = Request::untranslated(source, Iova(0x1234_5000), Access::Write);
        let fault = Fault {
            reason: FaultReason::NoWrite,
            subject: FaultSubject::Dma(request),
            record: true,
        };
        telling.fault(&fault, 3);
        telling.translation(true);
        let told = events.after(0, 10);
        let Event::GuestFault {
            unit,
            reason,
            what,
            count,
        } = &told[0].event
        else {
            panic!("{told:?}");
        };
        assert_eq!((*unit, *reason, *count), (1, 5, 3));
        for part in ["write of ", "12345000", "NoWrite"] {
            assert!(what.contains(part), "{what}");
        }
        assert_eq!(told[1].event, Event::IommuEnabled { unit: 1 });
    }
}
