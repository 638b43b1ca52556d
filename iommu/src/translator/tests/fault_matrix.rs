// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every fault reason of DMA requests: a smallest change to the standard tables or to a request that raises exactly it,
//! beside a neighbour that is allowed. Interrupts have theirs beside their tests.

use super::scalable::*;
use super::*;
use crate::fault::FaultReason;
use crate::ids::Pasid;
use crate::request::AddressType;
use std::collections::BTreeSet;

/// A request, and what is different from the standard tables.
#[derive(Clone, Copy)]
struct Side {
    mode: TableMode,
    edits: &'static [(u64, u64)],
    failing: &'static [u64],
    protected: &'static [u64],
    pasid: Option<u32>,
    iova: u64,
    access: Access,
    execute: bool,
    privileged: bool,
    kind: Kind,
}

/// Allowed, or the fault's code and whether it is recorded.
type Outcome = Result<(), (u8, bool)>;

#[derive(Clone, Copy)]
enum Kind {
    Dma(AddressType),
    PageRequest,
}

struct Case {
    code: u8,
    /// The context entry's FPD keeps it out of the record.
    qualified: bool,
    raises: Side,
    neighbour: Side,
}

/// A read of 0x1000 without PASID in scalable mode.
const PLAIN: Side = Side {
    mode: TableMode::Scalable,
    edits: &[],
    failing: &[],
    protected: &[],
    pasid: None,
    iova: 0x1000,
    access: Access::Read,
    execute: false,
    privileged: false,
    kind: Kind::Dma(AddressType::Untranslated),
};

impl Side {
    const fn legacy() -> Self {
        Self {
            mode: TableMode::Legacy,
            ..PLAIN
        }
    }

    const fn pasid(pasid: u32) -> Self {
        Self {
            pasid: Some(pasid),
            ..PLAIN
        }
    }

    const fn mode(self, mode: TableMode) -> Self {
        Self { mode, ..self }
    }

    const fn edits(self, edits: &'static [(u64, u64)]) -> Self {
        Self { edits, ..self }
    }

    const fn failing(self, failing: &'static [u64]) -> Self {
        Self { failing, ..self }
    }

    const fn protected(self, protected: &'static [u64]) -> Self {
        Self { protected, ..self }
    }

    const fn at(self, iova: u64) -> Self {
        Self { iova, ..self }
    }

    const fn writes(self) -> Self {
        Self {
            access: Access::Write,
            ..self
        }
    }

    const fn executes(self) -> Self {
        Self {
            execute: true,
            ..self
        }
    }

    const fn privileged(self) -> Self {
        Self {
            privileged: true,
            ..self
        }
    }

    const fn translated(self) -> Self {
        Self {
            kind: Kind::Dma(AddressType::Translated),
            ..self
        }
    }

    const fn asks_for_page(self) -> Self {
        Self {
            kind: Kind::PageRequest,
            ..self
        }
    }

    /// The outcome, with FPD set in the context entry or not.
    fn run(&self, fpd: bool) -> Outcome {
        let bench = match self.mode {
            TableMode::Legacy => Bench::with(full()),
            _ => Bench::scalable(),
        };
        bench.set_mode(self.mode);
        for (gpa, word) in self.edits {
            bench.memory.set(*gpa, *word);
        }
        if fpd {
            let context = match self.mode {
                TableMode::Legacy => 0x2080,
                _ => 0x2100,
            };
            bench.memory.set(context, bench.memory.word(context) | 2);
        }
        self.failing.iter().for_each(|gpa| bench.memory.fail(*gpa));
        self.protected
            .iter()
            .for_each(|gpa| bench.memory.protect(*gpa));
        let mut request = Request {
            pasid: self.pasid.and_then(Pasid::new),
            execute: self.execute,
            privileged: self.privileged,
            ..Request::untranslated(DEVICE, Iova(self.iova), self.access)
        };
        let outcome = match self.kind {
            Kind::Dma(address_type) => {
                request.address_type = address_type;
                bench.translator.translate(&request).map(drop)
            }
            Kind::PageRequest => bench.translator.check_page_request(&request),
        };
        outcome.map_err(|fault| (fault.reason.code(), fault.record))
    }
}

