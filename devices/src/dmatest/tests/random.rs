// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whatever a driver writes, nothing panics or hangs, and the device works after a reset.

use super::rig::{Slot, rig};
use crate::pci::PciFunction;
use iommu::address::IovaRange;
use iommu::ats::{AtsEndpoint, PageResponse, ResponseCode};
use iommu::ids::{Pasid, SourceId};
use iommu::invalidation::DeviceSpaces;
use proptest::prelude::*;

/// What a hostile driver does.
#[derive(Clone, Debug)]
enum Step {
    Config(u16, u8),
    Write {
        bar: u8,
        offset: u64,
        value: u64,
        len: usize,
    },
    Read {
        bar: u8,
        offset: u64,
        len: usize,
    },
    Command {
        control: u32,
        pasid: u32,
        address: u64,
        length: u32,
    },
    Invalidate,
    Respond(u16, u8),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![
        0..0x60u64,
        0x1000..0x2100u64,
        0xfff0..0x1_0010u64,
        any::<u64>()
    ];
    let len = prop_oneof![Just(1usize), Just(2), Just(4), Just(8)];
    let bar = prop_oneof![4 => Just(0u8), 1 => 0..6u8];
    let write = (bar.clone(), offset.clone(), any::<u64>(), len.clone()).prop_map(
        |(bar, offset, value, len)| Step::Write {
            bar,
            offset,
            value,
            len,
        },
    );
    let read = (bar, offset, len).prop_map(|(bar, offset, len)| Step::Read { bar, offset, len });
    let control = (0..10u32, 0..0x80u32).prop_map(|(opcode, flags)| opcode | flags << 8);
    let command = (control, 0..4u32, 0..0x8000u64, 0..0x3000u32).prop_map(
        |(control, pasid, address, length)| Step::Command {
            control,
            pasid,
            address,
            length,
        },
    );
    let at = prop_oneof![Just(0x04u16), 0x44..0x8cu16, 0x100..0x124u16];
    prop_oneof![
        3 => (at, any::<u8>()).prop_map(|(at, byte)| Step::Config(at, byte)),
        4 => write,
        2 => read,
        8 => command,
        1 => Just(Step::Invalidate),
        1 => (0..512u16, any::<u8>()).prop_map(|(group, code)| Step::Respond(group, code)),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_driver_leaves_a_device_that_can_be_reset(steps in prop::collection::vec(step(), 1..80)) {
        let rig = rig();
        rig.write(0x2c, 1);
        rig.map(None, &[(0x1000, 0x1000), (0x2000, 0x7000)]);
        rig.map(Some(1), &[(0x1000, 0x2000), (0x2000, 0x8000)]);
        for step in &steps {
            match *step {
                Step::Config(at, byte) => rig.device.config_write(at, &[byte]),
                Step::Write { bar, offset, value, len } => {
                    rig.device.bar_write(bar, offset, &value.to_le_bytes()[..len]);
                }
                Step::Read { bar, offset, len } => {
                    rig.device.bar_read(bar, offset, &mut [0xff; 8][..len]);
                }
                Step::Command { control, pasid, address, length } => {
                    rig.submit(Slot { control, pasid, address, length, operand: 0x1800, ..Slot::default() });
                }
                Step::Invalidate => {
                    let _ = rig.device.invalidate(DeviceSpaces::AllPasids, IovaRange::ALL);
                }
                Step::Respond(group, code) => rig.device.respond(PageResponse {
                    source: SourceId(0x18),
                    pasid: Pasid::new(1),
                    group,
                    code: ResponseCode::from_field(code),
                }),
                Step::Reset => rig.device.reset(),
            }
            // Waits for a page stay short, whatever was written.
            rig.write(0x2c, 1);
        }
        rig.device.reset();
        rig.enable();
        rig.set_ram(0x7ff8, 0x1234);
        let load = Slot { control: 1, address: 0x2ff8, length: 8, ..Slot::default() };
        prop_assert_eq!(rig.run(load), (1, 8, 0, 0));
        prop_assert_eq!(rig.read64(0x1_0000), 0x1234);
    }
}
