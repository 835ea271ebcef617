//! `--url https://...` against a server whose certificate is good, or is not.

use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::convert::Infallible;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;

const KEY: &str = "a-secret-key";

/// An authority that is trusted where its file is named.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // Another name than the certificates have, which else look as if it had signed them.
    params
        .distinguished_name
        .push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// Serves what needs the key on a port of loopback, until the process ends.
fn serve(params: &CertificateParams, authority: Option<&Issuer<'_, KeyPair>>) -> u16 {
    let key = KeyPair::generate().unwrap();
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority),
        None => params.self_signed(&key),
    };
    let chain: Vec<CertificateDer<'static>> = vec![certificate.unwrap().into()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .await;
                });
            }
        });
    });
    port
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new("{}".to_owned());
    if request
        .headers()
        .get("x-api-key")
        .is_none_or(|key| key != KEY)
    {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
    }
    Ok(response)
}

fn replay(port: u16, authorities: &Path, json: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coldread-loadtest"))
        .args(["trace", "--arrivals", "constant:100", "--duration", "100ms"])
        .args(["--url", &format!("https://localhost:{port}"), "--quiet"])
        .args(["--header", &format!("x-api-key: {KEY}"), "--json"])
        .arg(json)
        .env("SSL_CERT_FILE", authorities)
        .output()
        .unwrap()
}

#[test]
fn certificates_are_checked_and_keys_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (authorities, json) = (folder.path().join("ca.pem"), folder.path().join("run.json"));
    let (authority, pem) = authority();
    std::fs::write(&authorities, pem).unwrap();
    let named = |name: &str| CertificateParams::new(vec![name.to_owned()]).unwrap();

    let good = serve(&named("localhost"), Some(&authority));
    let output = replay(good, &authorities, &json);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{:?}", output.stderr);
    assert!(text.contains(": 10 answered"), "{text}");
    assert!(!text.contains("failed"), "{text}");
    assert!(!std::fs::read_to_string(&json).unwrap().contains(KEY));

    let mut expired = named("localhost");
    expired.not_after = date_time_ymd(2001, 1, 1);
    let mut early = named("localhost");
    early.not_before = date_time_ymd(3001, 1, 1);
    early.not_after = date_time_ymd(3002, 1, 1);
    for (params, signed, reason) in [
        (expired, true, "it has expired"),
        (early, true, "it is not valid yet"),
        (named("elsewhere.example"), true, "made out to another name"),
        (
            named("localhost"),
            false,
            "not signed by a trusted authority",
        ),
    ] {
        let port = serve(&params, signed.then_some(&authority));
        let output = replay(port, &authorities, &json);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(&format!("localhost:{port}: certificate rejected: ")),
            "{text}"
        );
        assert!(text.contains(reason), "{text}");
    }
}
