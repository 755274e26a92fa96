//! Connections inside one process, with bounded streams like QUIC's.
//! Must not be reachable from outside the process: identities are claimed, not proven.

mod pipe;

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc, watch};

use super::{Ended, RecvHalf, RecvKind, SendHalf, SendKind, StreamError};
use crate::error::CallError;
use crate::identity::SpiffeId;
use crate::wire::{Class, CloseCode};
pub(crate) use pipe::{MemoryRecv, MemorySend};

/// Connections that wait to be accepted; when full, dialers wait.
const BACKLOG: usize = 64;

/// Where memory dialers meet a memory server; cheap to clone.
#[derive(Clone)]
pub struct MemoryHub {
    shared: Arc<Hub>,
}

struct Hub {
    server: SpiffeId,
    listener: Mutex<Option<Listener>>,
    live: Mutex<Vec<Weak<Shared>>>,
}

#[derive(Clone)]
struct Listener {
    accept: mpsc::Sender<Incoming>,
    streams: u32,
}

/// A dialer that wants in.
pub(crate) struct Incoming {
    pub(crate) connection: MemoryConnection,
    pub(crate) claimed: SpiffeId,
}

impl MemoryHub {
    /// A meeting place whose server goes by this id.
    pub fn new(server: SpiffeId) -> Self {
        let hub = Hub {
            server,
            listener: Mutex::default(),
            live: Mutex::default(),
        };
        Self {
            shared: Arc::new(hub),
        }
    }

    /// The id its server goes by.
    pub fn server(&self) -> &SpiffeId {
        &self.shared.server
    }

    /// Breaks every connection, as a network failure would: for tests of resumption.
    pub fn cut(&self) {
        for connection in self
            .shared
            .live
            .lock()
            .drain(..)
            .filter_map(|weak| weak.upgrade())
        {
            connection.end(End::Cut);
        }
    }

    /// Takes over as the server of this hub; each may open up to `streams` to it.
    pub(crate) fn listen(&self, streams: u32) -> mpsc::Receiver<Incoming> {
        let (accept, incoming) = mpsc::channel(BACKLOG);
        *self.shared.listener.lock() = Some(Listener { accept, streams });
        incoming
    }

    /// Connects to the server of this hub.
    pub(crate) async fn connect(
        &self,
        claimed: SpiffeId,
        streams: u32,
    ) -> Result<MemoryConnection, CallError> {
        let nobody = || CallError::unavailable("no server listens on this memory hub");
        let listener = self.shared.listener.lock().clone().ok_or_else(nobody)?;
        let (ours, theirs) = MemoryConnection::pair(streams, listener.streams);
        {
            let mut live = self.shared.live.lock();
            live.retain(|weak| weak.strong_count() > 0);
            live.push(Arc::downgrade(&ours.shared));
        }
        let incoming = Incoming {
            connection: theirs,
            claimed,
        };
        listener.accept.send(incoming).await.map_err(|_| nobody())?;
        Ok(ours)
    }
}

/// One end of a connection.
#[derive(Clone)]
pub(crate) struct MemoryConnection {
    shared: Arc<Shared>,
    /// 0 for the dialing side, 1 for the accepting one.
    side: usize,
}

struct Shared {
    end: watch::Sender<Option<End>>,
    sides: [Side; 2],
}

/// What reaches one side.
struct Side {
    arrive: mpsc::Sender<(MemorySend, MemoryRecv)>,
    arrivals: AsyncMutex<mpsc::Receiver<(MemorySend, MemoryRecv)>>,
    /// Streams that may still be opened towards it.
    credit: Arc<Semaphore>,
}

#[derive(Clone)]
enum End {
    Cut,
    Closed {
        by: usize,
        code: CloseCode,
        reason: String,
    },
}

impl Shared {
    fn end(&self, end: End) {
        self.end.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(end);
            }
            first
        });
        self.sides.iter().for_each(|side| side.credit.close());
    }
}

impl MemoryConnection {
    /// Two ends; the numbers say how many streams may be opened towards each.
    pub(crate) fn pair(to_dialer: u32, to_server: u32) -> (Self, Self) {
        let side = |streams: u32| {
            let (arrive, arrivals) = mpsc::channel(streams as usize);
            let credit = Arc::new(Semaphore::new(streams as usize));
            Side {
                arrive,
                arrivals: AsyncMutex::new(arrivals),
                credit,
            }
        };
        let sides = [side(to_dialer), side(to_server)];
        let shared = Arc::new(Shared {
            end: watch::Sender::new(None),
            sides,
        });
        (
            Self {
                shared: shared.clone(),
                side: 0,
            },
            Self { shared, side: 1 },
        )
    }

    /// Streams in memory do not compete for a link, whatever their class.
    pub(super) async fn open(&self, _class: Class) -> Result<(SendHalf, RecvHalf), StreamError> {
        let far = &self.shared.sides[1 - self.side];
        let credit = far
            .credit
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| StreamError::Lost)?;
        let credit = Arc::new(credit);
        let end = || self.shared.end.subscribe();
        let (send, far_recv) = pipe::pipe(end(), end(), credit.clone());
        let (far_send, recv) = pipe::pipe(end(), end(), credit);
        // Never full: the channel has a place for each stream that has credit.
        far.arrive
            .try_send((far_send, far_recv))
            .map_err(|_| StreamError::Lost)?;
        let send = SendHalf::new(SendKind::Memory(send));
        Ok((send, RecvHalf::new(RecvKind::Memory(recv))))
    }

    pub(super) async fn accept(&self) -> Result<(SendHalf, RecvHalf), StreamError> {
        let mut end = self.shared.end.subscribe();
        let mut arrivals = self.shared.sides[self.side].arrivals.lock().await;
        let (send, recv) = tokio::select! {
            biased;
            _ = end.wait_for(Option::is_some) => return Err(StreamError::Lost),
            arrived = arrivals.recv() => arrived.ok_or(StreamError::Lost)?,
        };
        let send = SendHalf::new(SendKind::Memory(send));
        Ok((send, RecvHalf::new(RecvKind::Memory(recv))))
    }

    /// A memory peer has been allowed its streams from the start.
    pub(super) fn admit(&self, _streams: u32) {}

    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        self.shared.end(End::Closed {
            by: self.side,
            code,
            reason: reason.to_owned(),
        });
    }

    pub(super) async fn closed(&self) -> Ended {
        let mut end = self.shared.end.subscribe();
        match end
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|end| end.clone())
        {
            Some(End::Closed { by, code, reason }) => Ended::Closed {
                code,
                by_peer: by != self.side,
                reason,
            },
            Some(End::Cut) | None => Ended::Broken("cut".to_owned()),
        }
    }
}
