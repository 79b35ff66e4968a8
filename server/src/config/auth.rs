//! How users log in: the kind of tokens, how long simple ones live, what a password costs.

use std::time::Duration;

use serde_json::json;

use super::notice::Notice;
use super::raw::Raw;
use super::{Refusal, start};
use crate::auth::{TokenError, TokenKind};

/// Settings of authentication. They matter only while it is on, which is no setting.
#[derive(Clone, Debug)]
pub(crate) struct AuthSettings {
    pub(crate) tokens: TokenKind,
    /// How long an unused simple token lives; zero is etcd's default.
    pub(crate) token_ttl: Duration,
    /// Of new hashes: the work doubles with each.
    pub(crate) bcrypt_cost: u32,
}

impl AuthSettings {
    /// Reads the settings, and the keys that they name.
    pub(super) fn read(raw: &mut Raw) -> Result<AuthSettings, Refusal> {
        let tokens = match TokenKind::read(raw.get("auth-token")) {
            Ok(tokens) => tokens,
            Err(error) => {
                if let TokenError::Options(cause) = &error {
                    raw.notices.push(Notice::warning(
                        "problem loading token options",
                        json!({ "error": cause }),
                    ));
                }
                return Err(start(error.to_string()));
            }
        };
        Ok(AuthSettings {
            tokens,
            token_ttl: Duration::from_secs(raw.number("auth-token-ttl")),
            bcrypt_cost: cost(raw),
        })
    }
}

fn cost(raw: &mut Raw) -> u32 {
    let given = raw.number("bcrypt-cost");
    match u32::try_from(given) {
        Ok(cost) if (COST_MIN..=COST_MAX).contains(&cost) => cost,
        _ => {
            raw.notices.push(Notice::warning(
                "use default bcrypt cost instead of the invalid given cost",
                json!({
                    "min-cost": COST_MIN,
                    "max-cost": COST_MAX,
                    "default-cost": COST,
                    "given-cost": given,
                }),
            ));
            COST
        }
    }
}

/// The costs that bcrypt knows, and etcd's choice.
const COST_MIN: u32 = 4;
const COST_MAX: u32 = 31;
const COST: u32 = 10;
