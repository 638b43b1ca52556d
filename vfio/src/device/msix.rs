// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which bytes of a passed-through function's BARs are the MSI-X table and its pending bits. They are ours, as they are an
//! emulated device's: the device's own are programmed by the host's kernel, for the host's vectors.

use super::regions::Part;
use devices::pci::msix::MsixPlace;

/// The bytes of `bar` that hold the table or pending bits at `place`.
#[must_use]
pub fn trapped(place: MsixPlace, bar: u8) -> Vec<Part> {
    let all = [
        (place.table, place.table_bytes()),
        (place.pending, place.pending_bytes()),
    ];
    let here = all.iter().filter(|((in_bar, _), _)| *in_bar == bar);
    here.map(|((_, at), len)| Part::new(u64::from(*at), u64::from(*at) + len))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_and_pending_bits_are_trapped_in_their_bars() {
        let place = MsixPlace {
            vectors: 65,
            table: (0, 0x2000),
            pending: (2, 0x10),
        };
        assert_eq!(trapped(place, 0), [Part::new(0x2000, 0x2410)]);
        assert_eq!(trapped(place, 2), [Part::new(0x10, 0x20)]);
        assert!(trapped(place, 1).is_empty());
    }
}
