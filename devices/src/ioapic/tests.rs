// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The I/O APIC by its registers: entries are raw 64-bit values of the data sheet's table.

use super::*;
use crate::irq::SharedLine;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Sent(u64, u32),
    Changed(u8),
    Ends(u8),
}

#[derive(Debug, Default)]
struct Output(Mutex<Vec<Event>>, Mutex<Option<Arc<dyn IrqLine>>>);

impl IoapicOutput for Output {
    fn send(&self, message: MsiMessage) {
        let event = Event::Sent(message.address, message.data);
        self.0.lock().unwrap().push(event);
    }

    fn entry_changed(&self, pin: u8) {
        self.0.lock().unwrap().push(Event::Changed(pin));
    }

    /// Lowers the line that was given for it.
    fn interrupt_ends(&self, pin: u8) {
        self.0.lock().unwrap().push(Event::Ends(pin));
        if let Some(line) = &*self.1.lock().unwrap() {
            line.set_level(false);
        }
    }
}

struct Rig {
    ioapic: Arc<Ioapic>,
    output: Arc<Output>,
}

fn rig() -> Rig {
    let output = Arc::new(Output::default());
    let ioapic = Ioapic::new(2, output.clone());
    Rig { ioapic, output }
}

impl Rig {
    fn read(&self, register: u8) -> u32 {
        self.ioapic.write(0x00, &[register, 0, 0, 0]);
        let mut data = [0xff; 4];
        self.ioapic.read(0x10, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&self, register: u8, value: u32) {
        self.ioapic.write(0x00, &[register, 0, 0, 0]);
        self.ioapic.write(0x10, &value.to_le_bytes());
    }

    fn entry(&self, pin: u8) -> u64 {
        let low = u64::from(self.read(0x10 + 2 * pin));
        u64::from(self.read(0x11 + 2 * pin)) << 32 | low
    }

    /// Programs an entry, high half first, and forgets the events of that.
    fn program(&self, pin: u8, entry: u64) {
        self.write(0x11 + 2 * pin, u32::try_from(entry >> 32).unwrap());
        self.write(0x10 + 2 * pin, u32::try_from(entry & 0xffff_ffff).unwrap());
        self.events();
    }

    fn line(&self, pin: u8, asserted: bool) {
        self.ioapic.line(pin).set_level(asserted);
    }

    fn eoi(&self, vector: u8) {
        self.ioapic.write(0x40, &[vector, 0, 0, 0]);
    }

    fn events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.output.0.lock().unwrap())
    }

    fn sent(&self) -> Vec<(u64, u32)> {
        let events = self.events().into_iter();
        events
            .filter_map(|event| match event {
                Event::Sent(address, data) => Some((address, data)),
                Event::Changed(_) | Event::Ends(_) => None,
            })
            .collect()
    }
}

#[test]
fn version_register_says_0x20_and_24_pins() {
    assert_eq!(rig().read(1), 0x0017_0020);
}

#[test]
fn id_register_keeps_four_bits() {
    let rig = rig();
    assert_eq!((rig.read(0), rig.read(2)), (0x0200_0000, 0x0200_0000));
    rig.write(0, 0xf5ff_ffff);
    assert_eq!(rig.read(0), 0x0500_0000);
}

#[test]
fn version_and_unknown_registers_are_read_only() {
    let rig = rig();
    rig.write(1, 0);
    rig.write(0x40, 0);
    rig.write(0xff, 0);
    assert_eq!(rig.read(1), 0x0017_0020);
    assert_eq!((rig.read(0x40), rig.read(0x03)), (u32::MAX, u32::MAX));
    assert!(rig.events().is_empty());
}

#[test]
fn entries_are_masked_after_power_on() {
    let rig = rig();
    for pin in 0..24 {
        assert_eq!(rig.entry(pin), 0x0000_0000_0001_0000);
    }
}

#[test]
fn entry_keeps_writable_bits_only() {
    let rig = rig();
    rig.program(3, u64::MAX);
    assert_eq!(rig.entry(3), 0xffff_0000_0001_afff);
    rig.program(3, 0);
    assert_eq!(rig.entry(3), 0);
}

