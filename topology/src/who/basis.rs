//! By what an edge has its ends.

use serde::{Deserialize, Serialize};

/// By what evidence it is known who is at the ends of an edge, best first. Where one side told of it, how the other
/// was found.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Basis {
    /// The halves of both sides met.
    BothHalves,
    /// Somebody was known to listen at the address and port then.
    Listener,
    /// Only one service was seen to serve that port at the address.
    Served,
    /// A host told what the address stands for behind its NAT.
    Nat,
    /// Only one service was seen to use the address.
    WorkloadAddress,
    /// Kubernetes told whose address it was then.
    Kubernetes,
    /// A host announced the address as its own.
    HostAddress,
    /// The address is in a network that the user has named.
    Cidr,
    /// The address is all that is known.
    Address,
    /// The peers are many that there was no room for.
    Folded,
    /// It was not kept.
    #[default]
    Unknown,
}

impl Basis {
    /// Every one, best first.
    pub const ALL: [Basis; 11] = [
        Basis::BothHalves,
        Basis::Listener,
        Basis::Served,
        Basis::Nat,
        Basis::WorkloadAddress,
        Basis::Kubernetes,
        Basis::HostAddress,
        Basis::Cidr,
        Basis::Address,
        Basis::Folded,
        Basis::Unknown,
    ];

    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Basis::BothHalves => "both_halves",
            Basis::Listener => "listener",
            Basis::Served => "served",
            Basis::Nat => "nat",
            Basis::WorkloadAddress => "workload_address",
            Basis::Kubernetes => "kubernetes",
            Basis::HostAddress => "host_address",
            Basis::Cidr => "cidr",
            Basis::Address => "address",
            Basis::Folded => "folded",
            Basis::Unknown => "unknown",
        }
    }

    /// Its number where it is stored, which stays whatever becomes known: 0 when it is not known.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Basis::Unknown => 0,
            Basis::BothHalves => 1,
            Basis::Listener => 2,
            Basis::Served => 3,
            Basis::Nat => 4,
            Basis::WorkloadAddress => 5,
            Basis::HostAddress => 6,
            Basis::Cidr => 7,
            Basis::Address => 8,
            Basis::Folded => 9,
            Basis::Kubernetes => 10,
        }
    }

    /// What a number stands for.
    pub(crate) fn of_number(number: u64) -> Self {
        let known = Basis::ALL.into_iter().find(|known| known.number() == number);
        known.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_and_fit_their_bits() {
        for (at, basis) in Basis::ALL.into_iter().enumerate() {
            assert_eq!(basis as usize, at);
            assert_eq!(Basis::of_number(basis.number()), basis);
            assert!(basis.number() < 16);
        }
        assert_eq!(Basis::of_number(15), Basis::Unknown);
    }
}
