// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The access table: reset value and access type of every bit, for given capabilities.

use super::{Registers, halves};
use crate::capabilities::Capabilities;
use crate::spec::regs::offset;

/// Major version 1, minor version 0.
const VERSION: u32 = 0x10;

/// Reset value and access types of the bits of one 32-bit word. Bits named in no mask are read-only.
#[derive(Clone, Copy, Debug, Default)]
struct Access {
    /// Value after power-on.
    reset: u32,
    /// Bits that hold what software writes.
    write: u32,
    /// Bits that software clears by writing 1.
    clear: u32,
    /// Bits that read as 0 whatever they hold.
    hidden: u32,
}

impl Access {
    const fn read_only(reset: u32) -> Self {
        Self {
            reset,
            write: 0,
            clear: 0,
            hidden: 0,
        }
    }

    const fn writable(write: u32) -> Self {
        Self {
            reset: 0,
            write,
            clear: 0,
            hidden: 0,
        }
    }

    const fn write_1_clears(clear: u32) -> Self {
        Self {
            reset: 0,
            write: 0,
            clear,
            hidden: 0,
        }
    }

    const fn reading_0(self, hidden: u32) -> Self {
        Self { hidden, ..self }
    }

    const fn with_reset(self, reset: u32) -> Self {
        Self { reset, ..self }
    }
}

/// Where the registers of one unit are and how they are accessed.
#[derive(Debug)]
pub(crate) struct RegisterMap {
    words: Vec<Access>,
    /// Offset of IVA; IOTLB follows it.
    pub(crate) iva: u16,
    /// Offset of the first fault recording register.
    pub(crate) fault_records: u16,
    /// Number of fault recording registers.
    pub(crate) fault_record_count: u16,
}

impl RegisterMap {
    /// The registers of a unit with these capabilities. What they do not offer is reserved space.
    pub(crate) fn new(capabilities: &Capabilities) -> Self {
        let end = capabilities.fault_record_offset() + 16 * capabilities.fault_records();
        let mut map = Self {
            words: vec![Access::default(); usize::from(end / 4)],
            iva: capabilities.iotlb_offset(),
            fault_records: capabilities.fault_record_offset(),
            fault_record_count: capabilities.fault_records(),
        };
        map.add_general(capabilities);
        map.add_event(offset::FECTL, capabilities);
        if capabilities.queued_invalidation() {
            map.add_queue();
            map.add_event(offset::IECTL, capabilities);
        }
        if capabilities.page_requests() {
            map.add_page_queue();
            map.add_event(offset::PECTL, capabilities);
        }
        if capabilities.interrupt_remapping() {
            let eime = u32::from(capabilities.extended_interrupt_mode()) << 11;
            map.add(offset::IRTA, Access::writable(0xffff_f00f | eime));
            map.add(offset::IRTA + 4, Access::writable(u32::MAX));
        }
        for index in 0..map.fault_record_count {
            map.add(
                map.fault_record(index) + 12,
                Access::write_1_clears(1 << 31),
            );
        }
        map
    }

    /// The registers after power-on.
    pub(crate) fn cold(&self) -> Registers {
        Registers {
            words: self.words.iter().map(|word| word.reset).collect(),
        }
    }

    /// Offset of fault recording register `index`, 16 bytes.
    pub(crate) const fn fault_record(&self, index: u16) -> u16 {
        self.fault_records + 16 * index
    }

    /// Offset of the top word of a fault recording register, if `offset` is one.
    pub(crate) fn is_fault_word(&self, offset: u16) -> bool {
        offset >= self.fault_records && offset % 16 == 12
    }

    /// What software reads from the word at byte `offset`; reserved space reads as 0.
    pub(crate) fn read(&self, registers: &Registers, offset: u16) -> u32 {
        match self.words.get(usize::from(offset / 4)) {
            Some(access) => registers.dword(offset) & !access.hidden,
            None => 0,
        }
    }

    /// Stores what software writes to the word at byte `offset`, as far as it may; nothing in reserved space.
    pub(crate) fn write(&self, registers: &mut Registers, offset: u16, value: u32) {
        if let Some(access) = self.words.get(usize::from(offset / 4)) {
            let kept = registers.dword(offset) & !access.write & !(access.clear & value);
            registers.set_dword(offset, kept | value & access.write);
        }
    }

    fn add(&mut self, offset: u16, access: Access) {
        self.words[usize::from(offset / 4)] = access;
    }

    fn add_read_only(&mut self, offset: u16, value: u64) {
        let [low, high] = halves(value);
        self.add(offset, Access::read_only(low));
        self.add(offset + 4, Access::read_only(high));
    }

    fn add_general(&mut self, capabilities: &Capabilities) {
        self.add(offset::VER, Access::read_only(VERSION));
        self.add_read_only(offset::CAP, capabilities.cap().into_bits());
        self.add_read_only(offset::ECAP, capabilities.ecap().into_bits());
        self.add(offset::RTADDR, Access::writable(0xffff_fc00));
        self.add(offset::RTADDR + 4, Access::writable(u32::MAX));
        // SID is write-only.
        self.add(
            offset::CCMD,
            Access::writable(u32::MAX).reading_0(0xffff_0000),
        );
        // CIRG and FM; FM is write-only.
        self.add(
            offset::CCMD + 4,
            Access::writable(0x6000_0003).reading_0(0x3),
        );
        // PFO, IQE, ICE, ITE.
        self.add(offset::FSTS, Access::write_1_clears(0x71));
        // AM, IH, ADDR.
        self.add(
            self.iva,
            Access::writable(0xffff_f07f).reading_0(0xffff_f07f),
        );
        self.add(self.iva + 4, Access::writable(u32::MAX).reading_0(u32::MAX));
        // IIRG, DR, DW, DID.
        self.add(self.iva + 12, Access::writable(0x3003_ffff));
    }

    /// The four registers of an event.
    fn add_event(&mut self, control: u16, capabilities: &Capabilities) {
        let upper = if capabilities.extended_interrupt_mode() {
            u32::MAX
        } else {
            0
        };
        self.add(control, Access::writable(1 << 31).with_reset(1 << 31));
        self.add(control + offset::EVENT_DATA, Access::writable(0xffff));
        self.add(
            control + offset::EVENT_ADDRESS,
            Access::writable(0xffff_fffc),
        );
        self.add(
            control + offset::EVENT_UPPER_ADDRESS,
            Access::writable(upper),
        );
    }

    fn add_queue(&mut self) {
        self.add(offset::IQT, Access::writable(0x7_fff0));
        // Page, DW, QS.
        self.add(offset::IQA, Access::writable(0xffff_f807));
        self.add(offset::IQA + 4, Access::writable(u32::MAX));
        self.add(offset::ICS, Access::write_1_clears(1));
    }
    fn add_page_queue(&mut self) {
        self.add(offset::PQH, Access::writable(0x7_ffe0));
        self.add(offset::PQT, Access::writable(0x7_ffe0));
        // Page, PQS.
        self.add(offset::PQA, Access::writable(0xffff_f007));
        self.add(offset::PQA + 4, Access::writable(u32::MAX));
        self.add(offset::PRS, Access::write_1_clears(0x3));
    }
}
