//! What the commands do: `call` and `wait` with the generated stubs, the rest with the client.
use std::time::Duration;

use serde_json::{Value, json};
use threadbus_client::{Error, FollowOptions, JoinStart, OnResync, StreamExt, ThreadBus};
use threadbus_proto::v1::WaitMessagesRequest;
use tokio::time::sleep;
use tonic::Status;

use crate::{
    json::{parse, print},
    methods::call,
};

/// Runs one command to its end. Its lines in between are printed as they come.
pub async fn run(id: u64, command: Value, bus: Option<ThreadBus>) -> Result<Value, Error> {
    let bus = bus.ok_or_else(|| Status::failed_precondition("open comes first"))?;
    let text = |name: &str| command[name].as_str().unwrap_or_default();
    let timeout = seconds(&command["timeout"])?;
    let nothing = json!({});
    match text("do") {
        "call" => {
            let (stubs, request) = (bus.stubs(timeout), &command["request"]);
            let request = if request.is_null() { &nothing } else { request };
            return Ok(within(timeout, call(stubs, text("method"), request)).await?);
        }
        "wait" => within(timeout, wait(id, &command["request"], bus, timeout)).await?,
        "register" => bus.register(text("agent"), command["token"].as_str()).await?,
        "join" => {
            let start = match text("start") {
                "" => JoinStart::default(),
                start => JoinStart::from_str_name(start)
                    .ok_or_else(|| Status::invalid_argument(format!("no start {start}")))?,
            };
            let joined = bus.join(text("thread"), start).await?;
            return Ok(print(&joined)?);
        }
        "post" => {
            let post = parse(&command["request"])?;
            let bus = timeout.map_or(bus.clone(), |timeout| bus.with_timeout(timeout));
            let posted = bus.post(post).await?;
            return Ok(print(&posted)?);
        }
        "follow" => follow(id, &command, bus).await?,
        "read" => {
            let cursor = parse(&command["cursor"])?;
            bus.mark_read(cursor).await?;
        }
        "goodbye" => bus.goodbye().await?,
        unknown => return Err(Status::unimplemented(format!("no command {unknown}")).into()),
    }
    Ok(nothing)
}

async fn wait(
    id: u64,
    request: &Value,
    bus: ThreadBus,
    timeout: Option<Duration>,
) -> Result<(), Status> {
    let request = parse::<WaitMessagesRequest>(request)?;
    let mut frames = bus.stubs(timeout).bus.wait_messages(request).await?.into_inner();
    while let Some(frame) = frames.message().await? {
        let frame = print(&frame)?;
        println!("{}", json!({"id": id, "frame": frame}));
    }
    Ok(())
}

async fn follow(id: u64, command: &Value, bus: ThreadBus) -> Result<(), Error> {
    let cursor = parse(&command["cursor"])?;
    let mut options = FollowOptions::default();
    options.filter.exclude_own = command["own"] != true;
    options.keepalive = seconds(&command["keepalive"])?;
    if command["on_resync"] == "continue" {
        options.on_resync = OnResync::Continue;
    }
    let mut messages = bus.follow(cursor, options);
    while let Some(message) = messages.next().await {
        let message = print(&message?.message)?;
        println!("{}", json!({"id": id, "message": message}));
    }
    Ok(())
}

/// tonic's own timer ends with CANCELLED and does not see the rest of a stream: be there first.
async fn within<A>(
    timeout: Option<Duration>,
    call: impl Future<Output = Result<A, Status>>,
) -> Result<A, Status> {
    let Some(timeout) = timeout else { return call.await };
    tokio::select! {
        biased;
        () = sleep(timeout) => Err(Status::deadline_exceeded("no answer in time")),
        result = call => result,
    }
}

fn seconds(value: &Value) -> Result<Option<Duration>, Status> {
    let seconds = value.as_f64().map(Duration::try_from_secs_f64).transpose();
    seconds.map_err(|error| Status::invalid_argument(error.to_string()))
}
