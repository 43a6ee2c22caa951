//! How many generations a sink keeps, and how much it takes from a source.

use super::{SinkRole, table::Table, value};

/// The keys of `keep = { .. }`.
pub(super) const KEEP: &[&str] = &["last", "daily", "weekly", "monthly", "yearly"];
/// The keys of `limits = { .. }`.
pub(super) const LIMITS: &[&str] = &["max_entries", "max_bytes", "max_manifest_bytes"];

/// How many generations are kept: the newest ones, and the newest of each day, week, month and year. At least one of
/// the numbers is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest ones.
    pub last: u32,
    /// Days of which the newest one is kept.
    pub daily: u32,
    /// Weeks of which the newest one is kept.
    pub weekly: u32,
    /// Months of which the newest one is kept.
    pub monthly: u32,
    /// Years of which the newest one is kept.
    pub yearly: u32,
}

impl Keep {
    /// The newest ones alone.
    pub fn last(last: u32) -> Self {
        Self { last, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
    }

    /// Reads `keep` of a section: a number or a table. What a table leaves out is 0: another section's numbers are not
    /// mixed in. Each generation of logs holds other lines, so that a table would leave holes between them.
    pub(super) fn read(section: &Table<'_>, role: SinkRole, default: Self) -> Self {
        if !section.is_table("keep") {
            let why = "at least one generation must be kept";
            let last = |given: &_| value::count(given, 1..=u32::MAX, why, role.keep()).map(Self::last);
            return section.or("keep", default, last);
        }
        if role == SinkRole::Logs {
            section.wrong_key(
                "keep",
                "each generation of logs holds other lines, and one that goes between two that stay leaves a hole; \
                 write a number, as keep = 90, and keep_for = \"90d\" for a time",
            );
            return default;
        }
        let Some(table) = section.inner("keep", KEEP) else { return default };
        // A wrong number stands for 1, so that it is not reported once more as a table of zeros.
        let number = |key| {
            let default = u32::from(table.has(key));
            table.or(key, default, |given| value::count(given, 0..=u32::MAX, "no number of generations", 7))
        };
        let keep = Self {
            last: number("last"),
            daily: number("daily"),
            weekly: number("weekly"),
            monthly: number("monthly"),
            yearly: number("yearly"),
        };
        table.refuse_unknown();
        if keep == Self::last(0) {
            section.wrong_key(
                "keep",
                "at least one generation must be kept; write for example keep = { last = 7, daily = 14 }",
            );
        }
        keep
    }
}

/// How much is taken from a source, which may be hostile: what is beyond is refused before it is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one generation.
    pub max_entries: u64,
    /// Bytes of content of one generation; if there is none, what the store's file system can hold.
    pub max_bytes: Option<u64>,
    /// Bytes of each file that describes a generation.
    pub max_manifest_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_entries: 20_000_000, max_bytes: None, max_manifest_bytes: 8 << 30 }
    }
}

impl Limits {
    /// Reads `limits` of a section; what it leaves out is as in `default`.
    pub(super) fn read(section: &Table<'_>, default: Self) -> Self {
        let Some(table) = section.inner("limits", LIMITS) else { return default };
        let why = "nothing could be fetched then";
        let size = |key, default| table.or(key, default, |given| value::some_size(given, why));
        let limits = Self {
            max_entries: table.or("max_entries", default.max_entries, |given| {
                value::count(given, 1..=u64::MAX, why, 20_000_000)
            }),
            max_bytes: table
                .optional("max_bytes", |given| value::some_size(given, why))
                .or(default.max_bytes),
            max_manifest_bytes: size("max_manifest_bytes", default.max_manifest_bytes),
        };
        table.refuse_unknown();
        limits
    }
}
