//! A key that waits to be the oldest of its name.

use bytes::Bytes;
use proto::etcdserverpb::TxnResponse;
use store::Store;
use store::error::Error;

use super::{delete, txn_if_created};

/// Deletes the key if the call that waits with it is given up by its client: nobody else would before the lease ends,
/// and the name would have an owner who knows nothing of it.
pub(super) struct Candidate<'a> {
    store: &'a Store,
    key: Bytes,
    create_revision: i64,
    waiting: bool,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(store: &'a Store, key: Bytes, create_revision: i64) -> Candidate<'a> {
        Candidate {
            store,
            key,
            create_revision,
            waiting: true,
        }
    }

    pub(super) fn key(&self) -> Bytes {
        self.key.clone()
    }

    /// The wait is over, and the key stays.
    pub(super) fn keep(mut self) -> Bytes {
        self.waiting = false;
        std::mem::take(&mut self.key)
    }

    /// The wait has failed, and the key goes.
    pub(super) async fn give_up(mut self) -> Result<(), Error> {
        resign(self.store, self.key.clone(), self.create_revision).await?;
        self.waiting = false;
        Ok(())
    }
}

impl Drop for Candidate<'_> {
    fn drop(&mut self) {
        if !self.waiting {
            return;
        }
        // Without a runtime the process is ending; the lease ends the key then.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (store, key, create_revision) = (self.store.clone(), self.key.clone(), self.create_revision);
        runtime.spawn(async move {
            if let Err(error) = resign(&store, key, create_revision).await {
                tracing::debug!(%error, "the key of a waiter that left stays until its lease ends");
            }
        });
    }
}

/// Deletes a key unless it is gone or another one by now. (etcd's lock deletes whatever has the key; the same lease
/// could have come back for it meanwhile.)
pub(super) async fn resign(store: &Store, key: Bytes, create_revision: i64) -> Result<TxnResponse, Error> {
    let deletion = vec![delete(key.clone())];
    store
        .txn(txn_if_created(key, create_revision, deletion, Vec::new()))
        .await
}
