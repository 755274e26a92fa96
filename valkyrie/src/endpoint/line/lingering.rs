//! Answers that have been written and not yet read by their callers.
//! Must not wait for one: the line looks after them from time to time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::outflow::Outflow;
use super::Open;
use crate::error::Code;

/// Answers at once; beyond it those who answer wait for their callers themselves.
const MOST: usize = 512;

/// How often the line looks while there are any.
pub(super) const SWEEP: Duration = Duration::from_millis(50);

/// An answer counts as open until its caller has it, so that a drain does not cut it off.
pub(super) struct Answer {
    pub(super) send: Outflow,
    pub(super) open: Arc<Open>,
    pub(super) since: Instant,
}

impl Answer {
    fn is_over(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let stopped = std::pin::pin!(self.send.stopped());
        matches!(stopped.poll(&mut context), Poll::Ready(_))
    }
}

#[derive(Default)]
pub(super) struct Lingering {
    state: Mutex<State>,
    begun: Notify,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    /// Whether the line looks after them already.
    watched: bool,
    /// The line is over: nothing is kept, since answers hold it.
    over: bool,
}

impl Lingering {
    /// Keeps an answer, or gives it back when there are too many.
    pub(super) fn keep(&self, answer: Answer) -> Option<Answer> {
        let mut state = self.state.lock();
        if state.over {
            return None;
        }
        if state.answers.len() >= MOST {
            return Some(answer);
        }
        state.answers.push_back(answer);
        if !state.watched {
            state.watched = true;
            self.begun.notify_one();
        }
        None
    }

    /// Returns when there are answers that nobody looks after.
    pub(super) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Lets go of the oldest answers that have been read, in passing.
    pub(super) fn pass(&self) {
        let mut done = [const { None }; 2];
        let mut state = self.state.lock();
        for done in &mut done {
            if state.answers.front().is_some_and(Answer::is_over) {
                *done = state.answers.pop_front();
            }
        }
        // Only then: letting go of one changes the line.
        drop(state);
    }

    /// Lets go of all that have been read, and resets those that wait for too long: gives how
    /// many these were, and whether any are left.
    pub(super) fn sweep(&self, stall: Duration, now: Instant) -> (usize, bool) {
        let mut state = self.state.lock();
        let answers = std::mem::take(&mut state.answers);
        let waits = |it: &Answer| !it.is_over() && now.duration_since(it.since) < stall;
        let (kept, done): (Vec<_>, Vec<_>) = answers.into_iter().partition(waits);
        state.answers = kept.into();
        state.watched = !state.answers.is_empty();
        let left = state.watched;
        drop(state);
        let mut stalled = 0;
        for mut answer in done {
            if !answer.is_over() {
                stalled += 1;
                answer.send.reset(Code::ResourceExhausted);
            }
            drop(answer.open);
        }
        (stalled, left)
    }

    /// Keeps nothing any more.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.over = true;
        let answers = std::mem::take(&mut state.answers);
        drop(state);
        drop(answers);
    }
}
