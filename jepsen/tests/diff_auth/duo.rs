//! Both servers with auth: started together, asked the same, compared.

use std::fmt::{Debug, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use prost::Message;
use proto::etcdserverpb::*;
use tempfile::TempDir;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::rig::process::Process;

/// The kind of tokens that the servers give out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tokens {
    Simple,
    Signed,
}

/// A token of each server.
pub(crate) type Token = [String; 2];

pub(crate) struct Duo {
    sides: [Side; 2],
    /// The second is taken to allow all watches.
    lies: bool,
    _secret: TempDir,
}

struct Side {
    process: Process,
    channel: Channel,
}

/// Answers that have a header, which names the server.
pub(crate) trait Headed: Message + Default + Debug + 'static {
    fn header_mut(&mut self) -> Option<&mut ResponseHeader>;
    /// Takes away what depends on the server or on the clock.
    fn level(&mut self) {}
}

macro_rules! headed {
    ($($answer:ident $(|$this:ident| $level:block)?;)+) => {
        $(
            impl Headed for $answer {
                fn header_mut(&mut self) -> Option<&mut ResponseHeader> {
                    self.header.as_mut()
                }

                $(
                    fn level(&mut self) {
                        let $this = self;
                        $level
                    }
                )?
            }
        )+
    };
}

headed! {
    AuthEnableResponse;
    AuthDisableResponse;
    AuthStatusResponse;
    AuthenticateResponse |answer| { answer.token.clear() };
    AuthUserAddResponse;
    AuthUserGetResponse;
    AuthUserListResponse;
    AuthUserDeleteResponse;
    AuthUserChangePasswordResponse;
    AuthUserGrantRoleResponse;
    AuthUserRevokeRoleResponse;
    AuthRoleAddResponse;
    AuthRoleGetResponse |answer| {
        // etcd's sort keeps no order among those of one key.
        answer.perm.sort_by(|a, b| (&a.key, &a.range_end).cmp(&(&b.key, &b.range_end)));
    };
    AuthRoleListResponse;
    AuthRoleDeleteResponse;
    AuthRoleGrantPermissionResponse;
    AuthRoleRevokePermissionResponse;
    RangeResponse;
    PutResponse;
    DeleteRangeResponse;
    TxnResponse;
    CompactionResponse;
    WatchResponse;
    LeaseGrantResponse;
    LeaseRevokeResponse;
    LeaseKeepAliveResponse;
    LeaseTimeToLiveResponse |answer| {
        answer.ttl = answer.ttl.signum();
        answer.keys.sort();
    };
    LeaseLeasesResponse |answer| { answer.leases.sort_by_key(|lease| lease.id) };
    MemberListResponse |answer| { answer.members.truncate(0) };
    MemberRemoveResponse;
    AlarmResponse;
    StatusResponse |answer| {
        *answer = StatusResponse { header: answer.header.take(), ..StatusResponse::default() };
    };
    DefragmentResponse;
    HashResponse |answer| { answer.hash = 0 };
    HashKvResponse;
    SnapshotResponse |answer| { *answer = SnapshotResponse::default() };
    MoveLeaderResponse;
    DowngradeResponse;
}

impl Headed for RangeStreamResponse {
    fn header_mut(&mut self) -> Option<&mut ResponseHeader> {
        self.range_response.as_mut()?.header.as_mut()
    }
}

/// What two servers came to, when it is not the same.
pub(crate) type Unlike = String;

impl Duo {
    pub(crate) async fn start(programs: &[PathBuf; 2], tokens: Tokens, lies: bool) -> Duo {
        let secret = tempfile::tempdir().expect("a temporary directory");
        let mut flags = vec!["--bcrypt-cost=4".to_owned()];
        if tokens == Tokens::Signed {
            let path = secret.path().join("secret");
            std::fs::write(&path, "a secret that both servers know").expect("a file");
            flags.push(format!(
                "--auth-token=jwt,sign-method=HS256,priv-key={},ttl=1h",
                path.display()
            ));
        }
        let mut processes = [
            Process::spawn_with("etcd", &programs[0], &flags),
            Process::spawn_with("taffrail", &programs[1], &flags),
        ];
        tokio::task::block_in_place(|| processes.iter_mut().for_each(Process::wait_until_ready));
        let mut sides = Vec::new();
        for process in processes {
            let channel = Endpoint::from_shared(format!("http://{}", process.address()))
                .expect("a valid URL")
                .tcp_nodelay(true)
                .connect()
                .await
                .expect("the server accepts connections");
            sides.push(Side { process, channel });
        }
        let sides: Result<[Side; 2], _> = sides.try_into();
        Duo {
            sides: sides.ok().expect("two of them"),
            lies,
            _secret: secret,
        }
    }

    /// Asks both the same and compares; the answers come back as they were.
    pub(crate) async fn ask<Q, A>(
        &mut self,
        token: Option<&Token>,
        path: &'static str,
        request: Q,
    ) -> Result<Result<[A; 2], Status>, Unlike>
    where
        Q: Message + Clone + Default + 'static,
        A: Headed + Clone,
    {
        let [left, right] = &self.sides;
        let (left, right) = tokio::join!(
            left.call::<Q, A>(token.map(|token| token[0].as_str()), path, request.clone()),
            right.call::<Q, A>(token.map(|token| token[1].as_str()), path, request)
        );
        let mut shown = [shown(&left), shown(&right)];
        if self.lies && shown[1].contains("code = PermissionDenied") {
            shown[1].clear();
        }
        if shown[0] != shown[1] {
            let mut told = format!("etcd:     {}\ntaffrail: {}", shown[0], shown[1]);
            for side in &mut self.sides {
                if let Some(death) = side.process.death() {
                    write!(told, "\n{death}").expect("memory");
                }
            }
            return Err(told);
        }
        Ok(match (left, right) {
            (Ok(left), Ok(right)) => Ok([left, right]),
            (Err(status), _) | (_, Err(status)) => Err(status),
        })
    }
}

/// What of an outcome must be equal.
fn shown<A: Headed + Clone>(outcome: &Result<A, Status>) -> String {
    match outcome {
        Ok(answer) => {
            let mut answer = answer.clone();
            if let Some(header) = answer.header_mut() {
                header.cluster_id = 0;
                header.member_id = 0;
                header.raft_term = 0;
            }
            answer.level();
            format!("{answer:?}")
        }
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

impl Side {
    /// Sends one message to a method of any kind; the first message that comes back is the answer.
    async fn call<Q, A>(&self, token: Option<&str>, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(format!("no connection: {error}")))?;
        let mut request = Request::new(tokio_stream::once(message));
        if let Some(token) = token {
            let token = token.parse().expect("tokens are plain text");
            request.metadata_mut().insert("token", token);
        }
        let call = async {
            let codec = ProstCodec::<Q, A>::default();
            let answers = grpc
                .streaming(request, PathAndQuery::from_static(path), codec)
                .await?;
            answers.into_inner().message().await
        };
        let answer = tokio::time::timeout(CALL, call).await;
        let answer =
            answer.unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer in {CALL:?}"))));
        Ok(answer?.unwrap_or_default())
    }
}

/// The longest that a call may take. None of sequences waits for anything.
const CALL: Duration = Duration::from_secs(15);
