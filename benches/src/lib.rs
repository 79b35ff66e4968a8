//! Load generation and micro benchmarks.