#[test]
fn index_register_reads_back() {
    let rig = rig();
    rig.ioapic.write(0x00, &[0x3f]);
    let mut data = [0xff; 4];
    rig.ioapic.read(0x00, &mut data);
    assert_eq!(data, [0x3f, 0, 0, 0]);
}

#[test]
fn data_register_takes_dwords_only() {
    let rig = rig();
    rig.ioapic.write(0x00, &[0x10]);
    rig.ioapic.write(0x10, &[0, 0]);
    rig.ioapic.write(0x10, &[0; 8]);
    assert_eq!(rig.entry(0), MASKED);
}

#[test]
fn offset_without_register_reads_all_ones() {
    let mut data = [0xff; 4];
    rig().ioapic.read(0x20, &mut data);
    rig().ioapic.read(0x40, &mut data);
    assert_eq!(data, [0xff; 4]);
}

#[test]
fn edge_sends_on_each_rise() {
    let rig = rig();
    rig.program(4, 0x0500_0000_0000_0031);
    rig.line(4, true);
    rig.line(4, true);
    rig.line(4, false);
    assert_eq!(rig.sent(), [(0xfee0_5000, 0x31)]);
    rig.line(4, true);
    assert_eq!(rig.sent().len(), 1);
    assert_eq!(rig.entry(4), 0x0500_0000_0000_0031);
}

