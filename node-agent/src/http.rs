//! `/metrics` and `/healthz`, for a `few` at a time.

mod few;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use few::{Few, Limits};

/// Whether the programs are attached.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// The agent counts.
    pub fn set_healthy(&self, healthy: bool) {
        self.0.store(healthy, Ordering::Relaxed);
    }

    fn is_healthy(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers on a bound listener until `shutdown` resolves.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_few(listener, Limits::default(), metrics, health, shutdown).await
}

async fn serve_few(
    listener: TcpListener,
    limits: Limits,
    metrics: Metrics,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let few = Few::new(listener, limits, metrics.readers_delayed.clone());
    let router = Router::new()
        .route("/metrics", get(render).with_state(metrics))
        .route("/healthz", get(healthz).with_state(health));
    axum::serve(few, router).with_graceful_shutdown(shutdown).await
}

async fn render(State(metrics): State<Metrics>) -> Response {
    match metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_healthy() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the kernel programs are not attached\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::timeout,
    };

    use super::*;

    async fn ask(address: std::net::SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn those_who_stay_make_others_wait_and_are_sent_away() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { connections: 2, lifetime: Duration::from_millis(600) };
        let (metrics, health) = (Metrics::new().unwrap(), Health::default());
        health.set_healthy(true);
        let stop = Arc::new(tokio::sync::Notify::new());
        let stopped = Arc::clone(&stop);
        let shutdown = async move { stopped.notified().await };
        let serving = tokio::spawn(serve_few(listener, limits, metrics, health, shutdown));
        assert!(ask(address).await.starts_with("HTTP/1.1 200"));
        let mut staying = Vec::new();
        for _ in 0..2 {
            staying.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(timeout(Duration::from_millis(200), ask(address)).await.is_err());
        let answer = timeout(Duration::from_secs(9), ask(address)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"));
        for stream in &mut staying {
            let mut nothing = [0];
            assert!(matches!(stream.read(&mut nothing).await, Ok(0) | Err(_)));
        }
        stop.notify_one();
        serving.await.unwrap().unwrap();
    }
}
