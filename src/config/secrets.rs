//! What must not be shown: values of keys that are named like secrets, and texts that carry one.

use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

use super::table::Spanned;

/// The file's text with every secret replaced by `"***"`, to be embedded in `generation.toml`, which a person reads on
/// the day the host is lost. Comments and layout stay as they are, so a secret in a comment stays as well. A text that
/// is not TOML is not repeated at all, since its secrets cannot be told apart.
pub fn without_secrets(text: &str) -> String {
    let Ok(document) = DeTable::parse(text) else {
        return "# this file is not valid TOML, so it is not repeated here\n".to_owned();
    };
    let mut spans = Vec::new();
    in_table(document.get_ref(), &[], false, &mut spans);
    spans.sort_by_key(|span| std::cmp::Reverse(span.start));
    let mut masked = text.to_owned();
    for span in spans {
        masked.replace_range(span, "\"***\"");
    }
    masked
}

/// Whether a key is named like a secret. A `password_file` is a path, and worth knowing when the host is lost.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    let of_words = ["password", "passphrase", "passwd", "secret", "token", "credential"];
    let names_a_place = ["_file", "_path", "_command", "_env"].iter().any(|end| key.ends_with(end));
    let is_key = key == "key" || key.ends_with("_key") || key.ends_with("apikey");
    !names_a_place && (is_key || of_words.iter().any(|word| key.contains(word)))
}

/// Whether a key of a section is the address of a ping, which is all that is needed to send one.
pub(super) fn is_ping(section: &str, key: &str) -> bool {
    key == "url" && section.trim_matches(['[', ']']) == "ping"
}

/// Whether a text carries a secret, as `--password=x`, `PGPASSWORD=x` or `smtp://user:x@host`.
pub(super) fn holds_secret(text: &str) -> bool {
    let words = text.split('=').rev().skip(1);
    let assigned = words.filter_map(|before| before.rsplit(|c: char| c.is_whitespace() || c == ';').next());
    let with_login = text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(login, _)| login.contains(':'))
    });
    with_login || assigned.into_iter().any(is_secret_key)
}

fn in_table(table: &DeTable<'_>, path: &[&str], secret: bool, spans: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let key = key.get_ref().as_ref();
        let is_ping = path.iter().any(|section| is_ping(section, key));
        let path = [path, &[key]].concat();
        in_value(value, &path, secret || is_ping || is_secret_key(key), spans);
    }
}

fn in_value(value: &Spanned<'_>, path: &[&str], secret: bool, spans: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, path, secret, spans),
        DeValue::Array(items) => in_array(items, path, secret, spans),
        DeValue::String(text) if secret || holds_secret(text) => spans.push(value.span()),
        _ if secret => spans.push(value.span()),
        _ => {}
    }
}

/// In a command, what follows `--password` is as secret as what follows `--password=`.
fn in_array(items: &DeArray<'_>, path: &[&str], secret: bool, spans: &mut Vec<Range<usize>>) {
    let mut after_option = false;
    for item in items {
        in_value(item, path, secret || after_option, spans);
        after_option = item.get_ref().as_str().is_some_and(is_secret_option);
    }
}

fn is_secret_option(argument: &str) -> bool {
    let name = argument.trim_start_matches('-');
    argument.starts_with("--") && !name.starts_with("no-") && !name.contains('=') && is_secret_key(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_everything_else_stays_as_it_was_written() {
        let text = r#"# the shop's host
[mail]
password = "hunter2" # since March
smtp_password='hunter2'
"api-token" = """
hunter2
hunter2"""
password_file = "/etc/handover/smtp-password"
server = "smtp://me:hunter2@mail.example.org:587"
nested = { secret = "hunter2", deep = [{ key = 4711 }], plain = 1 }

[[ping]]
url = "https://hc.example.org/hunter2"

[[source.element]]
command = ["mysqldump", "--password=hunter2", "--no-password", "shop", "--token", "hunter2"]
check = ["sh", "-c", "export PGPASSWORD=hunter2; psql"]
url = "https://example.org/a?b=c"

[secret]
anything = ["hunter2"]
"#;
        let masked = without_secrets(text);
        assert!(!masked.contains("hunter2") && !masked.contains("4711"), "{masked}");
        for kept in [
            "# the shop's host\n[mail]\npassword = \"***\" # since March\nsmtp_password=\"***\"\n\"api-token\" = \"***\"\n",
            "password_file = \"/etc/handover/smtp-password\"\n",
            "nested = { secret = \"***\", deep = [{ key = \"***\" }], plain = 1 }",
            "[\"mysqldump\", \"***\", \"--no-password\", \"shop\", \"--token\", \"***\"]",
            "url = \"https://example.org/a?b=c\"\n",
            "[secret]\nanything = [\"***\"]\n",
        ] {
            assert!(masked.contains(kept), "{kept} in {masked}");
        }
        assert!(toml::from_str::<toml::Table>(&masked).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_repeated_with_its_secrets() {
        assert!(!without_secrets("password = \"hunter2\nx").contains("hunter2"));
    }
}
