//! The aggregator as a library: bind, run, stop.

use std::{future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinHandle},
    time::timeout,
};

use crate::{
    accept::{self, Room},
    clock,
    config::{Config, ConfigError, HttpAccess},
    data_dir::{DataDir, DataDirError},
    http, ingest, kubernetes, memory,
    metrics::Metrics,
    rules,
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
    /// The rules.
    #[error(transparent)]
    Rules(#[from] ConfigError),
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
    rules: Option<PathBuf>,
    kubernetes: Option<::kubernetes::Access>,
    shared: Arc<Shared>,
    _data_dir: DataDir,
}

impl App {
    /// Takes the data directory, reads the certificates and listens.
    pub async fn bind(config: Config) -> Result<Self, AppError> {
        let tls = Keeper::new(&config)?;
        let data_dir = DataDir::open(&config.data_dir)?;
        let agents = listen(config.grpc_listen, "agents")?;
        let readers = listen(config.http_listen, "readers")?;
        let metrics = Metrics::new()?;
        if let Some(bytes) = memory::limit() {
            metrics.memory_limit.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            tracing::info!(bytes, "memory is limited: beyond that the kernel ends the process");
        }
        let graph = topology::Config {
            expected_nodes: config.expected_nodes.clone(),
            watches_cluster: config.kubernetes.is_some(),
            steps_kept: STEPS_IN_MEMORY,
            hand_over_steps: true,
            max_external_peers: config.max_external_peers,
            max_halves: config.budget.max_halves,
            max_series: config.budget.max_series,
            edge_idle_expiry: config.edge_idle_expiry,
            ..topology::Config::default()
        };
        let history_max_bytes = config.history_max_bytes;
        let (rules, zones) = rules::read(config.rules.as_deref())?;
        let settings = Settings { dir: &config.data_dir, graph, zones, history_max_bytes };
        let opened =
            Store::open(&settings, clock::Host, metrics.store.clone(), metrics.history.clone());
        let (mut core, store, clock) = opened?;
        core.set_rules(rules, clock.now());
        if config.kubernetes.is_none() {
            core.forget_cluster(clock.now());
        }
        let shared = Shared::new(core, store, clock, metrics, &config);
        Ok(Self {
            agents,
            readers,
            tls,
            access: config.http,
            trust_domain: config.trust_domain,
            rules: config.rules,
            kubernetes: config.kubernetes,
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
        // Agents can connect since it listens; nobody is to be told otherwise.
        shared.set_ready(true);
        let ticking = tokio::spawn(ticker::run(Arc::clone(&shared), stopping.clone()));
        let room = Room::find();
        let entrance = http::Entrance {
            listener: self.readers,
            places: room.readers,
            access: self.access,
            tls: self.tls.readers(),
        };
        let reading = tokio::spawn(http::serve(entrance, Arc::clone(&shared), stopping.clone()));
        let mut serving = tokio::spawn(ingest::serve(
            self.agents,
            room.agents,
            self.tls.agents(),
            self.tls.admitted(),
            self.trust_domain,
            Arc::clone(&shared),
            stopping.clone(),
        ));
        let keeping = tokio::spawn(self.tls.run(Arc::clone(&shared), stopping.clone()));
        let ruling = tokio::spawn(rules::keep(self.rules, Arc::clone(&shared), stopping.clone()));
        let watching = kubernetes::run(self.kubernetes, Arc::clone(&shared), stopping.clone());
        let watching = tokio::spawn(watching);
        let saving = tokio::spawn(store::keep_checkpoints(Arc::clone(&shared), stopping));
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
            ruling.await?;
            watching.await?;
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

fn listen(address: SocketAddr, what: &'static str) -> Result<TcpListener, AppError> {
    accept::listen(address).map_err(|source| AppError::Listen { address, what, source })
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
