//! One server as it is seen from its flags, its ports and its files.

#[path = "../harness/mod.rs"]
mod harness;

mod attacks;
mod audit;
mod compactor;
mod debug_log;
mod flags;
mod follow;
mod garbage;
mod gateway;
mod health;
mod http;
mod listen;
mod metrics;
mod private_files;
mod process;
mod tcp_proxy;
mod tls;
