//! What authentication shows in the metrics.

use super::Auth;
use super::passwords::PasswordNumbers;

/// A reading.
#[derive(Clone, Copy)]
pub(crate) struct AuthNumbers {
    /// Simple tokens that this member knows.
    pub(crate) tokens: usize,
    pub(crate) passwords: PasswordNumbers,
}

impl Auth {
    pub(crate) fn numbers(&self) -> AuthNumbers {
        AuthNumbers {
            tokens: self.simple.count(),
            passwords: self.passwords.numbers(),
        }
    }
}
