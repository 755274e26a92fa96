//! A UDP relay between a dialer and a server that can swallow everything.
//! Must not look into the packets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::net::UdpSocket;

use crate::world::local;

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicBool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind(local()).await.unwrap());
        let back = Arc::new(UdpSocket::bind(local()).await.unwrap());
        let address = front.local_addr().unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let dialer = Arc::new(Mutex::new(None));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn({
            let (front, back, open) = (front.clone(), back.clone(), open.clone());
            let dialer = dialer.clone();
            async move {
                let mut buffer = vec![0; 65_536];
                while let Ok((length, from)) = front.recv_from(&mut buffer).await {
                    *dialer.lock() = Some(from);
                    if open.load(Ordering::SeqCst) {
                        let _ = back.send_to(&buffer[..length], server).await;
                    }
                }
            }
        });
        tasks.spawn({
            let open = open.clone();
            async move {
                let mut buffer = vec![0; 65_536];
                while let Ok((length, _)) = back.recv_from(&mut buffer).await {
                    let to = *dialer.lock();
                    if let (true, Some(to)) = (open.load(Ordering::SeqCst), to) {
                        let _ = front.send_to(&buffer[..length], to).await;
                    }
                }
            }
        });
        Self {
            address,
            open,
            tasks,
        }
    }

    /// Lets packets pass, or swallows them.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
        assert_eq!(self.tasks.len(), 2);
    }
}
