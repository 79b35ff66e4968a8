//! Whether the cluster could go back to an older version. It is judged as etcd does; doing it is not supported.

use super::handle::Store;
use crate::apply::Request;
use crate::error::{Error, RequestError};

impl Store {
    /// Whether the cluster may be downgraded to `target`: one minor version below the cluster's. Returns the cluster's
    /// version as major.minor.
    ///
    /// # Errors
    /// `DowngradeFormat`, `ClusterVersionUnknown`, `DowngradeTarget`; those of a linearizable read.
    pub async fn validate_downgrade(&self, target: &str) -> Result<String, Error> {
        self.permit(Request::Maintenance)?;
        let target = requested_version(target).ok_or(RequestError::DowngradeFormat)?;
        let (major, minor) = self.decided_version()?;
        // Another member may know of a newer decision.
        self.read_index().await?;
        if target != (major, minor - 1) {
            return Err(RequestError::DowngradeTarget.into());
        }
        Ok(format!("{major}.{minor}"))
    }

    /// Begins a downgrade, which is refused: members of older versions cannot read what this one writes.
    ///
    /// # Errors
    /// Those of [`Store::validate_downgrade`], else `DowngradeUnsupported`.
    pub async fn enable_downgrade(&self, target: &str) -> Result<String, Error> {
        self.validate_downgrade(target).await?;
        Err(RequestError::DowngradeUnsupported.into())
    }

    /// Ends a downgrade. There is never one under way, which etcd's callers are not told either.
    ///
    /// # Errors
    /// `ClusterVersionUnknown`.
    pub fn cancel_downgrade(&self) -> Result<String, Error> {
        self.permit(Request::Maintenance)?;
        let (major, minor) = self.decided_version()?;
        Ok(format!("{major}.{minor}"))
    }

    fn decided_version(&self) -> Result<(i64, i64), RequestError> {
        let state = self.shared.state.read();
        let version = state.membership.cluster_version().and_then(semantic_version);
        version.ok_or(RequestError::ClusterVersionUnknown)
    }
}

/// A version as an operator writes it, with or without the patch level.
fn requested_version(text: &str) -> Option<(i64, i64)> {
    semantic_version(text).or_else(|| semantic_version(&format!("{text}.0")))
}

/// Major and minor of a semantic version, by the rules of the library that etcd uses: build metadata behind `+`, a
/// pre-release behind `-`, three decimal numbers, in which leading zeros are allowed.
fn semantic_version(text: &str) -> Option<(i64, i64)> {
    let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
    let (numbers, pre_release) = text.split_once('-').unwrap_or((text, ""));
    let is_identifier = |id: &str| {
        let word = |word: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
            !word.is_empty() && word.chars().all(allowed)
        };
        id.is_empty() || id.split('.').all(word)
    };
    let mut parts = numbers.splitn(3, '.').map(|part| part.parse::<i64>().ok());
    let (major, minor, _patch) = (parts.next()??, parts.next()??, parts.next()??);
    (is_identifier(pre_release) && is_identifier(metadata)).then_some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_does() {
        for good in [
            "3.6.0",
            "3.6",
            "03.6.9",
            "3.6.0-rc.1",
            "3.6.0+build.5",
            "3.6.1-a-b+c",
        ] {
            assert_eq!(requested_version(good), Some((3, 6)), "{good}");
        }
        for bad in [
            "",
            "3",
            "v3.6",
            "3.6.0.0",
            "3.6.x",
            "3.6.0-é",
            "3.-6.0",
            "3.6-rc",
            "3.6.0-a..b",
            " 3.6.0",
        ] {
            assert_eq!(requested_version(bad), None, "{bad}");
        }
    }
}
