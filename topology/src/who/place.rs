//! Where an address is, seen from the whole fleet.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Address, Scope},
    nodes::NodeIx,
};

/// An address that means the same thing to whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Place {
    /// An address of the whole fleet.
    Global(IpAddr),
    /// An address within one network namespace of one boot of one node.
    Namespace { node: NodeIx, boot: u32, cookie: u64, ip: IpAddr },
    /// An address within one of a node's own networks.
    Network { node: NodeIx, number: u64, ip: IpAddr },
    /// Of a client of this node that failed before an address was chosen for it.
    Unchosen { node: NodeIx },
    /// Of many peers together that there was no room for.
    Other,
}

impl Place {
    /// Where an address is that a node reports.
    pub(crate) fn of(node: NodeIx, boot: u32, address: Address) -> Self {
        let ip = address.ip.to_canonical();
        match address.scope {
            _ if ip.is_unspecified() => Place::Unchosen { node },
            Scope::Namespace(cookie) => Place::Namespace { node, boot, cookie, ip },
            Scope::Network(number) => Place::Network { node, number, ip },
            // Whatever an agent says, loopback never leaves its host.
            Scope::Global if ip.is_loopback() => Place::Namespace { node, boot, cookie: 0, ip },
            Scope::Global => Place::Global(ip),
        }
    }

    /// Whether a node calls it so, in whatever boot.
    pub(crate) fn is(self, node: NodeIx, address: Address) -> bool {
        let boot = match self {
            Place::Namespace { boot, .. } => boot,
            _ => 0,
        };
        self == Place::of(node, boot, address)
    }

    /// What the node calls it, where it may know it. An address in a network of another node is to it one of the fleet.
    pub(crate) fn as_seen_by(self, seer: NodeIx) -> Option<Address> {
        let (ip, scope) = match self {
            Place::Global(ip) => (ip, Scope::Global),
            Place::Namespace { node, cookie, ip, .. } if node == seer => {
                (ip, Scope::Namespace(cookie))
            }
            Place::Network { node, number, ip } if node == seer => (ip, Scope::Network(number)),
            Place::Network { ip, .. } => (ip, Scope::Global),
            _ => return None,
        };
        Some(Address { ip, scope })
    }

    /// The address alone.
    pub(crate) const fn ip(self) -> IpAddr {
        match self {
            Place::Global(ip) | Place::Namespace { ip, .. } | Place::Network { ip, .. } => ip,
            Place::Unchosen { .. } | Place::Other => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
}
