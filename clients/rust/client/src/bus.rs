use std::{
    mem,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use threadbus_proto::{
    Unary,
    v1::{
        Cursor, EndSessionRequest, HeartbeatRequest, JoinStart, JoinThreadRequest,
        JoinThreadResponse, PostMessageRequest, PostMessageResponse, RegisterAgentRequest,
    },
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{Code, Response, Status};

use crate::{
    Error, Stubs,
    connection::{Connection, bearer},
    position::{checked, is_seq},
};

const TIMEOUT: Duration = Duration::from_secs(30); // for a call with its repetitions
const ATTEMPT: Duration = Duration::from_secs(10); // for one try of it
const AFTER_FAILURE: Duration = Duration::from_secs(5); // to the next heartbeat
const SHORTEST_PAUSE: Duration = Duration::from_millis(500); // between heartbeats
const USUAL_PAUSE: Duration = Duration::from_secs(40); // when the server does not say
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A client of one server. Clones share its connection, its token and its heartbeats.
#[derive(Debug, Clone)]
pub struct ThreadBus {
    connection: Arc<Mutex<Connection>>,
    session: Arc<Session>,
    timeout: Duration,
}

#[derive(Debug, Default)]
struct Session {
    heartbeats: Mutex<JoinSet<()>>, // dropped: aborted
    goodbye: watch::Sender<()>,
}

impl ThreadBus {
    /// Connects to HOST:PORT or unix:PATH, at the first call, which carries the token if there is
    /// one. To be called in a tokio runtime.
    pub fn connect(address: &str, token: Option<&str>) -> Result<Self, Error> {
        let connection = Arc::new(Mutex::new(Connection::new(address, token)?));
        Ok(Self { connection, session: Arc::default(), timeout: TIMEOUT })
    }

    /// The same client, but its calls give up after `timeout` instead of 30 s.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Calls as `agent` from now on, and says at the server's interval that it is there. With the
    /// same token it is the same agent the next time; without, the name can be used once. Where
    /// tokens are required, `connect` must have been given the agent's token, too.
    pub async fn register(&self, agent: &str, token: Option<&str>) -> Result<(), Error> {
        let token = token.map_or_else(new_token, str::to_owned);
        let authorization = bearer(&token)?;
        let agent = agent.to_owned();
        let request = RegisterAgentRequest { agent, token, ..Default::default() };
        // With a token of our making it is safe to repeat.
        self.call(request, async |mut stubs, it| stubs.agents.register_agent(it).await).await?;
        self.connection.lock().unwrap().token = Some(authorization);

        // On the same connection, but no part of the session: it ends when the client is dropped.
        let bus = Self { session: Arc::default(), timeout: TIMEOUT, ..self.clone() };
        let mut heartbeats = JoinSet::new();
        heartbeats.spawn(bus.heartbeats());
        *self.session.heartbeats.lock().unwrap() = heartbeats;
        Ok(())
    }

    /// Enters a thread, made at need: where to follow it from, and who is here.
    pub async fn join(&self, thread: &str, start: JoinStart) -> Result<JoinThreadResponse, Error> {
        let request = JoinThreadRequest {
            thread: thread.to_owned(),
            create: true,
            start: start.into(),
            ..Default::default()
        };
        let joined =
            self.call(request, async |mut stubs, it| stubs.threads.join_thread(it).await).await?;
        checked(joined.cursor.clone(), thread, "")?;
        Ok(joined)
    }

    /// Posts once, however often it has to be sent: under the request's `request_id`, made when
    /// it is empty.
    pub async fn post(
        &self,
        mut request: PostMessageRequest,
    ) -> Result<PostMessageResponse, Error> {
        if request.request_id.is_empty() {
            request.request_id = new_request_id();
        }
        let posted =
            self.call(request, async |mut stubs, it| stubs.bus.post_message(it).await).await?;
        if !is_seq(posted.seq) {
            let error = Error::broken(format!("the seq {} of a post", posted.seq));
            return Err(Error { outcome_unknown: true, ..error });
        }
        Ok(posted)
    }

    /// Tells what was read: the next `join` goes on from there.
    pub async fn mark_read(&self, cursor: Cursor) -> Result<(), Error> {
        self.heartbeat(vec![cursor]).await.map(drop)
    }

    /// Says goodbye: all know that the agent is gone, and what it follows ends. Any later call
    /// brings it back; its heartbeats come back with `register`.
    pub async fn goodbye(&self) -> Result<(), Error> {
        // What comes after the goodbye would take it back: a heartbeat, a follow that comes again.
        self.session.goodbye.send_replace(());
        let mut heartbeats = mem::take(&mut *self.session.heartbeats.lock().unwrap());
        heartbeats.shutdown().await;
        let request = EndSessionRequest {};
        self.call(request, async |mut stubs, it| stubs.agents.end_session(it).await).await?;
        Ok(())
    }

    /// Makes any unary call, and retries it until it succeeds or the client's timeout is over. An
    /// attempt whose outcome is unknown is retried only if the request is repeatable. `method` is
    /// such as `async |mut stubs, request| stubs.threads.get_thread(request).await`.
    pub async fn call<Q: Unary + Clone, A>(
        &self,
        request: Q,
        method: impl AsyncFn(Stubs, Q) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let began = Instant::now();
        let (mut failures, mut doubt) = (0, false);
        loop {
            let limit = ATTEMPT.min(self.timeout.saturating_sub(began.elapsed()));
            let (stubs, number) = self.connection(Some(limit));
            let result = tokio::select! {
                biased; // else tonic's own timer could be first, and that one says CANCELLED
                () = sleep(limit) => Err(Status::deadline_exceeded("no answer in time")),
                result = method(stubs, request.clone()) => result,
            };
            let mut error = match result {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => Error::from(status),
            };
            doubt |= error.outcome_unknown;
            // The server's refusal ends the doubt, but for the token's, which is looked at first.
            let refused = !error.reason.is_empty() && error.code() != Code::Unauthenticated;
            error.outcome_unknown |= doubt && (error.retryable || !refused);
            let pause = backoff(failures).max(heeded(error.retry_delay));
            let again = error.retryable && (request.is_repeatable() || !error.outcome_unknown);
            if !again || began.elapsed() + pause >= self.timeout {
                return Err(error);
            }
            if error.code() == Code::DeadlineExceeded {
                self.renew(number);
            }
            sleep(pause).await;
            failures += 1;
        }
    }

    /// The generated stubs, for what is not here: nothing is repeated. The server learns of
    /// `timeout`; of a stream tonic itself bounds by it only the time until the response begins.
    pub fn stubs(&self, timeout: Option<Duration>) -> Stubs {
        self.connection(timeout).0
    }

    /// The stubs, and the number of the channel that they use.
    pub(crate) fn connection(&self, timeout: Option<Duration>) -> (Stubs, u64) {
        let connection = self.connection.lock().unwrap();
        (connection.stubs(timeout), connection.number)
    }

    pub(crate) fn renew(&self, silent: u64) {
        self.connection.lock().unwrap().renew(silent);
    }

    /// Tells of the goodbyes from now on.
    pub(crate) fn goodbyes(&self) -> watch::Receiver<()> {
        self.session.goodbye.subscribe()
    }

    async fn heartbeats(self) {
        loop {
            // call() has repeated it already; what still fails is not cured by haste.
            let pause = self.heartbeat(Vec::new()).await.unwrap_or(AFTER_FAILURE);
            sleep(pause).await;
        }
    }

    /// Says that the agent is there and what it has read. Returns the time until the next one.
    async fn heartbeat(&self, read_cursors: Vec<Cursor>) -> Result<Duration, Error> {
        let request = HeartbeatRequest { read_cursors, ..Default::default() };
        let beat = self.call(request, async |mut stubs, it| stubs.bus.heartbeat(it).await).await?;
        let asked = duration(beat.heartbeat_interval);
        let interval = if asked.is_zero() { USUAL_PAUSE } else { asked };
        Ok(interval.clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
    }
}

/// 50 ms doubling to 2 s, half of it at random, so that clients do not come back all at once.
pub(crate) fn backoff(failures: u32) -> Duration {
    let longest = 2_000.min(50 << failures.min(6));
    Duration::from_millis(longest / 2 + random() % (longest / 2))
}

/// The pause that a server asks for, as far as it is heeded.
pub(crate) fn heeded(delay: Duration) -> Duration {
    delay.min(Duration::from_secs(60))
}

/// As the server sends them; 0 when negative.
pub(crate) fn duration(duration: Option<prost_types::Duration>) -> Duration {
    duration.unwrap_or_default().try_into().unwrap_or_default()
}

/// 256 bits that nobody can guess.
fn new_token() -> String {
    (0..4).map(|_| format!("{:016x}", random())).collect()
}

/// Ids that ascend are stored the quickest, so it begins with the time.
fn new_request_id() -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
    format!("{now:012x}-{:016x}", random())
}

fn random() -> u64 {
    getrandom::u64().expect("the system has no randomness")
}
