use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_stream::{stream, try_stream};
use threadbus_proto::v1::{
    Cursor, Message, MessageFilter, MessageKind, WaitMessagesRequest, notice, wait_ending::Reason,
    wait_messages_response::Frame,
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status};

use crate::{
    Error, ThreadBus,
    bus::{backoff, duration, heeded},
    error::unparsed,
    positions::Positions,
};

const FIRST_FRAME: Duration = Duration::from_secs(20); // to connect and receive `started`
const SETTLED: Duration = Duration::from_secs(1); // a wait that lives this long resets the backoff
const IDLE_PAUSE: Duration = Duration::from_millis(20); // after a frame without progress
/// Limit of failures without progress, see `follow`.
const LONGEST_FAILING: Duration = Duration::from_secs(60);

/// Options of `follow` and `inbox`.
#[derive(Debug, Clone, Default)]
pub struct FollowOptions {
    /// Which messages to deliver. None = all but the agent's own; of these, `inbox` delivers only
    /// those that are addressed to the agent.
    pub filter: Option<MessageFilter>,
    /// What to do when a cursor is lost.
    pub on_resync: OnResync,
    /// Leave out the bytes of attachments.
    pub omit_attachment_data: bool,
    /// Cut off longer texts, at most 64 bytes earlier; see [`Received::is_truncated`]. 0 = no limit.
    pub max_content_bytes: i64,
}

/// What to do when a cursor is lost: the messages after it are not kept any more, or it is of a former
/// epoch of the thread, or past its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnResync {
    /// End with an [`Error`] whose `resync` has the position to continue from.
    #[default]
    Fail,
    /// Continue from that position.
    Continue,
}

/// A message of a followed thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// The position after it, for `mark_read`.
    pub cursor: Cursor,
}

impl Received {
    /// Whether the text was cut off. The method GetMessage returns the whole.
    pub fn is_truncated(&self) -> bool {
        (self.message.content.len() as i64) < self.message.content_size
    }
}

impl ThreadBus {
    /// Returns the messages after `cursor`, then new ones as they are posted: each once and in
    /// order, across reconnects, whatever the server sends. Notices come only to the agent that they
    /// are for. Ends when the thread is closed or the session has ended; fails if the cursor is
    /// lost, and if retrying cannot help, or has not helped for a minute. Disconnections are retried
    /// without limit once the server has responded to a call of the client. Drop it to stop.
    pub fn follow(
        &self,
        cursor: Cursor,
        options: FollowOptions,
    ) -> impl Stream<Item = Result<Received, Error>> + Send + Unpin + 'static {
        let others = MessageFilter { exclude_own: true, ..Default::default() };
        let on_resync = options.on_resync;
        let request = WaitMessagesRequest { threads: vec![cursor], ..options.request(others) };
        self.received(request, on_resync, Arc::default())
    }

    /// Returns what is addressed to the agent in all threads in which it takes part, then what is
    /// posted, also in threads in which it comes to take part, as by a mention. Each thread starts
    /// at the agent's read position; see `mark_read`. The messages of a thread come in order. Goes on
    /// when threads are closed, left or deleted; otherwise as `follow`.
    pub fn inbox(
        &self,
        options: FollowOptions,
    ) -> impl Stream<Item = Result<Received, Error>> + Send + Unpin + 'static {
        let addressed =
            MessageFilter { exclude_own: true, addressed_to_me: true, ..Default::default() };
        let on_resync = options.on_resync;
        let request = WaitMessagesRequest { all_my_threads: true, ..options.request(addressed) };
        self.received(request, on_resync, Arc::default())
    }

    /// Returns the messages of a wait until the session ends. Sets `closed` if it ends because its
    /// threads are closed.
    pub(crate) fn received(
        &self,
        request: WaitMessagesRequest,
        on_resync: OnResync,
        closed: Arc<AtomicBool>,
    ) -> impl Stream<Item = Result<Received, Error>> + Send + Unpin + 'static {
        let mut goodbyes = self.goodbyes();
        let messages = messages(self.clone(), request, on_resync, closed);
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

    /// Whether a message is of a known kind, and no notice for others or with an unknown reason.
    fn concerns(&self, message: &Message) -> bool {
        if !is_notice(message) {
            return MessageKind::try_from(message.kind).is_ok();
        }
        let reason = message.notice.as_ref().map_or(0, |notice| notice.reason);
        let agent = self.agent();
        notice::Reason::try_from(reason).is_ok()
            && message.mentions.iter().any(|name| Some(name) == agent.as_ref())
    }
}

impl FollowOptions {
    /// Returns a request with these options, and with `unset` if they have no filter.
    fn request(self, unset: MessageFilter) -> WaitMessagesRequest {
        WaitMessagesRequest {
            filter: Some(self.filter.unwrap_or(unset)),
            omit_attachment_data: self.omit_attachment_data,
            max_content_bytes: self.max_content_bytes,
            ..Default::default()
        }
    }
}

fn messages(
    bus: ThreadBus,
    request: WaitMessagesRequest,
    on_resync: OnResync,
    closed: Arc<AtomicBool>,
) -> impl Stream<Item = Result<Received, Error>> {
    let mut at = Positions::new(&request);
    try_stream! {
        let mut failures = 0; // without progress
        let mut failing = None; // since when
        loop {
            let request = WaitMessagesRequest { threads: at.cursors(), ..request.clone() };
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
                let taken = at.take(&mut frame)?;
                let (moved, mut progress) = (taken.moved, taken.moved);
                for received in taken.fresh {
                    if bus.concerns(&received.message) {
                        yield received;
                    }
                }
                match frame {
                    Frame::Resync(resync) if taken.lost && on_resync == OnResync::Fail => {
                        Err(Error::cursor_lost(resync))?;
                    }
                    Frame::Ending(ending) => {
                        let reason = ending.reason();
                        if let Reason::ThreadsClosed | Reason::SessionEnded = reason {
                            closed.store(reason == Reason::ThreadsClosed, Ordering::Relaxed);
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
            match &response.frame {
                Some(Frame::Started(started)) => patience = silence(started.keepalive_interval),
                Some(Frame::Messages(batch)) if batch.messages.iter().any(is_notice) => {
                    bus.learn_agent().await?; // see concerns()
                }
                _ => {}
            }
            yield response.frame;
            until = Instant::now() + patience; // not while the caller handles the frame
        }
    }
}

fn is_notice(message: &Message) -> bool {
    message.kind() == MessageKind::Notice
}

/// Returns how long to wait for a frame, given the granted keepalive interval.
fn silence(granted: Option<prost_types::Duration>) -> Duration {
    let interval = match duration(granted) {
        Duration::ZERO => Duration::from_secs(45), // the contract's default
        interval => interval,
    };
    interval.clamp(Duration::from_secs(1), Duration::from_secs(300)) * 5 / 2
}
