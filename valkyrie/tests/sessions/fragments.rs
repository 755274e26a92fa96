//! A peer that sends one stream in thousands of pieces with gaps between them, so that the receiver
//! has to remember each: quinn would not do so, and no packet is free, so offsets are rewritten
//! where its packets are encrypted. Must not change what other streams carry.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, KeyPair, Keys, PacketKey, Session,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError};
use valkyrie::endpoint::Limits;
use valkyrie::metrics::Refusal;
use valkyrie::wire::varint;

use crate::attacks::{admitted, dropped, open_stream, stage, unharmed};
use crate::intruders::{forged, tls};
use crate::world::in_time;

/// The second stream of the dialing side.
const TORN: u64 = 4;
/// Up to here the stream is whole; offsets from here on have four bytes, before and after.
const WHOLE: u64 = 16_384;

/// A number and its length.
fn number(bytes: &[u8]) -> (u64, usize) {
    let number = varint::decode(bytes).expect("quinn writes the shortest form");
    number.expect("quinn's packets are whole")
}

/// Skips so many numbers; gives the last one.
fn skip(bytes: &mut &mut [u8], count: usize) -> u64 {
    let mut last = 0;
    for _ in 0..count {
        let (value, length) = number(bytes);
        last = value;
        advance(bytes, length);
    }
    last
}

fn advance(bytes: &mut &mut [u8], count: usize) {
    let whole = std::mem::take(bytes);
    *bytes = &mut whole[count..];
}

/// Doubles the distance of each piece of the stream from where it is whole.
fn tear(mut frames: &mut [u8]) {
    while let Some(kind) = frames.first().copied() {
        advance(&mut frames, 1);
        match kind {
            // 0x1f asks for an acknowledgement at once (draft-ietf-quic-ack-frequency).
            0x00 | 0x01 | 0x1e | 0x1f => {}
            0x02 | 0x03 => {
                skip(&mut frames, 2);
                let ranges = skip(&mut frames, 1) as usize;
                let marks = if kind == 0x03 { 3 } else { 0 };
                skip(&mut frames, 1 + 2 * ranges + marks);
            }
            0x10 | 0x12 | 0x13 | 0x14 | 0x16 | 0x17 | 0x19 => drop(skip(&mut frames, 1)),
            0x05 | 0x11 | 0x15 => drop(skip(&mut frames, 2)),
            0x04 => drop(skip(&mut frames, 3)),
            0x18 => {
                skip(&mut frames, 2);
                let id = usize::from(frames[0]);
                advance(&mut frames, 1 + id + 16);
            }
            // The end: nothing follows.
            0x1c | 0x1d => return,
            0x08..=0x0f => {
                let stream = skip(&mut frames, 1);
                if kind & 0x04 != 0 {
                    let (offset, length) = number(frames);
                    if stream == TORN && offset >= WHOLE {
                        let torn = WHOLE + (offset - WHOLE) * 2;
                        let torn = u32::try_from(torn).unwrap() | 0x8000_0000;
                        frames[..length].copy_from_slice(&torn.to_be_bytes());
                    }
                    advance(&mut frames, length);
                }
                if kind & 0x02 == 0 {
                    return;
                }
                let data = skip(&mut frames, 1) as usize;
                advance(&mut frames, data);
            }
            other => panic!("quinn sent a frame of type {other:#x}"),
        }
    }
}

/// rustls's, but for the packets of the application.
struct Tearing(Arc<QuicClientConfig>);

struct TearingSession {
    session: Box<dyn Session>,
    /// Keys that the handshake has given: those of the handshake, then those of the application.
    given: usize,
}

struct TearingKey(Box<dyn PacketKey>);

impl ClientConfig for Tearing {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let session = self.0.clone().start_session(version, name, params)?;
        Ok(Box::new(TearingSession { session, given: 0 }))
    }
}

impl Session for TearingSession {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(
        &self,
    ) -> Option<(Box<dyn quinn_proto::crypto::HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.session.read_handshake(bytes)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn write_handshake(&mut self, bytes: &mut Vec<u8>) -> Option<Keys> {
        let Keys { header, packet } = self.session.write_handshake(bytes)?;
        self.given += 1;
        let KeyPair { local, remote } = packet;
        let local = match self.given {
            1 => local,
            _ => Box::new(TearingKey(local)),
        };
        let packet = KeyPair { local, remote };
        Some(Keys { header, packet })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let KeyPair { local, remote } = self.session.next_1rtt_keys()?;
        let local: Box<dyn PacketKey> = Box::new(TearingKey(local));
        Some(KeyPair { local, remote })
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

impl PacketKey for TearingKey {
    fn encrypt(&self, packet: u64, bytes: &mut [u8], header: usize) {
        let end = bytes.len() - self.0.tag_len();
        tear(&mut bytes[header..end]);
        self.0.encrypt(packet, bytes, header);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.0.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}

#[tokio::test]
async fn a_stream_in_thousands_of_pieces_with_gaps_ends_its_connection_and_no_other() {
    let (world, honest) = stage(Limits::default()).await;
    let tls = tls(Some(forged(&world, |_| {})));
    let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
    let config = quinn::ClientConfig::new(Arc::new(Tearing(crypto)));
    let (connection, _send, _recv) = in_time("admission", admitted(&world, config)).await;
    let (mut send, _echoed) = connection.open_bi().await.unwrap();
    assert_eq!(quinn::VarInt::from(send.id()).into_inner(), TORN);
    // Frames that are good as far as the stream is whole, and a large one that never is.
    let mut whole = open_stream();
    whole.extend_from_slice(&[0x14, 1, 0x80, 1, 0, 0]);
    whole.resize(usize::try_from(WHOLE).unwrap() + 100, 7);
    send.write_all(&whole).await.unwrap();
    let mut pieces = 0;
    while connection.close_reason().is_none() && pieces < 20_000 {
        // Each in a packet of its own.
        let _ = in_time("a piece", send.write_all(&[7])).await;
        tokio::time::sleep(Duration::from_micros(100)).await;
        pieces += 1;
    }
    assert!(pieces > 1000, "after {pieces} pieces");
    let ended = in_time("the end", connection.closed()).await;
    let quinn::ConnectionError::ConnectionClosed(close) = &ended else {
        panic!("{ended}")
    };
    let reason = String::from_utf8_lossy(close.reason.chunk());
    assert!(reason.contains("gaps"), "{ended}");
    dropped(&world, Refusal::Protocol).await;
    unharmed(&honest).await;
}
