//! Requests of readers.

use crate::{Target, link, place};

/// Target and headers: every route, every parameter, compression, tokens.
pub const TARGET: Target = Target {
    name: "query",
    about: "requests to every route, with their headers",
    run: |data| aggregator::fuzzing::query(place(), &link::stream(3), data),
    seeds: || {
        [
            "/api/v1/topology?from=-5m&to=now",
            "/api/v1/topology?from=2026-01-31T12:00:00Z&to=1799996400000\nAccept: application/json",
            "/api/v1/nodes\nAuthorization: Bearer all",
            "/api/graph/fields",
            "/api/graph/data?from=now-1h&limit=3\nAuthorization: bearer some ",
            "/api/health",
            "/metrics\nAccept-Encoding: gzip;q=0.5, *;q=0\nAccept: text/plain;version=0.0.4",
            "/healthz",
            "/readyz?x=%ff&x=%",
            "/nothing?from=1969-01-01T00:00:00Z",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into()
    },
    longest: 1024,
};
