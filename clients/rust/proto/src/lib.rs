//! Messages and client stubs of ThreadBus. `src/gen` is generated from the `.proto` files and
//! checked in, so that using it takes neither protoc nor a build script.
#![allow(clippy::all, rustdoc::all)] // not ours to polish

/// The package `threadbus.v1`.
pub mod v1 {
    include!("gen/threadbus.v1.rs");
}

/// A request of a unary method.
pub trait Unary {
    /// Whether the contract gives the method an idempotency level.
    const IDEMPOTENT: bool;

    /// The id by which the server knows the request again; empty if it has none.
    fn request_id(&self) -> &str {
        ""
    }

    /// Whether the call may be sent again when its outcome is unknown.
    fn is_repeatable(&self) -> bool {
        Self::IDEMPOTENT || !self.request_id().is_empty()
    }
}

include!("gen/unary.rs");

/// The descriptors of `threadbus.v1`, `google.rpc` and what they import, for reflection and JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor_set.binpb");
