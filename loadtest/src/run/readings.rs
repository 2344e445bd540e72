//! `/metrics` while the fleet sends, as a Prometheus would read it.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use tokio::{sync::watch, time::timeout};

use crate::check::{Monotone, fetch};

/// Reads every so often until it is to stop.
pub async fn run(
    readers: SocketAddr,
    every: Duration,
    expiring: bool,
    mut stopping: watch::Receiver<bool>,
) -> Result<Monotone> {
    let mut monotone = Monotone::default();
    monotone.expiring = expiring;
    if every.is_zero() {
        return Ok(monotone);
    }
    while timeout(every, stopping.wait_for(|stop| *stop)).await.is_err() {
        monotone = read(readers, monotone).await?;
    }
    Ok(monotone)
}

/// One more reading. An aggregator that has no answer just now is asked later again.
pub async fn read(readers: SocketAddr, mut monotone: Monotone) -> Result<Monotone> {
    tokio::task::spawn_blocking(move || {
        let read = fetch(readers, "/metrics", |answer| monotone.read(answer));
        // An answer that ends in the middle is that of an aggregator that was killed: what it
        // did not say any more has not vanished.
        match read {
            Ok(_) => Ok(monotone),
            Err(_) => {
                monotone.forgive();
                Ok(monotone)
            }
        }
    })
    .await?
}
