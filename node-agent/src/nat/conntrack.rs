//! Connections whose addresses the kernel translates, from its connection tracking (ctnetlink).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use nix::sys::socket::{AddressFamily, SockProtocol};

use crate::netlink::{self, Lookup, Read, attributes, put};

/// The attribute has attributes in it.
const NESTED: u16 = 1 << 15;

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;

/// `CTA_*`.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const STATUS_MASK: u16 = 26;

/// `CTA_TUPLE_*`.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;

/// `CTA_IP_*`.
const V4_SOURCE: u16 = 1;
const V4_TARGET: u16 = 2;
const V6_SOURCE: u16 = 3;
const V6_TARGET: u16 = 4;

/// `CTA_PROTO_*`.
const PROTO_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const TARGET_PORT: u16 = 3;

const TCP: u8 = 6;

/// `IPS_SRC_NAT` and `IPS_DST_NAT`.
const TRANSLATED: [u32; 2] = [1 << 4, 1 << 5];

/// The ends of a connection as one side of a translation sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) client: IpAddr,
    pub(crate) client_port: u16,
    pub(crate) server: IpAddr,
    pub(crate) server_port: u16,
}

/// A connection whose addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// As its client sees it.
    pub(crate) before: Seen,
    /// As its server sees it.
    pub(crate) after: Seen,
}

/// What a connection is to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Original {
    /// Its addresses are translated.
    Translated(Seen),
    /// What it is to its server.
    Same,
    /// It is not tracked, or not any more: another may have taken its client's port.
    Untracked,
}

/// So many connections are shown all: the kernel goes through its table, which is that of all namespaces, once for each
/// list, and that takes longer.
const FEW: u64 = 4_096;

/// How many connections the calling thread's network namespace tracks, where the kernel tells.
pub(crate) fn tracked() -> Option<u64> {
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").ok()?;
    count.trim().parse().ok()
}

/// Shows every TCP connection of the calling thread's network namespace whose addresses are translated; some twice. After the
/// deadline no more are read.
///
/// # Errors
/// When the kernel does not track connections, or does not let itself be asked.
pub(crate) fn translated(deadline: Instant, visit: &mut dyn FnMut(Entry)) -> io::Result<Read> {
    let mut visit = |contents: &[u8]| parse(contents).into_iter().for_each(&mut *visit);
    if tracked().is_some_and(|count| count <= FEW) {
        return netlink::dump(SockProtocol::NetlinkNetFilter, GET, &[0; 4], deadline, visit);
    }
    let mut all = Read::All;
    for status in TRANSLATED {
        // A kernel that does not know this filter shows all connections.
        let mut request = vec![0; 4];
        put(&mut request, STATUS, &status.to_be_bytes());
        put(&mut request, STATUS_MASK, &status.to_be_bytes());
        let read =
            netlink::dump(SockProtocol::NetlinkNetFilter, GET, &request, deadline, &mut visit)?;
        if read == Read::Part {
            all = Read::Part;
        }
    }
    Ok(all)
}

/// What connections that are known by their translated addresses are to their clients, as far as the calling thread's network
/// namespace translates them. After the deadline no more are looked for.
///
/// # Errors
/// When the kernel does not track connections, or does not let itself be asked.
pub(crate) fn originals(
    translated: impl Iterator<Item = Seen>,
    deadline: Instant,
) -> io::Result<(Read, Vec<Original>)> {
    let (mut lookup, mut found) = (Lookup::new(SockProtocol::NetlinkNetFilter)?, Vec::new());
    for seen in translated {
        if Instant::now() >= deadline {
            return Ok((Read::Part, found));
        }
        let entry = match request(&seen) {
            Some(request) => lookup.get(GET, &request)?,
            None => None,
        };
        found.push(match entry.map(parse) {
            Some(Some(entry)) if entry.after == seen => Original::Translated(entry.before),
            Some(None) => Original::Same,
            Some(Some(_)) | None => Original::Untracked,
        });
    }
    Ok((Read::All, found))
}

/// What asks for the connection whose answers go the other way.
fn request(seen: &Seen) -> Option<Vec<u8>> {
    let (family, source, target) = match (seen.server, seen.client) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let mut ips = (Vec::new(), Vec::new());
            put(&mut ips.0, V4_SOURCE, &source.octets());
            put(&mut ips.1, V4_TARGET, &target.octets());
            (AddressFamily::Inet, ips.0, ips.1)
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let mut ips = (Vec::new(), Vec::new());
            put(&mut ips.0, V6_SOURCE, &source.octets());
            put(&mut ips.1, V6_TARGET, &target.octets());
            (AddressFamily::Inet6, ips.0, ips.1)
        }
        _ => return None,
    };
    let mut proto = Vec::new();
    put(&mut proto, PROTO_NUMBER, &[TCP]);
    put(&mut proto, SOURCE_PORT, &seen.server_port.to_be_bytes());
    put(&mut proto, TARGET_PORT, &seen.client_port.to_be_bytes());
    let mut tuple = Vec::new();
    put(&mut tuple, TUPLE_IP | NESTED, &[source, target].concat());
    put(&mut tuple, TUPLE_PROTO | NESTED, &proto);
    let mut request = vec![family as u8, 0, 0, 0];
    put(&mut request, TUPLE_REPLY | NESTED, &tuple);
    Some(request)
}

