//! Sessions of the clients that people have: etcd's Go client, Debian's etcdctl (3.4) and the newest one, against one
//! member and against three.

#[path = "../harness/mod.rs"]
mod harness;

mod etcdctl;
mod go_session;
mod script;
