//! A server that does nothing, to find out what the client can offer.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

use super::{Client, ClientOptions, Load, Measured};
use crate::{cores, system};

/// Starts a server on loopback, bound to `cores`, that reads a request and responds with
/// `{}`. It ends with the process.
pub fn serve(cores: Option<&str>) -> Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        // Beyond the usual 128, connections of a burst would wait a second.
        socket.listen(4_096)
    })?;
    let addr = listener.local_addr()?;
    let cores = cores.map(cores::parse).transpose()?;
    let (bound, is_bound) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = bound.send(cores.map_or(Ok(()), |cores| system::stay_on(&cores)));
        runtime.block_on(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Without it a response waits for the client's acknowledgement.
                let _ = stream.set_nodelay(true);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer)),
                );
            }
        });
    });
    is_bound
        .recv()?
        .context("--server-cores: not cores of this machine")?;
    Ok(addr)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    Ok(Response::new(Full::new(Bytes::from_static(b"{}"))))
}

/// A short run against such a server, for tests elsewhere.
#[doc(hidden)]
pub fn loopback(args: &ClientOptions, load: &Load) -> Result<Measured> {
    let addr = serve(None)?;
    Client::new(args, &format!("http://{addr}"), 1, true)?.run(load, "", 1)
}
