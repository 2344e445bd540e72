//! The wires of a lab. Every network namespace hangs on the fabric, which routes between
//! them, by a link of its own: 10.77.N.1 and fd77:0:0:N::1 with the fabric at .254 and ::fe.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{Namespace, tun::DelayedLink};
use crate::Result;

/// Name of the interface inside a host.
pub const INTERFACE: &str = "eth0";

/// A network namespace with a link to the fabric.
#[derive(Debug)]
pub struct Network {
    number: u8,
    // Before the namespace, so that its threads end first.
    _delay: Option<DelayedLink>,
    namespace: Namespace,
}

impl Network {
    /// Makes a namespace and connects it to `fabric` as network `number`. A `delay` is added
    /// to each direction.
    pub(super) fn new(fabric: &Namespace, number: u8, delay: Duration) -> Result<Self> {
        let namespace = Namespace::new()?;
        let far = format!("net{number}");
        let delay = if delay.is_zero() {
            namespace.ip(&format!(
                "link add {INTERFACE} type veth peer name {far} netns {}",
                fabric.path().display()
            ))?;
            None
        } else {
            Some(DelayedLink::new((&namespace, INTERFACE), (fabric, &far), delay)?)
        };
        // "Host unreachable" after a tenth of the usual three seconds.
        fabric.sysctl(&format!("net/ipv4/neigh/{far}/retrans_time_ms"), "100")?;
        fabric.ip(&format!(
            "address add 10.77.{number}.254/24 dev {far}\n\
             address add fd77:0:0:{number:x}::fe/64 dev {far} nodad\n\
             link set {far} up"
        ))?;
        namespace.ip(&format!(
            "address add 10.77.{number}.1/24 dev {INTERFACE}\n\
             address add fd77:0:0:{number:x}::1/64 dev {INTERFACE} nodad\n\
             link set {INTERFACE} up\n\
             route add default via 10.77.{number}.254\n\
             route add default via fd77:0:0:{number:x}::fe"
        ))?;
        Ok(Self { number, _delay: delay, namespace })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, self.number, 1))
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, u16::from(self.number), 0, 0, 0, 1))
    }

    /// An IPv4 address of the same network that nobody has: what is sent there is answered
    /// by the fabric with "host unreachable".
    #[must_use]
    pub fn nobody(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, self.number, 99))
    }
}
