//! The tree against a naive model, one thread and many.

mod changes;
mod edges;
mod histories;
mod threads;
mod world;
