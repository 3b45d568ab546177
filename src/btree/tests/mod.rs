//! The tree against a naive model.

mod histories;
mod world;
