use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use threadbus_proto::v1::{
    Cursor, EndSessionRequest, HeartbeatRequest, JoinStart, JoinThreadRequest, JoinThreadResponse,
    PostMessageRequest, PostMessageResponse, RegisterAgentRequest,
};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};
use tonic::{
    Code, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    Error, Stubs,
    stubs::{Headers, bearer, endpoint},
};

const TIMEOUT: Duration = Duration::from_secs(30); // for a call with its repetitions
const ATTEMPT: Duration = Duration::from_secs(10); // for one try of it
const SHORTEST_PAUSE: Duration = Duration::from_millis(100); // between heartbeats
const MAX_READ_CURSORS: usize = 1_000; // in one heartbeat

/// A client of one server. Clones share its connection, its token and its heartbeats.
#[derive(Debug, Clone)]
pub struct ThreadBus {
    shared: Arc<Shared>,
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    channel: Channel,
    /// How many channels there were before.
    generation: u64,
    token: Option<MetadataValue<Ascii>>,
    /// What was read and no heartbeat has reported yet, by thread.
    read: HashMap<String, Cursor>,
    heartbeats: Option<AbortHandle>,
}

impl ThreadBus {
    /// Connects to HOST:PORT or unix:PATH, at the first call. To be called in a tokio runtime.
    /// With a registered agent's token there is no need to register.
    pub fn connect(address: &str, token: Option<&str>) -> Result<Self, Error> {
        let endpoint = endpoint(address)?;
        let state = State {
            channel: endpoint.connect_lazy(),
            generation: 0,
            token: token.map(bearer).transpose()?,
            read: HashMap::new(),
            heartbeats: None,
        };
        let state = Mutex::new(state);
        Ok(Self { shared: Arc::new(Shared { endpoint, state }), timeout: TIMEOUT })
    }

    /// The same client, but its calls give up after `timeout` instead of 30 s.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { shared: self.shared.clone(), timeout }
    }

    /// Calls as `agent` from now on, and says at the server's interval that it is there. With the
    /// same token it is the same agent the next time; without, the name can be used once.
    pub async fn register(&self, agent: &str, token: Option<&str>) -> Result<(), Error> {
        let token = token.map_or_else(new_token, str::to_owned);
        let authorization = bearer(&token)?;
        let agent = agent.to_owned();
        let request = RegisterAgentRequest { agent, token, ..Default::default() };
        // With a token of our making it is safe to repeat.
        self.call(request, |mut stubs, request| async move {
            stubs.agents.register_agent(request).await
        })
        .await?;

        let mut state = self.state();
        state.end_heartbeats();
        state.token = Some(authorization);
        let task = tokio::spawn(heartbeats(Arc::downgrade(&self.shared)));
        state.heartbeats = Some(task.abort_handle());
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
        self.call(
            request,
            |mut stubs, request| async move { stubs.threads.join_thread(request).await },
        )
        .await
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
        self.call(
            request,
            |mut stubs, request| async move { stubs.bus.post_message(request).await },
        )
        .await
    }

    /// Tells what was read: the next `join` goes on from there.
    pub async fn mark_read(&self, cursor: Cursor) -> Result<(), Error> {
        self.state().read.insert(cursor.thread.clone(), cursor);
        self.heartbeat().await.map(drop)
    }

    /// Says goodbye: all know that the agent is gone, and what it follows ends.
    pub async fn goodbye(&self) -> Result<(), Error> {
        self.state().end_heartbeats();
        self.call(EndSessionRequest {}, |mut stubs, request| async move {
            stubs.agents.end_session(request).await
        })
        .await?;
        Ok(())
    }

    /// Any unary call that is safe to repeat, repeated while time may cure its failure. `method`
    /// is such as `|mut stubs, request| async move { stubs.threads.get_thread(request).await }`.
    pub async fn call<Q, A, F>(
        &self,
        request: Q,
        method: impl Fn(Stubs, Q) -> F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let until = Instant::now() + self.timeout;
        let (mut failures, mut doubt) = (0, false);
        loop {
            let limit = ATTEMPT.min(until - Instant::now());
            let (stubs, generation) = self.connection(Some(limit));
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
            error.outcome_unknown |= doubt && error.retryable;
            let pause = backoff(failures).max(error.retry_delay);
            if !error.retryable || Instant::now() + pause >= until {
                return Err(error);
            }
            if error.code() == Code::DeadlineExceeded {
                self.renew(generation);
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

    /// The stubs, and which channel they use.
    pub(crate) fn connection(&self, timeout: Option<Duration>) -> (Stubs, u64) {
        let state = self.state();
        let headers = Headers { token: state.token.clone(), timeout };
        (Stubs::new(state.channel.clone(), headers), state.generation)
    }

    /// What was accepted and then says nothing may do so for long: the next call connects anew.
    /// Calls under way on the silent channel go on.
    pub(crate) fn renew(&self, silent: u64) {
        let mut state = self.state();
        if state.generation == silent {
            state.channel = self.shared.endpoint.connect_lazy();
            state.generation += 1;
        }
    }

    /// Says that the agent is there and what it has read. Returns the time until the next one.
    async fn heartbeat(&self) -> Result<Duration, Error> {
        let read = self.state().read.values().take(MAX_READ_CURSORS).cloned().collect();
        let request = HeartbeatRequest { read_cursors: read, ..Default::default() };
        let result = self
            .call(request.clone(), |mut stubs, request| async move {
                stubs.bus.heartbeat(request).await
            })
            .await;
        // What was not told stays for the next one, but not what was refused.
        if !matches!(&result, Err(error) if error.retryable) {
            self.state().read.retain(|_, cursor| !request.read_cursors.contains(cursor));
        }
        Ok(duration(result?.heartbeat_interval).max(SHORTEST_PAUSE))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_heartbeats(&mut self) {
        if let Some(task) = self.heartbeats.take() {
            task.abort();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.end_heartbeats();
    }
}

/// Sends heartbeats for as long as anybody holds the client.
async fn heartbeats(client: Weak<Shared>) {
    while let Some(shared) = client.upgrade() {
        let bus = ThreadBus { shared, timeout: TIMEOUT };
        // call() has repeated it already; what still fails is not cured by haste.
        let pause = bus.heartbeat().await.unwrap_or(Duration::from_secs(5));
        drop(bus);
        sleep(pause).await;
    }
}

/// 50 ms doubling to 2 s, half of it at random, so that clients do not come back all at once.
pub(crate) fn backoff(failures: u32) -> Duration {
    let longest = 2_000.min(50 << failures.min(6));
    Duration::from_millis(longest / 2 + random() % (longest / 2))
}

/// As the server sends them: never negative.
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
