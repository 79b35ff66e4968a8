//! The Kubernetes adapter under load: what its calls cost, and whether a crowd of watchers sees everything.
//!
//! Here the generator knows whom it talks to: it starts Taffrail with the adapter, in one process or in two. What the
//! adapter did is judged by the store's own API, never by the adapter's word.
//!
//! - [`costs`]: calls of the adapter beside the store's own calls that they come to.
//! - [`watchers`]: many watch clients under a steady rate of writes: every event once and in order.
//! - `site`: the processes; `http`: the way to the adapter; `pod`: the objects.

use clap::Subcommand;

pub mod costs;
mod http;
mod pod;
mod site;
pub mod watchers;

pub use self::http::{CallError, Wire};
pub use self::site::{Seating, SiteArgs};

/// What is measured of the adapter.
#[derive(Debug, Subcommand)]
pub enum Measurement {
    /// Call the adapter, and make the store's own calls that this comes to, in turns on one server.
    Costs(costs::CostsArgs),
    /// Watch with many clients while others write: each must see every event of its namespace once and in order.
    Watchers(watchers::WatchersArgs),
}
