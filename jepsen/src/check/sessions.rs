//! Sessions: whatever order members apply in, one member never goes back. A call that began after another one had been
//! answered by the same member, in the same life of it, is answered at the same revision or a later one, and that holds for
//! local reads too, which [`super::linearizable`] allows to be old. (A client that stays with a member so never sees
//! time run backwards; one that moves may.)

use std::collections::BTreeMap;

use super::Violation;
use super::linearizable::KvHistory;
use super::observed::{Observed, View};
use crate::history::CallId;

/// Looks for answers that go back. `servers` tells, by call, which member in which life served it.
#[must_use]
pub fn check<S: Ord + Copy>(history: &KvHistory, servers: &[S]) -> Vec<Violation> {
    let (view, _) = View::new(history);
    let mut by_server: BTreeMap<S, Vec<&Observed<'_>>> = BTreeMap::new();
    for this in &view.observed {
        by_server.entry(servers[this.id.0]).or_default().push(this);
    }
    by_server.into_values().flat_map(of_one).collect()
}

/// The calls of one server, in order of invocation.
fn of_one(calls: Vec<&Observed<'_>>) -> Vec<Violation> {
    let mut returns = calls.clone();
    returns.sort_by_key(|this| this.call.returned);
    let mut returns = returns.into_iter().peekable();
    let (mut seen, mut seen_by) = (0, CallId(0));
    let mut found = Vec::new();
    for this in calls {
        while let Some(earlier) = returns.next_if(|earlier| earlier.call.returned < this.call.invoked) {
            if earlier.revision > seen {
                (seen, seen_by) = (earlier.revision, earlier.id);
            }
        }
        if this.revision < seen {
            found.push(Violation::SessionBack {
                call: this.id,
                revision: this.revision,
                seen,
                seen_by,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};

    use super::*;
    use crate::history::{Call, History, Outcome, ProcessId};
    use crate::model::{Request, Response};

    fn local_read(invoked: u64, revision: i64) -> Call<Request, crate::model::Answer> {
        let header = ResponseHeader {
            revision,
            ..ResponseHeader::default()
        };
        Call {
            process: ProcessId(invoked),
            operation: Request::Range(RangeRequest {
                serializable: true,
                ..RangeRequest::default()
            }),
            invoked,
            returned: invoked + 5,
            outcome: Outcome::Ok(Ok(Response::Range(RangeResponse {
                header: Some(header),
                ..RangeResponse::default()
            }))),
        }
    }

    #[test]
    fn old_reads_are_a_matter_of_who_answers() {
        let calls = vec![local_read(0, 5), local_read(3, 4), local_read(10, 4)];
        let history = History::new(calls);
        assert_eq!(check(&history, &["a", "a", "b"]), []);
        let found = check(&history, &["a", "b", "a"]);
        assert!(
            matches!(
                found[..],
                [Violation::SessionBack {
                    revision: 4,
                    seen: 5,
                    ..
                }]
            ),
            "{found:?}"
        );
    }
}
