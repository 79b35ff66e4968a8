//! The Kubernetes API over HTTP.
//!
//! | file | what |
//! | --- | --- |
//! | `discovery`, `openapi` | what there is, in documents |

pub mod discovery;
pub mod openapi;
