//! What there is to know of certificates.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::Make;

/// Metrics of certificates, keys, CAs and revocation lists.
pub struct TlsMetrics {
    /// Agents' TLS handshakes under way, those that wait for their turn included.
    pub handshakes: IntGauge,
    /// TLS handshakes that failed.
    pub handshakes_failed: prometheus::IntCounter,
    /// Connections of agents that were ended because their certificate is no longer good, or they are of no use.
    pub connections_ended: IntCounterVec,
    /// Times that changed files were read, by whom they are for and what came of it.
    pub reloads: IntCounterVec,
    /// 1 while the files on disk cannot be used and what was read before still holds.
    pub stale: IntGaugeVec,
    /// End of the aggregator's own certificate.
    pub certificate_expiry: IntGauge,
    /// End of everything else that has one, by setting.
    pub file_expiry: IntGaugeVec,
}

impl TlsMetrics {
    pub(super) fn new(made: &Make<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            handshakes: made.gauge(
                "tls_handshakes",
                "TLS handshakes of agents under way, those that wait for their turn included.",
            )?,
            handshakes_failed: made
                .counter("tls_handshakes_failed_total", "TLS handshakes that failed.")?,
            connections_ended: made.counters(
                "connections_ended_total",
                "Connections of agents ended: certificate no longer good, not used, or too many of a node.",
                &["reason"],
            )?,
            reloads: made.counters(
                "tls_reloads_total",
                "Times that changed certificates, keys, CAs or revocation lists were read.",
                &["side", "result"],
            )?,
            stale: made.gauges(
                "tls_stale",
                "1 while what was read before holds, because the files cannot be used.",
                &["side"],
            )?,
            certificate_expiry: made.gauge(
                "certificate_expiry_timestamp_seconds",
                "When the certificate that agents see expires.",
            )?,
            file_expiry: made.gauges(
                "tls_file_expiry_timestamp_seconds",
                "When what is in a file expires; of several CAs the last, of revocation lists the first.",
                &["setting"],
            )?,
        })
    }
}
