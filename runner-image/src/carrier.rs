//! Brings the agent and its token into the job's container: the program by a copy, the token
//! once over a Unix socket.
//! Must not put the token into a file, a variable or a log.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

/// How often a file or socket that will be there in a moment is looked for.
const POLL: Duration = Duration::from_millis(2);
/// A service-account token has about 1 kB.
const MAX_TOKEN: u64 = 16 * 1024;
/// How long the peer may take to read the token.
const HAND_OVER: Duration = Duration::from_secs(5);

/// What went wrong around the carrier. The text is for the people who run the cluster.
#[derive(Debug, Error)]
pub enum CarrierError {
    /// The socket cannot be made.
    #[error("cannot listen on {}: {source}", .path.display())]
    Listen {
        /// Where the socket should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The token file cannot be read.
    #[error("cannot read the token {}: {source}", .path.display())]
    Token {
        /// Where the kubelet puts the token.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The agent never came.
    #[error("no agent asked for the token within {0:?}")]
    NobodyCame(Duration),
    /// The socket is not there, or gave nothing.
    #[error("cannot get the token from {}: {reason}", .path.display())]
    Fetch {
        /// Where the socket should be.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The agent's program cannot be copied.
    #[error("cannot install the agent as {}: {source}", .path.display())]
    Install {
        /// Where the program should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Hands the token in the file `token` to the first peer of `socket`, then returns and removes
/// the socket. The file is read when the peer is there: the kubelet renews it.
///
/// Whoever reaches the socket gets the token. Only the two containers of the pod mount its
/// directory, and the agent fetches the token before it runs any step.
pub async fn serve(socket: &Path, token: &Path, patience: Duration) -> Result<(), CarrierError> {
    let failed = |source| CarrierError::Listen {
        path: socket.to_owned(),
        source,
    };
    let listener = UnixListener::bind(socket).map_err(failed)?;
    // The job's container may run under another user.
    fs::set_permissions(socket, Permissions::from_mode(0o666)).map_err(failed)?;
    let deadline = Instant::now() + patience;
    let handed = tokio::time::timeout_at(deadline, async {
        loop {
            let (peer, _) = listener.accept().await.map_err(failed)?;
            match hand_over(peer, token).await? {
                Ok(uid) => {
                    tracing::info!(uid, "the agent has its token");
                    return Ok(());
                }
                Err(error) => tracing::warn!(%error, "a peer went away before it had the token"),
            }
        }
    })
    .await;
    // Nothing depends on the file: a second peer finds no listener either way.
    let _ = fs::remove_file(socket);
    handed.unwrap_or(Err(CarrierError::NobodyCame(patience)))
}

/// The outer error is ours and final, the inner one the peer's.
async fn hand_over(mut peer: UnixStream, token: &Path) -> Result<io::Result<u32>, CarrierError> {
    let content = fs::read(token).map_err(|source| CarrierError::Token {
        path: token.to_owned(),
        source,
    })?;
    let handed = tokio::time::timeout(HAND_OVER, async {
        let uid = peer.peer_cred()?.uid();
        peer.write_all(&content).await?;
        peer.shutdown().await?;
        // The peer answers with one byte, so a peer that died is told from one that has it.
        peer.read_u8().await?;
        Ok(uid)
    });
    Ok(handed.await.unwrap_or_else(|late| Err(late.into())))
}

/// Gets the token from the carrier, waiting for its socket up to `patience`.
pub async fn fetch(socket: &Path, patience: Duration) -> Result<String, CarrierError> {
    let failed = |reason: String| CarrierError::Fetch {
        path: socket.to_owned(),
        reason,
    };
    let deadline = Instant::now() + patience;
    let mut carrier = loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => break stream,
            Err(error) if Instant::now() >= deadline => return Err(failed(error.to_string())),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    };
    let received = tokio::time::timeout_at(deadline, async {
        let mut token = String::new();
        (&mut carrier)
            .take(MAX_TOKEN)
            .read_to_string(&mut token)
            .await?;
        carrier.write_u8(1).await?;
        Ok::<_, io::Error>(token)
    });
    match received.await {
        Ok(Ok(token)) if token.trim().is_empty() => Err(failed("it is empty".to_owned())),
        Ok(Ok(token)) => Ok(token.trim().to_owned()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("nothing came within {patience:?}"))),
    }
}

/// Copies this program to `destination`, complete and executable in one moment, and returns when
/// the carrier's `socket` is there too: the kubelet starts the job's container then.
pub async fn install(
    destination: &Path,
    socket: &Path,
    patience: Duration,
) -> Result<(), CarrierError> {
    copy_program(destination).map_err(|source| CarrierError::Install {
        path: destination.to_owned(),
        source,
    })?;
    let deadline = Instant::now() + patience;
    while !socket.exists() {
        if Instant::now() >= deadline {
            return Err(CarrierError::Fetch {
                path: socket.to_owned(),
                reason: format!("the carrier has not opened it within {patience:?}"),
            });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

fn copy_program(destination: &Path) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let mut name = destination.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let part = destination.with_file_name(name);
    let copied = fs::copy(program, &part)
        .and_then(|_| fs::set_permissions(&part, Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&part, destination));
    if copied.is_err() {
        let _ = fs::remove_file(&part);
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("token"), "header.body.signature\n").unwrap();
            Self { dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn serve(&self, patience: Duration) -> tokio::task::JoinHandle<Result<(), CarrierError>> {
            let (socket, token) = (self.path("socket"), self.path("token"));
            tokio::spawn(async move { serve(&socket, &token, patience).await })
        }
    }

    #[tokio::test]
    async fn the_token_is_handed_over_once() {
        let place = Place::new();
        let socket = place.path("socket");
        let fetching = tokio::spawn({
            let socket = socket.clone();
            async move { fetch(&socket, PATIENCE).await }
        });
        let serving = place.serve(PATIENCE);
        assert_eq!(fetching.await.unwrap().unwrap(), "header.body.signature");
        serving.await.unwrap().unwrap();
        assert!(!socket.exists());
        let second = fetch(&socket, Duration::ZERO).await.unwrap_err();
        assert!(matches!(second, CarrierError::Fetch { .. }), "{second}");
    }

    #[tokio::test]
    async fn a_peer_that_dies_at_once_does_not_use_the_token_up() {
        let place = Place::new();
        let serving = place.serve(PATIENCE);
        let socket = place.path("socket");
        while !socket.exists() {
            tokio::time::sleep(POLL).await;
        }
        drop(UnixStream::connect(&socket).await.unwrap());
        assert_eq!(
            fetch(&socket, PATIENCE).await.unwrap(),
            "header.body.signature"
        );
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_carrier_gives_up_when_no_agent_comes() {
        let place = Place::new();
        let ended = place.serve(Duration::from_millis(20)).await.unwrap();
        assert!(
            matches!(ended, Err(CarrierError::NobodyCame(_))),
            "{ended:?}"
        );
        assert!(!place.path("socket").exists());
    }

    #[tokio::test]
    async fn a_missing_token_is_told() {
        let place = Place::new();
        fs::remove_file(place.path("token")).unwrap();
        let serving = place.serve(PATIENCE);
        let fetched = fetch(&place.path("socket"), PATIENCE).await;
        assert!(fetched.is_err());
        let ended = serving.await.unwrap().unwrap_err().to_string();
        assert!(ended.contains("cannot read the token"), "{ended}");
    }

    #[tokio::test]
    async fn the_installed_program_is_complete_and_executable() {
        let place = Place::new();
        let (destination, socket) = (place.path("agent"), place.path("socket"));
        fs::write(&destination, "an older one").unwrap();
        let serving = place.serve(PATIENCE);
        install(&destination, &socket, PATIENCE).await.unwrap();
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(fs::read(&destination).unwrap() == own);
        assert_eq!(
            fs::metadata(&destination).unwrap().permissions().mode() & 0o777,
            0o755
        );
        let names = fs::read_dir(place.dir.path()).unwrap().count();
        assert_eq!(names, 3, "agent, token and socket, and no part of a copy");
        fetch(&socket, PATIENCE).await.unwrap();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn installing_fails_when_the_carrier_never_listens() {
        let place = Place::new();
        let error = install(
            &place.path("agent"),
            &place.path("socket"),
            Duration::from_millis(20),
        )
        .await
        .unwrap_err();
        assert!(error.to_string().contains("has not opened it"), "{error}");
    }
}
