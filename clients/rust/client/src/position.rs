use std::mem;

use threadbus_proto::v1::{
    Cursor, Message, MessageFilter, MessageKind, ThreadPosition, wait_messages_response::Frame,
};

use crate::{Error, follow::Received};

const MAX_SEQ: i64 = (1 << 53) - 1;

/// The position of a follow in one thread. Whatever a server sends, `take` returns each message of
/// the thread once and in order, or an error.
pub(crate) struct Position {
    /// From the server; moves back only by a resync.
    pub cursor: Cursor,
    filtered: bool, // with a filter seqs may be missing
    first_seq: i64, // oldest seq kept, as last reported
}

impl Position {
    pub fn new(cursor: Cursor, filter: &MessageFilter) -> Self {
        Self { cursor, filtered: *filter != MessageFilter::default(), first_seq: 0 }
    }

    /// Moves past a frame and returns its new messages. Returns an error if it violates the
    /// contract.
    pub fn take(&mut self, frame: &mut Frame) -> Result<Vec<Received>, Error> {
        let here = self.cursor.after_seq;
        let mut messages = Vec::new();
        let positions = match frame {
            Frame::Messages(batch) => {
                messages = mem::take(&mut batch.messages);
                vec![ThreadPosition { cursor: batch.cursor.clone(), ..Default::default() }]
            }
            Frame::Resync(resync) => {
                // A resync may move to any position in any epoch.
                let there = resync.position.clone().unwrap_or_default();
                self.cursor = checked(there.cursor, &self.cursor.thread, "")?;
                self.first_seq = there.first_seq;
                return Ok(Vec::new());
            }
            Frame::Started(started) => {
                // `started` has the cursors as requested, so only first_seq is used.
                let told = started.threads.iter().map(|there| there.first_seq).max();
                self.first_seq = self.first_seq.max(told.unwrap_or_default());
                return Ok(Vec::new());
            }
            Frame::CaughtUp(position) => vec![position.clone()],
            Frame::Keepalive(keepalive) => keepalive.threads.clone(),
            Frame::Ending(ending) => ending.threads.clone(),
            _ => return Ok(Vec::new()),
        };
        let mut ends = Vec::new();
        for there in positions {
            self.first_seq = self.first_seq.max(there.first_seq);
            ends.push(checked(there.cursor, &self.cursor.thread, &self.cursor.epoch)?);
        }
        let mut last = here;
        let mut fresh = Vec::new();
        for message in messages {
            let (seq, end) = (message.seq, &ends[0]);
            if message.thread != end.thread {
                let sent = format!("a message of {:?}, not of {:?}", message.thread, end.thread);
                return Err(Error::broken(sent));
            }
            if (1..=here).contains(&seq) {
                continue; // already received
            }
            if seq <= last || seq > end.after_seq || self.gap(last, seq) {
                return Err(Error::broken(format!("the seq {seq} after {last}")));
            }
            last = seq;
            fresh.push(message);
        }
        for end in &ends {
            if self.gap(last, end.after_seq + 1) {
                let sent = format!("the cursor {} after {last}", end.after_seq);
                return Err(Error::broken(sent));
            }
            last = last.max(end.after_seq);
        }
        if let Some(end) = ends.pop() {
            self.cursor = Cursor { after_seq: last, ..end };
        }
        fresh.retain(|message| MessageKind::try_from(message.kind).is_ok()); // not newer kinds
        Ok(fresh.into_iter().map(|message| self.received(message)).collect())
    }

    fn received(&self, message: Message) -> Received {
        let cursor = Cursor { after_seq: message.seq, ..self.cursor.clone() };
        Received { message, cursor }
    }

    /// Whether messages between the two seqs are missing.
    fn gap(&self, last: i64, next: i64) -> bool {
        !self.filtered && next > self.first_seq.max(last + 1)
    }
}

/// Returns the cursor if it is valid for the thread and epoch. An empty epoch matches any.
pub(crate) fn checked(cursor: Option<Cursor>, thread: &str, epoch: &str) -> Result<Cursor, Error> {
    let cursor = cursor.unwrap_or_default();
    if cursor.thread != thread {
        return Err(Error::broken(format!("a cursor of {:?}, not of {thread:?}", cursor.thread)));
    }
    if cursor.after_seq != 0 && !is_seq(cursor.after_seq) {
        return Err(Error::broken(format!("a cursor at {}", cursor.after_seq)));
    }
    if !epoch.is_empty() && cursor.epoch != epoch {
        return Err(Error::broken(format!("the epoch {:?}, not {epoch:?}", cursor.epoch)));
    }
    Ok(cursor)
}

pub(crate) fn is_seq(seq: i64) -> bool {
    (1..=MAX_SEQ).contains(&seq)
}
