//! Which workloads make up a service, and which addresses have a name: by default, and by what the user says.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::model::{Workload, WorkloadKind};

/// The label with the service of a compose project.
const COMPOSE_SERVICE: &str = "compose.service";

/// The label with a compose project.
const COMPOSE_PROJECT: &str = "compose.project";

/// The label with whose a pod is.
const OWNER: &str = "owner";

/// What the user says of services and addresses. What nothing is said of goes by the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The first that fits a workload names its service.
    pub services: Vec<ServiceRule>,
    /// Names of addresses that no agent covers; the longest prefix that fits counts.
    pub networks: Vec<Network>,
}

/// Names the service of the workloads that it fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRule {
    /// Only workloads of this kind.
    pub kind: Option<WorkloadKind>,
    /// Only workloads with such a name: `*` stands for any text, `?` for any character.
    pub name: Option<String>,
    /// Only workloads with such a namespace.
    pub namespace: Option<String>,
    /// Only workloads with these labels.
    pub labels: BTreeMap<String, String>,
    /// The service's name. `{name}`, `{namespace}` and `{label:KEY}` stand for what the workload has.
    pub service: String,
    /// The service's namespace; the workload's when `None`.
    pub service_namespace: Option<String>,
}

/// A network with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    address: IpAddr,
    bits: u8,
    name: String,
}

impl Network {
    /// The addresses that share the first bits with this one; `None` when an address has fewer bits.
    #[must_use]
    pub fn new(address: IpAddr, bits: u8, name: String) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Self { address, bits, name })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            let rest = width - u32::from(self.bits).min(width);
            // A shift by all bits there are is none.
            a.checked_shr(rest).unwrap_or(0) == b.checked_shr(rest).unwrap_or(0)
        };
        match (self.address, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                same(u128::from(a.to_bits()), u128::from(b.to_bits()), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

impl Rules {
    /// Namespace and name of a workload's service.
    #[must_use]
    pub fn service<'a>(&'a self, workload: &'a Workload) -> (Cow<'a, str>, Cow<'a, str>) {
        match self.services.iter().find(|rule| rule.fits(workload)) {
            Some(rule) => rule.name(workload),
            None => by_default(workload),
        }
    }

    /// The name of an address that no agent covers.
    #[must_use]
    pub fn network(&self, ip: IpAddr) -> Option<&str> {
        let fitting = self.networks.iter().filter(|network| network.contains(ip));
        fitting.max_by_key(|network| network.bits).map(|network| network.name.as_str())
    }
}

/// A compose service is one, in its project; so are the pods of one owner in its namespace, and the instances of a systemd
/// template. Anything else goes by its own name.
fn by_default(workload: &Workload) -> (Cow<'_, str>, Cow<'_, str>) {
    if let Some(service) = workload.labels.get(COMPOSE_SERVICE) {
        let project = workload.labels.get(COMPOSE_PROJECT).map_or("", String::as_str);
        return (project.into(), service.into());
    }
    if workload.kind == WorkloadKind::Pod
        && let Some(owner) = workload.labels.get(OWNER).filter(|owner| !owner.is_empty())
    {
        return (Cow::Borrowed(&workload.namespace), owner.into());
    }
    let name = match (workload.kind, workload.name.split_once('@')) {
        (WorkloadKind::Systemd, Some((template, instance))) => {
            let suffix = instance.rfind('.').map_or("", |at| &instance[at..]);
            Cow::Owned(format!("{template}@{suffix}"))
        }
        _ => Cow::Borrowed(workload.name.as_str()),
    };
    (Cow::Borrowed(&workload.namespace), name)
}

impl ServiceRule {
    fn fits(&self, workload: &Workload) -> bool {
        let is = |pattern: &Option<String>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| matches(pattern, text))
        };
        let has = |(label, pattern): (&String, &String)| {
            workload.labels.get(label).is_some_and(|value| matches(pattern, value))
        };
        self.kind.is_none_or(|kind| kind == workload.kind)
            && is(&self.name, &workload.name)
            && is(&self.namespace, &workload.namespace)
            && self.labels.iter().all(has)
    }

    fn name<'a>(&'a self, workload: &'a Workload) -> (Cow<'a, str>, Cow<'a, str>) {
        let namespace = match &self.service_namespace {
            Some(template) => Cow::Owned(fill(template, workload)),
            None => Cow::Borrowed(workload.namespace.as_str()),
        };
        (namespace, Cow::Owned(fill(&self.service, workload)))
    }
}

