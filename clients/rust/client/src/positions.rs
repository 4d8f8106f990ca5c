use std::{cmp::Reverse, collections::HashMap, mem, slice};

use threadbus_proto::v1::{
    Cursor, MessageBatch, MessageFilter, ThreadPosition, WaitMessagesRequest, WaitResync,
    wait_messages_response::Frame, wait_resync::Reason,
};

use crate::{Error, follow::Received};

const MAX_SEQ: i64 = (1 << 53) - 1;
const MAX_CURSORS: usize = 1_000; // in a request

/// The positions of a follow in its threads. Whatever a server sends, `take` returns each message of
/// a thread once and in order, or an error.
pub(crate) struct Positions {
    all: bool,      // of all threads of the agent, which the server may add
    filtered: bool, // with a filter seqs may be missing
    threads: HashMap<String, Position>,
    moves: u64,
}

/// The position in one thread.
#[derive(Default)]
struct Position {
    /// From the server; moves back only by a resync.
    cursor: Cursor,
    filtered: bool,
    unsent: bool, // left out of `cursors`, so the server has started elsewhere
    moved: u64,   // value of `moves` when the server last sent a cursor
}

/// What a frame brings.
#[derive(Default)]
pub(crate) struct Taken {
    /// The new messages.
    pub fresh: Vec<Received>,
    /// Whether a cursor moved forward, or a thread was added or removed.
    pub moved: bool,
    /// Whether messages may be missing, by a resync.
    pub lost: bool,
}

impl Positions {
    pub fn new(request: &WaitMessagesRequest) -> Self {
        let filter = request.filter.as_ref();
        let filtered = filter.is_some_and(|filter| *filter != MessageFilter::default());
        let start = |cursor: &Cursor| {
            let at = Position { cursor: cursor.clone(), filtered, ..Position::default() };
            (cursor.thread.clone(), at)
        };
        let threads = request.threads.iter().map(start).collect();
        Self { all: request.all_my_threads, filtered, threads, moves: 0 }
    }

    /// Returns the cursors to resume from, those that moved last if there are too many. The server
    /// starts in other threads at the agent's read position.
    pub fn cursors(&mut self) -> Vec<Cursor> {
        let mut positions: Vec<_> = self.threads.values_mut().collect();
        positions.sort_by_key(|at| Reverse(at.moved));
        for (index, at) in positions.iter_mut().enumerate() {
            at.unsent = index >= MAX_CURSORS;
        }
        positions.iter().take(MAX_CURSORS).map(|at| at.cursor.clone()).collect()
    }

    /// Moves past a frame. Returns an error if it violates the contract.
    pub fn take(&mut self, frame: &mut Frame) -> Result<Taken, Error> {
        match frame {
            Frame::Messages(batch) => return self.batch(mem::take(batch)),
            Frame::CaughtUp(there) if self.all && there.cursor.is_none() => {} // with all threads
            Frame::CaughtUp(there) => return self.advance(slice::from_ref(there)),
            Frame::Keepalive(keepalive) => return self.advance(&keepalive.threads),
            Frame::Ending(ending) => return self.advance(&ending.threads),
            Frame::Resync(resync) if resync.reason() == Reason::Compacted => {
                let moved = self.skip(resync)?;
                return Ok(Taken { moved, lost: moved, ..Taken::default() });
            }
            Frame::Resync(resync) => {
                self.put(resync.position.as_ref())?; // any position, in any epoch
                return Ok(Taken { lost: true, ..Taken::default() });
            }
            Frame::ThreadAdded(there) => {
                let before = self.threads.len();
                self.put(Some(there))?;
                let moved = self.threads.len() > before;
                return Ok(Taken { moved, ..Taken::default() });
            }
            Frame::ThreadRemoved(removed) => {
                let moved = self.threads.remove(&removed.thread).is_some();
                return Ok(Taken { moved, ..Taken::default() });
            }
            Frame::Started(_) | Frame::Participants(_) => {} // `started` has the requested cursors
        }
        Ok(Taken::default())
    }

    fn batch(&mut self, batch: MessageBatch) -> Result<Taken, Error> {
        let (at, end) = self.of(batch.cursor)?;
        let here = at.cursor.after_seq;
        let mut last = here;
        let mut fresh = Vec::new();
        for message in batch.messages {
            let seq = message.seq;
            if message.thread != end.thread {
                let sent = format!("a message of {:?}, not of {:?}", message.thread, end.thread);
                return Err(Error::broken(sent));
            }
            if (1..=here).contains(&seq) {
                continue; // already received
            }
            if seq <= last || seq > end.after_seq || at.gap(last, seq) {
                return Err(Error::broken(format!("the seq {seq} after {last}")));
            }
            last = seq;
            // What the filter hid only after the message does not concern its cursor.
            let hidden_seq = if end.hidden_seq > seq { 0 } else { end.hidden_seq };
            let cursor = Cursor { after_seq: seq, hidden_seq, ..end.clone() };
            fresh.push(Received { message, cursor });
        }
        let moved = at.advance(last, end)?;
        Ok(Taken { fresh, moved, lost: false })
    }

