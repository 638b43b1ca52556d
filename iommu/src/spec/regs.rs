// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The registers of the unit, one file each, and their places.
//!
//! Registers that only hold a number (message data and addresses) have an offset here and no type of their own.

mod cap;
mod ccmd;
mod ecap;
mod event_control;
mod frcd;
mod fsts;
mod gcmd;
mod gsts;
mod ics;
mod iotlb;
mod iqa;
mod iqercd;
mod iqt;
mod irta;
mod iva;
pub mod offset;
mod pqa;
mod pqt;
mod prs;
mod rtaddr;

pub use cap::Cap;
pub use ccmd::ContextCommand;
pub use ecap::Ecap;
pub use event_control::EventControl;
pub use frcd::FaultRecord;
pub use fsts::FaultStatus;
pub use gcmd::GlobalCommand;
pub use gsts::GlobalStatus;
pub use ics::CompletionStatus;
pub use iotlb::IotlbInvalidate;
pub use iqa::QueueAddress;
pub use iqercd::QueueErrorRecord;
pub use iqt::QueueOffset;
pub use irta::InterruptTableAddress;
pub use iva::InvalidateAddress;
pub use pqa::PageQueueAddress;
pub use pqt::PageQueueOffset;
pub use prs::PageRequestStatus;
pub use rtaddr::RootTableAddress;

#[cfg(test)]
mod tests;
