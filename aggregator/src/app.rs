//! The aggregator as a library: bind, run, stop.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinHandle},
    time::timeout,
};

use crate::{
    clock,
    config::{Config, HttpAccess},
    data_dir::{DataDir, DataDirError},
    http, ingest,
    metrics::Metrics,
    state::Shared,
    store::{self, Settings, Store},
    ticker,
    tls::Keeper,
};

/// How long streams and requests may take to end once the aggregator stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the last snapshot may take. A disk that hangs must not keep the process.
const LAST_SNAPSHOT: Duration = Duration::from_secs(20);

/// Steps of the history that are in memory: the window that is asked for most, and some more.
const STEPS_IN_MEMORY: usize = 36;

/// Why the aggregator does not run.
#[derive(Debug, Error)]
pub enum AppError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] proto::tls::TlsError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {what}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Whom for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Metrics could not be set up.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Agents can no longer be served.
    #[error("cannot serve agents: {0}")]
    Ingest(#[from] tonic::transport::Error),
    /// A task has panicked.
    #[error("a task has failed: {0}")]
    Task(#[from] JoinError),
}

/// An aggregator that listens but does not serve yet.
pub struct App {
    agents: TcpListener,
    readers: TcpListener,
    tls: Keeper,
    access: HttpAccess,
    trust_domain: Option<String>,
    shared: Arc<Shared>,
    _data_dir: DataDir,
}

impl App {
    /// Takes the data directory, reads the certificates and listens.
    pub async fn bind(config: Config) -> Result<Self, AppError> {
        let tls = Keeper::new(&config)?;
        let data_dir = DataDir::open(&config.data_dir)?;
        let agents = listen(config.grpc_listen, "agents").await?;
        let readers = listen(config.http_listen, "readers").await?;
        let metrics = Metrics::new()?;
        let graph = topology::Config {
            expected_nodes: config.expected_nodes.clone(),
            steps_kept: STEPS_IN_MEMORY,
            hand_over_steps: true,
            edge_idle_expiry: config.edge_idle_expiry,
            ..topology::Config::default()
        };
        let history_max_bytes = config.history_max_bytes;
        let (dir, now) = (&config.data_dir, clock::now());
        let settings = Settings { dir, graph, history_max_bytes, now };
        let (core, store) = Store::open(&settings, metrics.store.clone(), metrics.history.clone())?;
        let shared = Shared::new(core, store, metrics, &config);
        Ok(Self {
            agents,
            readers,
            tls,
            access: config.http,
            trust_domain: config.trust_domain,
            shared: Arc::new(shared),
            _data_dir: data_dir,
        })
    }

    /// Where agents connect.
    pub fn grpc_address(&self) -> io::Result<SocketAddr> {
        self.agents.local_addr()
    }

    /// Where readers connect.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.readers.local_addr()
    }

    /// Serves until `shutdown` ends, then lets streams and requests end, within a budget.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), AppError> {
        let shared = self.shared;
        let (stop, stopping) = watch::channel(false);
        let ticking = tokio::spawn(ticker::run(Arc::clone(&shared), stopping.clone()));
        let entrance =
            http::Entrance { listener: self.readers, access: self.access, tls: self.tls.readers() };
        let reading = tokio::spawn(http::serve(entrance, Arc::clone(&shared), stopping.clone()));
        let mut serving = tokio::spawn(ingest::serve(
            self.agents,
            self.tls.agents(),
            self.tls.admitted(),
            self.trust_domain,
            Arc::clone(&shared),
            stopping.clone(),
        ));
        let keeping = tokio::spawn(self.tls.run(Arc::clone(&shared), stopping.clone()));
        let saving = tokio::spawn(store::keep_checkpoints(Arc::clone(&shared), stopping));
        shared.set_ready(true);
        tokio::select! {
            () = shutdown => {}
            // It ends on its own only when it has failed.
            failed = &mut serving => {
                failed??;
                return Ok(());
            }
        }
        shared.set_ready(false);
        tracing::info!("stopping");
        stop.send_replace(true);
        let ended = async {
            serving.await??;
            ticking.await?;
            reading.await?;
            saving.await?;
            keeping.await?;
            Ok(())
        };
        let ended = timeout(DRAIN, ended).await;
        if ended.is_err() {
            tracing::warn!("some streams did not end in time");
        }
        match timeout(LAST_SNAPSHOT, store::checkpoint(&shared)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("cannot write the last snapshot: {error}"),
            Err(_) => tracing::error!("the last snapshot was not written in time"),
        }
        ended.unwrap_or(Ok(()))
    }
}

/// Listens. Where there is no IPv6, all of IPv4 will do for all of IPv6.
async fn listen(address: SocketAddr, what: &'static str) -> Result<TcpListener, AppError> {
    let error = |source| AppError::Listen { address, what, source };
    match TcpListener::bind(address).await {
        Err(cause) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(&cause) => {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            TcpListener::bind(address).await.map_err(error)
        }
        bound => bound.map_err(error),
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    let missing = [nix::libc::EAFNOSUPPORT, nix::libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| missing.contains(&code))
}

/// A running aggregator, for tests and for programs that have one inside.
pub struct Running {
    /// Where agents connect.
    pub grpc_address: SocketAddr,
    /// Where readers connect.
    pub http_address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), AppError>>,
}

impl Running {
    /// Binds and runs an aggregator in a task of its own.
    pub async fn start(config: Config) -> Result<Self, AppError> {
        let (grpc_listen, http_listen) = (config.grpc_listen, config.http_listen);
        let app = App::bind(config).await?;
        let error = |address, what| move |source| AppError::Listen { address, what, source };
        let grpc_address = app.grpc_address().map_err(error(grpc_listen, "agents"))?;
        let http_address = app.http_address().map_err(error(http_listen, "readers"))?;
        let stop = watch::Sender::new(false);
        let mut stopping = stop.subscribe();
        let task = tokio::spawn(app.run(async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        }));
        Ok(Self { grpc_address, http_address, stop, task })
    }

    /// Stops it and waits until it has ended.
    pub async fn stop(self) -> Result<(), AppError> {
        self.stop.send_replace(true);
        self.task.await?
    }
}
