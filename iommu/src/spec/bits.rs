// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Compares a bit-field type with an independent table of `(field, high, low)`.

/// Asserts that each field covers exactly the bits `high..=low` and that the table leaves no bit out.
macro_rules! assert_fields {
    ($type:ty, $word:ty, [$(($get:ident, $with:ident, $high:literal, $low:literal)),+ $(,)?]) => {{
        let mut seen: $word = 0;
        $(
            let mask: $word = (<$word>::MAX >> (<$word>::BITS - 1 - $high)) & (<$word>::MAX << $low);
            let all = <$type>::from_bits(<$word>::MAX).$get();
            assert_eq!(<$type>::new().$with(all).into_bits(), mask, "{} is misplaced", stringify!($get));
            assert_eq!(
                <$type>::from_bits(!mask).$get(),
                <$type>::from_bits(0).$get(),
                "{} reads foreign bits",
                stringify!($get)
            );
            assert_eq!(seen & mask, 0, "{} overlaps", stringify!($get));
            seen |= mask;
        )+
        assert_eq!(seen, <$word>::MAX, "the table leaves bits out");
    }};
}
