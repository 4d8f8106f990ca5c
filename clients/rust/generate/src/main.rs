//! Writes the stubs: `threadbus-generate DESCRIPTOR_SET DIR`. `scripts/languages/rust stubs` runs
//! it, and protoc before it.
use std::{env, error::Error, fs, path::Path};

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic_prost_build::Config;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [descriptors, dir] = arguments.as_slice() else {
        return Err("usage: threadbus-generate DESCRIPTOR_SET DIR".into());
    };
    let mut descriptors = FileDescriptorSet::decode(fs::read(descriptors)?.as_slice())?;

    let mut config = Config::new();
    config.enable_type_names(); // for reflection and google.protobuf.Any
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".google.rpc", "::tonic_types::pb") // published: not generated once more
        .out_dir(dir)
        .compile_fds_with_config(descriptors.clone(), config)?;

    // Without comments and positions: nothing reads them at run time.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(Path::new(dir).join("descriptor_set.binpb"), descriptors.encode_to_vec())?;
    Ok(())
}
