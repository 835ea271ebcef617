//! `coldread-loadtest self-test`: can this machine's client offer the load?
//!
//! A server that does nothing answers on loopback; the client sends at a steady
//! rate and says how late it was. A latency it reports for a real server is worth
//! no more than this.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::thread::sched_setaffinity;
use tokio::net::TcpSocket;

use super::{Client, ClientArgs, KEPT_MS, Load, Measured};
use crate::arrivals::process::Process;
use crate::arrivals::{Schedule, duration};
use crate::cost::bill::number;
use crate::warm::server::{self, set};

/// Offers a load to a server that does nothing and says whether the client kept up
#[derive(Debug, Clone, Args)]
pub struct SelfTestArgs {
    /// Requests a second
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// How long
    #[arg(long, default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Cores of the server, e.g. 0; those of the client without it
    #[arg(long)]
    server_cores: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

impl SelfTestArgs {
    /// Measures and prints; fails when the client was late.
    pub fn run(self) -> Result<()> {
        crate::interrupt::listen();
        let addr = serve(self.server_cores.as_deref())?;
        let client = Client::new(&self.client, &format!("http://{addr}"), 1, self.quiet)?;
        let process: Process = format!("constant:{}", self.rate)
            .parse()
            .map_err(anyhow::Error::msg)?;
        let schedule = Schedule::of(process, self.duration);
        let measured = client.run(&Load::Open(schedule), "self-test", 1)?;
        say!("{}", measured.words());
        let reached = measured.ok_per_second >= 0.99 * self.rate;
        if !measured.kept_schedule || !reached {
            bail!(
                "this client cannot offer {} requests/s here within {} ms",
                number(self.rate),
                number(KEPT_MS)
            );
        }
        Ok(())
    }
}

/// A server on loopback, and on `cores`, that reads a request and says `{}`. It ends with
/// the process.
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
    let cores = cores.map(server::cores).transpose()?;
    let (bound, is_bound) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = bound.send(cores.map_or(Ok(()), |cores| sched_setaffinity(None, &set(&cores))));
        runtime.block_on(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Without it an answer waits for the client's acknowledgement.
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
pub fn loopback(args: &ClientArgs, load: &Load) -> Result<Measured> {
    let addr = serve(None)?;
    Client::new(args, &format!("http://{addr}"), 1, true)?.run(load, "", 1)
}
