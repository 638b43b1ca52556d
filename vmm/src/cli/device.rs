// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The text of a run option without its dashes, as `remora ctl add-device` takes it.

use super::convert;
use super::vfio::vfio;
use crate::error::Error;
use crate::slots::DeviceOption;

/// Options whose devices can come and go, as they are written.
const SHAPES: &str = "disk=PATH[,readonly][,direct][,queues=N][,id=ID][,bus=ID], net=tap=NAME[,mac=MAC][,bus=ID], dmatest[=bus=ID,…], vfio=BDF[,backend=auto|iommufd|type1][,id=ID][,bus=ID]";

/// The device that `text` describes: `disk=/image,bus=p0`. Leading dashes do no harm.
///
/// # Errors
/// No device that can come and go is described so, or the option's text is wrong.
pub fn device(text: &str) -> Result<DeviceOption, Error> {
    let text = text.strip_prefix("--").unwrap_or(text);
    let (option, value) = match text.split_once('=') {
        Some((option, value)) => (option, Some(value)),
        None => (text, None),
    };
    match (option, value) {
        ("disk", Some(value)) => convert::disk(value).map(DeviceOption::Disk),
        ("net", Some(value)) => convert::net(value).map(DeviceOption::Net),
        ("vfio", Some(value)) => vfio(value).map(DeviceOption::Vfio),
        ("dmatest", value) => convert::dmatest(value.unwrap_or("")).map(DeviceOption::Dmatest),
        _ => Err(Error::Config(format!(
            "{text:?} is no device that can be added; allowed are {SHAPES}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_is_parsed_as_the_option_of_run_is() {
        let disk = device("disk=/a=b,id=d0,bus=p1,readonly").unwrap();
        assert_eq!(
            (disk.kind(), disk.id(), disk.bus()),
            ("disk", Some("d0"), Some("p1"))
        );
        let net = device("--net=tap=t0,bus=p2").unwrap();
        assert_eq!((net.kind(), net.id(), net.bus()), ("net", None, Some("p2")));
        let vfio = device("vfio=3b:00.1,id=nic,bus=p3").unwrap();
        assert_eq!(
            (vfio.kind(), vfio.id(), vfio.bus()),
            ("vfio", Some("nic"), Some("p3"))
        );
        for text in ["dmatest", "dmatest=", "dmatest=ats=off"] {
            assert_eq!(device(text).unwrap().kind(), "dmatest", "{text}");
        }
    }

    #[test]
    fn complaint_names_what_is_wrong_and_what_is_allowed() {
        let table = [
            ("", "is no device that can be added; allowed are disk=PATH"),
            ("disk", "\"disk\" is no device"),
            ("disk=", "--disk: the first part is empty"),
            (
                "disk=/a,size=3",
                "\"size\" is not known; allowed are readonly",
            ),
            ("net=mac=1", "tap=NAME is missing"),
            ("kernel=/k", "\"kernel=/k\" is no device"),
        ];
        for (text, expected) in table {
            let complaint = device(text).unwrap_err().to_string();
            assert!(complaint.contains(expected), "{text:?}: {complaint}");
        }
    }
}
