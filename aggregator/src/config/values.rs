//! Readers of single settings.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address; write 127.0.0.1:7480"))
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

pub(super) fn readable_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match std::fs::File::open(&path).and_then(|file| file.metadata()) {
        Ok(facts) if facts.is_dir() => Err(format!("`{text}` is a directory")),
        Ok(_) => Ok(path),
        Err(error) => Err(format!("`{text}`: {error}")),
    }
}

pub(super) fn node_name(text: &str) -> Result<String, String> {
    if proto::identity::is_node_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is not a node's name: letters, digits, `.`, `-` and `_`, at most 253"))
}

pub(super) fn trust_domain(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if !text.is_empty() && text.len() <= 253 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is not a trust domain: lowercase letters, digits, `.`, `-` and `_`"))
}

/// `500MB`, `2GB` or a number of bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    let bytes = number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| format!("`{text}` is not a size such as 500MB or 2GB"))
}

pub(super) fn number_of_series(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (100..=10_000_000).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number of series from 100 to 10000000"))
}

pub(super) fn number_of_peers(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number <= 1_000_000);
    number.ok_or_else(|| format!("`{text}` is not a number of peers from 0 to 1000000"))
}

/// Bytes a second.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        1_000.. => bytes(text),
        _ => Err(format!("`{text}` is too little for a stream: 1kB a second at least")),
    }
}

/// Less would not hold what its own merging needs; 0 is for none at all.
const LEAST_HISTORY: u64 = 16_000_000;

pub(super) fn history_bytes(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        0 => Ok(0),
        LEAST_HISTORY.. => bytes(text),
        _ => Err(format!("`{text}` is too little for a history: 16MB at least, or 0 for none")),
    }
}

/// Shorter, and edges would come and go between two readings of `/metrics`.
const SHORTEST_EXPIRY: Duration = Duration::from_secs(30);

/// `90s`, `10m` or `1h`.
pub(super) fn idle_expiry(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit_s = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    let seconds = number.zip(unit_s).and_then(|(number, unit_s)| number.checked_mul(unit_s));
    match seconds.map(Duration::from_secs) {
        Some(time) if time >= SHORTEST_EXPIRY => Ok(time),
        Some(_) => Err(format!("`{text}` is too short: 30s at least")),
        None => Err(format!("`{text}` is not a time such as 90s, 10m or 1h")),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(format!("`{text}` is not true or false")),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("`{text}` is not a log filter; write info or debug")),
    }
}
