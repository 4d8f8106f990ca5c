//! Messages and client stubs of ThreadBus. `src/gen` is generated from the `.proto` files and
//! checked in, so that using it takes neither protoc nor a build script.
#![allow(clippy::all, rustdoc::all)] // not ours to polish

/// The package `threadbus.v1`.
pub mod v1 {
    include!("gen/threadbus.v1.rs");
}

/// The descriptors of `threadbus.v1`, `google.rpc` and what they import, for reflection and JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor_set.binpb");
