//! A client of ThreadBus: join a thread, follow it, post to it.
//!
//! ```no_run
//! # async fn agent(token: &str) -> Result<(), threadbus_client::Error> {
//! use threadbus_client::{FollowOptions, JoinStart, Post, Received, StreamExt, ThreadBus};
//!
//! let bus = ThreadBus::connect("127.0.0.1:7420", None)?;
//! bus.register("reviewer", Some(token)).await?;
//! let cursor = bus.join("design", JoinStart::Head).await?.cursor.unwrap_or_default();
//! let mut messages = bus.follow(cursor, FollowOptions::default());
//! while let Some(received) = messages.next().await {
//!     let Received { message, cursor } = received?;
//!     bus.post(Post {
//!         thread: "design".into(),
//!         content: "Looks good.".into(),
//!         reply_to: message.seq,
//!         ..Post::default()
//!     })
//!     .await?;
//!     bus.mark_read(cursor).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Dropping a call's future or a stream of messages cancels it. Dropping all clients and streams
//! ends the heartbeats and closes the connection.
#![warn(missing_docs)]

mod address;
mod ask;
mod bus;
mod connection;
mod error;
mod follow;
mod positions;
mod tls;

pub use ask::Unanswered;
pub use bus::ThreadBus;
pub use connection::{GrpcChannel, Headers, Stubs, Transport};
pub use error::Error;
pub use follow::{FollowOptions, OnResync, Received};
pub use threadbus_proto::v1::{Cursor, JoinStart, PostMessageRequest as Post};
pub use threadbus_proto::{Unary, v1};
pub use tls::TlsFiles;
pub use tokio_stream::StreamExt;
pub use tonic::{Code, Status};
