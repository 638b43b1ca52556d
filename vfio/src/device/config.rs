// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The configuration space that the guest sees of a passed-through function.
//!
//! Made once from an image of the device's own, as VFIO shows it. The header is ours but for the status register; the ROM
//! BAR is hidden. Capabilities keep their offsets, since drivers know some of them by heart, and so do the registers between
//! them. Pure: what has to be written to the device, or done to it, comes back.
//!
//! Not supported: bridges.

mod chain;
mod express;
mod extended;
mod services;
mod standard;
mod view;

pub use express::Place;
pub use services::{PasidService, Services, page_requests_enabled};
pub use view::HostWrite;

use devices::pci::BarWindow;
use devices::pci::bar::{Bar, BarKind};
use devices::pci::config::{Identity, Status, offset, touches};
use devices::pci::msi::MsiControl;
use devices::pci::msix::{MsixControl, MsixPlace};
use iommu::msi::MsiMessage;
use standard::{Conditions, Places};
use view::View;

/// What VFIO says of a function.
#[derive(Clone, Debug)]
pub struct HostFunction<'a> {
    /// Its configuration space: 256 or 4096 bytes.
    pub image: &'a [u8],
    /// Bytes of each BAR's region; 0 where there is none.
    pub bars: [u64; 6],
    /// It has an INTx pin.
    pub intx: bool,
    /// MSI vectors.
    pub msi: u32,
    /// MSI-X vectors.
    pub msix: u32,
    /// VFIO can reset it (`VFIO_DEVICE_FLAGS_RESET`).
    pub resettable: bool,
}

/// A function that cannot be shown to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The image is too short.
    #[error("the device's configuration space has only {0} bytes")]
    Short(usize),
    /// It is a bridge.
    #[error("header type {0:#x} is no endpoint's")]
    NoEndpoint(u8),
    /// A BAR that no function can have.
    #[error("BAR {index} cannot have {size:#x} bytes")]
    Bar {
        /// Which.
        index: u8,
        /// Bytes of its region.
        size: u64,
    },
}

/// What follows from a write of the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// To be written to the device. First of all, except that a device that stops answering must have lost its windows.
    pub host: Option<HostWrite>,
    /// The guest started a function level reset.
    pub reset: bool,
    /// The function could send and no longer may.
    pub bus_master_lost: bool,
    /// MSI or MSI-X may have been switched, or their messages or masks changed.
    pub interrupts: bool,
}

/// How the driver wants interrupts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// The pin; `false` when it is disabled.
    Intx(bool),
    /// MSI: the message of each vector that the driver was granted, and `None` for those that it masked.
    Msi(Vec<Option<MsiMessage>>),
    /// MSI-X; `true` when every vector is masked. The messages stand in the table.
    Msix(bool),
}

/// The guest's view.
#[derive(Debug)]
pub struct VirtualConfig {
    view: View,
    bars: Vec<Bar>,
    places: Places,
    /// Where the page request capability is, if it is shown.
    page_requests: Option<u16>,
}

impl VirtualConfig {
    /// The view of `host` at `place`, without ATS, page requests and PASIDs.
    ///
    /// # Errors
    /// The function cannot be shown.
    pub fn new(host: &HostFunction<'_>, place: Place) -> Result<Self, ConfigError> {
        Self::with_services(host, place, &Services::default())
    }

    /// The view of `host` at `place`, with `services`.
    ///
    /// # Errors
    /// The function cannot be shown.
    pub fn with_services(
        host: &HostFunction<'_>,
        place: Place,
        services: &Services,
    ) -> Result<Self, ConfigError> {
        let image = host.image;
        if image.len() < 256 {
            return Err(ConfigError::Short(image.len()));
        }
        let header_type = image[usize::from(offset::HEADER_TYPE)] & 0x7f;
        if header_type != 0 {
            return Err(ConfigError::NoEndpoint(header_type));
        }
        let mut view = View::new(&identity(image));
        // Between the capabilities lie registers that only the device's driver knows.
        view.give(offset::FIRST_CAPABILITY, 0x100 - offset::FIRST_CAPABILITY);
        show_header(&mut view, host);
        let conditions = Conditions {
            place,
            resettable: host.resettable,
            msi: host.msi,
            msix: host.msix,
        };
        let places = standard::show(&mut view, image, &chain::standard(image), conditions);
        let page_requests = places.express.and_then(|express| {
            let found = chain::extended(image);
            extended::show(&mut view, image, &found, (services, express))
        });
        let bars = bars(host)?;
        for bar in &bars {
            bar.install(&mut view.ours);
        }
        view.ours.seal();
        Ok(Self {
            view,
            bars,
            places,
            page_requests,
        })
    }

