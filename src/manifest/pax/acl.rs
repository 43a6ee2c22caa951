//! ACLs as text: GNU tar restores them from that, and not from the attribute in which the kernel keeps them.

/// The attributes that hold an ACL, and the record that says the same as text.
pub(super) const RECORDS: [(&[u8], &str); 2] =
    [(b"system.posix_acl_access", "SCHILY.acl.access"), (b"system.posix_acl_default", "SCHILY.acl.default")];

/// The text of an ACL as the kernel gives it: a version, then tag, permissions and id of each entry. `None` for anything else.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let entries = value.strip_prefix(&2_u32.to_le_bytes())?;
    let (entries, rest) = entries.as_chunks::<8>();
    let texts: Option<Vec<String>> = entries.iter().map(entry).collect();
    texts.filter(|texts| rest.is_empty() && !texts.is_empty()).map(|texts| texts.join(","))
}

fn entry(bytes: &[u8; 8]) -> Option<String> {
    let [t0, t1, p0, p1, i0, i1, i2, i3] = *bytes;
    let permissions = u16::from_le_bytes([p0, p1]);
    let id = u32::from_le_bytes([i0, i1, i2, i3]);
    let who = match u16::from_le_bytes([t0, t1]) {
        0x01 => "user:".to_owned(),
        0x02 => format!("user:{id}"),
        0x04 => "group:".to_owned(),
        0x08 => format!("group:{id}"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    let letter = |bit, letter| if permissions & bit == 0 { '-' } else { letter };
    Some(format!("{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_is_told_as_setfacl_would_say_it() {
        let entry = |tag: u8, bits: u8, id: u32| [&[tag, 0, bits, 0][..], &id.to_le_bytes()].concat();
        let none = u32::MAX;
        let value = [
            2_u32.to_le_bytes().to_vec(),
            entry(1, 7, none),
            entry(2, 4, 33),
            entry(4, 5, none),
            entry(8, 0, 1000),
            entry(16, 5, none),
            entry(32, 5, none),
        ]
        .concat();
        let expected = "user::rwx,user:33:r--,group::r-x,group:1000:---,mask::r-x,other::r-x";
        assert_eq!(text(&value).unwrap(), expected);
        assert_eq!(text(&value[..value.len() - 1]), None);
        assert_eq!(text(&[&value[..4], &entry(64, 0, 0)].concat()), None);
        assert_eq!(text(b""), None);
    }
}