const fn qualified(code: u8, raises: Side, neighbour: Side) -> Case {
    Case {
        code,
        qualified: true,
        raises,
        neighbour,
    }
}

const fn always(code: u8, raises: Side, neighbour: Side) -> Case {
    Case {
        qualified: false,
        ..qualified(code, raises, neighbour)
    }
}

/// The nested PASID with a second stage of three levels, 39 bits.
const NARROW: (u64, u64) = (0x5080, 0x1_10c5);

const LEGACY: Side = Side::legacy();
const FIRST_STAGE: Side = Side::pasid(FIRST);
const BOTH_STAGES: Side = Side::pasid(NESTED);
const OPEN_STAGE: Side = Side::pasid(OPEN);
const UNCHANGED: Side = Side::pasid(PASS);
const WATCHED: Side = Side::pasid(TRACKED);

#[rustfmt::skip]
const CASES: &[Case] = &[
    always(0x1, LEGACY.edits(&[(0x1000, 0x2000)]), LEGACY.edits(&[(0x1010, 0x2000)])),
    qualified(0x2, LEGACY.edits(&[(0x2080, 0x3000)]), LEGACY.edits(&[(0x2090, 0x3000)])),
    qualified(0x3, LEGACY.edits(&[(0x2088, 0x0500)]), LEGACY.edits(&[(0x2088, 0x0502)])),
    qualified(0x3, LEGACY.edits(&[(0x2080, 0x300d)]), LEGACY.edits(&[(0x2080, 0x3005)])),
    qualified(0x3, LEGACY.failing(&[0x3000]), LEGACY.failing(&[0x3008])),
    qualified(0x4, LEGACY.at(1 << 48), LEGACY),
    qualified(0x4, LEGACY.edits(&[(0x2080, 0x3009)]), LEGACY.edits(&[(0x2080, 0x3009), (0x2088, 0x0503)])),
    qualified(0x5, LEGACY.at(0x2000).writes(), LEGACY.at(0x3000).writes()),
    qualified(0x5, LEGACY.edits(&[(0x6008, 0)]).writes(), LEGACY.writes()),
    qualified(0x6, LEGACY.at(0x3000), LEGACY.at(0x2000)),
    qualified(0x6, LEGACY.edits(&[(0x6008, 0)]), LEGACY),
    qualified(0x7, LEGACY.failing(&[0x4000]), LEGACY.failing(&[0x4008])),
    always(0x8, LEGACY.failing(&[0x1000]), LEGACY.failing(&[0x1010])),
    always(0x9, LEGACY.failing(&[0x2080]), LEGACY.failing(&[0x2090])),
    always(0xa, LEGACY.edits(&[(0x1000, 0x2003)]), LEGACY.edits(&[(0x1010, 0x2003)])),
    qualified(0xb, LEGACY.edits(&[(0x2080, 0x3011)]), LEGACY.edits(&[(0x2088, 0x057a)])),
    qualified(0xc, LEGACY.edits(&[(0x6008, 1 << 62 | 0x9003)]), LEGACY.edits(&[(0x6008, 1 << 61 | 0x9003)])),
    qualified(0xd, LEGACY.translated(), LEGACY.edits(&[(0x2080, 0x3005)]).translated()),
    qualified(0xe, LEGACY.edits(&[(0x6008, 0xfee0_0003)]), LEGACY.edits(&[(0x6008, 0xfedf_f003)])),

    always(0x30, PLAIN.mode(TableMode::Reserved), PLAIN),
    always(0x31, FIRST_STAGE.mode(TableMode::Legacy), LEGACY),
    always(0x32, FIRST_STAGE.mode(TableMode::Legacy).asks_for_page(), FIRST_STAGE.asks_for_page()),
    always(0x38, PLAIN.failing(&[0x1000]), PLAIN.failing(&[0x1008])),
    always(0x39, PLAIN.edits(&[(0x1000, 0x2000)]), PLAIN.edits(&[(0x1008, 0x3000)])),
    always(0x3a, PLAIN.edits(&[(0x1000, 0x2003)]), PLAIN.edits(&[(0x1008, 0x3003)])),
    always(0x3a, PLAIN.edits(&[(0x1000, 1 << 48 | 0x2001)]), PLAIN),

    always(0x40, PLAIN.failing(&[0x2118]), PLAIN.failing(&[0x2120])),
    qualified(0x41, PLAIN.edits(&[(0x2100, 0x401c)]), PLAIN.edits(&[(0x2120, 0x401c)])),
    qualified(0x42, PLAIN.edits(&[(0x2100, 0x403d)]), PLAIN.edits(&[(0x2100, 0x4e1d)])),
    qualified(0x42, PLAIN.edits(&[(0x2118, 1 << 63)]), PLAIN.edits(&[(0x2120, 1 << 63)])),
    qualified(0x43, PLAIN.edits(&[(0x2100, 0x4019)]), PLAIN.edits(&[(0x2100, 0x4009)])),
    qualified(0x44, PLAIN.edits(&[(0x2100, 0x4009)]).translated(), PLAIN.translated()),
    qualified(0x45, FIRST_STAGE.edits(&[(0x2100, 0x4015)]), PLAIN.edits(&[(0x2100, 0x4015)])),
    qualified(0x46, Side::pasid(0x2000), Side::pasid(0x2000).edits(&[(0x2100, 0x421d), (0x4400, 0x5001)])),
    qualified(0x47, FIRST_STAGE.edits(&[(0x2100, 0x400d)]).asks_for_page(), FIRST_STAGE.asks_for_page()),
    qualified(0x48, PLAIN.edits(&[(0x2108, 0x2000)]), PLAIN.edits(&[(0x2108, 1)])),

    always(0x50, PLAIN.failing(&[0x4000]), PLAIN.failing(&[0x4008])),
    qualified(0x51, PLAIN.edits(&[(0x4000, 0x5000)]), PLAIN.edits(&[(0x4008, 0x5000)])),
    qualified(0x52, PLAIN.edits(&[(0x4000, 0x5005)]), PLAIN.edits(&[(0x4000, 0x5003)])),
    always(0x58, FIRST_STAGE.failing(&[0x5078]), FIRST_STAGE.failing(&[0x5080])),
    qualified(0x59, FIRST_STAGE.edits(&[(0x5040, 0x48)]), FIRST_STAGE.edits(&[(0x5080, 0x48)])),
    qualified(0x5a, FIRST_STAGE.edits(&[(0x5040, 0x449)]), FIRST_STAGE.edits(&[(0x5040, 0x41)])),
    qualified(0x5a, FIRST_STAGE.edits(&[(0x5078, 1)]), FIRST_STAGE.edits(&[(0x5080, 1)])),
    qualified(0x5b, FIRST_STAGE.edits(&[(0x5040, 0x9)]), FIRST_STAGE),
    qualified(0x5b, FIRST_STAGE.edits(&[(0x5040, 0x149)]), FIRST_STAGE),
    qualified(0x5b, PLAIN.edits(&[(0x5000, 0x1_0081)]), FIRST_STAGE.edits(&[(0x5040, 0x41)])),
    qualified(0x5b, FIRST_STAGE.edits(&[(0x5050, 0x2_0008)]), FIRST_STAGE),
    qualified(0x5c, FIRST_STAGE.executes(), OPEN_STAGE.executes()),
    qualified(0x5d, FIRST_STAGE.privileged(), OPEN_STAGE.privileged()),

    qualified(0x70, FIRST_STAGE.failing(&[0x2_1000]), FIRST_STAGE.failing(&[0x2_1008])),
    qualified(0x71, FIRST_STAGE.edits(&[(0x2_3008, 0x9066)]), FIRST_STAGE.edits(&[(0x2_3010, 0)])),
    qualified(0x72, FIRST_STAGE.at(0x20_0000).edits(&[(0x2_2008, 0x4000_20e7)]), FIRST_STAGE.at(0x20_0000).edits(&[(0x2_2008, 0x4000_10e7)])),
    qualified(0x72, FIRST_STAGE.edits(&[(0x2_0000, 0x2_10a7)]), FIRST_STAGE.edits(&[(0x2_3008, 0x90e7)])),
    qualified(0x72, FIRST_STAGE.edits(&[(0x2_3008, 1 << 48 | 0x9067)]), FIRST_STAGE.edits(&[(0x2_3008, 1 << 52 | 0x9067)])),
    qualified(0x73, FIRST_STAGE.failing(&[0x2_0000]), FIRST_STAGE.failing(&[0x2_0008])),
    qualified(0x74, BOTH_STAGES.edits(&[NARROW, (0x5090, 1 << 39 | 0x3_0000)]), BOTH_STAGES.edits(&[NARROW])),
    qualified(0x74, BOTH_STAGES.edits(&[NARROW, (0x8_2000, 1 << 39 | 0x3_3027)]), BOTH_STAGES.edits(&[NARROW])),
    qualified(0x75, BOTH_STAGES.edits(&[(0x1_3180, 0x8_0002)]), BOTH_STAGES.edits(&[(0x1_3180, 0x8_0001)])),
    qualified(0x75, BOTH_STAGES.edits(&[(0x1_3180, 0)]), BOTH_STAGES),
    qualified(0x76, BOTH_STAGES.edits(&[(0x1_3188, 0x8_1002)]), BOTH_STAGES.edits(&[(0x1_3188, 0x8_1001)])),
    qualified(0x77, BOTH_STAGES.edits(&[(0x8_3008, 0x1007), (0x1_3198, 0x8_3001)]), BOTH_STAGES.edits(&[(0x8_3008, 0x1007)])),
    qualified(0x78, PLAIN.failing(&[0x1_1000]), PLAIN.failing(&[0x1_1008])),
    qualified(0x78, BOTH_STAGES.failing(&[0x1_1000]), BOTH_STAGES.failing(&[0x1_1008])),
    qualified(0x79, PLAIN.edits(&[(0x1_3008, 0x9000)]), PLAIN.edits(&[(0x1_3008, 0x9001)])),
    qualified(0x79, BOTH_STAGES.edits(&[(0x1_3008, 0x9000)]), BOTH_STAGES.edits(&[(0x1_3008, 0x9001)])),
    qualified(0x7a, PLAIN.edits(&[(0x1_3008, 1 << 62 | 0x9003)]), PLAIN.edits(&[(0x1_3008, 1 << 61 | 0x9003)])),
    qualified(0x7a, BOTH_STAGES.edits(&[(0x1_3180, 1 << 62 | 0x8_0003)]), BOTH_STAGES.edits(&[(0x1_3180, 1 << 61 | 0x8_0003)])),
    qualified(0x7b, PLAIN.failing(&[0x1_0000]), PLAIN.failing(&[0x1_0008])),
    qualified(0x7c, WATCHED.edits(&[(0x5188, 0xb)]), PLAIN.edits(&[(0x5008, 0x5)])),
    qualified(0x7d, WATCHED.protected(&[0x7_3008]), WATCHED.protected(&[0x7_3010])),

    qualified(0x80, FIRST_STAGE.at(1 << 47), FIRST_STAGE.edits(&[(0x2_0800, 0x2_1027)]).at(0xffff_8000_0000_1000)),
    qualified(0x80, Side::pasid(FIVE).at(1 << 56), Side::pasid(FIVE).edits(&[(0x6_0800, 0x2_0027)]).at(0xff00_0000_0000_1000)),
    qualified(0x81, FIRST_STAGE.at(0x3000), OPEN_STAGE.at(0x3000).privileged()),
    qualified(0x82, OPEN_STAGE.at(0x4000).executes(), OPEN_STAGE.at(0x4000)),
    qualified(0x82, OPEN_STAGE.edits(&[(0x5110, 0x2_0063)]).privileged().executes(), OPEN_STAGE.privileged().executes()),
    qualified(0x83, PLAIN.at(1 << 48), PLAIN),
    qualified(0x83, UNCHANGED.at(1 << 57), UNCHANGED.at((1 << 57) - 1)),
    qualified(0x84, BOTH_STAGES.edits(&[NARROW, (0x8_3008, 1 << 39 | 0x1067)]), BOTH_STAGES.edits(&[NARROW])),
    qualified(0x85, PLAIN.at(0x2000).writes(), PLAIN.at(0x3000).writes()),
    qualified(0x85, FIRST_STAGE.at(0x2000).writes(), FIRST_STAGE.at(0x2000)),
    qualified(0x85, BOTH_STAGES.at(0x2000).writes(), BOTH_STAGES.at(0x2000)),
    qualified(0x85, OPEN_STAGE.edits(&[(0x5110, 0x2_0033)]).at(0x2000).privileged().writes(), OPEN_STAGE.at(0x2000).privileged().writes()),
    qualified(0x86, PLAIN.at(0x3000), PLAIN.at(0x2000)),
    qualified(0x86, BOTH_STAGES.edits(&[(0x1_3008, 0x9002)]), BOTH_STAGES.edits(&[(0x1_3008, 0x9002)]).writes()),
    qualified(0x87, PLAIN.edits(&[(0x1_3008, 0xfee0_0003)]), PLAIN.edits(&[(0x1_3008, 0xfedf_f003)])),
    qualified(0x87, FIRST_STAGE.edits(&[(0x2_3008, 0xfeef_f067)]), FIRST_STAGE.edits(&[(0x2_3008, 0xfef0_0067)])),
    qualified(0x87, BOTH_STAGES.edits(&[(0x1_3008, 0xfee0_0003)]), BOTH_STAGES.edits(&[(0x8_3008, 0xfee0_0067), (0x1_1018, 0x1_2003), (0x1_2fb8, 0x1_3003), (0x1_3000, 0x9003)])),
    qualified(0x87, UNCHANGED.at(0xfee0_0000), UNCHANGED.at(0xfedf_ffff)),
    qualified(0x90, FIRST_STAGE.edits(&[(0x5048, 6), (0x2_3008, 0x9007)]), FIRST_STAGE.edits(&[(0x5048, 6)])),
    qualified(0x91, FIRST_STAGE.edits(&[(0x2_3008, 0x9007)]).protected(&[0x2_3008]), FIRST_STAGE.protected(&[0x2_3008])),
];

