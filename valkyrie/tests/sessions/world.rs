//! A server and dialers over one of the transports, with an authority of their own.
//! Must not hide what a test is about: it only sets the stage.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use valkyrie::endpoint::{
    CallError, CallOptions, Dialer, DialerBuilder, Limits, Link, MemoryHub, Method, Server,
    Session, TransportKind,
};
use valkyrie::identity::{
    Authority, Clock, Credentials, DenyList, IdentityStore, SpiffeId, TrustBundle, TrustDomain,
};

use crate::lab::{Host, Lab};
use crate::relay::{Relay, StreamRelay, Weather};
use crate::service::Service;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Ends a test that hangs; longer than anything that a loaded machine needs.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"))
}

pub(crate) fn options() -> CallOptions {
    CallOptions::new(Duration::from_secs(50))
}

/// Intervals short enough for a cut to be noticed within a test.
pub(crate) fn quick() -> Limits {
    Limits {
        idle: Duration::from_millis(1500),
        suspect: Duration::from_millis(900),
        keep_alive: Duration::from_millis(300),
        probe: Duration::from_millis(100),
        backoff: (Duration::from_millis(20), Duration::from_millis(200)),
        ..Limits::default()
    }
}

/// What carries a test, and through which network.
#[derive(Clone, Copy)]
pub(crate) struct Stage {
    pub(crate) kind: TransportKind,
    pub(crate) weather: Option<Weather>,
    /// The weather is that of a lab: packets are delayed and lost whatever is above them.
    in_lab: bool,
}

impl From<TransportKind> for Stage {
    fn from(kind: TransportKind) -> Self {
        Self {
            kind,
            weather: None,
            in_lab: false,
        }
    }
}

impl Stage {
    /// 50 ms to and fro, and of packets one in a hundred lost.
    pub(crate) fn far(kind: TransportKind) -> Self {
        let weather = Weather {
            delay: Duration::from_millis(25),
            loss: 100,
        };
        Self {
            kind,
            weather: Some(weather),
            in_lab: false,
        }
    }

    /// The same weather for each packet, which needs a lab.
    pub(crate) fn lossy(kind: TransportKind) -> Self {
        Self {
            in_lab: true,
            ..Self::far(kind)
        }
    }
}

pub(crate) struct World {
    pub(crate) kind: TransportKind,
    pub(crate) authority: Authority,
    pub(crate) hub: MemoryHub,
    pub(crate) service: Arc<Service>,
    pub(crate) limits: Limits,
    pub(crate) server: Option<Server>,
    pub(crate) address: SocketAddr,
    /// By what certificates count, for all.
    pub(crate) clock: Clock,
    /// The server's identity.
    pub(crate) store: Option<IdentityStore>,
    weather: Option<Weather>,
    /// One for each dialer of QUIC, when there is weather.
    relays: Mutex<Vec<Relay>>,
    /// One for all dialers of TCP, when there is weather.
    streams: Option<StreamRelay>,
    /// Dropped last, where it was made.
    lab: Option<Lab>,
}

impl World {
    pub(crate) async fn new(stage: impl Into<Stage>, limits: Limits) -> Self {
        Self::by(Clock::system(), stage, limits).await
    }

    /// The same by this clock.
    pub(crate) async fn by(clock: Clock, stage: impl Into<Stage>, limits: Limits) -> Self {
        let Stage {
            kind,
            weather,
            in_lab,
        } = stage.into();
        let lab = weather.filter(|_| in_lab);
        let lab = lab.map(|weather| Lab::new(weather).expect("there was one before"));
        let weather = weather.filter(|_| !in_lab);
        let domain = TrustDomain::parse("test.example").unwrap();
        let server = domain.member("operator").unwrap();
        let authority = Authority::generate(domain, clock.now(), 24 * HOUR).unwrap();
        let mut world = Self {
            kind,
            authority,
            hub: MemoryHub::new(server),
            service: Service::new(),
            limits,
            server: None,
            address: if in_lab { Lab::any_port() } else { local() },
            clock,
            store: None,
            weather,
            relays: Mutex::default(),
            streams: None,
            lab,
        };
        world.start().await;
        if let (Some(weather), TransportKind::Tcp | TransportKind::WebSocket) = (weather, kind) {
            world.streams = Some(StreamRelay::with(world.address, weather).await);
        }
        world
    }

