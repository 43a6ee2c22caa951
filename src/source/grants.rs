//! Ways in that were granted for a while: sshd heeds their time by itself; here the lines go, so that the file says
//! what holds.

use std::path::Path;

use jiff::Timestamp;

use crate::{
    gate::keys::{self, Revoke},
    report::{Finding, Kind},
    store::handover_point::HandoverPoint,
    sys::users,
};

/// Removes grants of the restore gate whose time is over. A file that cannot be read is nothing that a backup should
/// fail over.
pub(super) fn sweep(point: &HandoverPoint, now: Timestamp) -> Vec<Finding> {
    let (uid, _) = point.transport_user();
    let Ok(Some(user)) = users::find_id(uid) else { return Vec::new() };
    let file = Path::new(&user.home).join(".ssh/authorized_keys");
    match keys::revoke(&file, &Revoke::Expired(now), false) {
        Ok(gone) => {
            let note = |grant: &keys::Grant| {
                let text = format!("the time of {} is over: its line was removed", grant.key.fingerprint());
                Finding::new(Kind::Note, "restore grant", text)
            };
            gone.iter().map(note).collect()
        }
        Err(e) => vec![
            Finding::new(Kind::Warning, "restore grant", e.to_string())
                .with_fix("handover restore grant --list"),
        ],
    }
}
