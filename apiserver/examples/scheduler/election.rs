//! Who of several leads: who holds a Lease. The rules are those of client-go, so that a program in Go may be among them.
//!
//! A holder counts as gone when the Lease did not change for the time that it names, on the clock of who waits: clocks of
//! two machines are never compared. All changes are conditional on the version that was read, so of two only one succeeds.

use std::pin::pin;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Error};
use tokio::time::sleep;

/// A candidate for the Lease of one name.
pub(crate) struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    /// The version of the Lease that was seen last, and since when it is this one.
    seen: Option<(String, Instant)>,
    holds_for: Duration,
}

impl Election {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Election {
        Election {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
            holds_for: HOLDS_FOR,
        }
    }

    /// For how long others leave the office to one that is silent, in whole seconds.
    #[allow(dead_code, reason = "one who cannot wait says so")]
    pub(crate) fn holding_for(mut self, holds_for: Duration) -> Election {
        self.holds_for = holds_for;
        self
    }

    /// Waits until it leads, then works, and renews the Lease meanwhile. Nothing is returned when the Lease was lost: the
    /// work is broken off.
    pub(crate) async fn lead<T>(&mut self, work: impl Future<Output = T>) -> Result<Option<T>, Error> {
        while !self.try_hold().await? {
            sleep(self.pause()).await;
        }
        println!("{} leads", self.identity);
        let mut work = pin!(work);
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                done = &mut work => {
                    self.release().await?;
                    return Ok(Some(done));
                }
                () = sleep(self.pause()) => {}
            }
            match self.try_hold().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return Ok(None),
                // It must have stopped before another one starts.
                Err(_) if renewed.elapsed() < self.holds_for * 2 / 3 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the Lease if it is free, renews it if it is held already; tells whether it is held now.
    pub(crate) async fn try_hold(&mut self) -> Result<bool, Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let spec = self.spec(&LeaseSpec::default());
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(spec),
            };
            let created = self.leases.create(&PostParams::default(), &lease).await;
            return unless_another_was_first(created);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.has_expired(&lease, &spec) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(&spec));
        let replaced = self
            .leases
            .replace(&self.name, &PostParams::default(), &lease)
            .await;
        unless_another_was_first(replaced)
    }

    /// Leaves the office to the next one, if it is held.
    pub(crate) async fn release(&self) -> Result<(), Error> {
        let mut lease = self.leases.get(&self.name).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = Some(String::new());
            let replaced = self
                .leases
                .replace(&self.name, &PostParams::default(), &lease)
                .await;
            unless_another_was_first(replaced)?;
        }
        Ok(())
    }

    fn has_expired(&mut self, lease: &Lease, spec: &LeaseSpec) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => {
                let seconds = spec.lease_duration_seconds.unwrap_or_default();
                since.elapsed() > Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
            }
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn spec(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let holds = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.holds_for.as_secs()).ok(),
            acquire_time: before
                .acquire_time
                .clone()
                .filter(|_| holds)
                .or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if holds {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..before.clone()
        }
    }

    fn pause(&self) -> Duration {
        self.holds_for / 8
    }
}

fn unless_another_was_first(written: Result<Lease, Error>) -> Result<bool, Error> {
    match written {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// As client-go's programs have it.
const HOLDS_FOR: Duration = Duration::from_secs(15);
