//! Strandline's fuzz crate.
