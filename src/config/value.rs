//! What single values mean: texts, counts, durations, sizes, paths, commands. Each error names the accepted forms.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use toml::de::DeValue;

use super::table::{Given, Read};
use crate::sys::name::Name;

/// A program with its arguments, as it is started: no shell in between.
pub type Command = Vec<String>;

/// No time is longer than this, so that adding one to a date never overflows.
const LONGEST: Duration = Duration::from_secs(36_500 * 24 * 3600);

pub(super) fn text(given: &Given<'_>, example: &str) -> Read<String> {
    match given.value.as_str() {
        Some(text) if !text.is_empty() && !text.contains('\0') => Ok(text.to_owned()),
        _ => given.expected("a text in quotes, not empty", example),
    }
}

pub(super) fn flag(given: &Given<'_>) -> Read<bool> {
    given.value.as_bool().map_or_else(|| given.expected("true or false, without quotes", "true"), Ok)
}

pub(super) fn name(given: &Given<'_>) -> Read<Name> {
    let what = "a name of 1 to 64 ASCII letters, digits, `.`, `_` or `-`, beginning with a letter or digit";
    let name = given.value.as_str().and_then(|text| text.parse().ok());
    name.map_or_else(|| given.expected(what, "\"shop\""), Ok)
}

/// One of several words.
pub(super) fn word<T: Clone>(given: &Given<'_>, words: &[(&str, T)]) -> Read<T> {
    let found = given.value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
    let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let first = all.first().map_or("", String::as_str);
    found.map_or_else(|| given.expected(&all.join(" or "), first), |(_, meaning)| Ok(meaning.clone()))
}

/// A whole number within a range; `why` says what one below it would mean.
pub(super) fn count<T>(given: &Given<'_>, range: RangeInclusive<T>, why: &str, example: u32) -> Read<T>
where
    T: TryFrom<i128> + Copy + Into<i128>,
{
    let Some(number) = integer(given.value) else {
        return given.expected("a whole number without quotes", &example.to_string());
    };
    let (least, most) = ((*range.start()).into(), (*range.end()).into());
    if number < least {
        return Err(format!("{why}; write {} = {least} or more", given.key));
    }
    match T::try_from(number) {
        Ok(count) if number <= most => Ok(count),
        _ => Err(format!("too large; write {} = {most} or less", given.key)),
    }
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    let written = value.as_integer()?;
    // Beyond what fits: too large for every range, and said so there.
    Some(i128::from_str_radix(written.as_str(), written.radix()).unwrap_or(i128::MAX))
}

/// A time, which may be zero.
pub(super) fn duration(example: &'static str) -> impl Fn(&Given<'_>) -> Read<Duration> {
    move |given| match given.value.as_str().and_then(parse_duration) {
        Some(duration) if duration > LONGEST => Err("longer than 100 years; write 36500d or less".to_owned()),
        Some(duration) => Ok(duration),
        None => given
            .expected("a time: a whole number with s, m, h, d or w, in quotes", &format!("\"{example}\"")),
    }
}

/// A time after which something happens: never zero.
pub(super) fn deadline(example: &'static str) -> impl Fn(&Given<'_>) -> Read<Duration> {
    move |given| match duration(example)(given)? {
        Duration::ZERO => given.expected("a time longer than nothing", &format!("\"{example}\"")),
        duration => Ok(duration),
    }
}

/// Reads a time as the configuration writes it; what is wrong is a text for people.
pub fn duration_of_text(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(Duration::ZERO) | None => {
            Err("not a time: a whole number with s, m, h, d or w, as 2h".to_owned())
        }
        Some(duration) => Ok(duration),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.saturating_mul(seconds)))
}

pub(super) fn size(given: &Given<'_>) -> Read<u64> {
    let what = "a size: bytes as a number, or in quotes with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB";
    if let Some(bytes) = integer(given.value) {
        return u64::try_from(bytes).or_else(|_| given.expected(what, "\"2GiB\""));
    }
    match given.value.as_str().map(parse_size) {
        Some(Some(bytes)) => Ok(bytes),
        _ => given.expected(what, "\"2GiB\""),
    }
}

/// A size that is a lower bound or a limit: never zero.
pub(super) fn some_size(given: &Given<'_>, why: &str) -> Read<u64> {
    match size(given)? {
        0 => Err(format!("{why}; write {} = 1 or more", given.key)),
        bytes => Ok(bytes),
    }
}

pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

/// An absolute path, normalised: no `..`, no doubled or trailing slash.
pub(super) fn path(given: &Given<'_>) -> Read<PathBuf> {
    match given.value.as_str() {
        Some(path) if !path.starts_with('/') || path.contains('\0') => {
            given.expected("an absolute path, beginning with a slash", "\"/srv/data\"")
        }
        Some(path) if path.split('/').any(|part| part == "..") => {
            Err("`..` leads elsewhere than it seems where there are links; write the path without it"
                .to_owned())
        }
        Some(path) => Ok(PathBuf::from(path).components().collect()),
        None => given.expected("an absolute path in quotes", "\"/srv/data\""),
    }
}

/// The home of a role: a folder of its own, never the root.
pub(super) fn home(given: &Given<'_>) -> Read<PathBuf> {
    let path = path(given)?;
    if path.parent().is_none() {
        return given.expected("a folder of its own, not the root", "\"/home/handover\"");
    }
    Ok(path)
}

