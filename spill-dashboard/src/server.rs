//! The server: a thread of its own that looks at the workers and answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener as Listener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use spill_core::{Clock, Error, Result, SystemClock};
use spill_worker::Observe;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::collect::Collector;
use crate::connection::Impatient;
use crate::guard::Names;
use crate::routes::{Served, router};

/// Where a dashboard listens unless it is told otherwise: Dask's port, for this machine only.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8787));

/// How often it looks at the workers.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(400);

/// Ports that are tried beyond the one asked for.
const MORE_PORTS: u16 = 100;

/// Connections that are open at a time.
const CONNECTIONS: usize = 128;

/// Of them, those that a page holds open for its stream.
const PAGES: usize = 64;

/// How long a client may take to send a request, and to take something of an answer.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a request's line and headers at most.
const LONGEST_REQUEST: usize = 16 << 10;

/// Headers at most.
const MOST_HEADERS: usize = 64;

/// Builds a [`Dashboard`].
#[must_use]
pub struct DashboardBuilder {
    observe: Arc<dyn Observe>,
    address: SocketAddr,
    allowed: Vec<String>,
    interval: Duration,
    patience: Duration,
    clock: Arc<dyn Clock>,
}

impl DashboardBuilder {
    /// Where to listen, [`DEFAULT_ADDRESS`] unless set. If its port is taken, the next free one of a hundred is
    /// used; with port 0 the system chooses.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Another name by which browsers may call the server. `localhost` and loopback addresses always may; other
    /// addresses where it listens to other machines.
    pub fn allow_host(mut self, name: impl Into<String>) -> Self {
        self.allowed.push(name.into());
        self
    }

    /// How often it looks at the workers and tells the pages, [`DEFAULT_INTERVAL`] unless set.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long a client may take to send a request, and to take something of an answer, before its connection is
    /// closed; [`DEFAULT_PATIENCE`] unless set.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The clock of all times shown.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Starts to listen.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) when the address cannot be listened at, or none of the ports;
    /// [`Config`](spill_core::ErrorKind::Config) for an interval of zero.
    pub fn start(self) -> Result<Dashboard> {
        if self.interval.is_zero() {
            return Err(Error::config("interval", "0 s", "a time above zero, such as 400 ms"));
        }
        let listener = listen(self.address)?;
        let failed = |error| Error::io("listen at", self.address.to_string(), error);
        let address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let names = Names { public: !address.ip().is_loopback(), allowed: self.allowed };
        let instance = format!("{}-{}", std::process::id(), address.port());
        let collector = Arc::new(Collector::new(self.observe, self.clock, instance));
        let (stop, stopped) = oneshot::channel();
        let times = (self.interval, self.patience);
        let serve = serve(listener, collector, names, times, stopped);
        let thread = spawn(move || {
            if let Err(error) = runtime.block_on(serve) {
                tracing::error!("the dashboard ends: {error}");
            }
        });
        Ok(Dashboard { address, stop: Some(stop), thread: Some(thread.map_err(failed)?) })
    }
}

/// A dashboard that is served until this is dropped. Dropping it ends its connections.
#[derive(Debug)]
pub struct Dashboard {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Dashboard {
    /// A dashboard over these workers.
    pub fn builder(observe: Arc<dyn Observe>) -> DashboardBuilder {
        DashboardBuilder {
            observe,
            address: DEFAULT_ADDRESS,
            allowed: Vec::new(),
            interval: DEFAULT_INTERVAL,
            patience: DEFAULT_PATIENCE,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to type into a browser of this machine.
    #[must_use]
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{address}/")
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the dashboard's thread panicked");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "joined when the dashboard is dropped")]
fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("overspill-dashboard".to_owned()).spawn(run)
}

/// Listens at the address, or at the next ports.
fn listen(address: SocketAddr) -> Result<Listener> {
    let mut tried = address;
    loop {
        match Listener::bind(tried) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                let taken = error.kind() == io::ErrorKind::AddrInUse;
                let next = tried.port().checked_add(1).filter(|next| next - address.port() <= MORE_PORTS);
                match next.filter(|_| taken && address.port() != 0) {
                    Some(port) => tried.set_port(port),
                    None => return Err(Error::io("listen at", address.to_string(), error)),
                }
            }
        }
    }
}

async fn serve(
    listener: Listener,
    collector: Arc<Collector>,
    names: Names,
    (every, patience): (Duration, Duration),
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    collector.look();
    let (ticker, ticks) = watch::channel(0_u64);
    let (pages, names) = (Arc::new(Semaphore::new(PAGES)), Arc::new(names));
    let router = router(Served { collector: Arc::clone(&collector), ticks, pages, names });
    let service = TowerToHyperService::new(router);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let mut looks = interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(()),
            _ = looks.tick() => {
                collector.look();
                ticker.send_modify(|tick| *tick += 1);
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Beyond the bound a connection is closed at once; the client may try again.
                    let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
                    let service = service.clone();
                    tokio::spawn(async move {
                        connection(stream, service, patience).await;
                        drop(permit);
                    });
                }
                // Out of descriptors: others may give some back.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
}

async fn connection(stream: TcpStream, service: TowerToHyperService<axum::Router>, patience: Duration) {
    let _ = stream.set_nodelay(true);
    let stream = Impatient::new(stream, patience);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(LONGEST_REQUEST)
        .max_headers(MOST_HEADERS);
    let served = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!("a connection to the dashboard ends: {error}");
    }
}
