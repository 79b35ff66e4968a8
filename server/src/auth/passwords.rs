//! Passwords are hashed and checked here, on threads that do nothing else: one check takes as long as thousands of
//! requests, by design, so it never runs where requests are served or applied. The threads have a low priority and work in
//! small pieces, so that they take little but the time that is left.
//!
//! Whoever may not log in can still ask to. So the queue is bounded, each address has its own bounded part of it, the
//! addresses take turns, and an address that fails often is refused for a while. A user that does not exist costs as much
//! as a wrong password.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use std::{io, thread};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use self::failures::Failures;
use self::queue::Queue;

mod failures;
mod hashing;
mod queue;

/// The threads, and what waits for them. Dropping it ends them.
pub(crate) struct Passwords {
    pool: Arc<Pool>,
    cost: u32,
}

/// Why a password was not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// Too much waits, altogether or from this address.
    #[error("too many passwords wait to be checked")]
    Busy,
    /// This address has failed too often.
    #[error("too many failed logins")]
    TooManyFailures,
    /// A password that would be cut when it is hashed; the words are those of Go's library.
    #[error("bcrypt: password length exceeds 72 bytes")]
    TooLong,
    /// The process ends, or there are no random numbers.
    #[error("the password could not be hashed")]
    Failed,
}

/// What has been done with passwords since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PasswordNumbers {
    pub(crate) hashed: u64,
    pub(crate) matched: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    /// Waiting now.
    pub(crate) waiting: usize,
    /// Microseconds of work.
    pub(crate) work_us: u64,
}

struct Pool {
    queue: Mutex<Queue<Job>>,
    /// There is work, or there will be none any more.
    more: Condvar,
    failures: Mutex<Failures>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    hashed: AtomicU64,
    matched: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    work_us: AtomicU64,
}

/// A password is gone from memory as soon as the job is, as far as this process can see to it.
struct Job {
    password: String,
    task: Task,
}

enum Task {
    Hash {
        cost: u32,
        answer: oneshot::Sender<Option<String>>,
    },
    Check {
        /// None is a user that there is not.
        hash: Option<Vec<u8>>,
        cost: u32,
        answer: oneshot::Sender<bool>,
    },
    /// Anything else that takes long.
    Run(Box<dyn FnOnce() + Send>),
}

impl Passwords {
    /// Starts the threads. New hashes will have this cost.
    pub(crate) fn start(cost: u32) -> io::Result<Passwords> {
        let pool = Arc::new(Pool {
            queue: Mutex::new(Queue::new(WAITING_MAX, WAITING_PER_ADDRESS_MAX)),
            more: Condvar::new(),
            failures: Mutex::default(),
            counts: Counts::default(),
        });
        let count = thread::available_parallelism().map_or(1, usize::from);
        for number in 0..count.min(THREADS_MAX) {
            let pool = pool.clone();
            thread::Builder::new()
                .name(format!("password-{number}"))
                .spawn(move || pool.work())?;
        }
        Ok(Passwords { pool, cost })
    }

    /// The hash of a new password, for a request that came from `address`.
    pub(crate) async fn hash(
        &self,
        address: Option<IpAddr>,
        password: String,
    ) -> Result<String, PasswordError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        let (answer, answered) = oneshot::channel();
        let cost = self.cost;
        let task = Task::Hash { cost, answer };
        self.pool.enqueue(address, Job { password, task })?;
        match answered.await {
            Ok(Some(hash)) => Ok(hash),
            Ok(None) | Err(_) => Err(PasswordError::Failed),
        }
    }

    /// Whether `password` is the one with this hash; never where there is none, after as long a time.
    pub(crate) async fn matches(
        &self,
        address: Option<IpAddr>,
        password: String,
        hash: Option<Vec<u8>>,
    ) -> Result<bool, PasswordError> {
        if !self.pool.failures.lock().allows(address, Instant::now()) {
            self.pool.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Err(PasswordError::TooManyFailures);
        }
        let (answer, answered) = oneshot::channel();
        let cost = self.cost;
        let task = Task::Check { hash, cost, answer };
        self.pool.enqueue(address, Job { password, task })?;
        let matches = answered.await.map_err(|_| PasswordError::Failed)?;
        if !matches {
            self.pool.failures.lock().note(address, Instant::now());
        }
        Ok(matches)
    }

    /// Does other work that is too long for where requests are served.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let (answer, answered) = oneshot::channel();
        let task = Task::Run(Box::new(move || {
            // Whoever asked may have gone.
            let _ = answer.send(work());
        }));
        let password = String::new();
        self.pool.enqueue(None, Job { password, task })?;
        answered.await.map_err(|_| PasswordError::Failed)
    }

    pub(crate) fn numbers(&self) -> PasswordNumbers {
        let counts = &self.pool.counts;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PasswordNumbers {
            hashed: load(&counts.hashed),
            matched: load(&counts.matched),
            failed: load(&counts.failed),
            refused: load(&counts.refused),
            waiting: self.pool.queue.lock().len(),
            work_us: load(&counts.work_us),
        }
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.pool.queue.lock().close();
        self.pool.more.notify_all();
    }
}