#[test]
fn edge_on_a_masked_pin_is_lost() {
    let rig = rig();
    rig.program(4, MASKED | 0x31);
    rig.line(4, true);
    rig.program(4, 0x31);
    assert!(rig.sent().is_empty());
    rig.line(4, false);
    rig.line(4, true);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn message_carries_mode_and_destination() {
    let rig = rig();
    rig.program(4, 0x8a12_0000_0000_0000 | LEVEL | 1 << 11 | 1 << 8 | 0x42);
    rig.line(4, true);
    assert_eq!(rig.sent(), [(0xfee8_a124, 0x8142)]);
}

#[test]
fn remappable_entry_gives_a_remappable_address() {
    let rig = rig();
    // Index 0x8123: bits 14:0 in 63:49, bit 15 in 11; format in 48; the vector field holds the pin.
    rig.program(17, 0x0123 << 49 | 1 << 48 | 1 << 11 | LEVEL | 17);
    rig.line(17, true);
    // Address: handle[14:0] in 19:5, format in 4, handle[15] in 2.
    assert_eq!(
        rig.sent(),
        [(0xfee0_0000 | 0x0123 << 5 | 1 << 4 | 1 << 2, 0x8011)]
    );
}

#[test]
fn level_sends_once_and_sets_remote_irr() {
    let rig = rig();
    rig.program(16, LEVEL | 0x50);
    rig.line(16, true);
    rig.line(16, true);
    assert_eq!(rig.sent(), [(0xfee0_0000, 0x8050)]);
    assert_eq!(rig.entry(16), REMOTE_IRR | LEVEL | 0x50);
}

#[test]
fn level_drop_before_eoi_keeps_remote_irr_and_sends_nothing() {
    let rig = rig();
    rig.program(16, LEVEL | 0x50);
    rig.line(16, true);
    rig.line(16, false);
    rig.line(16, true);
    rig.line(16, false);
    assert_eq!(rig.sent().len(), 1);
    assert_eq!(rig.entry(16) & REMOTE_IRR, REMOTE_IRR);
    rig.eoi(0x50);
    assert_eq!(rig.entry(16) & REMOTE_IRR, 0);
    assert!(rig.sent().is_empty());
    rig.line(16, true);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn level_still_high_at_eoi_sends_again() {
    let rig = rig();
    rig.program(16, LEVEL | 0x50);
    rig.line(16, true);
    rig.eoi(0x50);
    assert_eq!(rig.sent().len(), 2);
    assert_eq!(rig.entry(16) & REMOTE_IRR, REMOTE_IRR);
    rig.line(16, false);
    rig.eoi(0x50);
    assert!(rig.sent().is_empty());
}

#[test]
fn eoi_of_another_vector_does_nothing() {
    let rig = rig();
    rig.program(16, LEVEL | 0x50);
    rig.line(16, true);
    rig.events();
    rig.eoi(0x51);
    assert_eq!(rig.entry(16) & REMOTE_IRR, REMOTE_IRR);
    assert!(rig.events().is_empty());
}

#[test]
fn eoi_reaches_every_pin_with_the_vector() {
    let rig = rig();
    for pin in [16, 20] {
        rig.program(pin, LEVEL | 0x50);
        rig.line(pin, true);
    }
    rig.events();
    rig.eoi(0x50);
    assert_eq!(rig.sent().len(), 2);
}

#[test]
fn eoi_takes_a_single_byte_too() {
    let rig = rig();
    rig.program(16, LEVEL | 0x50);
    rig.line(16, true);
    rig.line(16, false);
    rig.ioapic.write(0x40, &[0x50]);
    assert_eq!(rig.entry(16) & REMOTE_IRR, 0);
}

#[test]
fn eoi_by_pin_ignores_the_vector_field() {
    let rig = rig();
    rig.program(17, 1 << 48 | LEVEL | 17);
    rig.line(17, true);
    rig.ioapic.end_of_interrupt_pin(17);
    assert_eq!(rig.sent().len(), 2);
    rig.line(17, false);
    rig.ioapic.end_of_interrupt_pin(17);
    assert_eq!(rig.entry(17) & REMOTE_IRR, 0);
    rig.ioapic.end_of_interrupt_pin(16);
    rig.ioapic.end_of_interrupt_pin(200);
    assert!(rig.sent().is_empty());
}

#[test]
fn eoi_without_an_interrupt_in_service_sends_nothing() {
    let rig = rig();
    rig.program(16, MASKED | LEVEL | 0x50);
    rig.line(16, true);
    rig.eoi(0x50);
    assert!(rig.events().is_empty());
}

#[test]
fn edge_pin_ignores_eoi() {
    let rig = rig();
    rig.program(4, 0x31);
    rig.line(4, true);
    rig.events();
    rig.eoi(0x31);
    assert!(rig.events().is_empty());
}

#[test]
fn unmasking_a_high_level_pin_sends() {
    let rig = rig();
    rig.program(16, MASKED | LEVEL | 0x50);
    rig.line(16, true);
    assert!(rig.events().is_empty());
    rig.write(0x10 + 32, 0x8050);
    assert_eq!(
        rig.events(),
        [Event::Changed(16), Event::Sent(0xfee0_0000, 0x8050)]
    );
}

#[test]
fn unmasking_after_the_line_dropped_sends_nothing() {
    let rig = rig();
    rig.program(16, MASKED | LEVEL | 0x50);
    rig.line(16, true);
    rig.line(16, false);
    rig.write(0x10 + 32, 0x8050);
    assert_eq!(rig.events(), [Event::Changed(16)]);
}

#[test]
fn mask_during_service_holds_the_next_one_until_unmasked() {
    let rig = rig();
    rig.program(16, LEVEL | 0x50);
    rig.line(16, true);
    rig.program(16, MASKED | LEVEL | 0x50);
    assert_eq!(rig.entry(16), REMOTE_IRR | MASKED | LEVEL | 0x50);
    rig.eoi(0x50);
    assert_eq!(rig.entry(16), MASKED | LEVEL | 0x50);
    assert!(rig.sent().is_empty());
    rig.write(0x10 + 32, 0x8050);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn unmask_during_service_does_not_send_twice() {
    let rig = rig();
    rig.program(16, LEVEL | 0x50);
    rig.line(16, true);
    rig.events();
    rig.write(0x10 + 32, 0x1_8050);
    rig.write(0x10 + 32, 0x8050);
    assert!(rig.sent().is_empty());
    rig.eoi(0x50);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn switching_to_edge_clears_remote_irr_and_back_sends_again() {
    let rig = rig();
    rig.program(16, LEVEL | 0x50);
    rig.line(16, true);
    rig.events();
    rig.write(0x10 + 32, 0x1_0050);
    assert_eq!(rig.entry(16), MASKED | 0x50);
    assert!(rig.sent().is_empty());
    rig.write(0x10 + 32, 0x8050);
    assert_eq!(rig.sent(), [(0xfee0_0000, 0x8050)]);
}

#[test]
fn remote_irr_cannot_be_written() {
    let rig = rig();
    rig.program(16, REMOTE_IRR | 1 << 12 | LEVEL | 0x50);
    assert_eq!(rig.entry(16), LEVEL | 0x50);
    rig.line(16, true);
    rig.write(0x10 + 32, 0x8050);
    assert_eq!(rig.entry(16) & REMOTE_IRR, REMOTE_IRR);
}

#[test]
fn writing_the_high_half_changes_the_destination() {
    let rig = rig();
    rig.program(4, 0x31);
    rig.write(0x11 + 8, 0x0300_0000);
    assert_eq!(rig.events(), [Event::Changed(4)]);
    rig.line(4, true);
    assert_eq!(rig.sent(), [(0xfee0_3000, 0x31)]);
}

#[test]
fn message_is_known_while_unmasked_or_in_service() {
    let rig = rig();
    let known = |pin| rig.ioapic.message(pin).map(|m| (m.address, m.data));
    assert_eq!((known(16), known(24)), (None, None));
    rig.program(16, LEVEL | 0x50);
    assert_eq!(known(16), Some((0xfee0_0000, 0x8050)));
    rig.line(16, true);
    rig.program(16, MASKED | LEVEL | 0x50);
    assert_eq!(known(16), Some((0xfee0_0000, 0x8050)));
    rig.line(16, false);
    rig.eoi(0x50);
    assert_eq!(known(16), None);
}

#[test]
fn pin_beyond_the_last_goes_nowhere() {
    let rig = rig();
    rig.line(24, true);
    rig.line(255, true);
    assert!(rig.events().is_empty());
}

#[test]
fn shared_pin_interrupts_until_the_last_source_lets_go() {
    let rig = rig();
    rig.program(16, LEVEL | 0x50);
    let shared = SharedLine::new(rig.ioapic.line(16));
    let (one, two) = (shared.source(), shared.source());
    one.set_level(true);
    two.set_level(true);
    one.set_level(false);
    rig.eoi(0x50);
    assert_eq!(rig.sent().len(), 2);
    two.set_level(false);
    rig.eoi(0x50);
    assert!(rig.sent().is_empty());
}

#[test]
fn reset_masks_everything_and_says_so_but_keeps_levels() {
    let rig = rig();
    rig.program(16, LEVEL | 0x50);
    rig.write(0, 0x0700_0000);
    rig.line(16, true);
    rig.events();
    rig.ioapic.reset();
    assert_eq!(rig.events().len(), 24);
    assert_eq!((rig.entry(16), rig.read(0)), (MASKED, 0x0200_0000));
    rig.write(0x10 + 32, 0x8050);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn source_that_holds_its_line_until_the_end_sends_once() {
    let rig = rig();
    *rig.output.1.lock().unwrap() = Some(rig.ioapic.line(17));
    rig.program(17, LEVEL | 0x41);
    rig.line(17, true);
    assert_eq!(rig.sent().len(), 1);
    rig.eoi(0x40);
    rig.ioapic.end_of_interrupt_pin(16);
    assert_eq!(rig.events(), [], "no interrupt of these has ended");
    rig.eoi(0x41);
    assert_eq!(rig.events(), [Event::Ends(17)]);
    rig.line(17, true);
    rig.ioapic.end_of_interrupt_pin(17);
    assert_eq!(
        rig.events(),
        [Event::Sent(0xfee0_0000, 0x8041), Event::Ends(17)]
    );
    rig.ioapic.end_of_interrupt_pin(17);
    assert_eq!(rig.events(), []);
}

/// Software for controllers without an EOI register masks the entry, makes it edge-triggered and restores it.
#[test]
fn switch_to_edge_ends_the_interrupt_for_its_sources_too() {
    let rig = rig();
    *rig.output.1.lock().unwrap() = Some(rig.ioapic.line(17));
    rig.program(17, LEVEL | 0x41);
    rig.line(17, true);
    rig.events();
    rig.write(0x10 + 2 * 17, 0x1_0041);
    assert_eq!(rig.events(), [Event::Changed(17), Event::Ends(17)]);
    rig.write(0x10 + 2 * 17, 0x8041);
    assert_eq!(rig.events(), [Event::Changed(17)]);
    rig.line(17, true);
    assert_eq!(rig.sent(), [(0xfee0_0000, 0x8041)]);
}
