// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The text of a question about an address: whose requests, and which one.

use crate::error::Error;
use crate::options::{Parts, wrong};
use ::iommu::address::Iova;
use ::iommu::follow::DeviceHandle;
use ::iommu::ids::{DomainId, Pasid};
use vfio::backend::TableId;
use vfio::mirror::{Subject, UnitId};

const OPTION: &str = "why";

/// Whose requests, and the address: `device=DEVICE[,pasid=N],iova=ADDRESS`, `domain=N[,unit=N],iova=ADDRESS` or
/// `table=N,iova=ADDRESS`. A device is a number, or a name that `known` knows.
///
/// # Errors
/// It is none of these.
pub(super) fn parse(
    text: &str,
    known: impl Fn(&str) -> Option<DeviceHandle>,
) -> Result<(Subject, Iova), Error> {
    let mut parts = Parts::new(OPTION, text)?;
    let device = parts.value("device", "DEVICE")?;
    let device = device.map(|name| handle(name, known)).transpose()?;
    let pasid = parts.number("pasid", 0, (1 << 20) - 1)?;
    let domain = parts.number("domain", 0, u16::MAX)?;
    let unit = parts.number("unit", 0, u32::MAX)?;
    let table = parts.number("table", 0, u32::MAX)?;
    let iova = address(parts.required("iova", "ADDRESS")?)?;
    parts.finish()?;
    let subject = match (device, domain, table) {
        (Some(device), None, None) if unit.is_none() => {
            Subject::Device(device, pasid.and_then(Pasid::new))
        }
        (None, Some(id), None) if pasid.is_none() => {
            Subject::Domain(UnitId(unit.unwrap_or(0)), DomainId(id))
        }
        (None, None, Some(table)) if unit.is_none() && pasid.is_none() => {
            Subject::Table(TableId(table))
        }
        _ => {
            let shapes = "device=DEVICE[,pasid=N], domain=N[,unit=N] or table=N";
            return Err(wrong(
                OPTION,
                format!("{text:?}: wanted one of {shapes}, and iova=ADDRESS"),
            ));
        }
    };
    Ok((subject, iova))
}

fn handle(name: &str, known: impl Fn(&str) -> Option<DeviceHandle>) -> Result<DeviceHandle, Error> {
    let number = || name.parse().ok().map(DeviceHandle);
    known(name).or_else(number).ok_or_else(|| {
        wrong(
            OPTION,
            format!("device={name}: no passed-through device has this name"),
        )
    })
}

fn address(text: &str) -> Result<Iova, Error> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed
        .map(Iova)
        .map_err(|_| wrong(OPTION, format!("iova={text}: wanted an address, as 0x1000")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Option<DeviceHandle> {
        (name == "disk").then_some(DeviceHandle(4))
    }

    #[test]
    fn question_names_a_subject_and_an_address() {
        let table = [
            (
                "device=2,iova=0x1000",
                Subject::Device(DeviceHandle(2), None),
                0x1000,
            ),
            (
                "iova=0xffffffffffffffff,pasid=7,device=2",
                Subject::Device(DeviceHandle(2), Pasid::new(7)),
                u64::MAX,
            ),
            (
                "domain=9,iova=4096",
                Subject::Domain(UnitId(0), DomainId(9)),
                4096,
            ),
            (
                "domain=9,unit=1,iova=0",
                Subject::Domain(UnitId(1), DomainId(9)),
                0,
            ),
            ("table=3,iova=0x0", Subject::Table(TableId(3)), 0),
            (
                "device=disk,iova=0x0",
                Subject::Device(DeviceHandle(4), None),
                0,
            ),
        ];
        for (text, subject, iova) in table {
            assert_eq!(parse(text, known).unwrap(), (subject, Iova(iova)), "{text}");
        }
    }

    #[test]
    fn question_that_is_none_says_what_is_wanted() {
        let table = [
            ("", "empty part"),
            ("device=1", "iova=ADDRESS is missing"),
            (
                "device=card,iova=0",
                "no passed-through device has this name",
            ),
            ("iova=0x1", "wanted one of device=DEVICE"),
            ("device=1,table=2,iova=0", "wanted one of device=DEVICE"),
            ("domain=1,pasid=2,iova=0", "wanted one of device=DEVICE"),
            ("device=1,iova=x", "iova=x: wanted an address"),
            ("device=1,iova=0x0,page=2", "\"page\" is not known"),
        ];
        for (text, expected) in table {
            let complaint = parse(text, known).unwrap_err().to_string();
            assert!(complaint.contains(expected), "{text:?}: {complaint}");
        }
    }
}
