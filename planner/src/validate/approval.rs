//! Checks of what a job asks people for.
//! Must not know who somebody is: names are only compared when the answer comes.

use std::time::Duration;

use crds::JobApproval;

use super::ValidApproval;
use super::checker::{Checker, limit};
use super::job::{WRITE_IT, text};
use crate::expression::Scope;

/// How long a job waits for an answer that names no time.
const TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Checks what a job asks for. The question knows what the job's `when` knows.
pub(super) fn approval(
    check: &mut Checker,
    path: &str,
    raw: &JobApproval,
    outer: &Scope<'_>,
) -> ValidApproval {
    let JobApproval {
        users,
        groups,
        timeout,
        message,
    } = raw;
    for (field, what, names) in [("users", "user", users), ("groups", "group", groups)] {
        let list = format!("{path}.{field}");
        check.count(&list, names.len(), 0, limit::SUBJECTS);
        check.unique(&list, what, names.iter().map(String::as_str));
        for (i, name) in names.iter().enumerate() {
            check.text(&format!("{list}[{i}]"), name, 1, limit::SUBJECT);
            check.as_it_stands(&list, name, WRITE_IT);
        }
    }
    let timeout = check.duration(&format!("{path}.timeout"), timeout.as_deref());
    let field = format!("{path}.message");
    ValidApproval {
        users: users.clone(),
        groups: groups.clone(),
        timeout: timeout.unwrap_or(TIMEOUT),
        message: text(check, &field, message, limit::COMMENT, outer),
    }
}
