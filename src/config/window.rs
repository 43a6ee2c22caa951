//! A daily window of local clock time.

use jiff::civil::Time;

use super::table::{Given, Read};

/// A window of every day, from its start up to but not including its end; it may cross midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When it begins, local time.
    pub start: Time,
    /// When it is over, local time; never the same as the start.
    pub end: Time,
}

impl Window {
    /// Whether a local time is within it.
    pub fn contains(self, time: Time) -> bool {
        if self.start < self.end {
            self.start <= time && time < self.end
        } else {
            self.start <= time || time < self.end
        }
    }

    pub(super) fn read(given: &Given<'_>) -> Read<Self> {
        let parsed = given.value.as_str().and_then(|text| {
            let (start, end) = text.split_once('-')?;
            // The end of the day is the beginning of the next one.
            let end = if end.trim() == "24:00" { "00:00" } else { end };
            Some(Self { start: clock(start)?, end: clock(end)? })
        });
        match parsed {
            Some(window) if window.start == window.end => {
                Err("the window is empty: it ends when it begins; leave the key out if there is none"
                    .to_owned())
            }
            Some(window) => Ok(window),
            None => {
                given.expected("a window of local time in quotes, from 00:00 to 24:00", "\"02:00-03:00\"")
            }
        }
    }
}

fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use toml::de::DeValue;

    use super::*;

    fn window(text: &str) -> Read<Window> {
        let written = format!("\"{text}\"");
        Window::read(&Given {
            key: "quiet",
            value: DeValue::parse(&written).unwrap().get_ref(),
            in_list: false,
        })
    }

    fn within(text: &str, hour: i8, minute: i8) -> bool {
        window(text).unwrap().contains(Time::constant(hour, minute, 0, 0))
    }

    #[test]
    fn a_window_holds_its_start_and_not_its_end_also_over_midnight() {
        assert!(within("02:00-03:00", 2, 0) && within("02:00-03:00", 2, 59));
        assert!(!within("02:00-03:00", 3, 0) && !within("02:00-03:00", 1, 59));
        assert!(
            within("23:30-00:30", 23, 30) && within("23:30-00:30", 0, 29) && within("22:00-24:00", 23, 59)
        );
        assert!(
            !within("23:30-00:30", 0, 30) && !within("23:30-00:30", 12, 0) && !within("22:00-24:00", 0, 0)
        );
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for wrong in [
            "",
            "2-3",
            "02:00",
            "02:00-02:00",
            "24:00-01:00",
            "00:00-24:00",
            "2:00-3:00",
            "02:60-03:00",
            "+2:00-03:00",
        ] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}