/// What a message tells of a connection, if that is TCP and its addresses are translated.
pub(crate) fn parse(contents: &[u8]) -> Option<Entry> {
    let (mut original, mut reply) = (None, None);
    for (kind, value) in attributes(contents.get(4..)?) {
        match kind {
            TUPLE_ORIG => original = tuple(value),
            TUPLE_REPLY => reply = tuple(value),
            _ => {}
        }
    }
    let (before, reply) = (original?, reply?);
    // What is answered goes the other way.
    let after = Seen {
        client: reply.server,
        client_port: reply.server_port,
        server: reply.client,
        server_port: reply.client_port,
    };
    (before != after).then_some(Entry { before, after })
}

fn tuple(bytes: &[u8]) -> Option<Seen> {
    let (mut source, mut target, mut proto, mut ports) = (None, None, None, (None, None));
    for (kind, value) in attributes(bytes) {
        match kind {
            TUPLE_IP => {
                for (kind, value) in attributes(value) {
                    match kind {
                        V4_SOURCE | V6_SOURCE => source = ip(value),
                        V4_TARGET | V6_TARGET => target = ip(value),
                        _ => {}
                    }
                }
            }
            TUPLE_PROTO => {
                for (kind, value) in attributes(value) {
                    let port = || value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
                    match kind {
                        PROTO_NUMBER => proto = value.first().copied(),
                        SOURCE_PORT => ports.0 = port(),
                        TARGET_PORT => ports.1 = port(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (proto == Some(TCP)).then_some(())?;
    Some(Seen { client: source?, client_port: ports.0?, server: target?, server_port: ports.1? })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(bytes).ok()?;
    Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
}

/// What a Linux 6.18 answered when it was asked for translated destinations: one connection over IPv6, whose server is
/// another, and one over IPv4, whose server and client are.
pub(crate) fn answer() -> Vec<u8> {
    let digits: Vec<u8> =
        include_bytes!("answer.hex").iter().copied().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
    digits.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Message, messages};

    fn seen(client: (&str, u16), server: (&str, u16)) -> Seen {
        Seen {
            client: client.0.parse().unwrap(),
            client_port: client.1,
            server: server.0.parse().unwrap(),
            server_port: server.1,
        }
    }

    #[test]
    fn what_a_kernel_answered_is_understood() {
        let answer = answer();
        let all: Vec<_> = messages(&answer).collect();
        let [Message::Of(six), Message::Of(four), Message::Done] = all[..] else {
            panic!("{all:?}");
        };
        let before = seen(("fd77:1::1", 48954), ("fd96::10", 80));
        let after = seen(("fd77:1::1", 48954), ("fd77:2::1", 8080));
        assert_eq!(parse(six), Some(Entry { before, after }));
        let before = seen(("10.77.1.1", 59646), ("10.96.0.10", 80));
        let after = seen(("10.77.2.254", 59646), ("10.77.2.1", 8080));
        assert_eq!(parse(four), Some(Entry { before, after }));
        for length in 0..four.len() {
            let _ = parse(&four[..length]);
        }
    }

    #[test]
    fn a_refusal_is_an_error() {
        let mut bytes = 36_u32.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&[2, 0]);
        bytes.resize(16, 0);
        bytes.extend_from_slice(&(-1_i32).to_ne_bytes());
        bytes.resize(36, 0);
        assert_eq!(messages(&bytes).collect::<Vec<_>>(), [Message::Failed(1)]);
    }

    #[test]
    fn a_connection_is_asked_for_by_the_addresses_of_what_is_answered() {
        for after in [
            seen(("fd77:1::1", 48954), ("fd77:2::1", 8080)),
            seen(("10.77.2.254", 59646), ("10.77.2.1", 8080)),
        ] {
            let request = request(&after).unwrap();
            let (kind, value) = attributes(&request[4..]).next().unwrap();
            let back = tuple(value).unwrap();
            assert_eq!(kind, TUPLE_REPLY);
            assert_eq!((back.client, back.client_port), (after.server, after.server_port));
            assert_eq!((back.server, back.server_port), (after.client, after.client_port));
        }
        let mixed = seen(("10.77.2.254", 59646), ("fd77:2::1", 8080));
        assert!(request(&mixed).is_none());
        let unknown = seen(("192.0.2.1", 1), ("192.0.2.2", 2));
        let found = originals([mixed, unknown].into_iter(), Instant::now() + netlink::PATIENCE);
        match found {
            Ok(found) => assert_eq!(found, (Read::All, vec![Original::Untracked; 2])),
            Err(error) => crate::testing::skipped(&format!("no connection tracking: {error}")),
        }
        let late = originals([unknown].into_iter(), Instant::now());
        assert!(late.is_err() || late.is_ok_and(|late| late == (Read::Part, Vec::new())));
    }

    #[test]
    fn the_kernel_can_be_asked() {
        match translated(Instant::now() + netlink::PATIENCE, &mut |_| {}) {
            Ok(_) => {}
            Err(error) => crate::testing::skipped(&format!("no connection tracking: {error}")),
        }
    }
}
