// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Seconds since 1970 to a date of the proleptic Gregorian calendar and back (the days-from-civil method: years begin in
//! March, eras have 400 years).

/// A moment, UTC. Fields are what a guest wrote and may be out of range; conversions clamp them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime {
    pub(super) year: u16,
    pub(super) month: u8,
    pub(super) day: u8,
    pub(super) hour: u8,
    pub(super) minute: u8,
    pub(super) second: u8,
}

const DAYS_PER_ERA: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_EPOCH: u64 = 719_468;
/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

impl DateTime {
    /// The moment `seconds` after 1970-01-01, at most the end of 9999.
    pub(super) fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(LAST);
        let (days, in_day) = (seconds / 86_400 + DAYS_TO_EPOCH, seconds % 86_400);
        let (era, in_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
        let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
        let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * in_year + 2) / 153;
        let day = in_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let year = 400 * era + year_of_era + u64::from(month <= 2);
        let byte = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
        Self {
            year: u16::try_from(year).unwrap_or(9999),
            month: byte(month),
            day: byte(day),
            hour: byte(in_day / 3600),
            minute: byte(in_day / 60 % 60),
            second: byte(in_day % 60),
        }
    }

    /// Seconds since 1970-01-01; a day before counts as that day.
    pub(super) fn to_unix(self) -> u64 {
        let month = u64::from(self.month.clamp(1, 12));
        let day = u64::from(self.day.clamp(1, 31));
        let year = u64::from(self.year) + 400 - u64::from(month <= 2);
        let (era, year_of_era) = (year / 400, year % 400);
        let from_march = (month + 9) % 12;
        let in_year = (153 * from_march + 2) / 5 + day - 1;
        let in_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + in_year;
        let days = (era * DAYS_PER_ERA + in_era).saturating_sub(DAYS_PER_ERA + DAYS_TO_EPOCH);
        let hour = u64::from(self.hour.min(23));
        let minute = u64::from(self.minute.min(59));
        days * 86_400 + hour * 3600 + minute * 60 + u64::from(self.second.min(59))
    }

    /// Day of the week, 0 Sunday.
    pub(super) fn weekday(self) -> u8 {
        // 1970-01-01 was a Thursday.
        u8::try_from((self.to_unix() / 86_400 + 4) % 7).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(seconds: u64) -> (u16, u8, u8, u8, u8, u8, u8) {
        let t = DateTime::from_unix(seconds);
        let day = t.weekday();
        (t.year, t.month, t.day, t.hour, t.minute, t.second, day)
    }

    #[test]
    fn known_moments_have_their_dates() {
        assert_eq!(fields(0), (1970, 1, 1, 0, 0, 0, 4));
        assert_eq!(fields(951_782_400), (2000, 2, 29, 0, 0, 0, 2));
        assert_eq!(fields(1_709_251_199), (2024, 2, 29, 23, 59, 59, 4));
        assert_eq!(fields(4_107_542_400), (2100, 3, 1, 0, 0, 0, 1));
        assert_eq!(fields(u64::MAX), (9999, 12, 31, 23, 59, 59, 5));
    }

    #[test]
    fn conversion_back_is_the_inverse() {
        for seconds in (0..LAST).step_by(86_400 * 13 + 7919) {
            assert_eq!(DateTime::from_unix(seconds).to_unix(), seconds);
        }
    }

    #[test]
    fn fields_out_of_range_are_clamped() {
        let wild = DateTime {
            year: 0,
            month: 255,
            day: 255,
            hour: 255,
            minute: 255,
            second: 255,
        };
        assert_eq!(wild.to_unix(), 86_399);
        let zero = DateTime {
            month: 0,
            day: 0,
            ..DateTime::from_unix(0)
        };
        assert_eq!(zero.to_unix(), 0);
    }
}
