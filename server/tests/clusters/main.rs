//! Several members and what is between them.

#[path = "../harness/mod.rs"]
mod harness;

mod members;
mod peer_tls;
