use std::{
    mem,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use threadbus_proto::{
    Unary,
    v1::{
        Cursor, EndSessionRequest, GetServerInfoRequest, HeartbeatRequest, JoinStart,
        JoinThreadRequest, JoinThreadResponse, PostMessageRequest, PostMessageResponse,
        RegisterAgentRequest,
    },
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{
    Code, Response, Status,
    metadata::{Ascii, MetadataValue},
};

use crate::{
    Error, Stubs, TlsFiles,
    connection::{Connection, bearer},
    positions::{checked, is_seq},
};

const TIMEOUT: Duration = Duration::from_secs(30); // for a call with its retries
const ATTEMPT: Duration = Duration::from_secs(10); // for one attempt
const AFTER_FAILURE: Duration = Duration::from_secs(5); // to the next heartbeat
const SHORTEST_PAUSE: Duration = Duration::from_millis(500); // between heartbeats
const USUAL_PAUSE: Duration = Duration::from_secs(40); // if the server sets none
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A client of one server. Clones share its connection, its token and its heartbeats.
#[derive(Debug, Clone)]
pub struct ThreadBus {
    connection: Arc<Mutex<Connection>>,
    session: Arc<Session>,
    timeout: Duration,
    traceparent: Option<MetadataValue<Ascii>>,
}

#[derive(Debug, Default)]
struct Session {
    heartbeats: Mutex<JoinSet<()>>, // dropped: aborted
    goodbye: watch::Sender<()>,
}

impl ThreadBus {
    /// Returns a client of the server at HOST, HOST:PORT or unix:PATH. The default port is 7420.
    /// Connections use TLS, but not those to this machine: localhost, 127.0.0.0/8, `::1` and Unix
    /// sockets. `tls://HOST:PORT` and `plaintext://HOST:PORT` say which to use. It connects on the
    /// first call; calls carry the token if there is one. An invalid address is INVALID_ARGUMENT.
    /// Requires a tokio runtime.
    pub fn connect(address: &str, token: Option<&str>) -> Result<Self, Error> {
        Self::connect_with(address, token, &TlsFiles::default())
    }

    /// Returns a client like `connect`, and reads the files for TLS once, now. An invalid file is
    /// INVALID_ARGUMENT.
    pub fn connect_with(
        address: &str,
        token: Option<&str>,
        files: &TlsFiles,
    ) -> Result<Self, Error> {
        let connection = Arc::new(Mutex::new(Connection::new(address, token, files)?));
        Ok(Self { connection, session: Arc::default(), timeout: TIMEOUT, traceparent: None })
    }

    /// Returns the same client with another timeout for calls; the default is 30 s.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Returns the same client whose calls have this traceparent, in place of any other: what they
    /// append has it, such as a `post` or the question of an `ask`. Its format is that of W3C's
    /// header, version 00, and of `Message.traceparent`. If it is empty or not valid, what they
    /// append has none.
    pub fn with_traceparent(&self, traceparent: &str) -> Self {
        // The server ignores one that is not valid, but not all characters can be sent.
        let sent = Some(traceparent).filter(|text| !text.is_empty());
        let traceparent = sent.and_then(|text| text.parse().ok());
        Self { traceparent, ..self.clone() }
    }

    /// Registers `agent`, makes all later calls as that agent, and sends heartbeats at the server's
    /// interval. Use the same token to register the same agent again; without one, the name can be
    /// used only once. Where tokens are required, also pass the agent's token to `connect`.
    pub async fn register(&self, agent: &str, token: Option<&str>) -> Result<(), Error> {
        let token = token.map_or_else(new_token, str::to_owned);
        let authorization = bearer(&token)?;
        let request = RegisterAgentRequest { agent: agent.to_owned(), token, ..Default::default() };
        // With a token generated here, the call may be repeated.
        self.call(request, async |mut stubs, it| stubs.agents.register_agent(it).await).await?;
        {
            let mut connection = self.connection.lock().unwrap();
            connection.token = Some(authorization);
            connection.agent = Some(agent.to_owned());
        }

        // Shares the connection but not the session, whose heartbeats end when the client is
        // dropped.
        let connection = self.connection.clone();
        let bus = Self { connection, session: Arc::default(), timeout: TIMEOUT, traceparent: None };
        let mut heartbeats = JoinSet::new();
        heartbeats.spawn(bus.heartbeats());
        *self.session.heartbeats.lock().unwrap() = heartbeats;
        Ok(())
    }

    /// Joins a thread, which is created if needed. Returns the cursor to follow it from, and its
    /// participants.
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

    /// Posts a message, with retries, and stores it once. Sets the request's `request_id` if it is
    /// empty.
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

    /// Reports what was read: the next `join` continues there.
    pub async fn mark_read(&self, cursor: Cursor) -> Result<(), Error> {
        self.heartbeat(vec![cursor]).await.map(drop)
    }

    /// Ends the session: the agent is offline at once, and its heartbeats and follows end. Any
    /// later call starts a new session; `register` also starts heartbeats again.
    pub async fn goodbye(&self) -> Result<(), Error> {
        // A later call, such as a heartbeat or a retried follow, would start a new session.
        self.session.goodbye.send_replace(());
        let mut heartbeats = mem::take(&mut *self.session.heartbeats.lock().unwrap());
        heartbeats.shutdown().await;
        let request = EndSessionRequest::default();
        self.call(request, async |mut stubs, it| stubs.agents.end_session(it).await).await?;
        Ok(())
    }

    /// Makes any unary call, and retries it until it succeeds or the client's timeout is over. An
    /// attempt whose outcome is unknown is retried only if the request is repeatable. An example of
    /// `method`: `async |mut stubs, request| stubs.threads.get_thread(request).await`.
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
                biased; // otherwise tonic's own timer, which returns CANCELLED, could be first
                () = sleep(limit) => Err(Status::deadline_exceeded("no answer in time")),
                result = method(stubs, request.clone()) => result,
            };
            let mut error = match result {
                Ok(response) => {
                    self.set_answered();
                    return Ok(response.into_inner());
                }
                Err(status) => self.told(status.into()),
            };
            doubt |= error.outcome_unknown;
            // A refusal by the server settles earlier attempts, except UNAUTHENTICATED.
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

    /// Returns the generated stubs, which do not retry. `timeout` is sent to the server; for a
    /// stream, tonic itself applies it only until the response begins.
    pub fn stubs(&self, timeout: Option<Duration>) -> Stubs {
        self.connection(timeout).0
    }

    /// Returns the stubs, and the number of their channel.
    pub(crate) fn connection(&self, timeout: Option<Duration>) -> (Stubs, u64) {
        let connection = self.connection.lock().unwrap();
        (connection.stubs(self.traceparent.clone(), timeout), connection.number)
    }

    /// Keeps whether the server has responded, and explains the error if it has not.
    pub(crate) fn told(&self, error: Error) -> Error {
        let mut connection = self.connection.lock().unwrap();
        connection.answered |= !error.reason.is_empty();
        if connection.answered { error } else { error.hinted() }
    }

    /// Whether the server has responded to any call.
    pub(crate) fn answered(&self) -> bool {
        self.connection.lock().unwrap().answered
    }

    pub(crate) fn set_answered(&self) {
        self.connection.lock().unwrap().answered = true;
    }

    /// The agent's name; None = not known yet.
    pub(crate) fn agent(&self) -> Option<String> {
        self.connection.lock().unwrap().agent.clone()
    }

    /// Asks the server for the agent's name, if `register` was not called.
    pub(crate) async fn learn_agent(&self) -> Result<(), Error> {
        if self.agent().is_none() {
            let (bus, request) = (self.with_timeout(ATTEMPT), GetServerInfoRequest::default());
            let method = async |mut stubs: Stubs, it| stubs.bus.get_server_info(it).await;
            let info = bus.call(request, method).await?;
            self.connection.lock().unwrap().agent.get_or_insert(info.agent);
        }
        Ok(())
    }

    pub(crate) fn renew(&self, silent: u64) {
        self.connection.lock().unwrap().renew(silent);
    }

    /// Returns a receiver that is notified of later calls of `goodbye`.
    pub(crate) fn goodbyes(&self) -> watch::Receiver<()> {
        self.session.goodbye.subscribe()
    }

    async fn heartbeats(self) {
        loop {
            // call() has already retried it.
            let pause = self.heartbeat(Vec::new()).await.unwrap_or(AFTER_FAILURE);
            sleep(pause).await;
        }
    }

    /// Sends a heartbeat with what was read. Returns the time until the next one.
    async fn heartbeat(&self, read_cursors: Vec<Cursor>) -> Result<Duration, Error> {
        let request = HeartbeatRequest { read_cursors, ..Default::default() };
        let beat = self.call(request, async |mut stubs, it| stubs.bus.heartbeat(it).await).await?;
        let asked = duration(beat.heartbeat_interval);
        let interval = if asked.is_zero() { USUAL_PAUSE } else { asked };
        Ok(interval.clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
    }
}

/// Returns the pause before a retry: 50 ms, doubling up to 2 s, half of it random to spread
/// clients.
pub(crate) fn backoff(failures: u32) -> Duration {
    let longest = 2_000.min(50 << failures.min(6));
    Duration::from_millis(longest / 2 + random() % (longest / 2))
}

/// Limits a delay that the server asked for to a minute.
pub(crate) fn heeded(delay: Duration) -> Duration {
    delay.min(Duration::from_secs(60))
}

/// Converts a duration from the server; 0 if it is unset or negative.
pub(crate) fn duration(duration: Option<prost_types::Duration>) -> Duration {
    duration.unwrap_or_default().try_into().unwrap_or_default()
}

/// Returns 256 random bits in hexadecimal.
fn new_token() -> String {
    (0..4).map(|_| format!("{:016x}", random())).collect()
}

/// Returns a unique id that begins with the time, as ascending ids are stored fastest.
fn new_request_id() -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
    format!("{now:012x}-{:016x}", random())
}

fn random() -> u64 {
    getrandom::u64().expect("the system has no randomness")
}
