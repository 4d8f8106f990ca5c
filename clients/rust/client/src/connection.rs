use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use threadbus_proto::v1::{
    agent_service_client::AgentServiceClient, bus_service_client::BusServiceClient,
    thread_service_client::ThreadServiceClient,
};
use tonic::{
    Code, Request, Status,
    body::Body,
    codegen::{Service, http},
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{self, Channel, Endpoint},
};

use crate::{TlsFiles, address::Address, error::deepest};

const MAX_RECEIVE: usize = 16 * 1024 * 1024; // default: 4 MiB
const MAX_WINDOW: u32 = i32::MAX as u32; // the largest of HTTP/2

/// The generated stubs. They do not retry.
#[derive(Debug, Clone)]
pub struct Stubs {
    /// Registration and sessions.
    pub agents: AgentServiceClient<Transport>,
    /// Post, wait, heartbeat, read.
    pub bus: BusServiceClient<Transport>,
    /// Threads and their participants.
    pub threads: ThreadServiceClient<Transport>,
}

/// A channel whose calls carry the token, a traceparent and a deadline.
pub type Transport = InterceptedService<GrpcChannel, Headers>;

/// A channel that converts a proxy's HTTP response to a gRPC status. tonic itself would parse the
/// proxy's page as messages, and return INTERNAL.
#[derive(Debug, Clone)]
pub struct GrpcChannel(Channel);

impl Service<http::Request<Body>> for GrpcChannel {
    type Response = http::Response<Body>;
    type Error = transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async {
            let response = answer.await?;
            let Some(code) = code(response.status().as_u16()) else { return Ok(response) };
            let status = Status::new(code, format!("{HTTP}{}", response.status()));
            Ok(status.into_http())
        })
    }
}

/// The prefix of a status message when a proxy responded.
pub(crate) const HTTP: &str = "HTTP status ";

/// Returns the code for an HTTP status; None for OK. Maps as gRPC does, except for 3xx and 4xx,
/// most of which gRPC maps to INTERNAL or UNKNOWN, as if the outcome were unknown.
fn code(http: u16) -> Option<Code> {
    Some(match http {
        200 => return None,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        408 | 429 | 502..=504 => Code::Unavailable,
        413 => Code::ResourceExhausted,
        300..=499 => Code::FailedPrecondition,
        _ => Code::Unknown,
    })
}

/// The metadata and the deadline of every call.
#[derive(Debug, Clone)]
pub struct Headers {
    token: Option<MetadataValue<Ascii>>,
    traceparent: Option<MetadataValue<Ascii>>,
    timeout: Option<Duration>,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        if let Some(traceparent) = &self.traceparent {
            request.metadata_mut().insert("traceparent", traceparent.clone());
        }
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        Ok(request)
    }
}

/// The current channel, and the current token.
#[derive(Debug)]
pub(crate) struct Connection {
    endpoint: Endpoint,
    channel: Channel,
    /// The number of channels before this one.
    pub number: u64,
    pub token: Option<MetadataValue<Ascii>>,
    /// The agent whose token it is. None = not known yet.
    pub agent: Option<String>,
    /// Whether the server has responded to any call.
    pub answered: bool,
}

impl Connection {
    /// Returns a connection to an address, which connects on the first call. Reads the files.
    pub fn new(address: &str, token: Option<&str>, files: &TlsFiles) -> Result<Self, Status> {
        let parsed = Address::parse(address)?;
        let tls = files.config(&parsed)?;
        let uri = match &parsed.endpoint {
            path if path.starts_with("unix:") => path.clone(),
            endpoint if parsed.secure => format!("https://{endpoint}"),
            endpoint => format!("http://{endpoint}"),
        };
        // tonic does not support proxies and reads none from the environment, so loopback needs no
        // exception. It has no backoff between connection attempts either: each call makes one
        // attempt, and call() and follow() pause between calls.
        let refused = |what: String, error: transport::Error| {
            let cause = deepest(&error).to_string();
            Status::invalid_argument(format!("{what}: {cause}"))
        };
        let mut endpoint = Endpoint::from_shared(uri)
            .map_err(|error| refused(format!("address {address}"), error))?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(30)) // the server allows one every 10 s
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            // With the default, three unread follows of 2 MiB each would block all other calls.
            .initial_connection_window_size(MAX_WINDOW);
        if let Some(config) = tls {
            endpoint = endpoint
                .tls_config(config)
                .map_err(|error| refused(format!("{files:?}"), error))?;
        }
        let (channel, token) = (endpoint.connect_lazy(), token.map(bearer).transpose()?);
        Ok(Self { endpoint, channel, number: 0, token, agent: None, answered: false })
    }

    pub fn stubs(
        &self,
        traceparent: Option<MetadataValue<Ascii>>,
        timeout: Option<Duration>,
    ) -> Stubs {
        let headers = Headers { token: self.token.clone(), traceparent, timeout };
        let transport = InterceptedService::new(GrpcChannel(self.channel.clone()), headers);
        Stubs {
            agents: AgentServiceClient::new(transport.clone())
                .max_decoding_message_size(MAX_RECEIVE),
            bus: BusServiceClient::new(transport.clone()).max_decoding_message_size(MAX_RECEIVE),
            threads: ThreadServiceClient::new(transport).max_decoding_message_size(MAX_RECEIVE),
        }
    }

    /// Replaces a silent channel, as an accepted connection may stay silent for long. The next call
    /// connects; running calls on the old channel continue.
    pub fn renew(&mut self, silent: u64) {
        if self.number == silent {
            self.channel = self.endpoint.connect_lazy();
            self.number += 1;
        }
    }
}

/// Returns the value of the `authorization` metadata.
pub(crate) fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Status> {
    let mut value = MetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Status::invalid_argument("the token has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}
