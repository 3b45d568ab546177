//! Tells the engine's source that its racy atomics belong to the scheduler, too.

fn main() {
    println!("cargo:rustc-cfg=scheduled");
    println!("cargo:rerun-if-changed=build.rs");
}
