// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a PCI function of the host sits, as sysfs and lspci write it: `0000:3b:00.1`, the segment optional.

use std::fmt;
use std::str::FromStr;

/// Segment, bus, device and function of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    segment: u16,
    bus: u8,
    devfn: u8,
}

/// A text that is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no PCI address: write it as lspci -D does, for example 0000:3b:00.1")]
pub struct ParseError(String);

impl PciAddress {
    /// The function at `devfn` (device << 3 | function) of a bus.
    #[must_use]
    pub const fn new(segment: u16, bus: u8, devfn: u8) -> Self {
        Self {
            segment,
            bus,
            devfn,
        }
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, function) = (self.devfn >> 3, self.devfn & 7);
        let Self { segment, bus, .. } = self;
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl FromStr for PciAddress {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text).ok_or_else(|| ParseError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (place, function) = text.rsplit_once('.')?;
    let (rest, device) = place.rsplit_once(':')?;
    let (segment, bus) = rest.rsplit_once(':').unwrap_or(("0000", rest));
    let device = hex(device, 2).filter(|device| *device < 32)?;
    let function = hex(function, 1).filter(|function| *function < 8)?;
    Some(PciAddress {
        segment: hex(segment, 4)?,
        bus: u8::try_from(hex(bus, 2)?).ok()?,
        devfn: u8::try_from(device << 3 | function).ok()?,
    })
}

/// A hexadecimal number of exactly `digits` digits.
fn hex(text: &str, digits: usize) -> Option<u16> {
    let only_digits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    only_digits.then(|| u16::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_written_as_sysfs_writes_it() {
        for (text, shown) in [
            ("0000:3b:1f.7", "0000:3b:1f.7"),
            ("00:02.0", "0000:00:02.0"),
            ("ABCD:EF:00.1", "abcd:ef:00.1"),
        ] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn address_of_another_form_is_refused() {
        for text in [
            "",
            "02.0",
            "0:02.0",
            "00:20.0",
            "00:02.8",
            "+0:02.0",
            "0000:00:02.0 ",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
    }
}
