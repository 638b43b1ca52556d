// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the BARs of a function ask for, found as firmware finds it: write ones, read back, restore.

use crate::pci::PciFunction;
use crate::pci::config::offset;
use std::sync::Arc;

/// Which range an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Io,
    /// Below 4 GiB.
    Memory,
    /// 64-bit prefetchable.
    Prefetchable,
}

/// One BAR that wants an address.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) function: Arc<dyn PciFunction>,
    pub(super) at: u16,
    pub(super) wide: bool,
    pub(super) space: Space,
    pub(super) size: u64,
}

impl Request {
    /// Writes the address.
    pub(super) fn program(&self, address: u64) {
        let bytes = address.to_le_bytes();
        self.function.config_write(self.at, &bytes[..4]);
        if self.wide {
            self.function.config_write(self.at + 4, &bytes[4..]);
        }
    }
}

/// The BARs of `function`. Decoding is switched off meanwhile, and stays off.
pub(super) fn requests(function: &Arc<dyn PciFunction>) -> Vec<Request> {
    function.config_write(offset::COMMAND, &[0, 0]);
    let mut header = [0];
    function.config_read(offset::HEADER_TYPE, &mut header);
    let bars = if header[0] & 0x7f == 0 { 6 } else { 2 };
    let mut found = Vec::new();
    let mut index = 0;
    while index < bars {
        let at = offset::BAR0 + 4 * index;
        let low = ones(function, at);
        let wide = low & 0x7 == 0x4;
        let high = if wide {
            ones(function, at + 4)
        } else {
            u32::MAX
        };
        index += if wide { 2 } else { 1 };
        found.extend(decode(function, at, low, high));
    }
    found
}

fn decode(function: &Arc<dyn PciFunction>, at: u16, low: u32, high: u32) -> Option<Request> {
    let io = low & 1 != 0;
    let wide = !io && low & 0x4 != 0;
    let flags = if io { 0x3 } else { 0xf };
    // Port BARs may leave the upper 16 bits at zero.
    let upper = if io { 0xffff_0000 } else { 0 };
    let address_bits = u64::from(high) << 32 | u64::from((low & !flags) | upper);
    let none = if wide {
        0
    } else {
        u64::from(u32::MAX) << 32 | u64::from(upper)
    };
    if address_bits == none {
        return None;
    }
    let space = match (io, wide && low & 0x8 != 0) {
        (true, _) => Space::Io,
        (_, true) => Space::Prefetchable,
        _ => Space::Memory,
    };
    Some(Request {
        function: Arc::clone(function),
        at,
        wide,
        space,
        size: 1 << address_bits.trailing_zeros(),
    })
}

fn ones(function: &Arc<dyn PciFunction>, at: u16) -> u32 {
    let mut old = [0; 4];
    function.config_read(at, &mut old);
    function.config_write(at, &[0xff; 4]);
    let mut mask = [0; 4];
    function.config_read(at, &mut mask);
    function.config_write(at, &old);
    u32::from_le_bytes(mask)
}
