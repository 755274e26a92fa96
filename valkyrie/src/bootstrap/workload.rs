//! An identity from the SPIFFE Workload API: gRPC over a Unix socket, pushed anew before it ends
//! (SPIFFE Workload API specification, section 5.2; SPIFFE Workload Endpoint, sections 3 to 6).
//! Must not show anything to the endpoint: the socket proves who asks.

use async_trait::async_trait;
use bytes::Bytes;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::Mutex;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Bootstrap, BootstrapError, Issued};
use crate::error::{CallError, Code};
use crate::identity::{Credentials, IdentityError, IdentityStore, TrustBundle, certificates};

/// Where workloads find the address, by the specification.
const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";
const METHOD: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// Without it an endpoint refuses: a request that was forged through a server lacks it.
const HEADER: &str = "workload.spiffe.io";
/// Largest message: the bundles of many federated domains.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// The Workload API of a SPIRE agent, or of another implementation, as a source of identities. The
/// first of several identities is taken, as the specification says for those who need one.
#[derive(Debug)]
pub struct WorkloadApi {
    socket: String,
    stream: Mutex<Option<Streaming<X509SvidResponse>>>,
}

impl WorkloadApi {
    /// Asks at this address: `unix:///run/spire/agent.sock`.
    ///
    /// # Errors
    /// When it is not the address of a Unix socket.
    pub fn new(socket: impl Into<String>) -> Result<Self, BootstrapError> {
        let socket = socket.into();
        if !socket.starts_with("unix:/") {
            return Err(BootstrapError::Source {
                what: format!("the address {socket:?} of the Workload API"),
                why: "it must begin with unix:/ and name a socket".to_owned(),
            });
        }
        Ok(Self {
            socket,
            stream: Mutex::default(),
        })
    }

    /// Asks at the address in `SPIFFE_ENDPOINT_SOCKET`.
    ///
    /// # Errors
    /// When the variable is missing, or as [`WorkloadApi::new`].
    pub fn from_environment() -> Result<Self, BootstrapError> {
        let socket = std::env::var(VARIABLE).map_err(|error| BootstrapError::Source {
            what: VARIABLE.to_owned(),
            why: error.to_string(),
        })?;
        Self::new(socket)
    }

    async fn open(&self) -> Result<Streaming<X509SvidResponse>, BootstrapError> {
        let far = |error: tonic::transport::Error| {
            let detail = format!("the Workload API at {} is not there: {error}", self.socket);
            BootstrapError::Unreachable(CallError::unavailable(detail))
        };
        let channel = Endpoint::new(self.socket.clone()).map_err(far)?;
        let channel: Channel = channel.connect().await.map_err(far)?;
        let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
        client.ready().await.map_err(far)?;
        let mut request = Request::new(X509SvidRequest {});
        let header = MetadataValue::from_static("true");
        request.metadata_mut().insert(HEADER, header);
        let codec: ProstCodec<X509SvidRequest, X509SvidResponse> = ProstCodec::default();
        let path = PathAndQuery::from_static(METHOD);
        let reply = client.server_streaming(request, path, codec).await;
        Ok(reply.map_err(|status| failed(&status))?.into_inner())
    }

    /// The next message; the stream is opened when there is none.
    async fn message(&self) -> Result<Issued, BootstrapError> {
        let mut stream = self.stream.lock().await;
        if stream.is_none() {
            *stream = Some(self.open().await?);
        }
        let received = match stream.as_mut() {
            Some(open) => open.message().await,
            None => Ok(None),
        };
        match received {
            Ok(Some(message)) => message.issued(),
            Ok(None) => {
                *stream = None;
                let ended = CallError::unavailable("the Workload API has ended the stream");
                Err(BootstrapError::Unreachable(ended))
            }
            Err(status) => {
                *stream = None;
                Err(failed(&status))
            }
        }
    }
}

#[async_trait]
impl Bootstrap for WorkloadApi {
    fn name(&self) -> &'static str {
        "spiffe"
    }

    async fn first(&self) -> Result<Issued, BootstrapError> {
        self.message().await
    }

    async fn next(&self, store: &IdentityStore) -> Result<Issued, BootstrapError> {
        loop {
            let issued = self.message().await?;
            // A stream that was opened again begins with what is known.
            let known = store.credentials().is_some_and(|present| {
                present.serial() == issued.credentials.serial()
                    && present.key() == issued.credentials.key()
            });
            if !known || store.bundle().to_pem() != issued.bundle.to_pem() {
                return Ok(issued);
            }
        }
    }
}

/// `InvalidArgument` is final by the specification; `PermissionDenied` says that no identity is
/// registered, which may yet come.
fn failed(status: &Status) -> BootstrapError {
    let detail = format!("the Workload API: {} ({})", status.message(), status.code());
    match status.code() {
        tonic::Code::InvalidArgument => {
            BootstrapError::Refused(CallError::new(Code::InvalidArgument, detail))
        }
        _ => BootstrapError::Unreachable(CallError::unavailable(detail)),
    }
}

/// `X509SVIDRequest` of the specification.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct X509SvidRequest {}

/// `X509SVIDResponse` of the specification; its CRLs and federated bundles are not used.
#[derive(Clone, PartialEq, prost::Message)]
struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<X509Svid>,
}

/// `X509SVID` of the specification.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct X509Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    /// The chain in DER, leaf first, one after the other.
    #[prost(bytes = "bytes", tag = "2")]
    x509_svid: Bytes,
    /// The key, PKCS #8 in DER.
    #[prost(bytes = "bytes", tag = "3")]
    x509_svid_key: Bytes,
    /// The roots of the trust domain in DER, one after the other.
    #[prost(bytes = "bytes", tag = "4")]
    bundle: Bytes,
}

/// Never the key.
impl std::fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509Svid")
            .field("spiffe_id", &self.spiffe_id)
            .finish_non_exhaustive()
    }
}

impl X509SvidResponse {
    fn issued(self) -> Result<Issued, BootstrapError> {
        let none = || IdentityError::Certificate("the Workload API gave no identity".to_owned());
        let first = self.svids.into_iter().next().ok_or_else(none)?;
        let key = PrivatePkcs8KeyDer::from(first.x509_svid_key.to_vec());
        let chain = certificates(&first.x509_svid)?;
        let credentials = Credentials::new(chain, PrivateKeyDer::from(key))?;
        if credentials.id().to_string() != first.spiffe_id {
            let other = "its certificate is for another id than it was given as".to_owned();
            return Err(IdentityError::Certificate(other).into());
        }
        let domain = credentials.id().trust_domain().clone();
        let bundle = TrustBundle::from_der(domain, &certificates(&first.bundle)?)?;
        Ok(Issued {
            credentials,
            bundle,
        })
    }
}