    fn advance(&mut self, positions: &[ThreadPosition]) -> Result<Taken, Error> {
        let mut moved = false;
        for there in positions {
            let (at, end) = self.of(there.cursor.clone())?;
            moved |= at.advance(at.cursor.after_seq, end)?;
        }
        Ok(Taken { moved, ..Taken::default() })
    }

    /// Moves past entries that are not kept any more. Returns whether the position was before them.
    fn skip(&mut self, resync: &WaitResync) -> Result<bool, Error> {
        let (there, from) = (resync.position.clone(), resync.requested.clone());
        let (there, from) = (there.unwrap_or_default(), from.unwrap_or_default());
        let (at, end) = self.of(there.cursor.clone())?;
        let (here, unsent, filtered) = (at.cursor.after_seq, at.unsent, at.filtered);
        let from = checked(Some(from.clone()), &end.thread, &from.epoch)?;
        let last = from.after_seq; // that the server has passed: beyond here, if the filter hides some
        let ours = unsent || last == here || last > here && filtered;
        let same = from.epoch.is_empty() || from.epoch == end.epoch;
        if !ours || !same || last >= end.after_seq || end.after_seq != there.first_seq - 1 {
            let (to, first) = (end.after_seq, there.first_seq);
            let sent = format!("a resync from {last} to {to}, not from {here} to before {first}");
            return Err(Error::broken(sent));
        }
        if end.after_seq <= here {
            return Ok(false);
        }
        self.put(Some(&there))?;
        Ok(true)
    }

    /// Restarts at a position.
    fn put(&mut self, there: Option<&ThreadPosition>) -> Result<(), Error> {
        let there = there.cloned().unwrap_or_default();
        let cursor = self.followed(there.cursor)?;
        let thread = cursor.thread.clone();
        let cursor = checked(Some(cursor), &thread, "")?;
        self.moves += 1;
        let (filtered, moved) = (self.filtered, self.moves);
        self.threads.insert(thread, Position { cursor, filtered, unsent: false, moved });
        Ok(())
    }

    /// Returns the position in the thread of a cursor, which it checks. Where the server started in
    /// a thread that is new to the follow is not known.
    fn of(&mut self, cursor: Option<Cursor>) -> Result<(&mut Position, Cursor), Error> {
        let cursor = self.followed(cursor)?;
        let thread = cursor.thread.clone();
        let epoch = self.threads.get(&thread).map_or("", |at| &at.cursor.epoch);
        let cursor = checked(Some(cursor), &thread, epoch)?;
        self.moves += 1;
        let at = self.threads.entry(thread).or_insert_with_key(|thread| {
            let (thread, epoch) = (thread.clone(), cursor.epoch.clone());
            let cursor = Cursor { thread, epoch, ..Cursor::default() };
            Position { cursor, filtered: true, ..Position::default() }
        });
        at.moved = self.moves;
        Ok((at, cursor))
    }

    /// Returns a cursor if its thread is followed, or may be.
    fn followed(&self, cursor: Option<Cursor>) -> Result<Cursor, Error> {
        let cursor = cursor.unwrap_or_default();
        if self.all || self.threads.contains_key(&cursor.thread) {
            return Ok(cursor);
        }
        let sent = format!("a cursor of {:?}, which is not followed", cursor.thread);
        Err(Error::broken(sent))
    }
}

impl Position {
    /// Moves to a cursor, unless it is behind. Returns whether it moved forward. `last`: seq of the
    /// last message before the cursor.
    fn advance(&mut self, last: i64, end: Cursor) -> Result<bool, Error> {
        if self.gap(last, end.after_seq + 1) {
            let sent = format!("the cursor {} after {last}", end.after_seq);
            return Err(Error::broken(sent));
        }
        let before = self.cursor.after_seq;
        let moved = end.after_seq > before;
        if end.after_seq >= before {
            self.cursor = end;
        }
        Ok(moved)
    }

    /// Whether messages between the two seqs are missing.
    fn gap(&self, last: i64, next: i64) -> bool {
        !self.filtered && next > last + 1
    }
}

/// Returns the cursor if it is valid for the thread and epoch. An empty epoch matches any.
pub(crate) fn checked(cursor: Option<Cursor>, thread: &str, epoch: &str) -> Result<Cursor, Error> {
    let cursor = cursor.unwrap_or_default();
    let (at, hidden) = (cursor.after_seq, cursor.hidden_seq);
    if cursor.thread != thread {
        return Err(Error::broken(format!("a cursor of {:?}, not of {thread:?}", cursor.thread)));
    }
    if at != 0 && !is_seq(at) || !(0..=at).contains(&hidden) {
        return Err(Error::broken(format!("a cursor at {at} that hides {hidden}")));
    }
    if !epoch.is_empty() && cursor.epoch != epoch {
        return Err(Error::broken(format!("the epoch {:?}, not {epoch:?}", cursor.epoch)));
    }
    Ok(cursor)
}

pub(crate) fn is_seq(seq: i64) -> bool {
    (1..=MAX_SEQ).contains(&seq)
}
