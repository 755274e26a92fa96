//! Who uses the machine's cluster: many at once, or one alone; the last scoped one ends it.
//! It must not start the cluster.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::cache::Lock;
use crate::machine;
use crate::signals::{self, Armed};
use crate::state::Layout;

/// A file lock belongs to an open file, not to a process, so all users within this process share
/// one: else they would wait for each other without end.
static USERS: Mutex<Users> = Mutex::new(Users {
    count: 0,
    alone: false,
    lock: None,
});

struct Users {
    count: usize,
    alone: bool,
    lock: Option<Lock>,
}

/// One user of the cluster. When the last one on the machine goes, a scoped cluster ends.
#[derive(Debug)]
pub(crate) struct User {
    _armed: Option<Armed>,
}

impl User {
    /// Joins those who use the cluster; waits while somebody uses it alone. With `scoped`, a
    /// signal ends the use in order.
    pub(crate) async fn join(scoped: bool) -> Result<User> {
        Self::wait(false, scoped).await
    }

    /// Waits until nobody uses the cluster, then keeps all others out.
    pub(crate) async fn join_alone() -> Result<User> {
        Self::wait(true, true).await
    }

    async fn wait(alone: bool, scoped: bool) -> Result<User> {
        let armed = scoped.then(Armed::new);
        let mut told = false;
        while !users().try_join(alone)? {
            if !std::mem::replace(&mut told, true) {
                eprintln!("waiting for others to finish with the test cluster ...");
            }
            if signals::interrupted() {
                bail!("interrupted while waiting for the test cluster");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(User { _armed: armed })
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // A signal has emptied the list already.
        let last = users().leave();
        if let Err(error) = last.and_then(end_if_last) {
            eprintln!("could not take the test cluster down: {error:#}");
        }
    }
}

/// For a process that is told to end: gives up all uses at once.
pub(crate) fn leave_at_once() -> Result<()> {
    machine::await_start(&Layout::machine())?;
    let last = {
        let mut users = users();
        users.count = users.count.min(1);
        users.leave()?
    };
    end_if_last(last)
}

fn end_if_last(lock: Option<Lock>) -> Result<()> {
    match lock {
        Some(_alone) => machine::down_if_scoped(&Layout::machine()),
        None => Ok(()),
    }
}

fn users() -> MutexGuard<'static, Users> {
    // The counts are right after each statement, so a panic elsewhere spoils nothing.
    USERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Users {
    fn try_join(&mut self, alone: bool) -> Result<bool> {
        if self.alone || (alone && self.count > 0) {
            return Ok(false);
        }
        if self.lock.is_none() {
            let path = Layout::machine().use_lock();
            self.lock = if alone {
                Lock::try_exclusive(&path)?
            } else {
                Lock::try_shared(&path)?
            };
        }
        if self.lock.is_none() {
            return Ok(false);
        }
        self.count += 1;
        self.alone = alone;
        Ok(true)
    }

    /// Takes one user off; gives the lock, now exclusive, to the last one on the machine.
    fn leave(&mut self) -> Result<Option<Lock>> {
        if self.count != 1 {
            self.count = self.count.saturating_sub(1);
            return Ok(None);
        }
        self.count = 0;
        let alone = std::mem::take(&mut self.alone);
        let lock = self.lock.take();
        if alone {
            return Ok(lock);
        }
        drop(lock);
        Lock::try_exclusive(&Layout::machine().use_lock())
    }
}
