//! Addresses, endpoints and tuples.

use std::net::IpAddr;

use topology::model::{Address, Endpoint, Scope, Tuple};

use super::port;
use crate::{ConvertError, v1};

impl TryFrom<v1::Address> for Address {
    type Error = ConvertError;

    fn try_from(wire: v1::Address) -> Result<Self, ConvertError> {
        let ip = if let Ok(octets) = <[u8; 4]>::try_from(wire.ip.as_slice()) {
            IpAddr::from(octets)
        } else if let Ok(octets) = <[u8; 16]>::try_from(wire.ip.as_slice()) {
            // One address, one spelling: halves meet on it.
            IpAddr::from(octets).to_canonical()
        } else {
            let (field, length) = ("address", wire.ip.len());
            return Err(ConvertError::Length { field, length, expected: "4 or 16" });
        };
        let scope = match wire.scope {
            None => Scope::Global,
            Some(v1::address::Scope::NetworkNamespace(cookie)) => Scope::Namespace(cookie),
            Some(v1::address::Scope::Network(number)) => Scope::Network(number),
        };
        Ok(Address { ip, scope })
    }
}

impl From<Address> for v1::Address {
    fn from(address: Address) -> Self {
        let ip = match address.ip.to_canonical() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let scope = match address.scope {
            Scope::Global => None,
            Scope::Namespace(cookie) => Some(v1::address::Scope::NetworkNamespace(cookie)),
            Scope::Network(number) => Some(v1::address::Scope::Network(number)),
        };
        Self { ip, scope }
    }
}

impl TryFrom<v1::Endpoint> for Endpoint {
    type Error = ConvertError;

    fn try_from(wire: v1::Endpoint) -> Result<Self, ConvertError> {
        Ok(Self {
            address: wire.address.ok_or(ConvertError::Missing("server address"))?.try_into()?,
            port: port("server port", wire.port)?,
        })
    }
}

impl From<Endpoint> for v1::Endpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self { address: Some(endpoint.address.into()), port: endpoint.port.into() }
    }
}

impl TryFrom<v1::Tuple> for Tuple {
    type Error = ConvertError;

    fn try_from(wire: v1::Tuple) -> Result<Self, ConvertError> {
        Ok(Self {
            client: wire.client.ok_or(ConvertError::Missing("client address"))?.try_into()?,
            client_port: port("client port", wire.client_port)?,
            server: wire.server.ok_or(ConvertError::Missing("server address"))?.try_into()?,
            server_port: port("server port", wire.server_port)?,
        })
    }
}

impl From<Tuple> for v1::Tuple {
    fn from(tuple: Tuple) -> Self {
        Self {
            client: Some(tuple.client.into()),
            client_port: tuple.client_port.into(),
            server: Some(tuple.server.into()),
            server_port: tuple.server_port.into(),
        }
    }
}
