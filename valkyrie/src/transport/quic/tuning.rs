//! quinn's settings, each with its reason, and whether to admit a new connection.
//! Must not be widened without measuring: the tests assert every bound.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::limits::Limits;

/// Unread bytes per stream. quinn-proto ends the whole connection when a stream has more than
/// 1024 gaps; below 1 MiB full-size packets cannot make that many.
pub const STREAM_WINDOW: u32 = 512 * 1024;
/// Unread bytes per connection with an authenticated peer; the peer waits beyond it.
pub const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes sent and not acknowledged per connection; writers wait beyond it. One pool for all
/// streams, so it is kept small enough for control frames to get through.
pub const SEND_WINDOW: u64 = 4 * 1024 * 1024;
/// Largest UDP payload tried. quinn sends up to [`SEGMENTS`] packets in one call, and a call
/// over [`MAX_UDP`] bytes is lost without an error.
pub const MTU: u16 = 1452;
/// Packets in one send call (`MAX_TRANSMIT_SEGMENTS` of quinn 0.11).
pub const SEGMENTS: u32 = 10;
/// Largest payload of a UDP datagram over IPv4.
pub const MAX_UDP: u32 = 65_507;
/// Connections waiting for our decision; more are dropped.
pub const MAX_INCOMING: usize = 4096;
/// Bytes kept for one waiting connection; more are dropped.
pub const INCOMING_BUFFER: u64 = 64 * 1024;
/// Bytes kept for all waiting connections; more are dropped.
pub const INCOMING_BUFFERS: u64 = 16 * 1024 * 1024;
/// Socket buffers asked for; the system may give less.
const SOCKET_BUFFER: usize = 2 * 1024 * 1024;

/// The settings of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Streams the peer may open before it is authenticated (every permitted stream costs
    /// memory at once, so not more than a thousand).
    pub streams: u32,
    /// Unread bytes of the connection before the peer is authenticated.
    pub unread: u32,
    /// Interval of QUIC keep-alives; on the dialing side only, one side suffices.
    pub keep_alive: Option<Duration>,
    /// Silence that ends a connection.
    pub idle: Duration,
}

impl Tuning {
    /// For servers: what an anonymous peer may use, until it is authenticated.
    pub fn server(limits: &Limits) -> Self {
        let unread = limits.anonymous_frame * limits.anonymous_streams as usize;
        Self {
            streams: limits.anonymous_streams,
            unread: u32::try_from(unread)
                .unwrap_or(CONNECTION_WINDOW)
                .min(CONNECTION_WINDOW),
            keep_alive: None,
            idle: limits.idle,
        }
    }

    /// For dialers, which check the server in the handshake.
    pub fn client(limits: &Limits) -> Self {
        Self {
            streams: limits.streams,
            unread: CONNECTION_WINDOW,
            keep_alive: Some(limits.keep_alive),
            idle: limits.idle,
        }
    }

    /// quinn's form of these settings.
    pub fn transport_config(&self) -> TransportConfig {
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(MTU);
        let idle = IdleTimeout::try_from(self.idle).unwrap_or(VarInt::MAX.into());
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(self.streams.into())
            .max_concurrent_uni_streams(0u32.into())
            .stream_receive_window(STREAM_WINDOW.into())
            .receive_window(self.unread.into())
            .send_window(SEND_WINDOW)
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(self.keep_alive)
            .mtu_discovery_config(Some(mtu))
            .datagram_receive_buffer_size(None);
        config
    }

    pub(super) fn server_config(
        &self,
        crypto: Arc<quinn::crypto::rustls::QuicServerConfig>,
    ) -> quinn::ServerConfig {
        let mut config = quinn::ServerConfig::with_crypto(crypto);
        config
            .transport_config(Arc::new(self.transport_config()))
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFERS);
        config
    }

    pub(super) fn client_config(
        transport: TransportConfig,
        crypto: Arc<quinn::crypto::rustls::QuicClientConfig>,
    ) -> quinn::ClientConfig {
        let mut config = quinn::ClientConfig::new(crypto);
        config.transport_config(Arc::new(transport));
        config
    }
}

/// What to do with a new connection, before any cryptography.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Begin the handshake.
    Accept,
    /// Let the peer prove its address first.
    Retry,
    /// Turn it away.
    Refuse,
}

/// Decides by the number of handshakes in flight: Retry costs the peer a round trip, so only
/// from an eighth of the cap on.
pub fn admit(in_flight: usize, cap: usize, address_proved: bool) -> Admission {
    if in_flight >= cap {
        Admission::Refuse
    } else if in_flight > cap / 8 && !address_proved {
        Admission::Retry
    } else {
        Admission::Accept
    }
}

/// Asks for larger socket buffers; a refusal costs speed, not correctness.
pub(super) fn widen_buffers(socket: &std::net::UdpSocket) {
    if let Ok(state) = quinn::udp::UdpSocketState::new(socket.into()) {
        let _ = state.set_send_buffer_size(socket.into(), SOCKET_BUFFER);
        let _ = state.set_recv_buffer_size(socket.into(), SOCKET_BUFFER);
    }
}

#[cfg(test)]
mod tests;
