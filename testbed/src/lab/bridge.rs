//! A host's own network: a bridge in its namespace, with addresses behind it that the host routes, or hides behind its
//! own, as container runtimes and Kubernetes have them.

use std::net::{IpAddr, Ipv4Addr};

use super::Namespace;
use crate::Result;

/// The last number of a host's own address on a bridge.
const GATEWAY: u8 = 1;

/// A bridge in a host's namespace. It goes with that.
#[derive(Debug)]
pub struct Bridge {
    name: String,
    range: [u8; 3],
}

/// A network namespace behind a bridge. Its address is free again once it is [removed](Bridge::detach).
#[derive(Debug)]
pub struct Behind {
    namespace: Namespace,
    address: Ipv4Addr,
}

impl Bridge {
    /// Makes a bridge with the addresses `range`.1 to `range`.254, the first of which is the host's. Other hosts may have the
    /// same ones: nothing but this host knows of them.
    pub(super) fn new(host: &Namespace, name: &str, range: [u8; 3]) -> Result<Self> {
        let bridge = Self { name: name.into(), range };
        host.sysctl("net/ipv4/ip_forward", "1")?;
        let address = bridge.address(GATEWAY);
        // One of its own: else it would be that of a port, and change with those.
        host.ip(&format!(
            "link add {name} address {} type bridge forward_delay 0\n\
             address add {address}/24 dev {name}\n\
             link set {name} up",
            hardware(address)
        ))?;
        Ok(bridge)
    }

    /// An address of it.
    #[must_use]
    pub fn address(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.range;
        Ipv4Addr::new(a, b, c, number)
    }

    /// A namespace behind it with the address of this number, which nobody may have.
    pub(super) fn attach(&self, host: &Namespace, number: u8) -> Result<Behind> {
        let (namespace, address) = (Namespace::new()?, self.address(number));
        host.ip(&format!(
            "link add {near} type veth peer name eth0 address {} netns {}\n\
             link set {near} master {} up",
            hardware(address),
            namespace.path().display(),
            self.name,
            near = self.near(number),
        ))?;
        namespace.ip(&format!(
            "address add {address}/24 dev eth0\n\
             link set eth0 up\n\
             route add default via {}",
            self.address(GATEWAY)
        ))?;
        Ok(Behind { namespace, address })
    }

    /// Takes one away, so that another can have its address at once.
    pub(super) fn detach(&self, host: &Namespace, behind: Behind) -> Result<()> {
        host.ip(&format!("link delete {}", self.near(behind.address.octets()[3])))
    }

    /// Name of the host's end of a link.
    fn near(&self, number: u8) -> String {
        format!("{}-{number}", self.name)
    }
}

/// Hardware address by IP address, as Docker has it: who gets an address next is not looked for where the last one was.
fn hardware(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

impl Behind {
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its address.
    #[must_use]
    pub fn ipv4(&self) -> IpAddr {
        IpAddr::V4(self.address)
    }
}
