//! Loopback ports that no other test holds.
//!
//! A port is reserved by a locked file, because a server that is killed and started again on the same ports must find
//! them free: between two runs nothing is bound to them. They lie below the range that the kernel draws the ports of
//! outgoing connections from.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::TcpListener;

/// The client and the peer port of one server, reserved until dropped.
pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) peer: u16,
    _locks: [File; 2],
}

impl Ports {
    pub(crate) fn reserve() -> Ports {
        let (client, client_lock) = reserve_one();
        let (peer, peer_lock) = reserve_one();
        Ports {
            client,
            peer,
            _locks: [client_lock, peer_lock],
        }
    }
}

fn reserve_one() -> (u16, File) {
    let dir = std::env::temp_dir().join("taffrail-test-ports");
    fs::create_dir_all(&dir).expect("the temporary directory is writable");
    let start = RandomState::new().build_hasher().finish() % u64::from(LAST - FIRST);
    for step in 0..u64::from(LAST - FIRST) {
        let offset = (start + step) % u64::from(LAST - FIRST);
        let port = FIRST + u16::try_from(offset).expect("smaller than the range of ports");
        let file = File::create(dir.join(port.to_string())).expect("a lock file can be created");
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return (port, file);
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
