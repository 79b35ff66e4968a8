//! The etcd v3 wire format: messages and, behind features, gRPC stubs.
//!
//! Owns the `.proto` files in `proto/proto/`, written for this project and identical on the wire to etcd's: the same
//! packages, names and numbers. It must never hold behaviour: no validation, no errors, no conversions.
//!
//! - Without features: messages only, on `prost` and `bytes`. `bytes` fields are [`bytes::Bytes`], so a decoded message
//!   shares the buffer it was decoded from; whoever keeps such a field keeps the whole buffer alive.
//! - `client`, `server`: the stubs of that side in the modules `*_client` and `*_server`. They bring no transport: a
//!   client stub is made with `new(channel)`.
//!
//! [`etcdserverpb::InternalRaftRequest`] is what the log replicates. Fields that are seldom set are boxed in it.

/// Keys, values and events.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Users, roles and permissions.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// The services KV, Watch, Lease, Cluster, Maintenance and Auth, and the replicated request.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// Entries of the log, hard states and changes of the membership, as etcd's tools know them.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod raftpb {
    include!(concat!(env!("OUT_DIR"), "/raftpb.rs"));
}

/// The lock service.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// The election service.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// The gRPC health check, package `grpc.health.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// All files of this crate as an encoded `google.protobuf.FileDescriptorSet`, with the field names as on the wire
/// (`peerURLs`, where the Rust field is `peer_urls`), for whoever maps messages to JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests;
