//! The unary methods by name, over the generated stubs.
use serde_json::Value;
use threadbus_client::Stubs;
use threadbus_proto::v1;
use tonic::Status;

use crate::json::{parse, print};

/// For each method an arm that parses the request, calls, and prints the response.
macro_rules! unary {
    ($stubs:expr, $method:expr, $json:expr, {
        $($name:literal => $service:ident.$rpc:ident($request:ident),)*
    }) => {
        match $method {
            $($name => {
                let request = parse::<v1::$request>($json)?;
                print(&$stubs.$service.$rpc(request).await?.into_inner())
            })*
            _ => Err(Status::unimplemented(format!("no unary method {}", $method))),
        }
    };
}

/// Calls once.
pub async fn call(mut stubs: Stubs, method: &str, request: &Value) -> Result<Value, Status> {
    unary!(stubs, method, request, {
        "EndSession" => agents.end_session(EndSessionRequest),
        "GetAgent" => agents.get_agent(GetAgentRequest),
        "ListAgents" => agents.list_agents(ListAgentsRequest),
        "RegisterAgent" => agents.register_agent(RegisterAgentRequest),
        "RotateToken" => agents.rotate_token(RotateTokenRequest),
        "UnregisterAgent" => agents.unregister_agent(UnregisterAgentRequest),
        "UpdateAgent" => agents.update_agent(UpdateAgentRequest),
        "GetMessage" => bus.get_message(GetMessageRequest),
        "GetServerInfo" => bus.get_server_info(GetServerInfoRequest),
        "Heartbeat" => bus.heartbeat(HeartbeatRequest),
        "ListMessages" => bus.list_messages(ListMessagesRequest),
        "PostMessage" => bus.post_message(PostMessageRequest),
        "CreateThread" => threads.create_thread(CreateThreadRequest),
        "DeleteThread" => threads.delete_thread(DeleteThreadRequest),
        "GetThread" => threads.get_thread(GetThreadRequest),
        "JoinThread" => threads.join_thread(JoinThreadRequest),
        "LeaveThread" => threads.leave_thread(LeaveThreadRequest),
        "ListParticipants" => threads.list_participants(ListParticipantsRequest),
        "ListThreads" => threads.list_threads(ListThreadsRequest),
        "SetThreadState" => threads.set_thread_state(SetThreadStateRequest),
        "UpdateThread" => threads.update_thread(UpdateThreadRequest),
    })
}
