//! The part of a file system that stays free.

use super::{
    table::{Given, Read},
    value,
};
use crate::sys::room::Room;

/// How much of a file system stays free for others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reserve {
    /// So many of a hundred parts of the file system, 0 to under 100.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
}

impl Reserve {
    /// The bytes that stay free of a file system of this size.
    pub fn of(self, total: u64) -> u64 {
        match self {
            // Exact to the byte is not the point: no file system is so large that the rounding matters.
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to total, rounded"
            )]
            Self::Percent(percent) => (total as f64 * percent / 100.0) as u64,
            Self::Bytes(bytes) => bytes,
        }
    }

    /// Says so when less than twice the reserve is free: in time, before anything stops for want of room.
    pub fn nearly_reached(self, room: Room) -> Option<String> {
        let reserve = self.of(room.bytes_total);
        let mib = |bytes: u64| bytes >> 20;
        (room.bytes_free < reserve.saturating_mul(2)).then(|| {
            let (free, reserve) = (mib(room.bytes_free), mib(reserve));
            format!("{free} MiB are free, and nothing more is taken when {reserve} MiB (`reserve`) are left")
        })
    }

    pub(super) fn read(given: &Given<'_>) -> Read<Self> {
        let what = "a part of the file system, as \"5%\" (less than 100%), or a size, as \"2GiB\"";
        match given.value.as_str().and_then(|text| text.strip_suffix('%')) {
            Some(number) => match number.trim().parse::<f64>() {
                Ok(percent) if (0.0..100.0).contains(&percent) => Ok(Self::Percent(percent)),
                _ => given.expected(what, "\"5%\""),
            },
            None => value::size(given).map(Self::Bytes).or_else(|_| given.expected(what, "\"5%\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeValue;

    use super::*;

    #[test]
    fn a_reserve_is_a_part_or_a_size_and_counted_in_bytes() {
        let read = |written: &str| {
            Reserve::read(&Given {
                key: "reserve",
                value: DeValue::parse(written).unwrap().get_ref(),
                in_list: false,
            })
        };
        assert_eq!(read("\"5%\"").unwrap().of(1000), 50);
        assert_eq!(read("\"0.5 %\""), Ok(Reserve::Percent(0.5)));
        assert_eq!(read("\"2GiB\"").unwrap().of(1000), 2 << 30);
        assert_eq!(read("0").unwrap().of(1000), 0);
        for wrong in ["\"100%\"", "\"-1%\"", "\"NaN%\"", "\"%\"", "5.0", "\"inf%\"", "\"5\""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
