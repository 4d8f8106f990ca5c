//! The conformance driver: reads commands as JSON lines from stdin, and writes results to stdout.
//! tests/conformance/README.md describes the protocol.
mod commands;
mod json;
mod methods;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use threadbus_client::{Error, ThreadBus, TlsFiles};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::oneshot,
};
use tonic::Status;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let running = Running::default();
    let mut bus = None;
    while let Some(line) = lines.next_line().await? {
        let command: Value = serde_json::from_str(&line)?;
        let id = command["id"].as_u64().unwrap_or_default();
        match command["do"].as_str().unwrap_or_default() {
            "open" => {
                running.cancel_all();
                let (address, token) = (command["address"].as_str(), command["token"].as_str());
                let file = |name: &str| command[name].as_str().map(Into::into);
                let files = TlsFiles {
                    ca_file: file("ca_file"),
                    client_cert: file("client_cert"),
                    client_key: file("client_key"),
                };
                let opened = ThreadBus::connect_with(address.unwrap_or_default(), token, &files);
                answer(id, opened.map(|opened| bus = Some(opened)).map(|()| json!({})));
            }
            "cancel" => {
                running.cancel(command["target"].as_u64().unwrap_or_default());
                answer(id, Ok(json!({})));
            }
            "close" => {
                running.cancel_all();
                bus = None; // dropping it closes it
                answer(id, Ok(json!({})));
            }
            _ => running.start(id, command, bus.clone()),
        }
    }
    Ok(())
}

/// The running commands. Dropping a sender cancels its command.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>);

impl Running {
    fn start(&self, id: u64, command: Value, bus: Option<ThreadBus>) {
        let (sender, cancelled) = oneshot::channel();
        self.commands().insert(id, sender);
        let running = self.clone();
        tokio::spawn(async move {
            let follows = command["do"] == "follow" || command["do"] == "inbox";
            let result = tokio::select! {
                biased;
                _ = cancelled => match follows {
                    true => Ok(json!({})),
                    false => Err(Status::cancelled("cancelled").into()),
                },
                result = commands::run(id, command, bus) => result,
            };
            running.cancel(id);
            answer(id, result);
        });
    }

    fn cancel(&self, id: u64) {
        self.commands().remove(&id);
    }

    fn cancel_all(&self) {
        self.commands().clear();
    }

    fn commands(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prints the last line of a command: its result or error.
fn answer(id: u64, result: Result<Value, Error>) {
    match result {
        Ok(ok) => println!("{}", json!({"id": id, "ok": ok})),
        Err(error) => println!("{}", json!({"id": id, "error": json::of_error(&error)})),
    }
}
