//! Those who wait in one class: fair among tenants, in order inside one.
//! Must not know budgets: it says whose turn it is.

use std::collections::{HashMap, VecDeque};

use super::{QUANTUM, Tenant};

/// What somebody wants to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) ticket: u64,
    pub(super) stream: u64,
    pub(super) bytes: u64,
}

/// The wishes of one class.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) tenants: HashMap<Tenant, Line>,
    /// Tenants with wishes, the one whose turn it is first.
    pub(super) turns: VecDeque<Tenant>,
    pub(super) count: usize,
}

/// The wishes of one tenant.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) wishes: VecDeque<Wish>,
    deficit: u64,
}

impl Queue {
    pub(super) fn add(&mut self, tenant: Tenant, wish: Wish) {
        let line = self.tenants.entry(tenant).or_default();
        if line.wishes.is_empty() {
            self.turns.push_back(tenant);
        }
        line.wishes.push_back(wish);
        self.count += 1;
    }

    /// Takes a wish back, if it still waits.
    pub(super) fn remove(&mut self, tenant: Tenant, ticket: u64) {
        let Some(line) = self.tenants.get_mut(&tenant) else {
            return;
        };
        let before = line.wishes.len();
        line.wishes.retain(|wish| wish.ticket != ticket);
        self.count -= before - line.wishes.len();
        if line.wishes.is_empty() {
            self.tenants.remove(&tenant);
            self.turns.retain(|turn| *turn != tenant);
        }
    }

    /// Whose turn it is, and the wish.
    pub(super) fn first(&self) -> Option<(Tenant, Wish)> {
        let tenant = *self.turns.front()?;
        let wish = self.tenants.get(&tenant)?.wishes.front().copied()?;
        Some((tenant, wish))
    }

    /// Whoever's turn it is cannot send now.
    pub(super) fn skip(&mut self) {
        if !self.turns.is_empty() {
            self.turns.rotate_left(1);
        }
    }

    /// Takes the wish whose turn it is; each tenant sends about a quantum before the next one's
    /// turn.
    pub(super) fn take(&mut self) -> Option<(Tenant, Wish)> {
        let tenant = *self.turns.front()?;
        let line = self.tenants.get_mut(&tenant)?;
        let wish = line.wishes.pop_front()?;
        self.count -= 1;
        line.deficit += wish.bytes;
        if line.wishes.is_empty() {
            self.tenants.remove(&tenant);
            self.turns.pop_front();
        } else if line.deficit >= QUANTUM {
            line.deficit -= QUANTUM;
            self.turns.rotate_left(1);
        }
        Some((tenant, wish))
    }

    /// The first wish of each tenant.
    pub(super) fn firsts(&self) -> impl Iterator<Item = (Tenant, Wish)> {
        let first = |(tenant, line): (&Tenant, &Line)| Some((*tenant, *line.wishes.front()?));
        self.tenants.iter().filter_map(first)
    }
}
