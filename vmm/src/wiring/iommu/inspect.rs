// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One unit for whoever looks into the machine: its counters; its registers and what it told of followed devices.

use super::counters;
use crate::board::Inspect;
use crate::layout;
use iommu::follow::{Attachment, FollowedStatus, ToldStatus};
use iommu::unit::Unit;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The registers that are shown (VT-d specification 11.4): name, offset, bytes.
const REGISTERS: [(&str, u64, usize); 22] = [
    ("VER", 0x00, 4),
    ("CAP", 0x08, 8),
    ("ECAP", 0x10, 8),
    ("GSTS", 0x1c, 4),
    ("RTADDR", 0x20, 8),
    ("CCMD", 0x28, 8),
    ("FSTS", 0x34, 4),
    ("FECTL", 0x38, 4),
    ("FEDATA", 0x3c, 4),
    ("FEADDR", 0x40, 4),
    ("IQH", 0x80, 8),
    ("IQT", 0x88, 8),
    ("IQA", 0x90, 8),
    ("ICS", 0x9c, 4),
    ("IECTL", 0xa0, 4),
    ("IQERCD", 0xb0, 8),
    ("IRTA", 0xb8, 8),
    ("PQH", 0xc0, 8),
    ("PQT", 0xc8, 8),
    ("PQA", 0xd0, 8),
    ("PRS", 0xdc, 4),
    ("PECTL", 0xe0, 4),
];
const GSTS: u64 = 0x1c;
/// Bits of GSTS (VT-d specification 11.4.4.2).
const TRANSLATION: u32 = 1 << 31;
const QUEUE: u32 = 1 << 26;
const INTERRUPTS: u32 = 1 << 25;

/// One unit.
#[derive(Debug)]
pub(super) struct UnitView {
    pub(super) number: usize,
    pub(super) unit: Arc<Unit>,
}

impl UnitView {
    fn read(&self, offset: u64, bytes: usize) -> u64 {
        let mut data = [0; 8];
        self.unit.read(offset, &mut data[..bytes]);
        u64::from_le_bytes(data)
    }

    fn read32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.unit.read(offset, &mut data);
        u32::from_le_bytes(data)
    }
}

impl Inspect for UnitView {
    fn stats(&self) -> Value {
        Value::Object(counters::sum(&[self.unit.counters()]))
    }

    fn dump(&self) -> Value {
        let status = self.read32(GSTS);
        let on = |bit: u32| if status & bit != 0 { "on" } else { "off" };
        let registers: Map<String, Value> = REGISTERS
            .iter()
            .map(|&(name, offset, bytes)| {
                let digits = 2 * bytes + 2;
                let value = format!("{:#0digits$x}", self.read(offset, bytes));
                (name.to_owned(), value.into())
            })
            .collect();
        json!({
            "base": format!("{:#x}", layout::vtd(self.number).0),
            "translation": on(TRANSLATION),
            "queue": on(QUEUE),
            "interrupt_remapping": on(INTERRUPTS),
            "registers": registers,
            "followed": self.unit.followed().iter().map(followed).collect::<Vec<_>>(),
        })
    }
}

fn followed(device: &FollowedStatus) -> Value {
    let without = device.without_pasid.as_ref();
    let pasids: Vec<Value> = device
        .pasids
        .iter()
        .map(|(pasid, told)| json!({"pasid": pasid.get(), "through": through(told)}))
        .collect();
    let mut row = json!({
        "device": device.device.0,
        "source": device.source.to_string(),
        "through": without.map_or_else(|| "-".to_owned(), through),
        "unsynced": device.unsynced,
    });
    if !pasids.is_empty() {
        row["pasids"] = pasids.into();
    }
    row
}

/// What requests were told to go through.
fn through(told: &ToldStatus) -> String {
    let mut text = match &told.to {
        Attachment::Blocked => "blocked".to_owned(),
        Attachment::Identity => "identity".to_owned(),
        Attachment::Domain(domain) => {
            format!("domain {}, {:?}", domain.id.0, domain.tables.stages)
        }
    };
    if told.refused {
        text += " (refused by the host)";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wiring::testing::{config, parts};

    #[test]
    fn dump_shows_registers_as_they_are() {
        let (_, _, units) = parts(&config(&[]));
        let view = UnitView {
            number: 0,
            unit: Arc::clone(units.root().unit().unwrap()),
        };
        let dump = view.dump();
        assert_eq!(dump["base"], "0xfed90000");
        assert_eq!(dump["translation"], "off");
        assert_eq!(dump["registers"]["GSTS"], "0x00000000");
        // Queued invalidation on, after a queue was named.
        view.unit.write(0x90, &0x20_0000u64.to_le_bytes());
        view.unit.write(0x18, &0x0400_0000u32.to_le_bytes());
        let dump = view.dump();
        assert_eq!(
            (&dump["queue"], &dump["translation"]),
            (&"on".into(), &"off".into())
        );
        assert_eq!(dump["registers"]["IQA"], "0x0000000000200000");
        assert_eq!(dump["followed"], json!([]));
        assert_eq!(view.stats()["translations"], 0);
    }
}
