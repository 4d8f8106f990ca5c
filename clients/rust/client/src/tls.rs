use std::{
    fs,
    path::{Path, PathBuf},
};

use tonic::{
    Status,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use crate::address::Address;

/// PEM files for connections with TLS, see
/// [`ThreadBus::connect_with`](crate::ThreadBus::connect_with). They are not used for plaintext.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The certificates to trust. None = the system's.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate, if the server requires one.
    pub client_cert: Option<PathBuf>,
    /// The key of `client_cert`.
    pub client_key: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads the files. Returns None for a plaintext connection.
    pub(crate) fn config(&self, address: &Address) -> Result<Option<ClientTlsConfig>, Status> {
        let identity = match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                return Err(Status::invalid_argument(
                    "client_cert and client_key are given together, or not at all",
                ));
            }
        };
        if !address.secure {
            return Ok(None);
        }
        let mut config = ClientTlsConfig::new();
        config = match &self.ca_file {
            Some(file) => {
                config.ca_certificate(Certificate::from_pem(read("ca_file", file, "CERTIFICATE")?))
            }
            None => config.with_native_roots(),
        };
        if let Some((cert, key)) = identity {
            let cert = read("client_cert", cert, "CERTIFICATE")?;
            config =
                config.identity(Identity::from_pem(cert, read("client_key", key, "PRIVATE KEY")?));
        }
        Ok(Some(config))
    }
}

/// Returns the content of a PEM file that has such an item.
fn read(option: &str, file: &Path, item: &str) -> Result<Vec<u8>, Status> {
    let named = |why: &str| Status::invalid_argument(format!("{option}: {}{why}", file.display()));
    let text = fs::read(file).map_err(|error| named(&format!(": {error}")))?;
    match String::from_utf8_lossy(&text).contains(&format!("{item}-----")) {
        true => Ok(text),
        false => Err(named(&format!(" has no {item} in PEM"))),
    }
}
