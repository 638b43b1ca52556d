// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Addresses that a group reserves (`reserved_regions`: first, last and kind, one line each).

use iommu::address::{Iova, IovaRange};

/// Why addresses are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedKind {
    /// The firmware wants them mapped one to one for the device at all times (RMRR): it cannot be given away.
    Direct,
    /// The same, but only until a driver takes over.
    DirectRelaxable,
    /// Writes there are interrupts.
    Msi,
    /// Where the host would map its own interrupt page.
    SoftwareMsi,
    /// Cannot be mapped.
    Reserved,
}

/// Reserved addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedRange {
    /// Which.
    pub range: IovaRange,
    /// Why.
    pub kind: ReservedKind,
}

/// Reads the whole file; `None` when a line has another form. A kind that a newer kernel made up counts as reserved.
pub(super) fn parse(text: &str) -> Option<Vec<ReservedRange>> {
    text.lines().map(line).collect()
}

fn line(line: &str) -> Option<ReservedRange> {
    let mut fields = line.split_whitespace();
    let mut address = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let range = IovaRange::new(Iova(address()?), Iova(address()?))?;
    let kind = match fields.next()? {
        "direct" => ReservedKind::Direct,
        "direct-relaxable" => ReservedKind::DirectRelaxable,
        "msi" => ReservedKind::Msi,
        "sw-msi" => ReservedKind::SoftwareMsi,
        _ => ReservedKind::Reserved,
    };
    Some(ReservedRange { range, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_regions_of_an_intel_host_are_read() {
        let text = "0x000000003e2e0000 0x000000003e2fffff direct-relaxable\n\
                    0x00000000fee00000 0x00000000feefffff msi\n";
        let found = parse(text).unwrap();
        assert_eq!(found[0].kind, ReservedKind::DirectRelaxable);
        assert_eq!(
            (found[1].range.start().0, found[1].range.last().0),
            (0xfee0_0000, 0xfeef_ffff)
        );
        assert_eq!(parse("fee00000 feefffff msi\n"), None);
        assert_eq!(parse(""), Some(Vec::new()));
    }
}
