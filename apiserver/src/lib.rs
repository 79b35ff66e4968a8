//! A thin Kubernetes API server over the etcd API. It speaks the client stubs of `proto` and nothing else, so that it
//! runs on Taffrail and on a real etcd alike, beside the store or far from it. It opens no sockets: whoever embeds it
//! hands it a connection to the store and serves its router.
//!
//! Rooms, each of which imports only from those below it:
//!
//! | room | what |
//! | --- | --- |
//! | `http` | paths, media types, answers, discovery, OpenAPI; the gates that every request passes |
//! | `engine` | get, list, watch, create, update, patch and delete of any resource; what is kept of the store's events |
//! | `rules` | what the API demands of objects: defaults, validation, what an update may change, conversions |
//! | `patch`, `managed`, `select`, `table` | functions of objects: patches, field ownership, selectors, printed columns |
//! | `codec` | JSON, YAML and protobuf of objects |
//! | `types` | the shapes of all objects: fields, numbers on the wire, how lists merge |
//! | `etcd` | the calls of the etcd API that are needed, and their errors |
//! | `resources`, `object`, `names`, `status` | the table of resources; an object and its metadata; what names look like; what a request is refused with |
//!
//! What differs from kind to kind is data: rows of the table of resources, of types, columns and defaults. No room but
//! `rules` knows kinds by name.

pub mod codec;
pub mod engine;
pub mod etcd;
pub mod http;
pub mod managed;
pub mod names;
pub mod object;
pub mod patch;
pub mod resources;
pub mod rules;
pub mod select;
pub mod status;
pub mod table;
pub mod types;
