//! Selectors: which objects a list, a watch or a deletion is about, by their labels and by some of their fields.
//!
//! Both are conjunctions of requirements and are read once per request, then asked about every object; neither ever
//! changes an object. Which fields can be asked for differs from resource to resource and is data (`known.rs`).

mod fields;
mod known;
mod labels;

pub use self::fields::{Fields, escape};
pub use self::labels::{Labels, Operator, Requirement};