/// Compares what `run` makes of each case, and tells of every difference at once.
fn check_each(run: impl Fn(&Case) -> Vec<(&'static str, Outcome, Outcome)>) {
    let wrong: Vec<String> = CASES
        .iter()
        .enumerate()
        .flat_map(|(number, case)| {
            run(case)
                .into_iter()
                .filter(|(_, found, expected)| found != expected)
                .map(move |(what, found, _)| {
                    format!("case {number} for {:#04x}, {what}: {found:x?}", case.code)
                })
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_reason_is_raised_by_its_case_and_not_by_its_neighbour() {
    check_each(|case| {
        vec![
            ("itself", case.raises.run(false), Err((case.code, true))),
            ("neighbour", case.neighbour.run(false), Ok(())),
            ("neighbour with FPD", case.neighbour.run(true), Ok(())),
        ]
    });
}

#[test]
fn each_reason_is_recorded_unless_fpd_qualifies_it() {
    check_each(|case| {
        let expected = Err((case.code, !case.qualified));
        vec![("with FPD", case.raises.run(true), expected)]
    });
}

/// A request that is aborted leaves no record, FPD or not.
#[test]
fn abort_mode_aborts_without_a_record() {
    let aborted = PLAIN.mode(TableMode::Abort).failing(&[0x1000]);
    assert_eq!(aborted.run(false), Err((0x33, false)));
    let with_pasid = Side::pasid(FIRST).mode(TableMode::Abort);
    assert_eq!(with_pasid.run(false), Err((0x33, false)));
    let page_request = with_pasid.asks_for_page();
    assert_eq!(page_request.run(false), Err((0x33, false)));
}

/// 0x20 to 0x29 are those of interrupts.
#[test]
fn matrix_leaves_no_reason_out() {
    let mut covered: BTreeSet<u8> = CASES.iter().map(|case| case.code).collect();
    covered.insert(0x33);
    covered.extend(0x20..=0x29);
    let all: BTreeSet<u8> = FaultReason::ALL
        .iter()
        .map(|reason| reason.code())
        .collect();
    assert_eq!(covered, all);
}
