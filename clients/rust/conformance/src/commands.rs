//! The commands: `call`, `wait` and `post_many` use the generated stubs, the others the client.
use std::time::Duration;

use prost::{Message, Name};
use serde_json::{Value, json};
use threadbus_client::{
    Error, FollowOptions, JoinStart, OnResync, Received, StreamExt, Stubs, ThreadBus,
};
use threadbus_proto::v1::{MessageFilter, PostMessagesRequest, WaitMessagesRequest};
use tokio::time::sleep;
use tokio_stream::Stream;
use tonic::{Response, Status, Streaming};

use crate::{
    json::{parse, print},
    methods::{call, invoke},
};

/// Runs one command and returns its result. Prints its other lines as they arrive.
pub async fn run(id: u64, command: Value, bus: Option<ThreadBus>) -> Result<Value, Error> {
    let bus = bus.ok_or_else(|| Status::failed_precondition("open comes first"))?;
    let text = |name: &str| command[name].as_str().unwrap_or_default();
    let timeout = seconds(&command["timeout"])?;
    let nothing = json!({});
    let traced = || match command["traceparent"].as_str() {
        Some(traceparent) => bus.with_traceparent(traceparent),
        None => bus.clone(),
    };
    match text("do") {
        "call" => {
            let (stubs, request) = (bus.stubs(timeout), &command["request"]);
            let request = if request.is_null() { &nothing } else { request };
            let call = call(stubs, text("method"), request, text("traceparent"));
            return Ok(within(timeout, call).await?);
        }
        "invoke" => return invoke(&bus, text("method"), &command["request"]).await,
        "wait" => within(timeout, wait(&command["request"], bus.stubs(timeout), id)).await?,
        "post_many" => {
            within(timeout, post_many(&command["requests"], bus.stubs(timeout), id)).await?;
        }
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
            let bus = timeout.map_or(traced(), |timeout| traced().with_timeout(timeout));
            let posted = bus.post(post).await?;
            return Ok(print(&posted)?);
        }
        "ask" => {
            let reply = traced().ask(parse(&command["request"])?).await?;
            return Ok(print(&reply.message)?);
        }
        "follow" | "inbox" => follow(id, &command, bus).await?,
        "read" => {
            let cursor = parse(&command["cursor"])?;
            bus.mark_read(cursor).await?;
        }
        "goodbye" => bus.goodbye().await?,
        unknown => return Err(Status::unimplemented(format!("no command {unknown}")).into()),
    }
    Ok(nothing)
}

async fn wait(request: &Value, mut stubs: Stubs, id: u64) -> Result<(), Status> {
    let request: WaitMessagesRequest = parse(request)?;
    each(id, "frame", stubs.bus.wait_messages(request).await?).await
}

async fn post_many(requests: &Value, mut stubs: Stubs, id: u64) -> Result<(), Status> {
    let requests = requests.as_array().into_iter().flatten().map(parse::<PostMessagesRequest>);
    let requests = tokio_stream::iter(requests.collect::<Result<Vec<_>, _>>()?);
    each(id, "response", stubs.bus.post_messages(requests).await?).await
}

/// Prints each message of a stream as a line.
async fn each<M: Message + Name>(
    id: u64,
    name: &str,
    stream: Response<Streaming<M>>,
) -> Result<(), Status> {
    let mut stream = stream.into_inner();
    while let Some(message) = stream.message().await? {
        let message = print(&message)?;
        println!("{}", json!({"id": id, name: message}));
    }
    Ok(())
}

/// Runs a follow or an inbox.
async fn follow(id: u64, command: &Value, bus: ThreadBus) -> Result<(), Error> {
    let mut options = FollowOptions {
        omit_attachment_data: command["omit_attachment_data"] == true,
        max_content_bytes: command["max_content_bytes"].as_i64().unwrap_or_default(),
        ..FollowOptions::default()
    };
    if command["on_resync"] == "continue" {
        options.on_resync = OnResync::Continue;
    }
    if command["do"] == "inbox" {
        if command["addressed"] == false {
            options.filter = Some(MessageFilter { exclude_own: true, ..Default::default() });
        }
        return write(id, command, &bus, bus.inbox(options)).await;
    }
    if command["own"] == true {
        options.filter = Some(MessageFilter::default());
    }
    write(id, command, &bus, bus.follow(parse(&command["cursor"])?, options)).await
}

/// Prints each message as a line, and reports it as read if the command says so.
async fn write(
    id: u64,
    command: &Value,
    bus: &ThreadBus,
    mut messages: impl Stream<Item = Result<Received, Error>> + Unpin,
) -> Result<(), Error> {
    while let Some(received) = messages.next().await {
        let received = received?;
        let (message, truncated) = (print(&received.message)?, received.is_truncated());
        println!("{}", json!({"id": id, "message": message, "truncated": truncated}));
        if command["read"] == true {
            bus.mark_read(received.cursor).await?;
        }
    }
    Ok(())
}

/// Applies a timeout: tonic's own timer returns CANCELLED, and does not cover a whole stream.
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
