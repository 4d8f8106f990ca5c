//! Server addresses: their forms, and which of them use TLS.
use std::net::{IpAddr, Ipv6Addr};

use tonic::Status;

const PORT: &str = "7420"; // the default

/// A parsed address.
#[derive(Debug)]
pub(crate) struct Address {
    /// HOST:PORT or unix:PATH.
    pub endpoint: String,
    /// Whether connections use TLS.
    pub secure: bool,
}

impl Address {
    /// Parses HOST, HOST:PORT or unix:PATH. It uses TLS as its scheme, `tls://` or `plaintext://`,
    /// says, or, without one, everywhere but on loopback and Unix sockets.
    pub fn parse(address: &str) -> Result<Self, Status> {
        if address.strip_prefix("unix:").is_some_and(|path| !path.is_empty()) {
            return Ok(Self { endpoint: address.to_owned(), secure: false });
        }
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, address),
        };
        let parts = match scheme {
            None | Some("tls" | "plaintext") => host_and_port(rest),
            _ => None,
        };
        let Some((host, port)) = parts else {
            let hint = match scheme {
                None | Some("tls" | "plaintext") => ", with a PORT from 1 to 65535".to_owned(),
                Some(scheme) => format!(": leave out {scheme}://"),
            };
            return Err(Status::invalid_argument(format!(
                "{address:?} is neither HOST, HOST:PORT nor unix:PATH{hint}"
            )));
        };
        let secure = scheme.map_or_else(|| !is_loopback(&host), |scheme| scheme == "tls");
        Ok(Self { endpoint: format!("{host}:{port}"), secure })
    }
}

/// Splits HOST or HOST:PORT; an IPv6 address with a port is in brackets. Returns it in brackets.
fn host_and_port(text: &str) -> Option<(String, &str)> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((format!("[{text}]"), PORT));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, rest)) => {
            ip.parse::<Ipv6Addr>().ok()?;
            (format!("[{ip}]"), if rest.is_empty() { PORT } else { rest.strip_prefix(':')? })
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, PORT));
            (host.to_owned(), port)
        }
    };
    let named = host.starts_with('[')
        || !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/:[]".contains(c));
    let numbered = port.bytes().all(|digit| digit.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    (named && numbered).then_some((host, port))
}

/// Whether the host is this machine, as spelled: a name may resolve to anything.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || match host.trim_matches(['[', ']']).parse() {
            Ok(IpAddr::V4(ip)) => ip.is_loopback(),
            Ok(IpAddr::V6(ip)) => ip == Ipv6Addr::LOCALHOST,
            Err(_) => false,
        }
}
