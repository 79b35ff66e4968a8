//! What the tests of the simulator and of the checkers share.

pub(crate) mod reference;
