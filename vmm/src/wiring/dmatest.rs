// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The `dmatest` devices, and what the unit is to them: a space for each PASID, translations, page requests.

use super::iommu::{Translation, Units};
use super::pci::PciBus;
use crate::config::{Config, DmatestConfig};
use crate::error::Error;
use devices::dmatest::{Dmatest, DmatestOptions, Grant, Refused, Upstream};
use iommu::ats::{AtsEndpoint, ResponseCode};
use iommu::dma::DmaSpace;
use iommu::ids::{Pasid, Requester};
use iommu::page_request::{PageRequest, PageRequestOutcome};
use iommu::request::Request;
use iommu::translate::ats::AtsAnswer;
use std::sync::Arc;

/// Adds the devices that the configuration asks for.
///
/// # Errors
/// The host has no thread for one, or it has no place.
pub fn add(config: &Config, units: &Units, bus: &mut PciBus) -> Result<(), Error> {
    for (number, config) in config.dmatests.iter().enumerate() {
        let port = config.bus.as_ref();
        let device = device(config, units.behind(port))?;
        let place = bus.add(&format!("dmatest{number}"), port, device)?;
        if let Some(devfn) = place
            && config.ats
        {
            bus.note_translation_cache(devfn);
        }
    }
    Ok(())
}

/// The device, behind the unit of `translation`.
///
/// # Errors
/// The host has no thread for it.
pub fn device(config: &DmatestConfig, translation: &Translation) -> Result<Arc<Dmatest>, Error> {
    let requester = Arc::new(Requester::default());
    let space = translation.dma_space(&requester);
    let above = Above {
        translation: translation.clone(),
        requester: Arc::clone(&requester),
    };
    let options = DmatestOptions {
        pasid_bits: config.pasid_bits,
        pri: config.pri,
        ats: config.ats,
    };
    let place = PciBus::device_type(config.bus.as_ref());
    let messages = translation.messages();
    let device = Dmatest::new(&options, place, space, Arc::new(above), messages)
        .map_err(|e| Error::host("start a thread for dmatest", e))?;
    if let Some(unit) = translation.unit()
        && config.ats
    {
        let endpoint: Arc<dyn AtsEndpoint> = Arc::clone(&device) as _;
        unit.register_endpoint(requester, &endpoint);
    }
    Ok(device)
}

/// The root complex above one device. Without a unit it knows neither PASIDs nor translations.
#[derive(Debug)]
struct Above {
    translation: Translation,
    requester: Arc<Requester>,
}

impl Upstream for Above {
    fn space(&self, pasid: Pasid) -> Option<Arc<DmaSpace>> {
        self.translation.pasid_space(&self.requester, pasid)
    }

    fn translation_request(&self, request: &Request) -> Result<Grant, Refused> {
        let unit = self.translation.unit().ok_or(Refused)?;
        match unit.translation_request(request) {
            AtsAnswer::Translation(completion) => Ok(Grant::of(completion, request.address)),
            AtsAnswer::Unsupported(_) | AtsAnswer::Aborted(_) => Err(Refused),
        }
    }

    fn page_request(&self, request: &PageRequest) -> PageRequestOutcome {
        match self.translation.unit() {
            Some(unit) => unit.page_request(request),
            None => PageRequestOutcome::Answered(ResponseCode::Failure),
        }
    }
}
