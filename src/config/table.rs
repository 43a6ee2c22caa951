//! One table of the file as written: each key is taken once, with its default; what is left over is unknown.

use toml::de::{DeTable, DeValue};

use super::{TABLES, error::Problems};

/// A value with its place in the text.
pub(super) type Spanned<'a> = toml::Spanned<DeValue<'a>>;

/// A value and the key it was given for, so that an error can show how to write it.
pub(super) struct Given<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a DeValue<'a>,
    /// Whether it is an item of a list.
    pub(super) in_list: bool,
}

/// What a value means, or what is wrong with it and the fix.
pub(super) type Read<T> = Result<T, String>;

impl Given<'_> {
    /// The error for a value of another form.
    pub(super) fn expected<T>(&self, what: &str, example: &str) -> Read<T> {
        Err(format!("expected {what}; write for example {}", self.written(example)))
    }

    /// How a value is written for this key.
    pub(super) fn written(&self, value: &str) -> String {
        let key = self.key;
        if self.in_list { format!("{key} = [{value}]") } else { format!("{key} = {value}") }
    }
}

/// A table of the file. Mistakes are noted and reading goes on, with the default in the place of what was wrong.
pub(super) struct Table<'a> {
    section: &'static str,
    /// Of a table within a section, as `limits = { .. }`: its own key.
    within: Option<&'static str>,
    known: &'static [&'static str],
    at: usize,
    entries: &'a DeTable<'a>,
    problems: &'a Problems<'a>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(super) fn root(
        document: &'a toml::Spanned<DeTable<'a>>,
        known: &'static [&'static str],
        problems: &'a Problems<'a>,
    ) -> Self {
        Self { section: "", within: None, known, at: 0, entries: document.get_ref(), problems }
    }

    fn get(&self, key: &'static str) -> Option<&'a Spanned<'a>> {
        debug_assert!(self.known.contains(&key), "{key} is missing in the known keys of {}", self.section);
        self.entries.get(key)
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the key is there as a table.
    pub(super) fn is_table(&self, key: &'static str) -> bool {
        self.get(key).is_some_and(|value| value.get_ref().is_table())
    }

    /// Whether the key is there as a list with nothing in it.
    pub(super) fn is_empty_list(&self, key: &'static str) -> bool {
        self.get(key).and_then(|value| value.get_ref().as_array()).is_some_and(|items| items.is_empty())
    }

    /// A value without which there is nothing to do; if it is missing, `why` says what for and how to write it.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        why: &str,
        read: impl Fn(&Given<'a>) -> Read<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.wrong(format!("`{key}` is missing: {why}"));
        }
        self.optional(key, read)
    }

    /// A value, or its default.
    pub(super) fn or<T>(&self, key: &'static str, default: T, read: impl Fn(&Given<'a>) -> Read<T>) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// A value that may be left out and has no default.
    pub(super) fn optional<T>(&self, key: &'static str, read: impl Fn(&Given<'a>) -> Read<T>) -> Option<T> {
        let value = self.get(key)?;
        match read(&Given { key, value: value.get_ref(), in_list: false }) {
            Ok(meaning) => Some(meaning),
            Err(text) => {
                let shown = self.problems.shown(self.section, &self.full(key), value);
                self.problems.add(value.span().start, self.section, shown, text);
                None
            }
        }
    }

    /// A list; each item that is wrong is a mistake with its own line. Left out, it is empty.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        example: &str,
        read: impl Fn(&Given<'a>) -> Read<T>,
    ) -> Vec<T> {
        let items = self.optional(key, |given| match given.value.as_array() {
            Some(items) => Ok(items),
            None => given.expected("a list", example),
        });
        let mut meanings = Vec::new();
        for item in items.into_iter().flatten() {
            match read(&Given { key, value: item.get_ref(), in_list: true }) {
                Ok(meaning) => meanings.push(meaning),
                Err(text) => {
                    let shown = self.problems.shown(self.section, &self.full(key), item);
                    let shown = shown.replacen(" = ", " = [.., ", 1) + ", ..]";
                    self.problems.add(item.span().start, self.section, shown, text);
                }
            }
        }
        meanings
    }

    /// A section, as `[sink]`; none if it is not there.
    pub(super) fn section(
        &self,
        key: &'static str,
        header: &'static str,
        known: &'static [&'static str],
    ) -> Option<Table<'a>> {
        let (at, entries) = self.entries_of(key, &format!("write {header} above its keys"))?;
        Some(Table { section: header, within: None, known, at, entries, problems: self.problems })
    }

    /// A table within a section, as `limits = { .. }`; none if it is not there.
    pub(super) fn inner(&self, key: &'static str, known: &'static [&'static str]) -> Option<Table<'a>> {
        let (at, entries) =
            self.entries_of(key, &format!("write {key} = {{ {} = .. }}", known.join(" = .., ")))?;
        Some(Table { section: self.section, within: Some(key), known, at, entries, problems: self.problems })
    }

    fn entries_of(&self, key: &'static str, how: &str) -> Option<(usize, &'a DeTable<'a>)> {
        let value = self.get(key)?;
        let entries = value.get_ref().as_table();
        if entries.is_none() {
            self.wrong_key(key, format!("expected a table; {how}"));
        }
        entries.map(|entries| (value.span().start, entries))
    }

    /// The sections of a list of sections, as `[[sink.source]]`.
    pub(super) fn sections(
        &self,
        key: &'static str,
        header: &'static str,
        known: &'static [&'static str],
    ) -> Vec<Table<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let items = value.get_ref().as_array().into_iter().flatten();
        let tables: Option<Vec<_>> =
            items.map(|item| Some((item.span().start, item.get_ref().as_table()?))).collect();
        let Some(tables) = tables.filter(|_| value.get_ref().is_array()) else {
            self.wrong_key(key, format!("there can be several of these; write {header}, in double brackets, above the keys of each"));
            return Vec::new();
        };
        let problems = self.problems;
        let table = |(at, entries)| Table { section: header, within: None, known, at, entries, problems };
        tables.into_iter().map(table).collect()
    }

    /// A mistake of the whole table.
    pub(super) fn wrong(&self, text: impl Into<String>) {
        if self.section.is_empty() {
            return self.problems.add_of_file(text);
        }
        self.problems.add(self.at, self.section, self.within.unwrap_or_default().to_owned(), text);
    }

    /// A mistake of one key, where what it says does not fit what another one says.
    pub(super) fn wrong_key(&self, key: &'static str, text: impl Into<String>) {
        match self.get(key) {
            Some(value) => {
                let shown = self.problems.shown(self.section, &self.full(key), value);
                self.problems.add(value.span().start, self.section, shown, text);
            }
            None => self.problems.add(self.at, self.section, self.full(key), text),
        }
    }

    /// Notes each of these keys that is there: known here, but without a meaning beside what another one says.
    pub(super) fn refuse(&self, keys: &[&'static str], why: &str) {
        for key in keys.iter().filter(|key| self.has(key)) {
            self.wrong_key(key, why);
        }
    }

    /// Notes all keys that are not known here, each with the nearest known one. Their values are not shown: what they
    /// are is not known either.
    pub(super) fn refuse_unknown(&self) {
        for (key, value) in self.entries {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let is_section = self.section.is_empty() && !matches!(value.get_ref(), DeValue::String(_));
            let noun = if is_section { "section or key" } else { "key" };
            let shown = self.full(&crate::sys::show(name.as_bytes()));
            let text = format!("unknown {noun}; {}", self.suggestion(name));
            self.problems.add(key.span().start, self.section, shown, text);
        }
    }

    fn suggestion(&self, name: &str) -> String {
        let elsewhere: Vec<_> =
            TABLES.iter().filter(|(_, keys)| keys.contains(&name)).map(|(table, _)| *table).collect();
        let likeness = |known: &&str| strsim::jaro_winkler(&name.to_lowercase(), known);
        let nearest = self.known.iter().map(|known| (likeness(known), known));
        match nearest.max_by(|a, b| a.0.total_cmp(&b.0)) {
            _ if !elsewhere.is_empty() => {
                let there = elsewhere.join(" or ");
                format!("it is known in {there}: a key belongs to the header above it, so move it there")
            }
            Some((likeness, known)) if likeness >= 0.8 => format!("the nearest known one is `{known}`"),
            _ => format!("known here are: {}", self.known.join(", ")),
        }
    }

    /// The key as it is named in an error: `keep.daily` for `daily` in `keep = { .. }`.
    fn full(&self, key: &str) -> String {
        self.within.map_or_else(|| key.to_owned(), |within| format!("{within}.{key}"))
    }
}
