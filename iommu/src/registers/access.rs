// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The access table: reset value and access type of every bit, for given capabilities.

use super::{Registers, halves};
use crate::capabilities::Capabilities;
use crate::spec::regs::{GlobalStatus, offset};

/// Major version 1, minor version 0.
const VERSION: u32 = 0x10;

/// Reset value and access types of the bits of one 32-bit word. Bits named in no mask keep their reset value.
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
    /// Bits that software cannot set and the unit does.
    status: u32,
}

impl Access {
    fn read_only(reset: u32) -> Self {
        Self {
            reset,
            ..Self::default()
        }
    }

    fn status(status: u32) -> Self {
        Self::default().with_status(status)
    }

    fn writable(write: u32) -> Self {
        Self {
            write,
            ..Self::default()
        }
    }

    fn write_1_clears(clear: u32) -> Self {
        Self {
            clear,
            ..Self::default()
        }
    }

    const fn reading_0(self, hidden: u32) -> Self {
        Self { hidden, ..self }
    }

    const fn with_reset(self, reset: u32) -> Self {
        Self { reset, ..self }
    }

    const fn with_status(self, status: u32) -> Self {
        Self { status, ..self }
    }

    /// Whether the word can come to hold `value`, as far as each bit alone tells.
    const fn can_hold(self, value: u32) -> bool {
        (value ^ self.reset) & !(self.write | self.clear | self.status) == 0
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
            let record = map.fault_record(index);
            map.add(record, Access::status(0xffff_f000));
            map.add(record + 4, Access::status(u32::MAX));
            map.add(record + 8, Access::status(0xf000_ffff));
            let clear = Access::write_1_clears(1 << 31);
            map.add(record + 12, clear.with_status(u32::MAX >> 1));
        }
        map
    }

    /// The registers after power-on.
    pub(crate) fn cold(&self) -> Registers {
        Registers {
            words: self.words.iter().map(|word| word.reset).collect(),
        }
    }

    /// Registers with these contents, if there are as many words as there should be and each can hold its own; otherwise the
    /// offset of the first that cannot.
    pub(crate) fn with_words(&self, words: &[u32]) -> Result<Registers, u16> {
        let good = |index: &usize| match (self.words.get(*index), words.get(*index)) {
            (Some(access), Some(&value)) => access.can_hold(value),
            _ => false,
        };
        let count = self.words.len().max(words.len());
        match (0..count).find(|index| !good(index)) {
            Some(index) => Err(u16::try_from(index * 4).unwrap_or(u16::MAX)),
            None => Ok(Registers {
                words: words.to_vec(),
            }),
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
        self.add(offset::GSTS, Access::status(offered_status(capabilities)));
        self.add(offset::RTADDR, Access::writable(0xffff_fc00));
        self.add(offset::RTADDR + 4, Access::writable(u32::MAX));
        // SID is write-only.
        self.add(
            offset::CCMD,
            Access::writable(u32::MAX).reading_0(0xffff_0000),
        );
        // CIRG and FM; FM is write-only. CAIG.
        let context = Access::writable(0x6000_0003).reading_0(0x3);
        self.add(offset::CCMD + 4, context.with_status(0x1800_0000));
        // PFO, IQE, ICE, ITE. PPF, FRI.
        let fault_status = Access::write_1_clears(0x71);
        self.add(offset::FSTS, fault_status.with_status(0xff02));
        // AM, IH, ADDR.
        self.add(
            self.iva,
            Access::writable(0xffff_f07f).reading_0(0xffff_f07f),
        );
        self.add(self.iva + 4, Access::writable(u32::MAX).reading_0(u32::MAX));
        // IIRG, DR, DW, DID. IAIG.
        let iotlb = Access::writable(0x3003_ffff);
        self.add(self.iva + 12, iotlb.with_status(0x0600_0000));
    }

    /// The four registers of an event.
    fn add_event(&mut self, control: u16, capabilities: &Capabilities) {
        let upper = if capabilities.extended_interrupt_mode() {
            u32::MAX
        } else {
            0
        };
        // IM. IP.
        let masked = Access::writable(1 << 31).with_reset(1 << 31);
        self.add(control, masked.with_status(1 << 30));
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
        self.add(offset::IQH, Access::status(0x7_fff0));
        // IQEI, and ITESID and ICESID.
        self.add(offset::IQERCD, Access::status(0xf));
        self.add(offset::IQERCD + 4, Access::status(u32::MAX));
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

/// The bits of GSTS that the commands on offer set.
fn offered_status(capabilities: &Capabilities) -> u32 {
    let ir = capabilities.interrupt_remapping();
    GlobalStatus::new()
        .with_tes(true)
        .with_rtps(true)
        .with_qies(capabilities.queued_invalidation())
        .with_ires(ir)
        .with_irtps(ir)
        .with_cfis(ir)
        .into_bits()
}