    /// Whether [`Self::read`] needs what the device answers.
    #[must_use]
    pub fn needs_host(&self, at: u16, len: usize) -> bool {
        self.view.needs_host(at, len)
    }

    /// Makes of what the device answered what the guest reads.
    pub fn read(&self, at: u16, data: &mut [u8]) {
        self.view.read(at, data);
    }

    /// Takes a write of the guest's, 1, 2 or 4 bytes within a dword.
    pub fn write(&mut self, at: u16, data: &[u8]) -> Outcome {
        let could_send = self.may_send();
        let host = self.view.write(at, data);
        if let Some(at) = self.page_requests {
            services::settle(&mut self.view.ours, at);
        }
        Outcome {
            host,
            reset: self.asks_for_reset(at, data),
            bus_master_lost: could_send && !self.may_send(),
            interrupts: self.touches_interrupts(at, data.len()),
        }
    }

    /// Back to the state after power-on.
    pub fn reset(&mut self) {
        self.view.ours.reset();
    }

    /// Whether the function may send requests: bus master, and powered.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.view.ours.command().bus_master() && self.is_on()
    }

    /// The windows that the function decodes now.
    #[must_use]
    pub fn windows(&self) -> Vec<BarWindow> {
        if !self.is_on() {
            return Vec::new();
        }
        let windows = self.bars.iter().map(|bar| bar.window(&self.view.ours));
        windows.flatten().collect()
    }

    /// Where MSI-X table and pending bits lie; `None` without MSI-X.
    #[must_use]
    pub fn msix(&self) -> Option<MsixPlace> {
        self.places.msix.map(|capability| capability.place)
    }

    /// The interrupt pin: 0 none, 1..=4 INTA..INTD.
    #[must_use]
    pub fn pin(&self) -> u8 {
        self.view.ours.u8(offset::INTERRUPT_PIN)
    }

    /// How the driver wants interrupts now.
    #[must_use]
    pub fn interrupts(&self) -> Interrupts {
        let ours = &self.view.ours;
        if let Some(msix) = self.places.msix {
            let control = MsixControl::from_bits(ours.u16(msix.at + 2));
            if control.enable() {
                return Interrupts::Msix(control.function_mask());
            }
        }
        if let Some(messages) = self.msi_messages() {
            return Interrupts::Msi(messages);
        }
        Interrupts::Intx(!ours.command().intx_disable())
    }

    fn msi_messages(&self) -> Option<Vec<Option<MsiMessage>>> {
        let ours = &self.view.ours;
        let msi = self.places.msi?;
        let control = MsiControl::from_bits(ours.u16(msi.at + 2));
        if !control.enable() {
            return None;
        }
        let granted = 1u16 << control.granted().min(control.capable());
        let high = if msi.wide { ours.u32(msi.at + 8) } else { 0 };
        let address = u64::from(high) << 32 | u64::from(ours.u32(msi.at + 4));
        let data = ours.u16(msi.data()) & !(granted - 1);
        let mask = if msi.masking { ours.u32(msi.mask()) } else { 0 };
        let message = |vector: u16| {
            (mask >> vector & 1 == 0).then_some(MsiMessage {
                address,
                data: u32::from(data | vector),
            })
        };
        Some((0..granted).map(message).collect())
    }

    /// Where the register is that switches power on again, of a function that the guest has put to sleep.
    #[must_use]
    pub fn power_down(&self) -> Option<u16> {
        let control = self.places.power_management? + 4;
        (self.view.ours.u8(control) & 3 != 0).then_some(control)
    }

    fn is_on(&self) -> bool {
        self.power_down().is_none()
    }

    fn asks_for_reset(&self, at: u16, data: &[u8]) -> bool {
        let sets = |register: u16, bit: u8| {
            let byte = register
                .checked_sub(at)
                .and_then(|from| data.get(usize::from(from)));
            byte.is_some_and(|byte| byte & bit != 0)
        };
        let express = self.places.express.is_some_and(|express| {
            let capabilities = self.view.ours.u32(express + 4);
            capabilities & 1 << 28 != 0
                && sets(
                    express + express::DEVICE_CONTROL + 1,
                    express::INITIATE_RESET,
                )
        });
        let advanced = self.places.advanced_features;
        express || advanced.is_some_and(|advanced| sets(advanced + 4, 1))
    }

    fn touches_interrupts(&self, at: u16, len: usize) -> bool {
        let msix = self
            .places
            .msix
            .is_some_and(|msix| touches(at, len, msix.at + 2, 2));
        let msi = self
            .places
            .msi
            .is_some_and(|msi| touches(at, len, msi.at + 2, 0x16));
        msi || msix || touches(at, len, offset::COMMAND, 2)
    }
}

