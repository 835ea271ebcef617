//! Where requests go: address, path, headers, TLS.

use std::{fmt, io};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// One path of one server.
pub struct Endpoint {
    host: String,
    port: u16,
    path: Uri,
    headers: HeaderMap,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

#[cfg(feature = "tls")]
struct Tls {
    connector: tokio_rustls::TlsConnector,
    name: rustls_pki_types::ServerName<'static>,
}

impl Endpoint {
    /// `url` gives scheme, host and port; `headers` are `Name: value` lines.
    pub fn new(url: &str, path: &str, headers: &[String]) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("--url {url}"))?;
        let host = uri
            .host()
            .with_context(|| format!("--url {url}: no host"))?
            .trim_matches(['[', ']'])
            .to_owned();
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("--url {url}: neither http:// nor https://"),
        };
        #[cfg(not(feature = "tls"))]
        ensure!(!secure, "--url {url}: built without the feature `tls`");
        ensure!(path.starts_with('/'), "--path {path}: must begin with /");
        let prefix = uri.path().trim_end_matches('/');
        let path = format!("{prefix}{path}");
        let mut map = HeaderMap::new();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        map.insert(HOST, HeaderValue::from_str(authority)?);
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        map.insert(USER_AGENT, HeaderValue::from_static("coldread-loadtest"));
        for line in headers {
            // The value may be a secret: it stays out of the message.
            let (name, value) = line
                .split_once(':')
                .context("--header must be `Name: value`")?;
            let name: HeaderName = name.trim().parse().context("--header: not a name")?;
            let value = HeaderValue::from_str(value.trim())
                .with_context(|| format!("--header {name}: not a value"))?;
            map.insert(name, value);
        }
        Ok(Self {
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: path.parse().with_context(|| format!("--path {path}"))?,
            headers: map,
            #[cfg(feature = "tls")]
            tls: secure.then(|| Tls::new(&host)).transpose()?,
            host,
        })
    }

    /// A request with this body.
    pub(super) fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// A new connection; it is driven by a task of this thread.
    pub(super) async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Unreachable> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let stream = tls.connector.connect(tls.name.clone(), stream).await;
            return drive(stream.map_err(Unreachable::tls)?).await;
        }
        drive(stream).await
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why there is no connection, in words that are the same each time.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("no connection")]
    NoConnection,
    #[cfg(feature = "tls")]
    #[error("certificate rejected: {0}")]
    Certificate(&'static str),
    #[cfg(feature = "tls")]
    #[error("no TLS connection")]
    Tls,
}

impl From<io::Error> for Unreachable {
    fn from(_: io::Error) -> Self {
        Self::NoConnection
    }
}

#[cfg(feature = "tls")]
impl Unreachable {
    fn tls(error: io::Error) -> Self {
        use tokio_rustls::rustls::{CertificateError as Bad, Error};
        match error
            .into_inner()
            .map(<dyn std::error::Error + Send + Sync>::downcast::<Error>)
        {
            Some(Ok(error)) => match *error {
                Error::InvalidCertificate(bad) => Self::Certificate(match bad {
                    Bad::Expired | Bad::ExpiredContext { .. } => "it has expired",
                    Bad::NotValidYet | Bad::NotValidYetContext { .. } => "it is not valid yet",
                    Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                        "it is made out to another name"
                    }
                    Bad::UnknownIssuer => {
                        "it is not signed by a trusted authority (SSL_CERT_FILE adds authorities)"
                    }
                    Bad::BadSignature => "its signature is wrong",
                    Bad::Revoked => "it is revoked",
                    _ => "it is not valid",
                }),
                _ => Self::Tls,
            },
            _ => Self::NoConnection,
        }
    }
}

async fn drive(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> Result<SendRequest<Full<Bytes>>, Unreachable> {
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Unreachable::NoConnection)?;
    tokio::task::spawn_local(async move {
        // Its end shows in the request that is under way, if any.
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(feature = "tls")]
impl Tls {
    fn new(host: &str) -> Result<Self> {
        use tokio_rustls::rustls::crypto::ring;
        use tokio_rustls::rustls::{ClientConfig, RootCertStore};
        let mut roots = RootCertStore::empty();
        let (added, _) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        ensure!(
            added > 0,
            "this machine has no certificate authorities installed; name a file with SSL_CERT_FILE"
        );
        let config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            connector: tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)),
            name: rustls_pki_types::ServerName::try_from(host.to_owned())
                .with_context(|| format!("{host}: not a name of a server"))?,
        })
    }
}
