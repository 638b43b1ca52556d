// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device by its registers, with 1 MiB of RAM at 0 and a remapping unit that is a list of pages.

mod ats;
mod commands;
mod pri;
mod random;
mod registers;
mod rig;
