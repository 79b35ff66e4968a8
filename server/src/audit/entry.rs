//! One call from its begin to its end. The entry is written when the last handle to it goes, so that a call which its
//! client gives up is told of as well.

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use prost::Message;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use store::auth::Caller;
use tonic::Code;

use super::about::{self, About};
use super::log::Line;
use super::revision::revision_of;
use super::{Audit, Rank, rank};
use crate::grpc::rpc::{Kind, Rpc};

/// Who calls.
#[derive(Clone, Default)]
pub(crate) struct Who {
    /// Of a verified certificate.
    pub(crate) common_name: Option<Arc<str>>,
    /// Where the connection comes from.
    pub(crate) address: Option<String>,
    pub(crate) gateway: bool,
}

/// A call under way; cheap to clone.
#[derive(Clone)]
pub(crate) struct Entry(Arc<Call>);

struct Call {
    audit: Arc<Audit>,
    rpc: Rpc,
    who: Who,
    /// The user, where authentication is on and has told it.
    user: OnceLock<Arc<str>>,
    began: SystemTime,
    clock: Instant,
    rest: Mutex<Rest>,
}

/// What becomes known later.
#[derive(Default)]
struct Rest {
    about: About,
    code: Option<Code>,
    revision: Option<i64>,
    /// Watchers that are asked for and not yet answered, in their order.
    watchers: VecDeque<About>,
}

impl Entry {
    pub(super) fn begin(audit: Arc<Audit>, rpc: Rpc, who: Who) -> Entry {
        Entry(Arc::new(Call {
            audit,
            rpc,
            who,
            user: OnceLock::new(),
            began: SystemTime::now(),
            clock: Instant::now(),
            rest: Mutex::default(),
        }))
    }

    /// It is known whose call it is.
    pub(crate) fn called_by(&self, caller: &Caller) {
        if let Caller::User { name, .. } = caller {
            // Once for each call.
            let _ = self.0.user.set(name.clone());
        }
    }

    /// The message that the call brings.
    pub(crate) fn asks(&self, message: &dyn Any) {
        let about = about::of(message);
        if let Some(talkers) = &self.0.audit.talkers {
            talkers.note(self.talker(), about.first_key());
        }
        self.0.rest.lock().about = about;
    }

    /// The call was answered.
    pub(crate) fn answered<A: Message + 'static>(&self, result: &Result<tonic::Response<A>, tonic::Status>) {
        let mut rest = self.0.rest.lock();
        match result {
            Ok(answer) => {
                rest.code = Some(Code::Ok);
                rest.revision = revision_of(answer.get_ref());
            }
            Err(status) => rest.code = Some(status.code()),
        }
    }

    /// The call has come to `code`, unless it is known better.
    pub(crate) fn comes_to(&self, code: Code) {
        self.0.rest.lock().code.get_or_insert(code);
    }

    /// A watcher is asked for on this stream.
    pub(crate) fn watches(&self, create: &WatchCreateRequest) {
        let about = about::of(create);
        if let Some(talkers) = &self.0.audit.talkers {
            talkers.note(self.talker(), about.first_key());
        }
        let mut rest = self.0.rest.lock();
        if rest.watchers.len() < WATCHERS_MAX {
            rest.watchers.push_back(about);
        }
    }

    /// Begin and end of a watcher, as the client is told of them: in the order in which they were asked for.
    pub(crate) fn watch_answers(&self, response: &WatchResponse) {
        let event = match (response.created, response.canceled) {
            (true, true) => "watch refused",
            (true, false) => "watch created",
            (false, true) => "watch canceled",
            (false, false) => return,
        };
        let mut about = match response.created {
            true => self.0.rest.lock().watchers.pop_front().unwrap_or_default(),
            false => About::default(),
        };
        about.subject = Some(format!("watch {}", response.watch_id));
        if !response.cancel_reason.is_empty() {
            about.reason = Some(about::limited_text(&response.cancel_reason));
        }
        let revision = response.header.as_ref().map(|header| header.revision);
        self.0.tell(event, about, revision, None);
    }

    /// What a talker is known by: a user, else a name in a certificate, else an address without its port.
    fn talker(&self) -> String {
        let who = &self.0.who;
        if let Some(name) = self.0.user.get().or(who.common_name.as_ref()) {
            return about::limited_text(name);
        }
        let address = who.address.as_deref().unwrap_or("unknown");
        match address.parse::<SocketAddr>() {
            Ok(address) => address.ip().to_string(),
            Err(_) => address.to_owned(),
        }
    }
}

impl Call {
    fn tell(&self, event: &'static str, about: About, revision: Option<i64>, code: Option<Code>) {
        let Some(log) = self.audit.log_of(self.rpc) else {
            return;
        };
        log.write(Line {
            event,
            rpc: self.rpc,
            who: self.who.clone(),
            user: self.user.get().cloned(),
            at: self.began,
            took: self.clock.elapsed(),
            about,
            revision,
            code,
            urgent: rank(self.rpc) == Rank::Admin,
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let rest = std::mem::take(self.rest.get_mut());
        let (_, _, kind) = self.rpc.names();
        let event = match kind {
            Kind::Unary => "call",
            Kind::ServerStream | Kind::BidiStream => "stream ended",
        };
        // A call that was dropped before it came to anything was given up by its client.
        let code = rest.code.unwrap_or(Code::Cancelled);
        self.tell(event, rest.about, rest.revision, Some(code));
    }
}

/// Watchers of one stream that are asked for and not yet answered; what is beyond is told of without its keys.
const WATCHERS_MAX: usize = 1024;
