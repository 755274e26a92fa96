//! From a service's name to a session, with servers on the loopback of which one dies.
//! Must not pass because a server was reached by another way than the registry.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use valkyrie::endpoint::{
    CallContext, CallError, Code, Dialer, DialerBuilder, Handler, Method, Server,
};
use valkyrie::identity::{Authority, IdentityStore, TrustBundle, TrustDomain};
use valkyrie::registry::{Member, OutlierPolicy, Query, Reach, StaticRegistry};

/// Ends a test that hangs; longer than anything that a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Quiet;

#[async_trait::async_trait]
impl Handler for Quiet {
    async fn call(&self, _: CallContext, _: Method, body: Bytes) -> Result<Bytes, CallError> {
        Ok(body)
    }
}

struct Stage {
    authority: Authority,
    domain: TrustDomain,
    registry: StaticRegistry,
}

impl Stage {
    fn new() -> Self {
        let domain = TrustDomain::parse("example.test").unwrap();
        let day = Duration::from_secs(86_400);
        let authority = Authority::generate(domain.clone(), SystemTime::now(), day).unwrap();
        let registry = StaticRegistry::new(10);
        Self {
            authority,
            domain,
            registry,
        }
    }

    fn identity(&self, path: &str) -> IdentityStore {
        let (id, hour) = (self.domain.member(path).unwrap(), Duration::from_secs(3600));
        let credentials = self
            .authority
            .credentials(&id, &[], SystemTime::now(), hour);
        let bundle = TrustBundle::from_pem(self.domain.clone(), &self.authority.root_pem());
        IdentityStore::new(credentials.unwrap(), bundle.unwrap())
    }

    /// A server and its entry, by which alone it can be found.
    async fn server(&self, instance: &str, load: u16, epoch: u64) -> Server {
        let server = Server::builder(self.identity(instance), Arc::new(Quiet))
            .listen_quic(([127, 0, 0, 1], 0).into())
            .start()
            .await
            .unwrap();
        let mut member = Member::new(instance, vec![server.local_addr().unwrap()]);
        (member.load, member.epoch) = (load, epoch);
        let now = Instant::now();
        self.registry.insert("hub", member, None, now).unwrap();
        server
    }

    fn reach(&self) -> Reach {
        let policy = OutlierPolicy {
            failures: 1,
            base: PATIENCE * 10,
            ..OutlierPolicy::default()
        };
        let registry = Arc::new(self.registry.clone());
        let reach = Reach::new(registry, Query::service("hub"), policy);
        reach.attempt(Duration::from_secs(5))
    }

    fn dial(&self, member: &Member) -> DialerBuilder {
        let peer = self.domain.member(&member.instance).unwrap();
        let dialer = Dialer::builder(self.identity("anna"));
        dialer.quic(member.addresses[0]).expect_peer(peer)
    }

    async fn connected_to(&self, reach: &Reach) -> String {
        let connected = reach.connect(|member| self.dial(member), PATIENCE).await;
        let (member, session) = connected.unwrap();
        session.drain(PATIENCE).await;
        member.instance
    }
}

#[tokio::test]
async fn a_member_that_died_is_left_for_another_one_and_kept_out() {
    let stage = Stage::new();
    let idle = stage.server("hub-idle", 0, 0).await;
    let busy = stage.server("hub-busy", 900, 0).await;
    let reach = stage.reach();
    assert_eq!(stage.connected_to(&reach).await, "hub-idle");

    idle.shutdown(Duration::ZERO).await;
    assert_eq!(stage.connected_to(&reach).await, "hub-busy");
    assert!(reach.is_out("hub-idle") && !reach.is_out("hub-busy"));
    busy.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn the_leader_is_dialed_first_also_when_it_is_busy() {
    let stage = Stage::new();
    let idle = stage.server("hub-idle", 0, 0).await;
    let leads = stage.server("hub-leads", 900, 3).await;
    let reach = stage.reach().prefer_leader();
    assert_eq!(stage.connected_to(&reach).await, "hub-leads");

    leads.shutdown(Duration::ZERO).await;
    assert_eq!(stage.connected_to(&reach).await, "hub-idle");
    assert!(reach.is_out("hub-leads"));
    idle.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_service_without_members_fails_at_the_deadline_and_says_so() {
    let stage = Stage::new();
    let reach = stage.reach();
    let time = Duration::from_millis(50);
    let connected = reach.connect(|member| stage.dial(member), time).await;
    let Err(error) = connected else {
        panic!("nobody is there")
    };
    assert_eq!(error.code, Code::DeadlineExceeded);
    assert!(error.detail.contains("has no members"), "{error}");
}
