//! A minimal agent: joins a thread, follows it, echoes messages addressed to it, and exits on
//! "stop".
use std::{env, process::ExitCode};

use serde_json::json;
use threadbus_client::{
    Error, FollowOptions, JoinStart, Post, Received, StreamExt, ThreadBus, TlsFiles,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, thread, name] = arguments.as_slice() else {
        eprintln!("usage: echo HOST:PORT THREAD NAME");
        return ExitCode::from(2);
    };
    match run(address, thread, name).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (code, message) = (error.code_name(), error.message());
            eprintln!("{}", json!({"code": code, "reason": error.reason, "message": message}));
            ExitCode::FAILURE
        }
    }
}

async fn run(address: &str, thread: &str, name: &str) -> Result<(), Error> {
    let file = |name| env::var_os(name).filter(|path| !path.is_empty()).map(Into::into);
    let files = TlsFiles {
        ca_file: file("THREADBUS_CA_FILE"),
        client_cert: file("THREADBUS_CLIENT_CERT"),
        client_key: file("THREADBUS_CLIENT_KEY"),
    };
    let bus = ThreadBus::connect_with(address, None, &files)?;
    bus.register(name, env::var("THREADBUS_TOKEN").ok().as_deref()).await?;
    let cursor = bus.join(thread, JoinStart::First).await?.cursor.unwrap_or_default();
    println!("{}", json!({"joined": thread, "after_seq": cursor.after_seq}));

    let mut messages = bus.follow(cursor, FollowOptions::default());
    while let Some(received) = messages.next().await {
        let Received { message, cursor } = received?;
        let (seq, content) = (message.seq, message.content);
        println!("{}", json!({"seq": seq, "sender": message.sender, "content": content}));
        if message.mentions.iter().any(|who| who == name) || message.handoff_to == name {
            let answer = Post {
                thread: thread.to_owned(),
                content: format!("echo: {content}"),
                reply_to: seq,
                // Derived from the message: if the agent is killed here and restarted, it still
                // replies only once.
                request_id: format!("echo-{seq}"),
                ..Post::default()
            };
            let posted = bus.post(answer).await?;
            let (answer, again) = (posted.seq, posted.deduplicated);
            println!("{}", json!({"posted": answer, "reply_to": seq, "deduplicated": again}));
        }
        bus.mark_read(cursor).await?;
        if content == "stop" {
            break;
        }
    }
    bus.goodbye().await
}
