//! Comparing members: whether the histories of all are the same, by the hashes of HashKV (reference 8).
//!
//! Three checks, as etcd's: the *initial* one of a member that has data, before it serves clients; the *periodic* one of
//! the leader, at the current revision; and the one of *compactions*, also of the leader, which compares hashes that
//! all members make at the same revision anyway. What differs raises the CORRUPT alarm for the member that is in the
//! minority, or for nobody in particular where there is no majority.
//!
//! | module | what |
//! | --- | --- |
//! | [`answers`] | asking the other members, at their peer URLs |
//! | [`judge`] | what their answers mean; knows neither clock nor network |
//!
//! The rules, the lines in the log and the page `/members/hashkv` are etcd's, so that its users find what they know.

use std::time::Duration;

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmType};
use store::Store;
use store::error::Error;
use store::types::MemberId;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::answers::ask_all;
use self::judge::{Compared, Hash};
use crate::config::CorruptionSettings;
use crate::config::duration;
use crate::core::raised;
use crate::tls::Connector;

pub(crate) mod answers;
pub(crate) mod judge;

/// Why a member may not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitialError {
    #[error("{0} failed to fetch hash")]
    Hash(MemberId, #[source] Error),
    #[error("{0} found data inconsistency with peers")]
    Inconsistent(MemberId),
}

/// What the checks need.
#[derive(Clone)]
pub(crate) struct Checker {
    pub(crate) store: Store,
    pub(crate) tls: Option<Connector>,
    /// How long a member has to answer.
    pub(crate) patience: Duration,
}

impl Checker {
    /// Compares this member's data with the others', before it serves clients.
    pub(crate) async fn initial(&self) -> Result<(), InitialError> {
        let own = self.store.member_id();
        tracing::info!(
            "local-member-id" = %own,
            timeout = text(self.patience),
            "starting initial corruption check"
        );
        let hash = self
            .hash(0)
            .await
            .map_err(|error| InitialError::Hash(own, error))?;
        let answers = self.ask(hash.revision).await;
        if judge::initial(own, &hash, &answers) > 0 {
            return Err(InitialError::Inconsistent(own));
        }
        tracing::info!(
            "local-member-id" = %own,
            "initial corruption checking passed; no corruption"
        );
        Ok(())
    }

    /// Runs the periodic check and that of compactions, as far as they are switched on, until the process stops.
    pub(crate) async fn run(self, settings: CorruptionSettings, mut stopping: watch::Receiver<bool>) {
        let periodic = async {
            if !settings.period.is_zero() {
                self.check_periodically(settings.period).await;
            }
            std::future::pending::<()>().await;
        };
        let compactions = async {
            if let Some(period) = settings.compactions {
                self.check_compactions(period).await;
            }
        };
        tokio::select! {
            () = raised(&mut stopping) => {}
            _ = async { tokio::join!(periodic, compactions) } => {}
        }
    }

    async fn check_periodically(&self, period: Duration) {
        tracing::info!(
            "local-member-id" = %self.store.member_id(),
            interval = text(period),
            "enabled corruption checking"
        );
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // The first one comes at once.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if !self.leads() {
                continue;
            }
            if let Err(error) = self.periodic().await {
                tracing::warn!(%error, "failed to check hash KV");
            }
        }
    }

    async fn periodic(&self) -> Result<(), Error> {
        let first = self.hash(0).await?;
        let answers = self.ask(first.revision).await;
        // What the others answered is not newer than what is read from here on.
        self.store.member_list(true).await?;
        let second = self.hash(0).await?;
        let own = self.store.member_id();
        if let Some(member) = judge::periodic(own, &first, &second, &answers) {
            self.raise(member).await;
        }
        let checked = answers.iter().filter(|answer| answer.hash.is_ok()).count();
        tracing::info!(
            "number-of-peers-checked" = checked,
            "finished peer corruption check"
        );
        Ok(())
    }

    async fn check_compactions(&self, period: Duration) {
        let mut checked_to = 0;
        loop {
            tokio::time::sleep(period).await;
            if self.leads() {
                self.compactions(&mut checked_to).await;
            }
        }
    }

    /// Compares the newest compaction that all members have a hash of, unless that is done already.
    async fn compactions(&self, checked_to: &mut i64) {
        let own = self.store.member_id();
        tracing::info!(
            "local-member-id" = %own,
            timeout = text(self.patience),
            "starting compact hash check"
        );
        let mut hashes = self.store.compaction_hashes();
        hashes.retain(|hash| hash.hash_revision > *checked_to);
        hashes.sort_unstable_by_key(|hash| std::cmp::Reverse(hash.hash_revision));
        let mut count = 0;
        for hash in hashes {
            count += 1;
            let answers = self.ask(hash.hash_revision).await;
            if answers.is_empty() {
                continue;
            }
            match judge::compaction(own, &hash, &answers) {
                Compared::Alike => *checked_to = hash.hash_revision,
                Compared::Different(members) => {
                    for member in members {
                        self.raise(member).await;
                    }
                }
                Compared::Incomplete => continue,
            }
            break;
        }
        tracing::info!(
            "number-of-hashes-checked" = count,
            "finished compaction hash check"
        );
    }

    fn leads(&self) -> bool {
        self.store.status().leader == self.store.member_id()
    }

    async fn hash(&self, revision: i64) -> Result<Hash, Error> {
        self.store.hash_kv(revision).await.map(|answer| Hash::of(&answer))
    }

    async fn ask(&self, revision: i64) -> Vec<judge::Answer> {
        ask_all(&self.store, self.tls.as_ref(), revision, self.patience).await
    }

    /// Raises the alarm for a member; 0 is the whole cluster.
    async fn raise(&self, member: MemberId) {
        let alarm = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: member.0,
            alarm: AlarmType::Corrupt.into(),
        };
        if let Err(error) = self.store.alarm(alarm).await {
            tracing::error!(%member, %error, "the CORRUPT alarm cannot be raised; the next check tries again");
        }
    }
}

fn text(duration: Duration) -> String {
    duration::format_nanos(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}
