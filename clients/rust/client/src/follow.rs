use std::{ops::Deref, time::Duration};

use async_stream::try_stream;
use threadbus_proto::v1::{
    Cursor, Message, MessageFilter, MessageKind, ThreadPosition, WaitMessagesRequest,
    WaitMessagesResponse, wait_ending::Reason, wait_messages_response::Frame,
};
use tokio::time::{sleep, timeout};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status};

use crate::{
    Error, Stubs, ThreadBus,
    bus::{backoff, duration},
};

const FIRST_FRAME: Duration = Duration::from_secs(20); // to connect and to say `started`
const LAST_STATUS: Duration = Duration::from_secs(1); // after `ending`

/// How to follow.
#[derive(Debug, Clone)]
pub struct FollowOptions {
    /// Which messages. By default all but one's own.
    pub filter: MessageFilter,
    /// The wished interval of signs of life, from 1 s. None = the server's.
    pub keepalive: Option<Duration>,
    /// What to do when the cursor is of another history of the thread.
    pub on_resync: OnResync,
}

/// What to do when a cursor cannot be honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnResync {
    /// End with an [`Error`] whose `resync` says where to go on.
    Fail,
    /// Go on there.
    Continue,
}

impl Default for FollowOptions {
    fn default() -> Self {
        let filter = MessageFilter { exclude_own: true, ..Default::default() };
        Self { filter, keepalive: None, on_resync: OnResync::Fail }
    }
}

/// A message of a followed thread. It is used like the [`Message`] that it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// The position behind it, for `mark_read`.
    pub cursor: Cursor,
}

impl Deref for Received {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl ThreadBus {
    /// What comes after `cursor`, then what is posted, as it is posted: each message once, in
    /// order, across reconnects. Ends when the thread is closed or the agent said goodbye; fails
    /// with what coming again does not cure, and when the cursor is lost. Drop it to stop.
    pub fn follow(
        &self,
        cursor: Cursor,
        options: FollowOptions,
    ) -> impl Stream<Item = Result<Received, Error>> + Send + Unpin + 'static {
        Box::pin(follow(self.clone(), cursor, options))
    }
}

fn follow(
    bus: ThreadBus,
    mut cursor: Cursor,
    options: FollowOptions,
) -> impl Stream<Item = Result<Received, Error>> + Send {
    try_stream! {
        let mut failures = 0;
        loop {
            let (mut patience, mut pause) = (FIRST_FRAME, Duration::ZERO);
            let (mut ending, mut failure) = (None, None);
            let (stubs, generation) = bus.connection(None);
            let mut frames = Box::pin(frames(stubs, request(&cursor, &options)));
            loop {
                let frame = match timeout(patience, frames.next()).await {
                    Ok(Some(Ok(frame))) => frame.frame,
                    Ok(Some(Err(status))) => {
                        failure = Some(Error::from(status));
                        break;
                    }
                    Ok(None) => break,
                    Err(_) => {
                        bus.renew(generation); // the connection is dead
                        break;
                    }
                };
                match &frame {
                    Some(Frame::Started(started)) => {
                        patience = duration(started.keepalive_interval).mul_f64(2.5);
                    }
                    _ => failures = 0,
                }
                let moved = match frame {
                    Some(Frame::Messages(batch)) => {
                        let moved = batch.cursor.unwrap_or_default();
                        for message in batch.messages {
                            if MessageKind::try_from(message.kind).is_ok() {
                                let cursor = Cursor { after_seq: message.seq, ..moved.clone() };
                                yield Received { message, cursor };
                            } // else a kind of tomorrow
                        }
                        Some(moved)
                    }
                    Some(Frame::CaughtUp(position)) => position.cursor,
                    Some(Frame::Keepalive(keepalive)) => only(keepalive.threads),
                    Some(Frame::Resync(resync)) => {
                        if options.on_resync == OnResync::Fail {
                            Err(Error::cursor_lost(resync))?;
                            return;
                        }
                        resync.position.and_then(|position| position.cursor)
                    }
                    Some(Frame::Ending(end)) => {
                        ending = Some(end.reason());
                        (patience, pause) = (LAST_STATUS, duration(end.retry_delay));
                        only(end.threads)
                    }
                    _ => None, // `started`, or a frame of tomorrow
                };
                cursor = moved.unwrap_or(cursor);
            }
            drop(frames);
            if let Some(Reason::ThreadsClosed | Reason::SessionEnded) = ending {
                return;
            }
            // After `ending` nothing is a failure.
            if let (Some(error), None) = (failure, ending) {
                pause = error.retry_delay;
                if !error.retryable && error.code() != Code::Internal {
                    Err(error)?;
                }
            }
            sleep(pause.max(backoff(failures))).await;
            failures += 1;
        }
    }
}

fn request(cursor: &Cursor, options: &FollowOptions) -> WaitMessagesRequest {
    WaitMessagesRequest {
        threads: vec![cursor.clone()],
        filter: Some(options.filter.clone()),
        keepalive_interval: options.keepalive.and_then(|wish| wish.try_into().ok()),
        ..Default::default()
    }
}

/// The frames of one wait. Connecting is part of the first one's time.
fn frames(
    mut stubs: Stubs,
    request: WaitMessagesRequest,
) -> impl Stream<Item = Result<WaitMessagesResponse, Status>> {
    try_stream! {
        let mut frames = stubs.bus.wait_messages(request).await?.into_inner();
        while let Some(frame) = frames.message().await? {
            yield frame;
        }
    }
}

/// There is but one thread in a wait of ours.
fn only(positions: Vec<ThreadPosition>) -> Option<Cursor> {
    positions.into_iter().next()?.cursor
}
