//! Connections to endpoints, and calls with a deadline.

use std::future::Future;
use std::time::Duration;

use clap::ArgMatches;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{Failure, line};
use crate::grpc::meter::CODES;

/// Where to connect and how long to wait.
pub(super) struct Session {
    endpoints: Vec<String>,
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
            dial_timeout: duration("dial-timeout"),
            command_timeout: duration("command-timeout"),
        })
    }

    /// The endpoints as they were given.
    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Connects to the first endpoint that can be reached, trying until the command's deadline.
    pub(super) async fn connect(&self) -> Result<Channel, Failure> {
        let deadline = Instant::now() + self.command_timeout;
        loop {
            let mut last = None;
            for endpoint in &self.endpoints {
                match self.try_connect(endpoint).await? {
                    Ok(channel) => return Ok(channel),
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
    pub(super) async fn connect_to(&self, endpoint: &str) -> Result<Channel, Failure> {
        let deadline = Instant::now() + self.command_timeout;
        loop {
            match self.try_connect(endpoint).await? {
                Ok(channel) => return Ok(channel),
                Err(_) if Instant::now() + RETRY_PAUSE < deadline => sleep(RETRY_PAUSE).await,
                Err(_) => return Err(Failure::Refused(DEADLINE.to_owned())),
            }
        }
    }

    async fn try_connect(&self, endpoint: &str) -> Result<Result<Channel, tonic::transport::Error>, Failure> {
        let target = match endpoint.split_once("://") {
            None => format!("http://{endpoint}"),
            Some(("http", _)) => endpoint.to_owned(),
            Some((scheme, _)) => {
                return Err(Failure::Feature(format!(
                    "{endpoint}: {scheme} is not supported by this version"
                )));
            }
        };
        let endpoint = Endpoint::from_shared(target)
            .map_err(|error| Failure::Arguments(format!("bad endpoint {endpoint}: {error}")))?
            .connect_timeout(self.dial_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        Ok(endpoint.connect().await)
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

const DEADLINE: &str = "context deadline exceeded";
/// Between attempts to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Answers may be tens of megabytes.
const WINDOW_BYTES: u32 = 8 << 20;