    /// Starts the server, on the address of the one before it.
    pub(crate) async fn start(&mut self) {
        let identity = self.identity("operator");
        self.store = Some(identity.clone());
        let builder = Server::builder(identity, self.service.clone()).limits(self.limits.clone());
        // A test has one thread: nothing else opens a socket meanwhile.
        let enter = |host| self.lab.iter().for_each(|lab| lab.enter(host));
        enter(Host::Far);
        let server = match self.kind {
            TransportKind::Memory => builder.memory(&self.hub).start().await.unwrap(),
            TransportKind::Quic => {
                let builder = builder.reset_secret(self.authority.reset_secret());
                builder.listen_quic(self.address).start().await.unwrap()
            }
            TransportKind::Tcp | TransportKind::WebSocket => {
                builder.listen_tcp(self.address).start().await.unwrap()
            }
        };
        enter(Host::Near);
        let address = server.local_addr().or(server.tcp_addr());
        self.address = address.unwrap_or(self.address);
        self.server = Some(server);
    }

    /// Packets that were lost in the lab.
    pub(crate) fn lost(&self) -> u64 {
        self.lab.as_ref().map_or(0, Lab::lost)
    }

    pub(crate) fn id(&self, path: &str) -> SpiffeId {
        self.authority.trust_domain().member(path).unwrap()
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        let domain = self.authority.trust_domain().clone();
        TrustBundle::from_pem(domain, &self.authority.root_pem()).unwrap()
    }

    pub(crate) fn credentials(&self, path: &str, life: Duration) -> Credentials {
        let (id, now) = (self.id(path), self.clock.now());
        self.authority.credentials(&id, &[], now, life).unwrap()
    }

    pub(crate) fn identity(&self, path: &str) -> IdentityStore {
        let credentials = self.credentials(path, HOUR);
        IdentityStore::with(Some(credentials), self.bundle(), self.clock.clone())
    }

    /// Denies these peers at the server, and no others.
    pub(crate) fn deny(&self, denied: DenyList) {
        self.store.as_ref().unwrap().replace_denied(denied);
    }

    pub(crate) fn dialer(&self, path: &str) -> DialerBuilder {
        self.dialer_as(self.identity(path), path)
    }

    pub(crate) fn dialer_as(&self, identity: IdentityStore, path: &str) -> DialerBuilder {
        let builder = Dialer::builder(identity)
            .limits(self.limits.clone())
            .expect_peer(self.id("operator"));
        match self.kind {
            TransportKind::Memory => builder.memory(&self.hub, self.id(path)),
            TransportKind::Quic => builder.quic(self.way()),
            TransportKind::Tcp => builder.tcp(self.way()),
            TransportKind::WebSocket => builder.websocket(self.way(), None),
        }
    }

    /// Where a dialer finds the server, or what lies in between.
    fn way(&self) -> SocketAddr {
        match (self.weather, &self.streams) {
            (_, Some(streams)) => streams.address,
            (Some(weather), None) => {
                let relay = Relay::with(self.address, weather);
                let address = relay.address;
                self.relays.lock().push(relay);
                address
            }
            (None, None) => self.address,
        }
    }

    pub(crate) async fn dial(&self, path: &str) -> Session {
        self.dialer(path)
            .connect(Duration::from_secs(50))
            .await
            .unwrap()
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }
}

pub(crate) async fn echo(session: &Session, text: &'static str) -> Result<Bytes, CallError> {
    let body = Bytes::from_static(text.as_bytes());
    session
        .call(crate::service::ECHO, body, options().idempotent())
        .await
}

pub(crate) async fn call(session: &Session, method: Method) -> Result<Bytes, CallError> {
    session.call(method, Bytes::new(), options()).await
}

/// Waits until something counted has reached this.
pub(crate) async fn counted(what: &str, counter: &valkyrie::metrics::Counter, least: u64) {
    in_time(what, async {
        while counter.value() < least {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) async fn link(session: &Session, wanted: Link) {
    let mut links = session.link();
    in_time("a link state", links.wait_for(|link| *link == wanted))
        .await
        .unwrap();
}
