//! A Hub behind TLS: who it is has to be shown before it is asked for anything.

use crate::hub::{ID, Machine, TOKEN, fails};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

type Authority = Issuer<'static, KeyPair>;

/// An authority that is trusted where its certificate is.
fn authority() -> (Authority, String) {
    let mut params = CertificateParams::default();
    let name = &mut params.distinguished_name;
    // Another name than the certificates have, which else look as if it had signed them.
    name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("a certificate").pem();
    (Issuer::new(params, key), pem)
}

/// A Hub with no model at all, and how often it was asked for one.
fn serve(params: &CertificateParams, authority: Option<&Authority>) -> (u16, Arc<AtomicUsize>) {
    let key = KeyPair::generate().expect("a key");
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority),
        None => params.self_signed(&key),
    };
    let chain: Vec<CertificateDer<'static>> = vec![certificate.expect("signed").into()];
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key.into())
        .expect("a key for its certificate");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if answer(stream, &config) {
                count.fetch_add(1, Ordering::AcqRel);
            }
        }
    });
    (port, asked)
}

/// Whether a request came.
fn answer(stream: TcpStream, config: &Arc<ServerConfig>) -> bool {
    let connection = ServerConnection::new(Arc::clone(config)).expect("sound");
    let mut stream = StreamOwned::new(connection, stream);
    let asked = stream.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0);
    if asked {
        let head = "HTTP/1.1 404 Not Found\r\nx-error-code: RepoNotFound\r\n";
        let rest = "content-length: 0\r\nconnection: close\r\n\r\n";
        // Whoever asked may have left.
        let _ = write!(stream, "{head}{rest}");
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
    asked
}

#[test]
fn a_hub_is_asked_for_nothing_before_its_certificate_is_checked() {
    let (authority, pem) = authority();
    let folder = tempfile::tempdir().expect("a folder");
    let authorities = folder.path().join("authorities.pem");
    std::fs::write(&authorities, pem).expect("written");
    let pack = |port: u16| {
        let machine = Machine::new(&format!("https://localhost:{port}"));
        let trusted = authorities.to_str().expect("UTF-8");
        machine.pack_with(&[ID], &[("SSL_CERT_FILE", trusted), ("HF_TOKEN", TOKEN)])
    };
    let named = |name: &str| CertificateParams::new(vec![name.to_owned()]).expect("a name");

    let (good, asked) = serve(&named("localhost"), Some(&authority));
    fails(&pack(good), "hub_not_found", &[ID]);
    assert!(asked.load(Ordering::Acquire) > 0);

    let mut expired = named("localhost");
    expired.not_after = date_time_ymd(2001, 1, 1);
    for (params, signed, reason) in [
        (named("localhost"), false, "UnknownIssuer"),
        (named("elsewhere.example"), true, "not valid for name"),
        (expired, true, "expired"),
    ] {
        let (port, asked) = serve(&params, signed.then_some(&authority));
        let got = pack(port);
        fails(&got, "hub_unreachable", &["certificate", reason]);
        assert_eq!(asked.load(Ordering::Acquire), 0, "{got:?}");
    }
}
