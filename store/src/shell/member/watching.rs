//! The watch hub's part: its commands in, its effects out.

use std::sync::atomic::Ordering;

use super::{HistoryRequest, Member, Output, View};
use crate::shell::command::WatchCommand;
use crate::types::WatchId;
use crate::watch;

impl Member {
    pub(super) fn watch(&mut self, command: WatchCommand) {
        let input = match command {
            WatchCommand::Open(stream, sink) => watch::Input::Open { stream, sink },
            WatchCommand::Create(stream, request) => watch::Input::Create { stream, request },
            WatchCommand::Cancel(stream, id) => watch::Input::Cancel {
                stream,
                id: WatchId(id),
            },
            WatchCommand::Progress(stream) => watch::Input::Progress { stream },
            WatchCommand::Close(stream) => watch::Input::Close { stream },
        };
        self.hub_input(input);
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
