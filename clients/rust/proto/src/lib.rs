//! Messages and client stubs of ThreadBus. `src/gen` is generated from the `.proto` files and
//! checked in, so that builds need neither protoc nor a build script.
#![allow(clippy::all, rustdoc::all)] // generated

/// The package `threadbus.v1`.
pub mod v1 {
    include!("gen/threadbus.v1.rs");
}

/// A request of a unary method.
pub trait Unary {
    /// Whether the method has an idempotency level in the contract.
    const IDEMPOTENT: bool;

    /// The request's id, by which the server recognizes it when repeated. Empty if it has none.
    fn request_id(&self) -> &str {
        ""
    }

    /// Whether the call may be repeated when its outcome is unknown.
    fn is_repeatable(&self) -> bool {
        Self::IDEMPOTENT || !self.request_id().is_empty()
    }
}

include!("gen/unary.rs");

/// The descriptors of `threadbus.v1`, `google.rpc` and their imports, for reflection and JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor_set.binpb");
