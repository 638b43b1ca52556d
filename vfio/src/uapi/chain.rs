// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Chains of capabilities behind VFIO's answers (`struct vfio_info_cap_header`: id 16, version 16, next 32 bits).

/// Bytes of a capability's header.
const HEADER: usize = 8;

/// The capabilities of an answer, as (id, offset), of which the first is at `first`; `None` when the chain leaves the
/// answer or does not end. An answer from the kernel does neither; a test or a proxy might.
#[must_use]
pub fn capabilities(answer: &[u8], first: u32) -> Option<Vec<(u16, usize)>> {
    let mut found = Vec::new();
    let mut at = usize::try_from(first).ok()?;
    while at != 0 {
        let header = answer.get(at..at.checked_add(HEADER)?)?;
        if found.len() > answer.len() / HEADER {
            return None;
        }
        found.push((u16::from_ne_bytes([header[0], header[1]]), at));
        let next = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        at = usize::try_from(next).ok()?;
    }
    Some(found)
}
