// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device's two lists of capabilities (PCI Express Base Specification 6.0, sections 7.5.1.1.11 and 7.6.3), read from
//! an image that may hold anything.

/// A capability of the device, or an extended one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its id.
    pub(super) id: u16,
    /// Where it is.
    pub(super) at: u16,
    /// Where at the latest it ends: at the next one of the list, or with the part of the space.
    pub(super) end: u16,
}

/// First byte of the extended capabilities.
const EXTENDED: u16 = 0x100;

/// The capabilities in the first 256 bytes, in the order of the list.
pub(super) fn standard(image: &[u8]) -> Vec<Found> {
    let byte = |at: u16| image.get(usize::from(at)).copied().unwrap_or_default();
    // Status register, bit 4: there is a list.
    if byte(0x06) & 0x10 == 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut at = u16::from(byte(0x34) & !3);
    while at >= 0x40 && !contains(&found, at) {
        found.push(Found {
            id: u16::from(byte(at)),
            at,
            end: EXTENDED,
        });
        at = u16::from(byte(at + 1) & !3);
    }
    limited(found)
}

/// The extended capabilities, in the order of the list; none where the image has only 256 bytes.
pub(super) fn extended(image: &[u8]) -> Vec<Found> {
    let end = u16::try_from(image.len()).unwrap_or(4096).min(4096);
    let mut found = Vec::new();
    let mut at = EXTENDED;
    while at >= EXTENDED && at + 4 <= end && !contains(&found, at) {
        let from = usize::from(at);
        let header = u32::from_le_bytes([
            image[from],
            image[from + 1],
            image[from + 2],
            image[from + 3],
        ]);
        if header == 0 || header == u32::MAX {
            break;
        }
        let [low, high, ..] = header.to_le_bytes();
        found.push(Found {
            id: u16::from_le_bytes([low, high]),
            at,
            end,
        });
        // Bits 31:20 of the header; the low two are reserved.
        at = u16::try_from(header >> 20).unwrap_or_default() & !3;
    }
    limited(found)
}

fn contains(found: &[Found], at: u16) -> bool {
    found.iter().any(|capability| capability.at == at)
}

/// Ends each capability where another begins.
fn limited(mut found: Vec<Found>) -> Vec<Found> {
    let starts: Vec<u16> = found.iter().map(|capability| capability.at).collect();
    for capability in &mut found {
        let later = starts.iter().filter(|start| **start > capability.at);
        capability.end = later.min().copied().unwrap_or(capability.end);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_list_is_followed_and_bounded_by_its_neighbours() {
        let mut image = [0; 256];
        image[0x06] = 0x10;
        image[0x34] = 0x60;
        image[0x60..0x62].copy_from_slice(&[0x05, 0x40]);
        image[0x40..0x42].copy_from_slice(&[0x01, 0x00]);
        let found = standard(&image);
        assert_eq!(
            found,
            [
                Found {
                    id: 5,
                    at: 0x60,
                    end: 0x100
                },
                Found {
                    id: 1,
                    at: 0x40,
                    end: 0x60
                },
            ]
        );
        image[0x06] = 0;
        assert_eq!(standard(&image), []);
    }

    #[test]
    fn standard_list_with_a_loop_or_a_bad_pointer_ends() {
        let mut image = [0; 256];
        image[0x06] = 0x10;
        image[0x34] = 0x40;
        image[0x40..0x42].copy_from_slice(&[0x01, 0x50]);
        image[0x50..0x52].copy_from_slice(&[0x05, 0x40]);
        assert_eq!(standard(&image).len(), 2);
        image[0x51] = 0x08;
        assert_eq!(standard(&image).len(), 2);
        assert_eq!(standard(&[]), []);
    }

    #[test]
    fn extended_list_is_followed_to_its_end() {
        let mut image = vec![0; 4096];
        image[0x100..0x104].copy_from_slice(&0x1401_0001u32.to_le_bytes());
        image[0x140..0x144].copy_from_slice(&0x1001_0003u32.to_le_bytes());
        let found = extended(&image);
        assert_eq!(found.len(), 2, "the second points back at the first");
        assert_eq!((found[0].id, found[0].end), (1, 0x140));
        assert_eq!((found[1].id, found[1].end), (3, 4096));
        assert_eq!(extended(&image[..256]), []);
        assert_eq!(extended(&[0xff; 4096]), []);
        image[0x100..0x104].copy_from_slice(&0xffe1_0001u32.to_le_bytes());
        image[0xffc..].copy_from_slice(&0x0001_0003u32.to_le_bytes());
        assert_eq!(extended(&image)[1].at, 0xffc);
    }
}
