//! Connections to endpoints, and calls with a deadline.

use std::future::Future;
use std::time::Duration;

use clap::ArgMatches;
use proto::etcdserverpb::AuthenticateRequest;
use proto::etcdserverpb::auth_client::AuthClient;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::dial::{self, Security};
use super::{Failure, ask, line};
use crate::grpc::meter::CODES;

/// A connection over which each call says who calls.
pub(super) type Connection = InterceptedService<Channel, Bearer>;

/// Adds the token, if there is one, to a call.
#[derive(Clone, Default)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// Who calls.
enum Login {
    Nobody,
    Password { user: String, password: String },
    Token(String),
}

/// Where to connect, as whom, and how long to wait.
pub(super) struct Session {
    endpoints: Vec<String>,
    security: Security,
    login: Login,
    /// What the login gave, once it was made.
    bearer: OnceCell<Bearer>,
    dial_timeout: Duration,
    command_timeout: Duration,
}

impl Session {
    pub(super) fn new(matches: &ArgMatches) -> Result<Session, Failure> {
        let endpoints: Vec<String> = line::text_of(matches, "endpoints")
            .split(',')
            .map(str::trim)
            .filter(|endpoint| !endpoint.is_empty())
            .map(str::to_owned)
            .collect();
        if endpoints.is_empty() {
            return Err(Failure::Connection(
                "etcdclient: no available endpoints".to_owned(),
            ));
        }
        let duration = |name| matches.get_one::<Duration>(name).copied().unwrap_or_default();
        Ok(Session {
            endpoints,
            security: Security::new(matches)?,
            login: Login::new(matches)?,
            bearer: OnceCell::new(),
            dial_timeout: duration("dial-timeout"),
            command_timeout: duration("command-timeout"),
        })
    }

    /// The endpoints as they were given.
    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Connects to the first endpoint that can be reached, trying until the command's deadline.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let deadline = Instant::now() + self.command_timeout;
        loop {
            let mut last = None;
            for endpoint in &self.endpoints {
                match self.try_connect(endpoint).await? {
                    Ok(channel) => return self.logged_in(channel).await,
                    Err(error) => last = Some((endpoint, error)),
                }
            }
            if Instant::now() + RETRY_PAUSE >= deadline {
                if let Some((endpoint, error)) = last {
                    eprintln!("cannot connect to {endpoint}: {}", causes(&error));
                }
                return Err(Failure::Refused(DEADLINE.to_owned()));
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Connects to one endpoint, trying until the command's deadline; the error is what to tell the user.
    pub(super) async fn connect_to(&self, endpoint: &str) -> Result<Connection, Failure> {
        let deadline = Instant::now() + self.command_timeout;
        loop {
            match self.try_connect(endpoint).await? {
                Ok(channel) => return self.logged_in(channel).await,
                Err(_) if Instant::now() + RETRY_PAUSE < deadline => sleep(RETRY_PAUSE).await,
                Err(_) => return Err(Failure::Refused(DEADLINE.to_owned())),
            }
        }
    }

    async fn try_connect(&self, endpoint: &str) -> Result<Result<Channel, tonic::transport::Error>, Failure> {
        let target = dial::target(endpoint, &self.security)?;
        let secure = target.starts_with("https://");
        let endpoint = Endpoint::from_shared(target)
            .map_err(|error| Failure::Arguments(format!("bad endpoint {endpoint}: {error}")))?
            .connect_timeout(self.dial_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        match &self.security {
            Security::Tls(connector) if secure => {
                let dialer = dial::Dialer::new(connector.clone(), self.dial_timeout);
                Ok(endpoint.connect_with_connector(dialer).await)
            }
            _ => Ok(endpoint.connect().await),
        }
    }

    /// The connection of whom the flags name. A cluster that does not ask who calls does not hear it either.
    async fn logged_in(&self, channel: Channel) -> Result<Connection, Failure> {
        let bearer = self.bearer.get_or_try_init(|| async {
            let token = match &self.login {
                Login::Nobody => return Ok(Bearer::default()),
                Login::Token(token) => token.clone(),
                Login::Password { user, password } => {
                    let request = AuthenticateRequest {
                        name: user.clone(),
                        password: password.clone(),
                    };
                    let mut client = AuthClient::new(channel.clone());
                    let deadline = Instant::now() + self.command_timeout;
                    match timeout_at(deadline, client.authenticate(request)).await {
                        Ok(Ok(answer)) => answer.into_inner().token,
                        Ok(Err(status)) if status.message() == NOT_ENABLED => return Ok(Bearer::default()),
                        Ok(Err(status)) => return Err(Failure::Connection(text_of(&status))),
                        Err(_) => return Err(Failure::Connection(DEADLINE.to_owned())),
                    }
                }
            };
            let token = MetadataValue::try_from(token);
            token
                .map(|token| Bearer(Some(token)))
                .map_err(|_| Failure::Arguments("the token is no text for a header".to_owned()))
        });
        let bearer = bearer.await?.clone();
        Ok(InterceptedService::new(channel, bearer))
    }

    /// Waits for a call's answer until the command's deadline.
    pub(super) async fn call<A>(
        &self,
        call: impl Future<Output = Result<tonic::Response<A>, Status>>,
    ) -> Result<A, Failure> {
        match timeout_at(Instant::now() + self.command_timeout, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Failure::Refused(text_of(&status))),
            Err(_) => Err(Failure::Refused(DEADLINE.to_owned())),
        }
    }
}

impl Login {
    fn new(matches: &ArgMatches) -> Result<Login, Failure> {
        let text = |name| line::text_of(matches, name).to_owned();
        let (token, user, password) = (text("auth-jwt-token"), text("user"), text("password"));
        if !token.is_empty() {
            return Ok(Login::Token(token));
        }
        if user.is_empty() {
            return Ok(Login::Nobody);
        }
        if !password.is_empty() {
            return Ok(Login::Password { user, password });
        }
        let (user, password) = match user.split_once(':') {
            Some((user, password)) => (user.to_owned(), password.to_owned()),
            None => {
                let password = ask::password("Password: ")?;
                (user, password)
            }
        };
        Ok(Login::Password { user, password })
    }
}

/// A status as a Go client shows it: etcd's own errors by their text, others with their code.
pub(super) fn text_of(status: &Status) -> String {
    match status.code() {
        Code::DeadlineExceeded => DEADLINE.to_owned(),
        _ if status.message().starts_with("etcdserver: ") => status.message().to_owned(),
        code => format!(
            "rpc error: code = {} desc = {}",
            CODES[code as usize],
            status.message()
        ),
    }
}

/// An error with its causes, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";
const DEADLINE: &str = "context deadline exceeded";
/// Between attempts to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Answers may be tens of megabytes.
const WINDOW_BYTES: u32 = 8 << 20;
