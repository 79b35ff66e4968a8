//! Who calls, and what that is good for.

use std::fmt;

use tonic::Code;

use crate::auth_matrix::table::Needs;

/// A kind of caller. The keys of the table are those under one prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// Brings no token and no certificate.
    Nobody,
    /// Brings a token that no member has given out.
    Junk,
    /// Is known by a certificate whose Common Name is that of no user.
    Stranger,
    /// Has a token from before the last change of users and roles (JWT), and every right on the keys.
    OutdatedOwner,
    OutdatedRoot,
    /// May read the keys.
    Reader,
    /// May write the keys.
    Writer,
    /// May do both.
    Owner,
    /// May do both, with other keys.
    Other,
    Root,
    /// A reader who is known by the Common Name of a certificate and brings no token.
    NamedReader,
}

pub(crate) const CALLERS: [Caller; 11] = [
    Caller::Nobody,
    Caller::Junk,
    Caller::Stranger,
    Caller::OutdatedOwner,
    Caller::OutdatedRoot,
    Caller::Reader,
    Caller::Writer,
    Caller::Owner,
    Caller::Other,
    Caller::NamedReader,
    Caller::Root,
];

/// How a call is refused for who makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    UserEmpty,
    InvalidToken,
    OldRevision,
    Denied,
    UserNotFound,
}

impl Refusal {
    pub(crate) const ALL: [Refusal; 5] = [
        Refusal::UserEmpty,
        Refusal::InvalidToken,
        Refusal::OldRevision,
        Refusal::Denied,
        Refusal::UserNotFound,
    ];

    pub(crate) fn status(self) -> (Code, &'static str) {
        match self {
            Refusal::UserEmpty => (Code::InvalidArgument, "etcdserver: user name is empty"),
            Refusal::InvalidToken => (Code::Unauthenticated, "etcdserver: invalid auth token"),
            Refusal::OldRevision => (Code::InvalidArgument, "etcdserver: revision of auth store is old"),
            Refusal::Denied => (Code::PermissionDenied, "etcdserver: permission denied"),
            Refusal::UserNotFound => (Code::FailedPrecondition, "etcdserver: user name not found"),
        }
    }
}

impl Caller {
    /// How this caller is refused a call, if it is.
    pub(crate) fn refusal(self, needs: Needs) -> Option<Refusal> {
        match needs {
            Needs::Nothing => None,
            Needs::SoundToken => (self == Caller::Junk).then_some(Refusal::InvalidToken),
            // An empty transaction asks for no key, and so nobody asks who it is.
            Needs::NoKey if self == Caller::Nobody => None,
            _ if self == Caller::Nobody => Some(Refusal::UserEmpty),
            _ if self == Caller::Junk => Some(Refusal::InvalidToken),
            Needs::NoKey => self.is_outdated().then_some(Refusal::OldRevision),
            Needs::Somebody => None,
            // Whose administrator somebody is does not depend on the revision that the token names.
            Needs::Admin | Needs::Oneself if self == Caller::Stranger => Some(Refusal::UserNotFound),
            Needs::Admin => self.unless(self.is_root()),
            Needs::Oneself => self.unless(self.is_root() || self.name() == Some("reader")),
            Needs::Keys { .. } if self.is_outdated() => Some(Refusal::OldRevision),
            Needs::LeaseKeys { .. } if self == Caller::OutdatedOwner => Some(Refusal::OldRevision),
            Needs::Keys { read, write } | Needs::LeaseKeys { read, write } => {
                self.unless((!read || self.reads()) && (!write || self.writes()))
            }
            Needs::AllKeys if self.is_outdated() => Some(Refusal::OldRevision),
            Needs::AllKeys => self.unless(self == Caller::Root),
        }
    }

    fn unless(self, allowed: bool) -> Option<Refusal> {
        (!allowed).then_some(Refusal::Denied)
    }

    fn is_root(self) -> bool {
        matches!(self, Caller::Root | Caller::OutdatedRoot)
    }

    fn is_outdated(self) -> bool {
        matches!(self, Caller::OutdatedOwner | Caller::OutdatedRoot)
    }

    fn reads(self) -> bool {
        self.is_root() || matches!(self, Caller::Reader | Caller::NamedReader | Caller::Owner)
    }

    fn writes(self) -> bool {
        self.is_root() || matches!(self, Caller::Writer | Caller::Owner)
    }

    /// A certificate says who calls.
    pub(crate) fn is_known_by_certificate(self) -> bool {
        matches!(self, Caller::Stranger | Caller::NamedReader)
    }

    /// The user, also where it does not exist.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Caller::Nobody | Caller::Junk => None,
            Caller::Stranger => Some("stranger"),
            Caller::OutdatedOwner | Caller::Owner => Some("owner"),
            Caller::OutdatedRoot | Caller::Root => Some("root"),
            Caller::Reader | Caller::NamedReader => Some("reader"),
            Caller::Writer => Some("writer"),
            Caller::Other => Some("other"),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Caller::Nobody => "no token",
            Caller::Junk => "bad token",
            Caller::Stranger => "CN of no user",
            Caller::OutdatedOwner => "stale token",
            Caller::OutdatedRoot => "stale token of root",
            Caller::Reader => "reader",
            Caller::Writer => "writer",
            Caller::Owner => "reader and writer",
            Caller::Other => "other range",
            Caller::Root => "root",
            Caller::NamedReader => "CN of a reader",
        })
    }
}
