//! Compiles the `.proto` files without a system `protoc` (design decision 11).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["log", "follow", "state", "relay", "control", "host"];
    let files = files.map(|name| format!("tyto/v1/{name}.proto"));
    let descriptors = protox::compile(&files, ["."])?;
    tonic_prost_build::configure().bytes(".tyto.v1.Batch.payload").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=tyto");
    Ok(())
}
