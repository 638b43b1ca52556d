// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where the transport's structures lie, and the capabilities that say so (virtio 1.2 section 4.1.4).
//!
//! One 32-bit BAR holds everything, each structure in a page of its own.

use crate::pci::bar::BarKind;
use crate::pci::config::capability;
use crate::pci::function::FunctionBuilder;
use crate::pci::msix::MsixLayout;

/// The BAR.
pub const BAR: u8 = 0;

/// Bytes of the BAR.
pub const BAR_SIZE: u64 = 0x8000;

/// Bytes between the notification addresses of two queues.
pub const NOTIFY_MULTIPLIER: u32 = 4;

const PAGE: u32 = 0x1000;
const COMMON: u32 = 0;
const ISR: u32 = PAGE;
const DEVICE: u32 = 2 * PAGE;
const NOTIFY: u32 = 3 * PAGE;
const MSIX_TABLE: u32 = 4 * PAGE;
const MSIX_PENDING: u32 = 6 * PAGE;

/// Bytes of `struct virtio_pci_common_cfg`.
pub const COMMON_LEN: u32 = 56;

/// What an offset into the BAR belongs to, with the offset into that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The common configuration.
    Common(usize),
    /// The interrupt status byte.
    Isr,
    /// The device configuration.
    Device(usize),
    /// The notification address of a queue.
    Notify(u16),
}

impl Place {
    /// What lies at `offset`; `None` for gaps.
    #[must_use]
    pub fn at(offset: u64) -> Option<Self> {
        let offset = u32::try_from(offset).ok()?;
        let inside = offset % PAGE;
        match offset - inside {
            COMMON => Some(Self::Common(inside as usize)),
            ISR if inside == 0 => Some(Self::Isr),
            DEVICE => Some(Self::Device(inside as usize)),
            NOTIFY if inside.is_multiple_of(NOTIFY_MULTIPLIER) => {
                let queue = u16::try_from(inside / NOTIFY_MULTIPLIER).ok()?;
                Some(Self::Notify(queue))
            }
            _ => None,
        }
    }
}

/// `cfg_type` of the capabilities.
const CFG_COMMON: u8 = 1;
const CFG_NOTIFY: u8 = 2;
const CFG_ISR: u8 = 3;
const CFG_DEVICE: u8 = 4;
const CFG_PCI: u8 = 5;

/// Adds BAR and capabilities for `queues` queues and `device_len` bytes of device configuration. Answers the offset of the
/// capability by which the BAR is reached from configuration space.
pub fn install(builder: &mut FunctionBuilder, queues: u16, device_len: usize) -> u16 {
    let kind = BarKind::Memory32 {
        prefetchable: false,
    };
    builder.bar(BAR, kind, BAR_SIZE);
    builder.msix(MsixLayout {
        bar: BAR,
        vectors: queues + 1,
        table: MSIX_TABLE,
        pending: MSIX_PENDING,
    });
    let mut add = |kind: u8, offset: u32, len: u32, more: &[u8], writable: &[u8]| {
        let len_byte = u8::try_from(16 + more.len()).unwrap_or(u8::MAX);
        let head = [len_byte, kind, BAR, 0, 0, 0];
        let body = [&head[..], &offset.to_le_bytes(), &len.to_le_bytes(), more].concat();
        builder.capability(capability::VENDOR, &body, writable)
    };
    add(CFG_COMMON, COMMON, COMMON_LEN, &[], &[]);
    let notify_len = u32::from(queues) * NOTIFY_MULTIPLIER;
    add(
        CFG_NOTIFY,
        NOTIFY,
        notify_len,
        &NOTIFY_MULTIPLIER.to_le_bytes(),
        &[],
    );
    add(CFG_ISR, ISR, 1, &[], &[]);
    if device_len > 0 {
        let len = u32::try_from(device_len).unwrap_or(PAGE).min(PAGE);
        add(CFG_DEVICE, DEVICE, len, &[], &[]);
    }
    // Software writes BAR, offset, length and data.
    let writable: [u8; 18] = [
        0, 0, 0xff, 0, 0, 0, //
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ];
    add(CFG_PCI, 0, 0, &[0; 4], &writable)
}
