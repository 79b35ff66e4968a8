//! The watch hub's part: its commands in, its effects out.

use std::sync::atomic::Ordering;

use proto::etcdserverpb::WatchCreateRequest;

use super::{HistoryRequest, Member, Output, View};
use crate::apply::Request;
use crate::auth::Caller;
use crate::error::{AuthError, RequestError};
use crate::shell::command::WatchCommand;
use crate::types::WatchId;
use crate::watch;

impl Member {
    pub(super) fn watch(&mut self, command: WatchCommand) {
        let input = match command {
            WatchCommand::Open(stream, sink) => watch::Input::Open { stream, sink },
            WatchCommand::Create(stream, request, caller) => match self.refusal(&request, &caller) {
                Some(reason) => watch::Input::Refuse { stream, reason },
                None => watch::Input::Create { stream, request },
            },
            WatchCommand::Refuse(stream, reason) => watch::Input::Refuse { stream, reason },
            WatchCommand::Cancel(stream, id) => watch::Input::Cancel {
                stream,
                id: WatchId(id),
            },
            WatchCommand::Progress(stream) => watch::Input::Progress { stream },
            WatchCommand::Close(stream) => watch::Input::Close { stream },
        };
        self.hub_input(input);
    }

    /// Why a caller may not watch, in the words of etcd's clients. What is wrong with the start comes before, and is the
    /// hub's to tell.
    fn refusal(&self, request: &WatchCreateRequest, caller: &Caller) -> Option<String> {
        if *caller == Caller::Trusted || request.start_revision < 0 {
            return None;
        }
        let state = self.shared.state.read();
        let (who, range) = (caller.identity(&state.auth), watch::range(request));
        match state.judge(who, Request::Watch(&range)) {
            Err(RequestError::Auth(error)) => Some(refusal_text(error)),
            _ => None,
        }
    }

    pub(super) fn hub_input(&mut self, input: watch::Input<'_>) {
        let state = self.shared.state.read();
        self.hub.step(input, &View(&state.mvcc), &mut self.hub_effects);
    }

    pub(super) fn take_hub_effects(&mut self, out: &mut Vec<Output>) {
        for effect in self.hub_effects.drain(..) {
            match effect {
                watch::Effect::ReadHistory {
                    token,
                    from,
                    to,
                    with_previous,
                } => {
                    out.push(Output::ReadHistory(HistoryRequest {
                        token,
                        from,
                        to,
                        with_previous,
                    }));
                }
                // The hub has dropped the stream's sink: its reader sees the end.
                watch::Effect::Overflow { stream } => {
                    tracing::warn!(
                        stream = stream.0,
                        "a watch stream was closed: its client takes no answers"
                    );
                }
            }
        }
    }

    pub(super) fn publish_watching(&self) {
        let published = &self.shared.published;
        let stats = self.hub.stats();
        published.watchers.store(stats.watchers as u64, Ordering::Relaxed);
        published
            .watch_streams
            .store(stats.streams as u64, Ordering::Relaxed);
        published
            .slow_watchers
            .store(stats.slow as u64, Ordering::Relaxed);
        published
            .pending_events
            .store(stats.events_pending as u64, Ordering::Relaxed);
        published.events.store(stats.events_total, Ordering::Relaxed);
    }
}

/// An error as a Go client prints it.
fn refusal_text(error: AuthError) -> String {
    let code = match error {
        AuthError::UserEmpty | AuthError::AuthOldRevision => "InvalidArgument",
        AuthError::InvalidAuthToken => "Unauthenticated",
        _ => "PermissionDenied",
    };
    format!("rpc error: code = {code} desc = etcdserver: {error}")
}