impl Pool {
    fn enqueue(&self, address: Option<IpAddr>, job: Job) -> Result<(), PasswordError> {
        if self.queue.lock().push(address, job) {
            self.more.notify_one();
            Ok(())
        } else {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            Err(PasswordError::Busy)
        }
    }

    /// What one thread does.
    fn work(&self) {
        // Without the right to do so it works all the same.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        loop {
            let mut queue = self.queue.lock();
            let job = loop {
                if let Some(job) = queue.pop() {
                    break job;
                }
                if queue.is_closed() {
                    return;
                }
                self.more.wait(&mut queue);
            };
            drop(queue);
            let began = Instant::now();
            self.carry_out(job);
            let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.counts.work_us.fetch_add(took_us, Ordering::Relaxed);
        }
    }

    /// Whoever asked may have gone, and then there is nothing to do.
    fn carry_out(&self, job: Job) {
        let Job { password, task } = job;
        match task {
            Task::Hash { cost, answer } => {
                if answer.is_closed() {
                    return;
                }
                let hash = hashing::hash(&password, cost);
                self.counts.hashed.fetch_add(1, Ordering::Relaxed);
                let _ = answer.send(hash);
            }
            Task::Check { hash, cost, answer } => {
                if answer.is_closed() {
                    return;
                }
                let matches = hashing::matches(&password, hash.as_deref(), cost);
                let counter = if matches {
                    &self.counts.matched
                } else {
                    &self.counts.failed
                };
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = answer.send(matches);
            }
            Task::Run(work) => work(),
        }
    }
}

/// A tenth of the time where everything else wants all of it. With 19, the lowest, logins starve on a machine that others
/// keep busy.
const PRIORITY: i32 = 10;
/// Threads, where there are as many processors.
const THREADS_MAX: usize = 4;
/// Go's library refuses longer ones when it hashes them; when it checks them it cuts them.
const PASSWORD_BYTES_MAX: usize = 72;
/// Passwords that wait: at cost 10 some half a minute of work for two threads.
const WAITING_MAX: usize = 1024;
/// As many may wait of one address, behind which there may be many clients.
const WAITING_PER_ADDRESS_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn own_hashes_match_their_password_only() {
        let passwords = Passwords::start(4).unwrap();
        runtime().block_on(async {
            for password in ["", "p", "Käthe", &"x".repeat(72)] {
                let hash = passwords.hash(None, password.to_owned()).await.unwrap();
                assert!(hash.starts_with("$2a$04$") && hash.len() == 60, "{hash}");
                let check = |password: &str| {
                    passwords.matches(None, password.to_owned(), Some(hash.clone().into_bytes()))
                };
                assert_eq!(check(password).await, Ok(true));
                assert_eq!(check("other").await, Ok(false));
            }
            let long = passwords.hash(None, "x".repeat(73)).await;
            assert_eq!(long, Err(PasswordError::TooLong));
        });
        let numbers = passwords.numbers();
        assert_eq!(
            (numbers.hashed, numbers.matched, numbers.failed, numbers.waiting),
            (4, 4, 4, 0)
        );
    }

    #[test]
    fn an_address_that_fails_often_is_refused() {
        let passwords = Passwords::start(4).unwrap();
        let address = Some(IpAddr::from([10, 0, 0, 1]));
        let refused = runtime().block_on(async {
            for _ in 0..10_000 {
                match passwords.matches(address, "p".to_owned(), None).await {
                    Ok(matches) => assert!(!matches),
                    Err(error) => return Some(error),
                }
            }
            None
        });
        assert_eq!(refused, Some(PasswordError::TooManyFailures));
        let other = passwords.matches(None, "p".to_owned(), None);
        assert_eq!(runtime().block_on(other), Ok(false));
        assert_eq!(passwords.numbers().refused, 1);
    }
}
