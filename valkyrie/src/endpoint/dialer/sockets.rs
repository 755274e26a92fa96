//! The UDP sockets that QUIC is dialed from.
//! Must not be used on two runtimes: a socket is served by the one on which it was first used.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::endpoint::CallError;
use crate::transport::quic;

/// Sockets that dialers of one process share; cheap to clone. A dialer that is given none has its
/// own. Sharing pays for a process with many sessions: a socket costs 0.5 ms to open and close
/// (`cargo xtask bench valkyrie --only handshake`), a file descriptor and buffers of some megabytes.
#[derive(Clone, Default)]
pub struct Sockets {
    /// One for each address family, made when it is first needed.
    open: Arc<Mutex<Vec<quinn::Endpoint>>>,
}

impl Sockets {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The one from which this server can be reached.
    pub(super) fn towards(&self, server: SocketAddr) -> Result<quinn::Endpoint, CallError> {
        let mut open = self.open.lock();
        let same_family = |endpoint: &&quinn::Endpoint| {
            let local = endpoint.local_addr();
            local.is_ok_and(|local| local.is_ipv4() == server.is_ipv4())
        };
        if let Some(endpoint) = open.iter().find(same_family) {
            return Ok(endpoint.clone());
        }
        let endpoint = quic::client_endpoint(server)
            .map_err(|error| CallError::unavailable(format!("no socket to dial from: {error}")))?;
        open.push(endpoint.clone());
        Ok(endpoint)
    }

    /// Returns when everything that was closed has left and nobody uses the sockets.
    pub(super) async fn flushed(&self) {
        let open = self.open.lock().clone();
        for endpoint in open {
            endpoint.wait_idle().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clones_share_one_socket_for_each_address_family() {
        let sockets = Sockets::new();
        let local = |sockets: &Sockets, server: &str| {
            let endpoint = sockets.towards(server.parse().expect("an address"));
            let local = endpoint.expect("a socket").local_addr();
            local.expect("it is bound")
        };
        let first = local(&sockets, "127.0.0.1:1");
        assert_eq!(local(&sockets.clone(), "127.0.0.2:2"), first);
        assert!(local(&sockets, "[::1]:1").is_ipv6());
        assert_eq!(sockets.open.lock().len(), 2);
        assert_ne!(local(&Sockets::new(), "127.0.0.1:1"), first);
    }
}
