//! Plain connections: TCP and Unix sockets, and whatever is spoken over them.
//! Must not read or change a byte of what passes.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use super::proxy::{ProxyInfo, proxy_header};
use super::{Adapter, AdapterError, Capabilities, Duplex, OpenContext};

/// How long a connection may take when the caller has set no deadline.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections to `host:port`.
#[derive(Clone, Debug)]
pub struct TcpAdapter {
    name: &'static str,
    proxy_header: bool,
}

impl TcpAdapter {
    /// For targets of this scheme; with `proxy_header` the service is told who asks and must
    /// expect it.
    pub fn new(name: &'static str, proxy_header: bool) -> Self {
        Self { name, proxy_header }
    }
}

#[async_trait]
impl Adapter for TcpAdapter {
    fn name(&self) -> &str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.proxy_header)
    }

    async fn open(
        &self,
        target: &str,
        context: &OpenContext,
    ) -> Result<Box<dyn Duplex>, AdapterError> {
        let port = target.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            return Err(wrong(self.name, target));
        }
        in_time(target, context, async {
            let mut stream = TcpStream::connect(target).await?;
            stream.set_nodelay(true)?;
            announce(&mut stream, self.proxy_header, context).await?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
        .await
    }
}

/// Connections to a Unix socket, by its absolute path.
#[derive(Clone, Debug)]
pub struct UnixAdapter {
    name: &'static str,
    proxy_header: bool,
}

impl UnixAdapter {
    /// As [`TcpAdapter::new`].
    pub fn new(name: &'static str, proxy_header: bool) -> Self {
        Self { name, proxy_header }
    }
}

#[async_trait]
impl Adapter for UnixAdapter {
    fn name(&self) -> &str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.proxy_header)
    }

    async fn open(
        &self,
        target: &str,
        context: &OpenContext,
    ) -> Result<Box<dyn Duplex>, AdapterError> {
        if !target.starts_with('/') {
            return Err(wrong(self.name, target));
        }
        in_time(target, context, async {
            let mut stream = UnixStream::connect(target).await?;
            announce(&mut stream, self.proxy_header, context).await?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
        .await
    }
}

fn capabilities(proxy_header: bool) -> Capabilities {
    Capabilities {
        half_close: true,
        transparent: true,
        context: proxy_header,
    }
}

pub(super) fn wrong(adapter: &str, target: &str) -> AdapterError {
    AdapterError::Target {
        adapter: adapter.to_owned(),
        target: target.to_owned(),
    }
}

async fn announce(
    stream: &mut (impl AsyncWriteExt + Unpin),
    wanted: bool,
    context: &OpenContext,
) -> io::Result<()> {
    if wanted {
        let info = ProxyInfo::new(context, Instant::now());
        stream.write_all(&proxy_header(&info)).await?;
    }
    Ok(())
}

/// Opens by the caller's deadline, and not later than anyone would wait.
pub(super) async fn in_time(
    target: &str,
    context: &OpenContext,
    connect: impl Future<Output = io::Result<Box<dyn Duplex>>>,
) -> Result<Box<dyn Duplex>, AdapterError> {
    let patience = Instant::now() + PATIENCE;
    let deadline = context.deadline.map_or(patience, |it| it.min(patience));
    if deadline <= Instant::now() {
        return Err(AdapterError::Deadline(target.to_owned()));
    }
    match tokio::time::timeout_at(deadline.into(), connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(AdapterError::Unavailable {
            target: target.to_owned(),
            source,
        }),
        Err(_) => Err(AdapterError::Deadline(target.to_owned())),
    }
}
