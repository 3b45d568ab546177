//! The simulated disk is a file system like any other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use strandline_sim::disk::{Profile, SimDisk};
use strandline_vfs::{Vfs, conformance};

#[test]
fn every_preset_passes_the_suite() {
    // Where an open file can be neither removed nor replaced, the suite does not hold.
    for profile in Profile::presets().into_iter().filter(|p| p.shares_open) {
        conformance::run_all(|| {
            let disk = SimDisk::new(profile.clone());
            disk.create_dir(Path::new("/here")).expect("an empty disk");
            (Arc::new(disk), PathBuf::from("/here"))
        });
    }
}
