//! The unary methods by name, over the generated stubs and over the client.
use serde_json::Value;
use threadbus_client::{Error, Stubs, ThreadBus};
use threadbus_proto::v1;
use tonic::{Request, Status};

use crate::json::{parse, print};

/// Adds a traceparent to a request, unless it is empty.
fn traced<M>(message: M, traceparent: &str) -> Result<Request<M>, Status> {
    let mut request = Request::new(message);
    if !traceparent.is_empty() {
        let value = traceparent.parse().map_err(|_| Status::invalid_argument("traceparent"))?;
        request.metadata_mut().insert("traceparent", value);
    }
    Ok(request)
}

/// Defines functions with an arm per method, which parses the request, calls, and prints the
/// response.
macro_rules! unary {
    ($($name:literal => $service:ident.$rpc:ident($request:ident),)*) => {
        /// Calls the stub, without retries. `traceparent`: metadata, unless it is empty.
        pub async fn call(
            mut stubs: Stubs,
            method: &str,
            request: &Value,
            traceparent: &str,
        ) -> Result<Value, Status> {
            match method {
                $($name => {
                    let request = traced(parse::<v1::$request>(request)?, traceparent)?;
                    print(&stubs.$service.$rpc(request).await?.into_inner())
                })*
                _ => Err(unknown(method)),
            }
        }

        /// Calls through the client, which retries repeatable calls.
        pub async fn invoke(
            bus: &ThreadBus,
            method: &str,
            request: &Value,
        ) -> Result<Value, Error> {
            match method {
                $($name => {
                    let request = parse::<v1::$request>(request)?;
                    let method = async |mut stubs: Stubs, it| stubs.$service.$rpc(it).await;
                    Ok(print(&bus.call(request, method).await?)?)
                })*
                _ => Err(unknown(method).into()),
            }
        }
    };
}

unary! {
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
    "ListRequests" => bus.list_requests(ListRequestsRequest),
    "PostMessage" => bus.post_message(PostMessageRequest),
    "WithdrawRequest" => bus.withdraw_request(WithdrawRequestRequest),
    "CreateThread" => threads.create_thread(CreateThreadRequest),
    "DeleteThread" => threads.delete_thread(DeleteThreadRequest),
    "GetThread" => threads.get_thread(GetThreadRequest),
    "JoinThread" => threads.join_thread(JoinThreadRequest),
    "LeaveThread" => threads.leave_thread(LeaveThreadRequest),
    "ListParticipants" => threads.list_participants(ListParticipantsRequest),
    "ListThreads" => threads.list_threads(ListThreadsRequest),
    "SetThreadState" => threads.set_thread_state(SetThreadStateRequest),
    "UpdateThread" => threads.update_thread(UpdateThreadRequest),
}

fn unknown(method: &str) -> Status {
    Status::unimplemented(format!("no unary method {method}"))
}