fn identity(image: &[u8]) -> Identity {
    let word = |at: u16| {
        let from = usize::from(at);
        u16::from_le_bytes([image[from], image[from + 1]])
    };
    let class = usize::from(offset::CLASS);
    Identity {
        vendor: word(offset::VENDOR_ID),
        device: word(offset::DEVICE_ID),
        subsystem_vendor: word(offset::SUBSYSTEM_VENDOR_ID),
        subsystem: word(offset::SUBSYSTEM_ID),
        class: u32::from_le_bytes([image[class], image[class + 1], image[class + 2], 0]),
        revision: image[usize::from(offset::REVISION)],
    }
}

fn show_header(view: &mut View, host: &HostFunction<'_>) {
    // Decoding, bus mastering and the like have to reach the device as well. (VFIO looks after INTx itself.)
    view.set_masks(offset::COMMAND, &[0xff; 2], &[0x47, 0x05]);
    let ours = Status::new().with_capability_list(true);
    view.set_masks(
        offset::STATUS,
        &ours.into_bits().to_le_bytes(),
        &[0x00, 0xf9],
    );
    let pin = host.image[usize::from(offset::INTERRUPT_PIN)];
    let pin = if host.intx && pin <= 4 { pin } else { 0 };
    view.ours.set_u8(offset::INTERRUPT_PIN, pin);
    // Minimum grant and maximum latency: what the device says.
    view.give(0x3e, 2);
    view.set_masks(0x3e, &[0; 2], &[0; 2]);
}

/// The BARs, of the kinds that the device's registers say and the sizes of their regions.
fn bars(host: &HostFunction<'_>) -> Result<Vec<Bar>, ConfigError> {
    let mut bars = Vec::new();
    let mut upper_half = false;
    for index in 0..6u8 {
        let size = host.bars[usize::from(index)];
        if std::mem::take(&mut upper_half) || size == 0 {
            continue;
        }
        let flags = host.image[usize::from(offset::BAR0) + 4 * usize::from(index)];
        let prefetchable = flags & 0x8 != 0;
        let (kind, fits) = match (flags & 1, flags & 6) {
            (1, _) => (BarKind::Io, (4..=256).contains(&size)),
            (_, 4) => {
                upper_half = true;
                let fits = index < 5 && (16..=1 << 62).contains(&size);
                (BarKind::Memory64 { prefetchable }, fits)
            }
            _ => (
                BarKind::Memory32 { prefetchable },
                (16..=1 << 31).contains(&size),
            ),
        };
        if !fits || !size.is_power_of_two() {
            return Err(ConfigError::Bar { index, size });
        }
        bars.push(Bar::new(index, kind, size));
    }
    Ok(bars)
}

#[cfg(test)]
mod tests;
