//! Converts the contract's messages to and from proto3 JSON, by reflection: the stubs cannot.
use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
use threadbus_client::Error;
use tonic::Status;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(threadbus_proto::FILE_DESCRIPTOR_SET).expect("a set of descriptors")
});

/// Parses a message. Unknown fields are an error.
pub fn parse<M: Message + Name + Default>(json: &Value) -> Result<M, Status> {
    DynamicMessage::deserialize(type_named(&M::full_name()), json)
        .map_err(|error| error.to_string())
        .and_then(|message| message.transcode_to().map_err(|error| error.to_string()))
        .map_err(Status::invalid_argument)
}

/// Returns the JSON of a message.
pub fn print<M: Message + Name>(message: &M) -> Result<Value, Status> {
    decode(type_named(&M::full_name()), &message.encode_to_vec()).map_err(Status::internal)
}

fn type_named(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).expect("a message of the contract")
}

fn decode(of: MessageDescriptor, bytes: &[u8]) -> Result<Value, String> {
    let message = DynamicMessage::decode(of, bytes).map_err(|error| error.to_string())?;
    serde_json::to_value(message).map_err(|error| error.to_string())
}

/// Returns the JSON with which a driver reports an error.
pub fn of_error(error: &Error) -> Value {
    let status = decode(type_named("google.rpc.Status"), error.status.details());
    let mut json = json!({
        "code": error.code_name(),
        "message": error.message(),
        "reason": error.reason,
        "metadata": error.metadata,
        "details": status.map(|mut status| status["details"].take()).unwrap_or_default(),
        "outcome_unknown": error.outcome_unknown,
    });
    if json["details"].is_null() {
        json["details"] = json!([]);
    }
    if let Some(resync) = &error.resync {
        json["resync"] = print(&**resync).unwrap_or_default();
    }
    if let Some(why) = &error.unanswered {
        json["unanswered"] = json!({"reason": why.reason, "agent": why.agent, "seq": why.seq});
    }
    json
}
