// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A host and a machine that write down what they are told.

use super::super::config::{HostFunction, Place, VirtualConfig};
use super::super::testing::{Machine, RecordingPort};
use super::*;

fn requester() -> Arc<Requester> {
    Arc::new(Requester::default())
}

fn interrupts(machine: &Arc<Machine>, can_add_vectors: bool) -> HostInterrupts {
    HostInterrupts::new(requester(), machine.clone(), can_add_vectors)
}

fn message(data: u32) -> Option<MsiMessage> {
    Some(MsiMessage {
        address: 0xfee0_0000,
        data,
    })
}

/// Four MSI-X vectors, the table at the beginning of BAR 0.
fn table() -> MsixTable {
    let mut image = vec![0; 256];
    image[0x06] = 0x10;
    image[0x34] = 0x40;
    image[0x40..0x4c].copy_from_slice(&[0x11, 0, 3, 0, 0, 0, 0, 0, 0, 0x10, 0, 0]);
    let host = HostFunction {
        image: &image,
        bars: [0x4000, 0, 0, 0, 0, 0],
        intx: true,
        msi: 0,
        msix: 4,
        resettable: true,
    };
    let config = VirtualConfig::new(&host, Place::RootComplex).unwrap();
    MsixTable::new(config.msix().unwrap())
}

fn unmask(table: &mut MsixTable, vector: u64, data: u32) {
    let _ = table.write(0, vector * 16, &0xfee0_0000u64.to_le_bytes());
    let _ = table.write(0, vector * 16 + 8, &data.to_le_bytes());
    let _ = table.write(0, vector * 16 + 12, &[0; 4]);
}

#[test]
fn msix_vectors_are_armed_when_they_are_first_unmasked() {
    let (port, machine) = (RecordingPort::default(), Machine::new());
    let mut interrupts = interrupts(&machine, true);
    let mut table = table();
    interrupts
        .apply(&port, &Interrupts::Msix(false), Some(&table))
        .unwrap();
    assert_eq!(port.take(), ["arm Msix 0 none"]);
    unmask(&mut table, 2, 0x31);
    for _ in 0..2 {
        interrupts
            .apply(&port, &Interrupts::Msix(false), Some(&table))
            .unwrap();
    }
    assert_eq!(port.take(), ["arm Msix 2 some"]);
    assert_eq!(machine.messages(), [message(0x31)]);
    interrupts
        .apply(&port, &Interrupts::Msix(true), Some(&table))
        .unwrap();
    assert_eq!(machine.messages(), [None], "all vectors are masked");
    machine.signal(0);
    assert!(interrupts.is_pending(2) && !interrupts.is_pending(0));
    interrupts
        .apply(&port, &Interrupts::Intx(true), Some(&table))
        .unwrap();
    assert_eq!(port.take(), ["disarm Msix"]);
}

#[test]
fn msix_vectors_that_cannot_be_added_are_armed_at_once() {
    let (port, machine) = (RecordingPort::default(), Machine::new());
    let mut interrupts = interrupts(&machine, false);
    interrupts
        .apply(&port, &Interrupts::Msix(false), Some(&table()))
        .unwrap();
    assert_eq!(port.take(), ["arm Msix 0 some some some some"]);
    assert_eq!(machine.messages(), [None; 4]);
}

#[test]
fn message_of_one_vector_leaves_the_routes_of_the_others_alone() {
    let (port, machine) = (RecordingPort::default(), Machine::new());
    let mut interrupts = interrupts(&machine, false);
    let mut table = table();
    for (vector, data) in [(1, 0x31), (3, 0x33), (1, 0x41)] {
        unmask(&mut table, vector, data);
        interrupts
            .apply(&port, &Interrupts::Msix(false), Some(&table))
            .unwrap();
    }
    let now = [None, message(0x41), None, message(0x33)];
    assert_eq!(machine.messages(), now);
    assert_eq!(machine.sets(), [0, 2, 0, 1]);
    interrupts
        .apply(&port, &Interrupts::Msix(true), Some(&table))
        .unwrap();
    assert_eq!(machine.messages(), [None; 4]);
    assert_eq!(machine.sets(), [0, 3, 0, 2]);
}

#[test]
fn msi_is_armed_with_the_vectors_that_were_granted() {
    let (port, machine) = (RecordingPort::default(), Machine::new());
    let mut interrupts = interrupts(&machine, true);
    let both = Interrupts::Msi(vec![message(0x40), message(0x41)]);
    interrupts.apply(&port, &both, None).unwrap();
    let masked = Interrupts::Msi(vec![message(0x50), None]);
    interrupts.apply(&port, &masked, None).unwrap();
    assert_eq!(port.take(), ["arm Msi 0 some some"]);
    assert_eq!(machine.messages(), [message(0x50), None]);
}

#[test]
fn refusal_of_the_host_leaves_nothing_enabled() {
    let (port, machine) = (RecordingPort::default(), Machine::new());
    let mut interrupts = interrupts(&machine, true);
    port.fail_next(libc::ENOSPC);
    let one = Interrupts::Msi(vec![message(0x40)]);
    let error = interrupts.apply(&port, &one, None).unwrap_err();
    assert!(matches!(error, InterruptError::Host { source, .. } if source.errno() == libc::ENOSPC));
    assert_eq!(port.take(), ["disarm Msi"]);
    assert!(machine.messages().is_empty(), "routes are given back");
    interrupts.apply(&port, &one, None).unwrap();
    assert_eq!(port.take(), ["arm Msi 0 some"]);
}
