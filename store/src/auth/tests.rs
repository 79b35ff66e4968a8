//! Tests of the changes.
