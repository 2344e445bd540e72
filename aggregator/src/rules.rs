//! The file with the user's rules: which workloads make up a service, and which networks have a name.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use topology::{Network, Rules, ServiceRule, Zones, model::WorkloadKind};

use crate::{config::ConfigError, state::Shared};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Rules of one kind that there may be. Each is tried for each workload or address.
const MOST: usize = 1_000;

/// Longest name and pattern, in bytes.
const MOST_BYTES: usize = 256;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    services: Vec<ServiceEntry>,
    networks: Vec<NetworkEntry>,
    zones: Vec<ZoneEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceEntry {
    kind: Option<Kind>,
    name: Option<String>,
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    service: String,
    service_namespace: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Container,
    Systemd,
    Pod,
    Process,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkEntry {
    cidr: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ZoneEntry {
    node: String,
    zone: String,
}

/// Reads the rules, and which hosts are in which zones; none without a file.
///
/// # Errors
/// When the file cannot be read or says something that makes no sense.
pub fn read(path: Option<&Path>) -> Result<(Rules, Zones), ConfigError> {
    let Some(path) = path else { return Ok(Default::default()) };
    let text = fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| parse(&text))
        .map_err(|reason| ConfigError::File { path: path.to_owned(), reason })
}

/// What a file's text says, or in one line why it says nothing.
pub fn parse(text: &str) -> Result<(Rules, Zones), String> {
    let file: File = toml::from_str(text).map_err(|error| crate::config::at_line(&error, text))?;
    for (what, count) in [
        ("services", file.services.len()),
        ("networks", file.networks.len()),
        ("zones", file.zones.len()),
    ] {
        if count > MOST {
            return Err(format!("{count} {what}; there may be {MOST}"));
        }
    }
    let rules = Rules {
        services: file.services.into_iter().map(service).collect::<Result<_, _>>()?,
        networks: file.networks.into_iter().map(network).collect::<Result<_, _>>()?,
    };
    let zones = file.zones.into_iter().map(zone).collect::<Result<_, _>>()?;
    Ok((rules, Zones::new(zones)))
}

fn zone(ZoneEntry { node, zone }: ZoneEntry) -> Result<(String, String), String> {
    fits(&node)?;
    fits(&zone)?;
    if zone.is_empty() {
        return Err(format!("the zone of {node:?} has no name"));
    }
    Ok((node, zone))
}

fn service(entry: ServiceEntry) -> Result<ServiceRule, String> {
    let texts = [&entry.name, &entry.namespace, &entry.service_namespace].into_iter().flatten();
    let texts = texts.chain([&entry.service]).chain(entry.labels.iter().flat_map(|(k, v)| [k, v]));
    for text in texts {
        fits(text)?;
    }
    if entry.service.is_empty() {
        return Err("a service without a name".to_owned());
    }
    let kind = entry.kind.map(|kind| match kind {
        Kind::Container => WorkloadKind::Container,
        Kind::Systemd => WorkloadKind::Systemd,
        Kind::Pod => WorkloadKind::Pod,
        Kind::Process => WorkloadKind::Process,
    });
    Ok(ServiceRule {
        kind,
        name: entry.name,
        namespace: entry.namespace,
        labels: entry.labels,
        service: entry.service,
        service_namespace: entry.service_namespace,
    })
}

fn network(entry: NetworkEntry) -> Result<Network, String> {
    fits(&entry.name)?;
    if entry.name.is_empty() {
        return Err(format!("the network {} has no name", entry.cidr));
    }
    let parsed = (|| {
        let (address, bits) = match entry.cidr.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (entry.cidr.as_str(), None),
        };
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        Network::new(address, bits.unwrap_or(all), entry.name)
    })();
    parsed.ok_or_else(|| format!("{:?} is no network; write 10.1.0.0/16", entry.cidr))
}

fn fits(text: &str) -> Result<(), String> {
    if text.len() > MOST_BYTES {
        return Err(format!("{:.20}… is longer than {MOST_BYTES} bytes", text));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{text:?} has a control character"));
    }
    Ok(())
}

/// Takes in the rules whenever their file changes. What cannot be read leaves the rules as they are.
pub(crate) async fn keep(
    path: Option<PathBuf>,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) {
    let Some(path) = path else { return };
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut known = stamp(&path);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        let now = stamp(&path);
        if now == known {
            continue;
        }
        known = now;
        match read(Some(&path)) {
            Ok((rules, zones)) => {
                shared.held().soon().await;
                let now = shared.now();
                shared.core().set_rules(rules, now);
                shared.set_zones(zones);
                tracing::info!(file = %path.display(), "the rules have changed");
            }
            Err(error) => tracing::error!("the old rules hold: {error}"),
        }
    }
}

/// What changes with the file.
fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let facts = fs::metadata(path).ok()?;
    Some((facts.ino(), facts.len(), facts.mtime(), facts.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_are_read() {
        let (rules, zones) = parse(
            r#"
            [[services]]
            kind = "process"
            name = "python-*"
            labels = { app = "b*" }
            service = "billing"
            service_namespace = "money"

            [[networks]]
            cidr = "10.1.0.0/16"
            name = "office"

            [[networks]]
            cidr = "2001:db8::1"
            name = "printer"

            [[zones]]
            node = "eu-1?-*"
            zone = "eu-1"
            "#,
        )
        .unwrap();
        assert_eq!(rules.services[0].kind, Some(WorkloadKind::Process));
        assert_eq!(rules.services[0].service_namespace.as_deref(), Some("money"));
        assert_eq!(rules.network("10.1.2.3".parse().unwrap()), Some("office"));
        assert_eq!(rules.network("2001:db8::1".parse().unwrap()), Some("printer"));
        assert_eq!((zones.of("eu-1a-7"), zones.of("eu-2a-7")), (Some("eu-1"), None));
        assert_eq!(parse("").unwrap(), Default::default());
    }

    #[test]
    fn what_makes_no_sense_is_said_in_one_line() {
        let long = format!("[[networks]]\ncidr = \"10.0.0.0/8\"\nname = \"{}\"", "x".repeat(257));
        for text in [
            "[[service]]\nservice = \"a\"",
            "[[services]]\nname = \"a\"",
            "[[services]]\nservice = \"\"",
            "[[services]]\nservice = \"a\"\nkind = \"host\"",
            "[[networks]]\ncidr = \"10.0.0.0/33\"\nname = \"a\"",
            "[[networks]]\ncidr = \"10.0.0/8\"\nname = \"a\"",
            "[[networks]]\ncidr = \"10.0.0.0/8\"\nname = \"a\\u0007\"",
            "[[zones]]\nnode = \"a\"",
            "[[zones]]\nnode = \"a\"\nzone = \"\"",
            &long,
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains('\n') && !error.is_empty(), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_rules_or_an_error(text: String) {
            let _ = parse(&text);
        }
    }
}
