//! From a service's name to a session: resolve, pick, dial, and learn from how that went.
//! Must not know how a member is dialed: its caller says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Member, OutlierPolicy, Picker, Query, Registry, leader};
use crate::endpoint::{CallError, Code, DialerBuilder, Session};

/// How long one member is tried before another one is.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts, so that neither the registry nor a member that refuses is flooded.
const PAUSE: Duration = Duration::from_millis(100);

const NOBODY: &str = "the service has no members";

/// Dials members of a service. Keep one for all dials: it remembers which members fail.
///
/// Failures to dial count against a member, a refusal of this peer does not. Calls are the
/// session's matter: a session whose member is gone is not moved, connect again for that.
///
/// ```no_run
/// use std::sync::Arc;
/// use std::time::{Duration, Instant};
///
/// use valkyrie::endpoint::{Dialer, Session};
/// use valkyrie::identity::IdentityStore;
/// use valkyrie::registry::{Member, OutlierPolicy, Query, Reach, StaticRegistry};
///
/// # async fn hub(identity: IdentityStore) -> Result<Session, Box<dyn std::error::Error>> {
/// let registry = StaticRegistry::new(10);
/// for (name, address) in [("hub-0", "10.0.0.7:4433"), ("hub-1", "10.0.0.8:4433")] {
///     let member = Member::new(name, vec![address.parse()?]);
///     registry.insert("hub", member, None, Instant::now())?;
/// }
/// let policy = OutlierPolicy::default();
/// let reach = Reach::new(Arc::new(registry), Query::service("hub"), policy).prefer_leader();
/// let dial = |member: &Member| Dialer::builder(identity.clone()).quic(member.addresses[0]);
/// let (member, session) = reach.connect(dial, Duration::from_secs(10)).await?;
/// println!("connected to {}", member.instance);
/// # Ok(session) }
/// ```
pub struct Reach {
    registry: Arc<dyn Registry>,
    query: Query,
    picker: Mutex<Picker>,
    attempt: Duration,
    leader: bool,
}

impl Reach {
    /// Of those that the query finds, the less loaded of two drawn at random.
    pub fn new(registry: Arc<dyn Registry>, query: Query, policy: OutlierPolicy) -> Self {
        Self {
            registry,
            query,
            picker: Mutex::new(Picker::new(policy)),
            attempt: ATTEMPT,
            leader: false,
        }
    }

    /// How long one member is tried before another one is; 2 s without it.
    #[must_use]
    pub fn attempt(mut self, attempt: Duration) -> Self {
        self.attempt = attempt;
        self
    }

    /// Goes to the member that leads, as long as one says so and it is not kept out.
    #[must_use]
    pub fn prefer_leader(mut self) -> Self {
        self.leader = true;
        self
    }

    /// Connects to a member, and to another one when that fails, until the deadline. `dial` makes
    /// the dialer of a member from its addresses. Dropping the future gives up.
    ///
    /// # Errors
    /// `DeadlineExceeded` with the last failure when none was reached in time; at once what a
    /// member answered that is not worth another try.
    pub async fn connect(
        &self,
        dial: impl Fn(&Member) -> DialerBuilder,
        deadline: Duration,
    ) -> Result<(Member, Session), CallError> {
        let end = Instant::now() + deadline;
        let mut last = CallError::unavailable(NOBODY);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let detail = format!("no member was reached in time: {}", last.detail);
                return Err(CallError::new(Code::DeadlineExceeded, detail).retryable());
            }
            match self.once(&dial, left.min(self.attempt)).await {
                Ok(connected) => return Ok(connected),
                Err(error) if !error.retryable => return Err(error),
                Err(error) => last = error,
            }
            tokio::time::sleep(left.min(PAUSE)).await;
        }
    }

    /// One member, once.
    async fn once(
        &self,
        dial: &impl Fn(&Member) -> DialerBuilder,
        time: Duration,
    ) -> Result<(Member, Session), CallError> {
        let found = self.registry.resolve(&self.query).await;
        let members = found.map_err(|error| CallError::unavailable(error.to_string()))?;
        let nobody = || CallError::unavailable(NOBODY);
        let member = self.choose(&members).ok_or_else(nobody)?;
        let mut dialing = Dialing {
            reach: self,
            instance: &member.instance,
            members: members.len(),
            failed: false,
        };
        let connected = dial(&member).connect(time).await;
        dialing.failed = connected.as_ref().is_err_and(|error| error.retryable);
        drop(dialing);
        connected.map(|session| (member, session))
    }

    /// Whether a member is kept out now.
    pub fn is_out(&self, instance: &str) -> bool {
        self.picker.lock().is_out(instance, Instant::now())
    }

    fn choose(&self, members: &[Member]) -> Option<Member> {
        let now = Instant::now();
        let mut picker = self.picker.lock();
        picker.keep(members);
        let leader = leader(members).filter(|_| self.leader);
        let leader = leader.filter(|leader| !picker.is_out(&leader.instance, now));
        // The picker counts what is under way, so it chooses also where there is no choice.
        let among = leader.map_or(members, std::slice::from_ref);
        picker.pick(among, rand::random(), now).cloned()
    }
}

/// An attempt, which counts as under way until it is dropped.
struct Dialing<'a> {
    reach: &'a Reach,
    instance: &'a str,
    members: usize,
    failed: bool,
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        let mut picker = self.reach.picker.lock();
        picker.done(self.instance, self.failed, self.members, Instant::now());
    }
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Reach");
        shown.field("query", &self.query).finish_non_exhaustive()
    }
}
