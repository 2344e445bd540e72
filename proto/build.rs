//! Turns the protocol's definition into Rust, with a protobuf compiler written in Rust.
// Cargo reads a build script's directives from its standard output.
#![allow(clippy::print_stdout)]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=weft");
    let files = protox::compile(["weft/v1/weft.proto"], ["."])?;
    tonic_prost_build::configure()
        // Payloads are kept as slices of the received message, not copied out of it.
        .bytes(".weft.v1.Section.payload")
        .compile_fds(files)?;
    Ok(())
}
