//! An empty room. A thin Kubernetes apiserver over the etcd API is to live here: it will speak only the client stubs of
//! `proto`, so that it runs on Taffrail and on a real etcd alike.
