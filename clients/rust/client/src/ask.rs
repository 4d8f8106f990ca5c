use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use threadbus_proto::v1::{
    Cursor, GetMessageRequest, ListRequestsRequest, MessageKind, PostMessageRequest, Request,
    RequestState, WaitMessagesRequest, Wake,
};
use tokio_stream::StreamExt;

use crate::{Error, OnResync, Received, Stubs, ThreadBus};

/// Why a reply may not come. After CLOSED and WITHDRAWN none can; otherwise the request is still
/// open, and a later reply answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// AGENT_IDLE, AGENT_LAPSED, AGENT_OFFLINE, AGENT_LEFT or OVERDUE: see `v1::notice::Reason`.
    /// CLOSED: the thread was closed, or does not keep the question any more. WITHDRAWN: the request
    /// was. SESSION_ENDED: that of the agent that asked.
    pub reason: String,
    /// The agent asked; of several, the last one that was given up.
    pub agent: String,
    /// The thread of the question.
    pub thread: String,
    /// The seq of the question.
    pub seq: i64,
}

impl ThreadBus {
    /// Posts a question to the agents in `expect_reply`, or else to those in `mentions` and
    /// `handoff_to`. Returns the first reply to it, or to an edit of it. Fails with an [`Error`] that
    /// has `unanswered` after a notice about each of the agents, or when no request is open any
    /// more. Until then it waits, across reconnects. If it is dropped first, the question stays
    /// open; the method WithdrawRequest withdraws it. Other errors are those of `post`, whose time
    /// the client's timeout limits, and `follow`. Marks nothing as read: `follow` yields the reply,
    /// too.
    pub async fn ask(&self, mut question: PostMessageRequest) -> Result<Received, Error> {
        let mut asked = question.expect_reply.get_or_insert_default().agents.clone();
        if asked.is_empty() {
            let handed = Some(&question.handoff_to).filter(|agent| !agent.is_empty());
            asked = question.mentions.iter().chain(handed).cloned().collect();
        }
        let thread = question.thread.clone();
        let posted = self.post(question).await?;
        let question = Question {
            bus: self,
            at: Cursor { thread, after_seq: posted.seq, epoch: posted.epoch, hidden_seq: 0 },
        };
        question.reply(&asked).await
    }
}

/// A question that was posted.
struct Question<'a> {
    bus: &'a ThreadBus,
    at: Cursor, // after it
}

impl Question<'_> {
    /// Returns the first reply of the agents asked.
    async fn reply(&self, asked: &[String]) -> Result<Received, Error> {
        let seq = self.at.after_seq;
        let mut hopes: HashSet<_> = asked.iter().collect(); // the agents without a notice
        let mut seqs = HashSet::from([seq]); // of the question and its edits
        let threads = vec![self.at.clone()];
        let request = WaitMessagesRequest { threads, ..Default::default() };
        let closed = Arc::new(AtomicBool::new(false));
        let mut messages = self.bus.received(request, OnResync::Fail, closed.clone());
        while let Some(received) = messages.next().await {
            if received.as_ref().is_err_and(Error::is_compacted) {
                closed.store(true, Ordering::Relaxed); // the question is gone, so its requests ended
                break;
            }
            let received = received?;
            let message = &received.message;
            let answers = seqs.contains(&message.reply_to) && message.wakes() != Wake::Nobody;
            let notice = message.notice.as_ref().filter(|notice| notice.request_seq == seq);
            if message.edit_of == seq {
                seqs.insert(message.seq);
            } else if answers && asked.contains(&message.sender) {
                return Ok(received);
            } else if let Some(notice) = notice {
                hopes.remove(&notice.agent);
                if hopes.is_empty() {
                    // A reply may have come since.
                    if let Some(reply) = self.settled().await? {
                        return Ok(reply);
                    }
                    let reason = notice.reason().as_str_name().trim_start_matches("REASON_");
                    return Err(self.unanswered(reason, &notice.agent));
                }
            } else if message.kind() == MessageKind::Thread // it may have been closed
                && let Some(reply) = self.settled().await?
            {
                return Ok(reply);
            }
        }
        let mut reason = "SESSION_ENDED"; // to look at the requests would start another session
        if closed.load(Ordering::Relaxed) {
            if let Some(reply) = self.settled().await? {
                return Ok(reply);
            }
            reason = "CLOSED";
        }
        Err(self.unanswered(reason, asked.last().map_or("", |agent| agent)))
    }

    /// Looks at the requests of the question. Returns a reply if there is one. Fails if no request
    /// is open any more.
    async fn settled(&self) -> Result<Option<Received>, Error> {
        let requests = self.requests().await?;
        let in_state = |state| requests.iter().find(|request| request.state() == state);
        if let Some(answered) = in_state(RequestState::Answered) {
            let (thread, seq) = (answered.thread.clone(), answered.reply_seq);
            let request = GetMessageRequest { thread, seq, ..Default::default() };
            let get = async |mut stubs: Stubs, it| stubs.bus.get_message(it).await;
            let message = self.bus.call(request, get).await?.message.unwrap_or_default();
            let cursor = Cursor { after_seq: seq, ..self.at.clone() };
            return Ok(Some(Received { message, cursor }));
        }
        match requests.last() {
            Some(ended) if in_state(RequestState::Open).is_none() => {
                let withdrawn = ended.state() == RequestState::Withdrawn;
                // CLOSED also for a state that this client does not know.
                let reason = if withdrawn { "WITHDRAWN" } else { "CLOSED" };
                Err(self.unanswered(reason, &ended.agent))
            }
            _ => Ok(None),
        }
    }

    async fn requests(&self) -> Result<Vec<Request>, Error> {
        let (thread, seq) = (self.at.thread.clone(), self.at.after_seq);
        let mut list = ListRequestsRequest { thread, ..Default::default() };
        let mut found = Vec::new();
        loop {
            let method = async |mut stubs: Stubs, it| stubs.bus.list_requests(it).await;
            let page = self.bus.call(list.clone(), method).await?;
            let older = page.requests.iter().any(|request| request.seq < seq); // newest first
            let ours = |it: &Request| it.seq == seq && it.epoch == self.at.epoch;
            found.extend(page.requests.into_iter().filter(ours));
            list.page_token = page.next_page_token;
            if older || list.page_token.is_empty() {
                return Ok(found);
            }
        }
    }

    fn unanswered(&self, reason: &str, agent: &str) -> Error {
        Error::unanswered(Unanswered {
            reason: reason.to_owned(),
            agent: agent.to_owned(),
            thread: self.at.thread.clone(),
            seq: self.at.after_seq,
        })
    }
}