pub(super) fn command(given: &Given<'_>) -> Read<Command> {
    let words: Option<Command> = given
        .value
        .as_array()
        .and_then(|items| items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect());
    let Some(words) = words else {
        return given.expected("a command as a list of texts", "[\"program\", \"argument\"]");
    };
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        return given.expected("a command that is not empty", "[\"program\", \"argument\"]");
    };
    if words.iter().any(|word| word.contains('\0')) {
        return Err("no argument can hold a zero character; remove it".to_owned());
    }
    if !program.starts_with('/') && program.contains('/') {
        let why = "a relative path depends on where handover is started";
        return Err(format!("{why}; write the program's absolute path, or its name alone"));
    }
    if !program.starts_with('/') && program.contains(char::is_whitespace) {
        let (plain, shell) = (r#"["program", "argument"]"#, r#"["sh", "-c", ".."]"#);
        let why = "there is no shell: the program and each argument are texts of their own";
        return Err(format!("{why}; write for example {} or {}", given.written(plain), given.written(shell)));
    }
    Ok(words)
}

/// A user of the system. It is never taken for an option by a program that gets it as an argument.
pub(super) fn user(given: &Given<'_>, example: &str) -> Read<String> {
    let is_user = |user: &str| is_word(user, "_-.") && user.len() <= 32;
    match given.value.as_str() {
        Some(user) if is_user(user) => Ok(user.to_owned()),
        _ => {
            let what =
                "the name of a user: letters, digits, `_`, `-` or `.`, beginning with a letter, digit or `_`";
            given.expected(what, example)
        }
    }
}

/// A service as the service manager names it.
pub(super) fn service(given: &Given<'_>) -> Read<String> {
    match given.value.as_str() {
        Some(name) if is_word(name, "_-.@:\\") && name.len() <= 255 => Ok(name.to_owned()),
        _ => given.expected("the name of a service", "\"tomcat\""),
    }
}

/// Whether a text is made of ASCII letters, digits and some marks, and begins with none of the marks but `_`.
pub(super) fn is_word(text: &str, marks: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    first && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(written: &str, read: impl Fn(&Given<'_>) -> Read<T>) -> Read<T> {
        let value = DeValue::parse(written).unwrap();
        read(&Given { key: "key", value: value.get_ref(), in_list: false })
    }

    #[test]
    fn times_have_one_number_and_one_unit() {
        for (written, seconds) in
            [("10s", 10), ("90m", 5400), ("26h", 93_600), ("30d", 2_592_000), ("1w", 604_800), ("0s", 0)]
        {
            assert_eq!(read(&format!("\"{written}\""), duration("26h")), Ok(Duration::from_secs(seconds)));
        }
        for wrong in [
            "24",
            "\"24\"",
            "\"h\"",
            "\"-1h\"",
            "\"1.5h\"",
            "\"1h30m\"",
            "\"1H\"",
            "true",
            "\"99999999999999999999h\"",
        ] {
            assert!(read(wrong, duration("26h")).is_err(), "{wrong}");
        }
        assert!(read("\"18446744073709551615w\"", duration("26h")).unwrap_err().contains("100 years"));
    }

    #[test]
    fn sizes_say_which_thousand_is_meant() {
        for (written, bytes) in [
            ("7", 7),
            ("\"7B\"", 7),
            ("\"1KiB\"", 1024),
            ("\"500MB\"", 500_000_000),
            ("\"2 GiB\"", 2 << 30),
            ("0x10", 16),
        ] {
            assert_eq!(read(written, size), Ok(bytes));
        }
        for wrong in ["-1", "1.5", "\"1K\"", "\"1Mb\"", "\"7\"", "\"GiB\"", "\"99999999TiB\"", "\"1.5GiB\""] {
            assert!(read(wrong, size).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_are_absolute_and_mean_what_they_say() {
        assert_eq!(read("\"//var/./www//shop/\"", path), Ok(PathBuf::from("/var/www/shop")));
        for wrong in ["\"var\"", "\"~/x\"", "\"/a/../b\"", "\"\"", "7", "\"/a\\u0000b\""] {
            assert!(read(wrong, path).is_err(), "{wrong}");
        }
        assert!(read("\"/\"", path).is_ok() && read("\"/\"", home).is_err());
    }

    #[test]
    fn a_user_or_service_is_never_an_option() {
        for wrong in ["\"-oProxyCommand=x\"", "\"a b\"", "\"\"", "\"a;b\"", "\"a\\nb\""] {
            assert!(
                read(wrong, |given| user(given, "")).is_err() && read(wrong, service).is_err(),
                "{wrong}"
            );
        }
        assert_eq!(read("\"www-data\"", |given| user(given, "")).as_deref(), Ok("www-data"));
        assert_eq!(read("\"getty@tty1.service\"", service).as_deref(), Ok("getty@tty1.service"));
    }

    #[test]
    fn a_number_beyond_every_range_is_too_large_and_not_something_else() {
        let keep = |given: &Given<'_>| count(given, 1..=9_u32, "one at least", 3);
        assert_eq!(read("0", keep).unwrap_err(), "one at least; write key = 1 or more");
        assert_eq!(read("99999999999", keep).unwrap_err(), "too large; write key = 9 or less");
        assert!(read("-1", keep).is_err() && read("1.0", keep).is_err() && read("9", keep).is_ok());
    }
}
