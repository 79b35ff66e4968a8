//! History that nobody needs any more is compacted, as a real API server does it: every few minutes the revision of the
//! time before. Of several servers on one store one does it, real ones included: whoever writes the shared key first.

use std::time::Duration;

use super::Engine;
use crate::etcd::Failure;

/// What a server knows of the shared key.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// How often it had been written.
    version: i64,
    /// The newest revision at that time.
    revision: i64,
}

impl Engine {
    /// Compacts the history for as long as it is polled. A failure is logged and tried again the next time.
    pub async fn keep_compacted(&self, every: Duration) {
        let mut turn = Turn::default();
        loop {
            tokio::time::sleep(every).await;
            match self.compact_once(turn).await {
                Ok(next) => turn = next,
                Err(failure) => tracing::warn!(%failure, "the history was not compacted"),
            }
        }
    }

    async fn compact_once(&self, turn: Turn) -> Result<Turn, Failure> {
        let value = turn.revision.to_string().into();
        let etcd = self.etcd();
        let (mine, found, revision) = etcd.take_turn(COMPACT_KEY, turn.version, value).await?;
        if !mine {
            let version = found.map_or(0, |kv| kv.version);
            return Ok(Turn { version, revision });
        }
        if turn.revision > 0 {
            etcd.compact(turn.revision).await?;
        }
        Ok(Turn {
            version: turn.version + 1,
            revision,
        })
    }
}

/// The key that real API servers use for it, outside their prefix.
const COMPACT_KEY: &str = "compact_rev_key";
