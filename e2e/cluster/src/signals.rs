//! Takes a cluster down when the user or the system asks the process to end.
//! It must not act before somebody has armed it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::users;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static ARMED: AtomicUsize = AtomicUsize::new(0);
static THREAD: OnceLock<()> = OnceLock::new();

/// While one of these lives, SIGINT and SIGTERM take the cluster down before the process ends.
#[derive(Debug)]
pub(crate) struct Armed(());

impl Armed {
    pub(crate) fn new() -> Armed {
        ARMED.fetch_add(1, Ordering::SeqCst);
        // Once watched, a signal does nothing else any more, so the thread stays for good.
        THREAD.get_or_init(|| {
            std::thread::spawn(watch);
        });
        Armed(())
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        ARMED.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether the process was asked to end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

fn watch() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else { return };
    let code = runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            return None;
        };
        tokio::select! {
            _ = interrupt.recv() => Some(130),
            _ = terminate.recv() => Some(143),
        }
    });
    let Some(code) = code else { return };
    INTERRUPTED.store(true, Ordering::SeqCst);
    if ARMED.load(Ordering::SeqCst) > 0 {
        eprintln!("interrupted: taking the cluster down ...");
        if let Err(error) = users::leave_at_once() {
            eprintln!("could not take the cluster down: {error:#}");
        }
    }
    std::process::exit(code)
}