/// Puts what a workload has in the places of a template; what it has not is nothing.
fn fill(template: &str, workload: &Workload) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, place, after)) = place(rest) {
        filled.push_str(before);
        filled.push_str(match place {
            "name" => &workload.name,
            "namespace" => &workload.namespace,
            label => label
                .strip_prefix("label:")
                .and_then(|label| workload.labels.get(label))
                .map_or("", String::as_str),
        });
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// The first `{place}` of a text, and what is around it.
fn place(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (place, after) = rest.split_once('}')?;
    Some((before, place, after))
}

/// Whether a pattern is all of a text. Takes time in proportion to the product of their lengths at most.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and up to where of the text it reaches so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                Some((at, reach)) => {
                    *reach += 1;
                    (p, t) = (*at + 1, *reach);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn workload(kind: WorkloadKind, name: &str, labels: &[(&str, &str)]) -> Workload {
        let label = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Workload {
            kind,
            name: name.to_owned(),
            namespace: "ns".to_owned(),
            labels: labels.iter().map(label).collect(),
        }
    }

    fn service(rules: &Rules, workload: &Workload) -> (String, String) {
        let (namespace, name) = rules.service(workload);
        (namespace.into_owned(), name.into_owned())
    }

    #[test]
    fn by_default_compose_services_pods_of_an_owner_and_templates_are_one() {
        let rules = Rules::default();
        let told = |kind, name, labels: &[_]| service(&rules, &workload(kind, name, labels));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let labels = [("compose.project", "shop"), ("compose.service", "web")];
        assert_eq!(told(WorkloadKind::Container, "shop-web-1", &labels), pair("shop", "web"));
        assert_eq!(
            told(WorkloadKind::Pod, "web-7d4b9c-x7", &[("owner", "web")]),
            pair("ns", "web")
        );
        assert_eq!(told(WorkloadKind::Pod, "web-7d4b9c-x7", &[]), pair("ns", "web-7d4b9c-x7"));
        assert_eq!(told(WorkloadKind::Container, "a", &[("owner", "me")]), pair("ns", "a"));
        assert_eq!(told(WorkloadKind::Container, "redis", &[]), pair("ns", "redis"));
        assert_eq!(told(WorkloadKind::Systemd, "job@7.service", &[]), pair("ns", "job@.service"));
        assert_eq!(told(WorkloadKind::Systemd, "a@b.c.scope", &[]), pair("ns", "a@.scope"));
        assert_eq!(told(WorkloadKind::Systemd, "ssh.service", &[]), pair("ns", "ssh.service"));
        assert_eq!(told(WorkloadKind::Process, "me@home", &[]), pair("ns", "me@home"));
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rule = |name: &str, service: &str| ServiceRule {
            name: Some(name.to_owned()),
            service: service.to_owned(),
            ..Default::default()
        };
        let rules = Rules {
            services: vec![
                ServiceRule { kind: Some(WorkloadKind::Pod), ..rule("web-*", "pod") },
                ServiceRule {
                    labels: [("app".to_owned(), "b*".to_owned())].into(),
                    service_namespace: Some("{label:team}".to_owned()),
                    ..rule("web-?", "{name}-{label:app}{label:none}-{")
                },
                rule("web-*", "web"),
            ],
            networks: Vec::new(),
        };
        let told =
            |name, labels: &[_]| service(&rules, &workload(WorkloadKind::Process, name, labels));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let labels = [("app", "blue"), ("team", "x")];
        assert_eq!(told("web-1", &labels), pair("x", "web-1-blue-{"));
        assert_eq!(told("web-12", &labels), pair("ns", "web"));
        assert_eq!(told("web-1", &[("app", "red")]), pair("ns", "web"));
        assert_eq!(told("api", &labels), pair("ns", "api"));
    }

    #[test]
    fn the_longest_prefix_counts() {
        let network = |cidr: &str, bits, name: &str| {
            Network::new(cidr.parse().unwrap(), bits, name.to_owned()).unwrap()
        };
        let networks = vec![
            network("0.0.0.0", 0, "internet"),
            network("10.1.0.0", 16, "office"),
            network("10.1.2.3", 32, "printer"),
            network("2001:db8::", 33, "lab"),
        ];
        let rules = Rules { services: Vec::new(), networks };
        let named = |ip: &str| rules.network(ip.parse().unwrap());
        assert_eq!(named("10.1.2.3"), Some("printer"));
        assert_eq!(named("10.1.2.4"), Some("office"));
        assert_eq!(named("10.2.0.1"), Some("internet"));
        assert_eq!(named("2001:db8:7fff::1"), Some("lab"));
        assert_eq!(named("2001:db8:8000::1"), None);
        assert!(Network::new("10.0.0.0".parse().unwrap(), 33, String::new()).is_none());
    }

    proptest! {
        #[test]
        fn patterns_are_what_they_say(text in "[ab]{0,6}", pattern in "[ab*?]{0,6}") {
            fn plain(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.first(), text.first()) {
                    (None, None) => true,
                    (Some(b'*'), _) => {
                        plain(&pattern[1..], text) || (!text.is_empty() && plain(pattern, &text[1..]))
                    }
                    (Some(b'?'), Some(_)) => plain(&pattern[1..], &text[1..]),
                    (Some(a), Some(b)) if a == b => plain(&pattern[1..], &text[1..]),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &text), plain(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_template_can_be_filled(template: String, name: String) {
            let _ = fill(&template, &workload(WorkloadKind::Process, &name, &[]));
        }
    }
}
