//! Compiles `proto/*.proto` in pure Rust (no `protoc`): messages always, stubs as the features say.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

/// Files to compile; what they import is found beside them.
const FILES: [&str; 8] = [
    "kv.proto",
    "auth.proto",
    "rpc.proto",
    "raft_internal.proto",
    "raft.proto",
    "v3lock.proto",
    "v3election.proto",
    "health.proto",
];

/// Names that the snake-case conversion would cut in the middle of `URLs`.
const RUST_NAMES: [(&str, &str); 2] = [("peerURLs", "peer_urls"), ("clientURLs", "client_urls")];

/// Seldom used requests, boxed so that the replicated request stays small to move.
const BOXED: [&str; 3] = ["auth", "cluster", "downgrade"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut files = protox::compile(FILES, ["proto"])?;

    // Kept as written, before the renaming below: its field names are those of the JSON mapping.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;

    let fields = files
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .flat_map(|message| &mut message.field);
    for field in fields {
        if let Some((_, name)) = RUST_NAMES.iter().find(|(wire, _)| *wire == field.name()) {
            field.name = Some((*name).to_owned());
        }
    }

    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    let request = files
        .file
        .iter()
        .flat_map(|file| &file.message_type)
        .find(|message| message.name() == "InternalRaftRequest")
        .ok_or("raft_internal.proto defines InternalRaftRequest")?;
    for field in &request.field {
        if BOXED.iter().any(|prefix| field.name().starts_with(prefix)) {
            config.boxed(format!(".etcdserverpb.InternalRaftRequest.{}", field.name()));
        }
    }

    // Callers bring their own channel, so no `connect` and with it no transport in the stubs.
    tonic_prost_build::configure()
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(files, config)?;
    Ok(())
}
