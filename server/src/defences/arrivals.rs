//! Calls whose message is not there yet. A client that opens calls and sends nothing holds a little memory for each, and
//! one that sends its message byte by byte holds what is there of it: so there are bounds on their number and on the
//! time that a message may take.
//!
//! Most messages are there when they are looked for; nothing is counted, and no time is taken, before one is missed.

use std::future::Future as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::time::Sleep;
use tonic::{Code, Status};

use super::{Reason, Seat, Seats, TurnedAway};

/// All calls that wait for their message.
pub(crate) struct Arrivals {
    waiting: Arc<Seats>,
    away: Arc<TurnedAway>,
}

/// The message of one call.
pub(crate) struct Arrival {
    arrivals: Arc<Arrivals>,
    address: Option<IpAddr>,
    /// Whether it must be there in time; a stream's messages come when they come.
    timed: bool,
    wait: Option<Wait>,
    /// The first message of a stream is there: from then on it is waited for.
    came: bool,
}

struct Wait {
    _seat: Seat,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Arrivals {
    pub(crate) fn new(away: Arc<TurnedAway>) -> Arc<Arrivals> {
        Arc::new(Arrivals {
            waiting: Seats::new(WAITING_MAX, [Reason::Arrivals; 2], away.clone()),
            away,
        })
    }

    /// The message of a call from `address`; `timed` if it is the only one.
    pub(crate) fn expect(self: &Arc<Self>, address: Option<IpAddr>, timed: bool) -> Arrival {
        Arrival {
            arrivals: self.clone(),
            address,
            timed,
            wait: None,
            came: false,
        }
    }

    /// How many are waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.counts().0
    }
}

impl Arrival {
    /// The next part is not there; `context` will be woken when it was missed for too long.
    pub(crate) fn missed(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        if self.came {
            return Ok(());
        }
        let wait = match &mut self.wait {
            Some(wait) => wait,
            None => {
                let seat = self.arrivals.waiting.take(self.address).ok_or_else(too_many)?;
                self.wait.insert(Wait {
                    _seat: seat,
                    deadline: self.timed.then(|| Box::pin(tokio::time::sleep(MESSAGE_MAX))),
                })
            }
        };
        let late = wait
            .deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(context).is_ready());
        if late {
            self.arrivals.away.count(Reason::SlowMessage);
            return Err(late_message());
        }
        Ok(())
    }

    /// A part of it is there.
    pub(crate) fn came(&mut self) {
        if !self.timed {
            self.came = true;
            self.wait = None;
        }
    }
}

fn too_many() -> Status {
    Status::new(Code::ResourceExhausted, "etcdserver: too many requests")
}

/// What a client hears whose message took too long.
pub(crate) fn late_message() -> Status {
    Status::deadline_exceeded("the request was not received in time")
}

/// How long the one message of a call may take, from the moment that it is missed: a full one of the default size comes
/// in time at 100 kbit/s.
pub(crate) const MESSAGE_MAX: Duration = Duration::from_secs(120);
/// Calls that wait for their message at once, of all connections.
const WAITING_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_message_has_its_time_and_a_stream_has_not() {
        let arrivals = Arrivals::new(Arc::default());
        let (mut timed, mut stream) = (arrivals.expect(None, true), arrivals.expect(None, false));
        let mut context = Context::from_waker(Waker::noop());
        timed.missed(&mut context).unwrap();
        stream.missed(&mut context).unwrap();
        assert_eq!(arrivals.waiting(), 2);
        timed.came();
        stream.came();
        stream.missed(&mut context).unwrap();
        assert_eq!(arrivals.waiting(), 1);
        tokio::time::advance(MESSAGE_MAX + Duration::from_secs(1)).await;
        stream.missed(&mut context).unwrap();
        assert_eq!(
            timed.missed(&mut context).unwrap_err().code(),
            Code::DeadlineExceeded
        );
        drop((timed, stream));
        assert_eq!(arrivals.waiting(), 0);
    }

    #[test]
    fn one_too_many_is_refused_and_not_counted() {
        let arrivals = Arrivals::new(Arc::default());
        let mut context = Context::from_waker(Waker::noop());
        let addresses = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().ok());
        let mut waiting: Vec<Arrival> = (0..WAITING_MAX)
            .map(|number| arrivals.expect(addresses[number % 2], false))
            .collect();
        for arrival in &mut waiting {
            arrival.missed(&mut context).unwrap();
        }
        let refused = arrivals.expect(None, false).missed(&mut context).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(arrivals.waiting(), WAITING_MAX);
        waiting.pop();
        arrivals.expect(None, false).missed(&mut context).unwrap();
    }
}
