// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Register offsets, bytes from the register base. IVA, IOTLB and the fault records lie where ECAP.IRO and CAP.FRO say.

/// Version, 32 bits.
pub const VER: u16 = 0x00;
/// Capability, 64 bits.
pub const CAP: u16 = 0x08;
/// Extended capability, 64 bits.
pub const ECAP: u16 = 0x10;
/// Global command, 32 bits.
pub const GCMD: u16 = 0x18;
/// Global status, 32 bits.
pub const GSTS: u16 = 0x1c;
/// Root table address, 64 bits.
pub const RTADDR: u16 = 0x20;
/// Context command, 64 bits.
pub const CCMD: u16 = 0x28;
/// Fault status, 32 bits.
pub const FSTS: u16 = 0x34;
/// Fault event control, 32 bits; data, address and upper address follow it.
pub const FECTL: u16 = 0x38;
/// Invalidation queue head, 64 bits.
pub const IQH: u16 = 0x80;
/// Invalidation queue tail, 64 bits.
pub const IQT: u16 = 0x88;
/// Invalidation queue address, 64 bits.
pub const IQA: u16 = 0x90;
/// Invalidation completion status, 32 bits.
pub const ICS: u16 = 0x9c;
/// Invalidation completion event control, 32 bits; data, address and upper address follow it.
pub const IECTL: u16 = 0xa0;
/// Invalidation queue error record, 64 bits.
pub const IQERCD: u16 = 0xb0;
/// Interrupt remapping table address, 64 bits.
pub const IRTA: u16 = 0xb8;

/// Page request queue head, 64 bits.
pub const PQH: u16 = 0xc0;
/// Page request queue tail, 64 bits.
pub const PQT: u16 = 0xc8;
/// Page request queue address, 64 bits.
pub const PQA: u16 = 0xd0;
/// Page request status, 32 bits.
pub const PRS: u16 = 0xdc;
/// Page request event control, 32 bits; data, address and upper address follow it.
pub const PECTL: u16 = 0xe0;

/// From an event control register to its message data.
pub const EVENT_DATA: u16 = 0x4;
/// From an event control register to its message address.
pub const EVENT_ADDRESS: u16 = 0x8;
/// From an event control register to the upper half of its message address.
pub const EVENT_UPPER_ADDRESS: u16 = 0xc;
