//! Chooses among members: the less loaded of two drawn at random (Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing", 2001), without those that fail.
//! Must not draw randomness itself.

use std::collections::HashMap;
use std::time::Instant;

use super::{Member, OutlierPolicy, Outliers};

/// What one call adds to a member's load until a newer word comes from it.
const CALL: u32 = 10;

/// Chooses members and learns from how the calls went.
///
/// ```
/// use std::time::Instant;
/// use valkyrie::registry::{Member, OutlierPolicy, Picker};
///
/// let at = |port| vec![([10, 0, 0, 1], port).into()];
/// let mut busy = Member::new("hub-0", at(1));
/// busy.load = 900;
/// let members = [busy, Member::new("hub-1", at(2))];
///
/// let now = Instant::now();
/// let once = OutlierPolicy { failures: 1, ..OutlierPolicy::default() };
/// let mut picker = Picker::new(once);
/// let chosen = picker.pick(&members, (0.1, 0.9), now).expect("there are members");
/// assert_eq!(chosen.instance, "hub-1", "the less loaded one of both");
/// picker.done("hub-1", true, members.len(), now);
/// let chosen = picker.pick(&members, (0.1, 0.9), now).expect("there are members");
/// assert_eq!(chosen.instance, "hub-0", "the other one is kept out for a while");
/// ```
#[derive(Clone, Debug)]
pub struct Picker {
    outliers: Outliers,
    open: HashMap<String, u32>,
}

impl Picker {
    /// Knows nothing yet.
    pub fn new(policy: OutlierPolicy) -> Self {
        Self {
            outliers: Outliers::new(policy),
            open: HashMap::new(),
        }
    }

    /// One of the members, with two random numbers in 0..1. Counts as a call to it until
    /// [`Picker::done`] says how it went. When all are out, they are all in: a wrong guess is
    /// better than none.
    pub fn pick<'a>(
        &mut self,
        members: &'a [Member],
        random: (f64, f64),
        now: Instant,
    ) -> Option<&'a Member> {
        let mut usable: Vec<_> = members
            .iter()
            .filter(|member| !self.outliers.is_out(&member.instance, now))
            .collect();
        if usable.is_empty() {
            usable = members.iter().collect();
        }
        let first = draw(usable.len(), random.0)?;
        let chosen = match draw(usable.len() - 1, random.1) {
            None => first,
            Some(other) => {
                let second = other + usize::from(other >= first);
                let load = |at: usize| self.load(usable[at]);
                if load(second) < load(first) {
                    second
                } else {
                    first
                }
            }
        };
        let chosen = usable[chosen];
        *self.open.entry(chosen.instance.clone()).or_default() += 1;
        Some(chosen)
    }

    fn load(&self, member: &Member) -> u32 {
        let open = self.open.get(&member.instance).copied().unwrap_or(0);
        u32::from(member.load).saturating_add(open.saturating_mul(CALL))
    }

    /// A call to a member has ended; `failed` when it was the member's fault. `members` is how
    /// many there are now.
    pub fn done(&mut self, instance: &str, failed: bool, members: usize, now: Instant) {
        if let Some(open) = self.open.get_mut(instance) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(instance);
            }
        }
        if failed {
            self.outliers.failed(instance, members, now);
        } else {
            self.outliers.succeeded(instance);
        }
    }

    /// Whether a member is kept out now.
    pub fn is_out(&self, instance: &str, now: Instant) -> bool {
        self.outliers.is_out(instance, now)
    }

    /// The members have changed: forgets what it knew of those that are gone.
    pub fn keep(&mut self, members: &[Member]) {
        let is_there = |instance: &str| members.iter().any(|member| member.instance == instance);
        self.outliers.keep(is_there);
        self.open.retain(|instance, _| is_there(instance));
    }
}

/// A place below `count`, from a random number in 0..1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts of members are small"
)]
fn draw(count: usize, random: f64) -> Option<usize> {
    let at = (random.clamp(0.0, 1.0) * count as f64) as usize;
    (count > 0).then(|| at.min(count - 1))
}
