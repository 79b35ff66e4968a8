//! Sessions of the clients that people have: etcd's Go client, Debian's etcdctl (3.4) and the newest one, against one
//! member and against three.

#[path = "clients/etcdctl.rs"]
mod etcdctl;
#[path = "clients/go_session.rs"]
mod go_session;
mod harness;
#[path = "clients/script.rs"]
mod script;
