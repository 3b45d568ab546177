//! Strandline's sim crate.
