use std::{pin::pin, time::Duration};

use async_stream::{stream, try_stream};
use threadbus_proto::v1::{
    Cursor, Message, MessageFilter, MessageKind, ThreadPosition, WaitMessagesRequest,
    wait_ending::Reason, wait_messages_response::Frame,
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status};

use crate::{
    Error, ThreadBus,
    bus::{backoff, duration},
};

const FIRST_FRAME: Duration = Duration::from_secs(20); // to connect and to say `started`

/// How to follow.
#[derive(Debug, Clone)]
pub struct FollowOptions {
    /// Which messages. By default all but one's own.
    pub filter: MessageFilter,
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
        Self { filter, on_resync: OnResync::Fail }
    }
}

/// A message of a followed thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// The position behind it, for `mark_read`.
    pub cursor: Cursor,
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
        let mut goodbyes = self.goodbyes();
        let messages = messages(self.clone(), cursor, options);
        Box::pin(stream! {
            let mut messages = pin!(messages);
            while let Some(message) = tokio::select! {
                biased; // to come again after a goodbye would take it back
                _ = goodbyes.changed() => None,
                message = messages.next() => message,
            } {
                yield message;
            }
        })
    }
}

fn messages(
    bus: ThreadBus,
    cursor: Cursor,
    options: FollowOptions,
) -> impl Stream<Item = Result<Received, Error>> {
    let (threads, filter) = (vec![cursor], Some(options.filter));
    let mut request = WaitMessagesRequest { threads, filter, ..Default::default() };
    try_stream! {
        let mut failures = 0;
        loop {
            let mut frames = Box::pin(wait(bus.clone(), request.clone()));
            let mut pause = None;
            while pause.is_none() && let Some(next) = frames.next().await {
                let frame = match next {
                    Ok(frame) => frame,
                    Err(error) if error.retryable || error.code() == Code::Internal => {
                        pause = Some(error.retry_delay);
                        continue;
                    }
                    Err(error) => Err(error)?,
                };
                if !matches!(frame, Some(Frame::Started(_))) {
                    failures = 0;
                }
                let cursor = match frame {
                    Some(Frame::Messages(batch)) => {
                        let behind = batch.cursor.unwrap_or_default();
                        for message in batch.messages {
                            if MessageKind::try_from(message.kind).is_ok() {
                                let cursor = Cursor { after_seq: message.seq, ..behind.clone() };
                                yield Received { message, cursor };
                            } // else a kind of tomorrow
                        }
                        Some(behind)
                    }
                    Some(Frame::CaughtUp(position)) => position.cursor,
                    Some(Frame::Keepalive(keepalive)) => only(keepalive.threads),
                    Some(Frame::Resync(resync)) => match options.on_resync {
                        OnResync::Fail => Err(Error::cursor_lost(resync))?,
                        OnResync::Continue => resync.position.and_then(|position| position.cursor),
                    },
                    Some(Frame::Ending(ending)) => {
                        if let Reason::ThreadsClosed | Reason::SessionEnded = ending.reason() {
                            return;
                        }
                        pause = Some(duration(ending.retry_delay)); // no matter what status follows
                        only(ending.threads)
                    }
                    _ => None, // `started`, or a frame of tomorrow
                };
                request.threads = cursor.map_or(request.threads, |cursor| vec![cursor]);
            }
            drop(frames);
            sleep(pause.unwrap_or_default().max(backoff(failures))).await;
            failures += 1;
        }
    }
}

/// The frames of one call of WaitMessages, None for those of tomorrow. To drop it is to cancel it.
fn wait(
    bus: ThreadBus,
    request: WaitMessagesRequest,
) -> impl Stream<Item = Result<Option<Frame>, Error>> {
    try_stream! {
        let (mut stubs, channel) = bus.connection(None);
        let dead = |_| {
            bus.renew(channel);
            Status::unavailable("no sign of life from the server")
        };
        let mut patience = FIRST_FRAME;
        let mut until = Instant::now() + patience;
        let opened = timeout_at(until, stubs.bus.wait_messages(request)).await.map_err(dead)?;
        let mut frames = opened?.into_inner();
        while let Some(response) = timeout_at(until, frames.message()).await.map_err(dead)?? {
            if let Some(Frame::Started(started)) = &response.frame {
                patience = duration(started.keepalive_interval).mul_f64(2.5);
            }
            yield response.frame;
            until = Instant::now() + patience; // the time that the caller took is its own
        }
    }
}

/// There is but one thread in a wait of ours.
fn only(positions: Vec<ThreadPosition>) -> Option<Cursor> {
    positions.into_iter().next()?.cursor
}
