use std::{pin::pin, time::Duration};

use async_stream::{stream, try_stream};
use threadbus_proto::v1::{
    Cursor, Message, MessageFilter, WaitMessagesRequest, wait_ending::Reason,
    wait_messages_response::Frame,
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status};

use crate::{
    Error, ThreadBus,
    bus::{backoff, duration, heeded},
    error::unparsed,
    position::Position,
};

const FIRST_FRAME: Duration = Duration::from_secs(20); // to connect and receive `started`
const SETTLED: Duration = Duration::from_secs(1); // a wait that lives this long resets the backoff
const IDLE_PAUSE: Duration = Duration::from_millis(20); // after a frame without progress
/// Limit of failures without progress, see `follow`.
const LONGEST_FAILING: Duration = Duration::from_secs(60);

/// Options of `follow`.
#[derive(Debug, Clone)]
pub struct FollowOptions {
    /// Which messages to deliver. By default all but the agent's own.
    pub filter: MessageFilter,
    /// What to do when the cursor is lost.
    pub on_resync: OnResync,
}

/// What to do when a cursor is lost: it is of a former epoch of the thread, or past its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnResync {
    /// End with an [`Error`] whose `resync` has the position to continue from.
    Fail,
    /// Continue from that position.
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
    /// The position after it, for `mark_read`.
    pub cursor: Cursor,
}

impl ThreadBus {
    /// Returns the messages after `cursor`, then new ones as they are posted: each once and in
    /// order, across reconnects, whatever the server sends. Ends when the thread is closed or the
    /// session has ended; fails if the cursor is lost, and if retrying cannot help, or has not
    /// helped for a minute. Disconnections are retried without limit once the server has responded
    /// to a call of the client. Drop it to stop.
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
                biased; // a retry would start a new session
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
    let mut at = Position::new(cursor, &options.filter);
    try_stream! {
        let mut failures = 0; // without progress
        let mut failing = None; // since when
        loop {
            let (threads, filter) = (vec![at.cursor.clone()], Some(options.filter.clone()));
            let request = WaitMessagesRequest { threads, filter, ..Default::default() };
            let mut frames = Box::pin(wait(bus.clone(), request));
            let (opened, mut caught_up) = (Instant::now(), false);
            let mut delay = None; // requested by the server, once the wait is over
            while delay.is_none() && let Some(next) = frames.next().await {
                let mut frame = match next {
                    Ok(Some(frame)) => {
                        bus.set_answered();
                        frame
                    }
                    Ok(None) => {
                        // A kind of frame that this version does not know.
                        sleep(IDLE_PAUSE).await;
                        continue;
                    }
                    Err(error) => {
                        let error = bus.told(error);
                        if !error.is_disconnection() || !bus.answered() {
                            let since = *failing.get_or_insert_with(Instant::now);
                            let bug = error.code() == Code::Internal && !error.reason.is_empty();
                            if !(error.retryable || bug) || since.elapsed() >= LONGEST_FAILING {
                                Err(error.clone())?;
                            }
                        }
                        delay = Some(error.retry_delay);
                        continue;
                    }
                };
                let before = at.cursor.after_seq;
                for received in at.take(&mut frame)? {
                    yield received;
                }
                let mut moved = at.cursor.after_seq > before;
                let mut progress = moved;
                match frame {
                    Frame::Resync(resync) => match options.on_resync {
                        OnResync::Fail => Err(Error::cursor_lost(resync))?,
                        OnResync::Continue => (moved, progress) = (false, false),
                    },
                    Frame::Ending(ending) => {
                        if let Reason::ThreadsClosed | Reason::SessionEnded = ending.reason() {
                            return;
                        }
                        delay = Some(duration(ending.retry_delay)); // whatever status follows
                    }
                    Frame::CaughtUp(_) if !caught_up => (caught_up, progress) = (true, true),
                    Frame::Started(_) => {}
                    _ if !progress => sleep(IDLE_PAUSE).await,
                    _ => {}
                }
                if moved {
                    failures = 0;
                }
                if progress {
                    failing = None;
                }
            }
            drop(frames);
            if caught_up && opened.elapsed() >= SETTLED {
                failures = 0;
            }
            sleep(heeded(delay.unwrap_or_default()).max(backoff(failures))).await;
            failures += 1;
        }
    }
}

/// Returns the frames of one WaitMessages call, None for unknown ones. Dropping the stream cancels
/// the call.
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
        loop {
            let response = match timeout_at(until, frames.message()).await.map_err(dead)? {
                Ok(Some(response)) => response,
                Ok(None) => break,
                Err(status) if unparsed(&status) => {
                    Err(Error::broken("a frame that cannot be parsed".to_owned()))?
                }
                Err(status) => Err(status)?,
            };
            if let Some(Frame::Started(started)) = &response.frame {
                patience = silence(started.keepalive_interval);
            }
            yield response.frame;
            until = Instant::now() + patience; // not while the caller handles the frame
        }
    }
}

/// Returns how long to wait for a frame, given the granted keepalive interval.
fn silence(granted: Option<prost_types::Duration>) -> Duration {
    let interval = match duration(granted) {
        Duration::ZERO => Duration::from_secs(45), // the contract's default
        interval => interval,
    };
    interval.clamp(Duration::from_secs(1), Duration::from_secs(300)) * 5 / 2
}
