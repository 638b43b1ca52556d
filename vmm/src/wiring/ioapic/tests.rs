// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a line through the IOAPIC and remapping to the kernel, and back by the end of the interrupt.

use super::*;
use crate::interrupts::Route;
use crate::wiring::testing::{Kernel, config, parts};
use iommu::memory::{PhysMem, Ram};
use vm_memory::GuestAddress;

/// Writes both halves of the entry of `pin`.
fn program(wired: &Wired, pin: u8, entry: u64) {
    let bytes = entry.to_le_bytes();
    for (half, index) in [(1, 0x11), (0, 0x10)] {
        wired.ioapic.write(0, &[index + 2 * pin, 0, 0, 0]);
        wired.ioapic.write(0x10, &bytes[4 * half..4 * half + 4]);
    }
}

fn wired(options: &[&str]) -> (Arc<Kernel>, Arc<Ram>, Units, Wired) {
    let (kernel, ram, units) = parts(&config(options));
    let wired = Wired::new(&units, RouteTable::new(Arc::clone(&kernel) as _));
    (kernel, ram, units, wired)
}

fn message(address: u64, data: u32) -> MsiMessage {
    MsiMessage { address, data }
}

#[test]
fn level_interrupt_is_sent_again_at_its_end_while_a_source_asserts_it() {
    let (kernel, _, _, wired) = wired(&["--iommu", "off"]);
    // Vector 0x41, level, active low, to APIC 3.
    program(&wired, 17, 3 << 56 | 1 << 15 | 1 << 13 | 0x41);
    let sent = message(0xfee0_3000, 0x8041);
    assert_eq!(
        kernel.routes(),
        [Route {
            gsi: 17,
            message: sent
        }]
    );
    let lines = wired.lines();
    let (one, two) = (lines.source(17), lines.source(17));
    one.set_level(true);
    two.set_level(true);
    assert_eq!(kernel.take_signals(), [sent]);
    one.set_level(false);
    wired.routes.eoi(0x41);
    assert_eq!(kernel.take_signals(), [sent]);
    two.set_level(false);
    wired.routes.eoi(0x41);
    assert!(kernel.take_signals().is_empty());
}

#[test]
fn remapped_pin_follows_the_table_entry() {
    let (kernel, ram, units, wired) = wired(&[]);
    let unit = units.root().unit().unwrap();
    // Entry 5 at 2 MiB: present, level, vector 0x52, APIC id 0x102; source 00:1e.7 must match exactly.
    let entry: u128 = 1 | 1 << 4 | 0x52 << 16 | 0x102 << 32 | 0x00f7 << 64 | 1 << 82;
    let at = GuestAddress(0x20_0000 + 5 * 16);
    PhysMem::write(&*ram, at, &entry.to_le_bytes()).unwrap();
    // Remappable format, index 5, level, vector 9.
    program(&wired, 9, 5 << 49 | 1 << 48 | 1 << 15 | 9);
    // 65536 entries, EIME: SIRTP, then IRE.
    unit.write(0xb8, &0x20_080fu64.to_le_bytes());
    unit.write(0x18, &(1u32 << 24).to_le_bytes());
    unit.write(0x18, &(1u32 << 25).to_le_bytes());

    let sent = message(0x100_fee0_2000, 0x8052);
    let routes = kernel.routes();
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].gsi, 9);
    assert_eq!(routes[0].message.data & 0x80ff, sent.data);
    assert_eq!(routes[0].message.address & !0xfff, sent.address);
    let line = wired.lines().source(9);
    line.set_level(true);
    assert_eq!(kernel.take_signals(), [routes[0].message]);
    // The kernel reports the vector that it delivered.
    wired.routes.eoi(0x52);
    assert_eq!(kernel.take_signals(), [routes[0].message]);
    assert_eq!(unit.counters().faults_total(), 0);
}

#[test]
fn table_entry_that_becomes_present_without_an_invalidation_has_its_route() {
    let (kernel, ram, units, wired) = wired(&[]);
    let unit = units.root().unit().unwrap();
    // 65536 entries at 2 MiB, EIME: SIRTP, then IRE. All entries are zero.
    unit.write(0xb8, &0x20_080fu64.to_le_bytes());
    unit.write(0x18, &(1u32 << 24).to_le_bytes());
    unit.write(0x18, &(1u32 << 25).to_le_bytes());
    // Remappable format, index 5, level.
    program(&wired, 9, 5 << 49 | 1 << 48 | 1 << 15 | 9);
    assert!(kernel.routes().is_empty());
    // Present, level, vector 0x52, APIC id 3.
    let entry: u128 = 1 | 1 << 4 | 0x52 << 16 | 3 << 32;
    let at = GuestAddress(0x20_0000 + 5 * 16);
    PhysMem::write(&*ram, at, &entry.to_le_bytes()).unwrap();

    let line = wired.lines().source(9);
    line.set_level(true);
    let sent = kernel.take_signals();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        kernel.routes(),
        [Route {
            gsi: 9,
            message: sent[0]
        }]
    );
    wired.routes.eoi(0x52);
    assert_eq!(kernel.take_signals(), sent);
}

#[test]
fn reset_masks_every_pin_and_takes_the_routes_away() {
    let (kernel, _, _, wired) = wired(&["--iommu", "off"]);
    program(&wired, 17, 1 << 15 | 0x41);
    assert_eq!(kernel.routes().len(), 1);
    wired.reset().unwrap();
    assert!(kernel.routes().is_empty());
    wired.lines().source(17).set_level(true);
    assert!(kernel.take_signals().is_empty());
}

/// Lowers its line when the interrupt ends, and asserts it again as often as it is told to.
#[derive(Debug)]
struct Holder {
    line: Arc<dyn IrqLine>,
    again: Mutex<u32>,
}

impl devices::irq::EndOfInterrupt for Holder {
    fn interrupt_ended(&self) {
        self.line.set_level(false);
        let mut again = self.again.lock().unwrap();
        if *again > 0 {
            *again -= 1;
            self.line.set_level(true);
        }
    }
}

#[test]
fn source_that_listens_is_told_before_its_line_is_looked_at() {
    let (kernel, _, _, wired) = wired(&["--iommu", "off"]);
    program(&wired, 17, 1 << 15 | 0x41);
    let holder = Arc::new(Holder {
        line: wired.lines().source(17),
        again: Mutex::new(1),
    });
    let listener: Weak<Holder> = Arc::downgrade(&holder);
    wired.lines().source(17).listen(listener);
    let (bystander, sent) = (wired.lines().source(18), message(0xfee0_0000, 0x8041));
    bystander.set_level(true);
    holder.line.set_level(true);
    assert_eq!(kernel.take_signals(), [sent]);
    wired.routes.eoi(0x41);
    assert_eq!(kernel.take_signals(), [sent], "asserted again, sent again");
    wired.routes.eoi(0x41);
    assert!(kernel.take_signals().is_empty());
}

#[test]
fn power_button_is_an_edge_and_says_whether_anybody_listens() {
    let (kernel, _, _, wired) = wired(&["--iommu", "off"]);
    let button = wired.button();
    assert!(!button.press());
    // Vector 0x33, edge, active high, to APIC 1.
    program(&wired, 9, 1 << 56 | 0x33);
    assert!(kernel.take_signals().is_empty());
    for _ in 0..2 {
        assert!(button.press());
        assert_eq!(kernel.take_signals(), [message(0xfee0_1000, 0x33)]);
    }
}
