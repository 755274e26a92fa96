//! The members of one service by what is known of its slices and leases.
//! Must not read a clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use super::super::{Member, Query};
use super::objects::{Held, Listed, read_lease, read_slice};

/// One moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: SystemTime,
}

/// A copy of one service's objects, as large as they are.
#[derive(Debug)]
pub(super) struct Roster {
    skew: Duration,
    slices: HashMap<String, Listed>,
    leases: HashMap<String, Life>,
    /// The source is away: nothing that it does not say may be believed.
    away: bool,
    /// Names that a new list has shown so far.
    listed_slices: HashSet<String>,
    listed_leases: HashSet<String>,
}

#[derive(Debug)]
struct Life {
    held: Held,
    until: Instant,
    /// Looked up once more and found unchanged.
    dead: bool,
}

impl Life {
    fn is_over(&self, now: Instant) -> bool {
        self.dead || now >= self.until
    }
}

impl Roster {
    pub(super) fn new(skew: Duration) -> Self {
        Self {
            skew,
            slices: HashMap::new(),
            leases: HashMap::new(),
            away: false,
            listed_slices: HashSet::new(),
            listed_leases: HashSet::new(),
        }
    }

    /// A slice is there, or has changed.
    pub(super) fn slice(&mut self, slice: &EndpointSlice) {
        self.slices.insert(slice.name_any(), read_slice(slice));
    }

    /// A lease is there, or has changed. At first sight its own time counts, then each change
    /// gives it the whole of its duration from now.
    pub(super) fn lease(&mut self, lease: &Lease, now: Now) {
        let held = read_lease(lease);
        let known = self.leases.get(&lease.name_any());
        let until = match known {
            Some(known) if known.held.renewed == held.renewed => known.until,
            Some(_) => now.instant + held.duration,
            None => now.instant + self.left(&held, now.wall),
        };
        let dead = known.is_some_and(|known| known.dead && known.until == until);
        self.leases
            .insert(lease.name_any(), Life { held, until, dead });
    }

    fn left(&self, held: &Held, now: SystemTime) -> Duration {
        let end = held
            .renewed
            .map(|renewed| renewed + held.duration + self.skew);
        let left = end.and_then(|end| end.duration_since(now).ok());
        left.unwrap_or_default().min(held.duration)
    }

    pub(super) fn slices_changed(&mut self, event: Event<EndpointSlice>, now: Now) {
        match event {
            Event::Init => self.listed_slices.clear(),
            Event::InitApply(slice) => {
                self.listed_slices.insert(slice.name_any());
                self.slice(&slice);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed_slices);
                self.slices.retain(|name, _| listed.contains(name));
                self.back(now.instant);
            }
            Event::Apply(slice) => self.slice(&slice),
            Event::Delete(slice) => {
                self.slices.remove(&slice.name_any());
            }
        }
    }

    pub(super) fn leases_changed(&mut self, event: Event<Lease>, now: Now) {
        match event {
            Event::Init => self.listed_leases.clear(),
            Event::InitApply(lease) => {
                self.listed_leases.insert(lease.name_any());
                self.lease(&lease, now);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed_leases);
                self.leases.retain(|name, _| listed.contains(name));
                self.back(now.instant);
            }
            Event::Apply(lease) => {
                self.lease(&lease, now);
                self.back(now.instant);
            }
            Event::Delete(lease) => {
                self.leases.remove(&lease.name_any());
            }
        }
    }

    /// The source does not answer: nobody is taken for dead meanwhile.
    pub(super) fn lost(&mut self) {
        self.away = true;
    }

    /// It answers again: everyone gets the time to renew, which nobody could.
    fn back(&mut self, now: Instant) {
        if std::mem::take(&mut self.away) {
            for life in self.leases.values_mut().filter(|life| !life.dead) {
                life.until = life.until.max(now + life.held.duration);
            }
        }
    }

    /// What is over now has been looked up: it need not be asked for again.
    pub(super) fn forget_dead(&mut self, now: Instant) {
        for life in self.leases.values_mut() {
            life.dead |= life.is_over(now);
        }
    }

    /// When the next member may be dead; nothing while the source is away.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let living = self.leases.values().filter(|life| !life.dead);
        let next = living.map(|life| life.until).min();
        next.filter(|_| !self.away)
    }

    /// The members that a query wants, by name.
    pub(super) fn members(&self, query: &Query, now: Instant) -> Vec<Member> {
        let mut members: BTreeMap<String, Member> = BTreeMap::new();
        for listed in self.slices.values() {
            let Listed::Endpoints(listed) = listed else {
                continue;
            };
            // One pod may be in two slices, one for each family of addresses.
            for member in listed {
                let known = members.entry(member.instance.clone());
                let known = known.or_insert_with(|| Member::new(&*member.instance, vec![]));
                known.addresses.extend(&member.addresses);
                known.addresses.sort();
                known.addresses.dedup();
            }
        }
        let announced = self
            .slices
            .iter()
            .filter_map(|(name, listed)| match listed {
                Listed::Announced(member) => self.living(name, member, now),
                Listed::Endpoints(_) => None,
            });
        members.extend(announced.map(|member| (member.instance.clone(), member)));
        members.retain(|_, member| query.matches(member));
        members.into_values().collect()
    }

    /// A member of ours with what its lease says, when it has one.
    fn living(&self, name: &str, member: &Member, now: Instant) -> Option<Member> {
        let life = self.leases.get(name)?;
        let lives = if self.away {
            !life.dead
        } else {
            !life.is_over(now)
        };
        lives.then(|| Member {
            load: life.held.load,
            epoch: life.held.epoch,
            ..member.clone()
        })
    }
}
