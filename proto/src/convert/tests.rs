use std::{collections::HashMap, net::IpAddr};

use proptest::{collection, prelude::*};
use topology::model::{
    Address, Endpoint, Ends, Listener, Role, Scope, Tuple, Workload, WorkloadKind,
};

use super::*;
use crate::v1;

fn address() -> impl Strategy<Value = Address> {
    let scope = prop_oneof![
        Just(Scope::Global),
        any::<u64>().prop_map(Scope::Namespace),
        any::<u64>().prop_map(Scope::Network),
    ];
    (any::<IpAddr>(), scope).prop_map(|(ip, scope)| Address { ip: ip.to_canonical(), scope })
}

fn tuple() -> impl Strategy<Value = Tuple> {
    (address(), any::<u16>(), address(), any::<u16>()).prop_map(
        |(client, client_port, server, server_port)| Tuple {
            client,
            client_port,
            server,
            server_port,
        },
    )
}

fn workload() -> impl Strategy<Value = Workload> {
    let kinds = [
        WorkloadKind::Container,
        WorkloadKind::Systemd,
        WorkloadKind::Pod,
        WorkloadKind::Process,
        WorkloadKind::Host,
    ];
    let labels = collection::btree_map("[a-z]{1,8}", "[ -~]{0,20}", 0..4);
    (prop::sample::select(kinds.to_vec()), "[!-~]{1,40}", "[a-z]{0,8}", labels)
        .prop_map(|(kind, name, namespace, labels)| Workload { kind, name, namespace, labels })
}

proptest! {
    #[test]
    fn addresses_come_back(address in address()) {
        prop_assert_eq!(Address::try_from(v1::Address::from(address)), Ok(address));
    }

    #[test]
    fn addresses_have_four_or_sixteen_bytes(ip: Vec<u8>) {
        let valid = ip.len() == 4 || ip.len() == 16;
        prop_assert_eq!(Address::try_from(v1::Address { ip, scope: None }).is_ok(), valid);
    }

    #[test]
    fn endpoints_come_back(address in address(), port: u16) {
        let endpoint = Endpoint { address, port };
        prop_assert_eq!(Endpoint::try_from(v1::Endpoint::from(endpoint)), Ok(endpoint));
    }

    #[test]
    fn translations_come_back(half in 0..crate::MAX_ID, tuples in collection::vec(tuple(), 0..300)) {
        let ends = |tuple: &Tuple| {
            let Tuple { client, server, server_port, .. } = *tuple;
            Ends { client, server, server_port }
        };
        let translation = Translation { half, ends: tuples.iter().map(ends).collect() };
        let back = Translation::try_from(v1::Translation::from(translation.clone()));
        let few = tuples.len() <= crate::MAX_ENDS;
        prop_assert_eq!(back.ok(), few.then_some(translation));
    }

    #[test]
    fn names_of_containers_come_back(called in workload()) {
        let is_one = matches!(called.kind, WorkloadKind::Container | WorkloadKind::Pod);
        let name = ContainerName { container: "0123456789ab".to_owned(), called };
        let back = ContainerName::try_from(v1::ContainerName::from(name.clone()));
        prop_assert_eq!(back.ok(), is_one.then_some(name));
    }

    #[test]
    fn definitions_come_back(
        workload in workload(),
        id in 1..crate::MAX_ID,
        tuple in tuple(),
        listener in (address(), any::<u64>(), any::<u16>()),
    ) {
        let definition = WorkloadDefinition { id, workload };
        let wire = v1::WorkloadDefinition::from(definition.clone());
        prop_assert_eq!(WorkloadDefinition::try_from(wire), Ok(definition));

        let half = HalfDefinition {
            id,
            workload: id,
            local: 1,
            peer: 2,
            server_port: tuple.server_port,
            client_port: tuple.client_port,
            role: if id % 2 == 0 { Role::Client } else { Role::Server },
            birth: listener.1,
        };
        prop_assert_eq!(HalfDefinition::try_from(v1::HalfDefinition::from(half)), Ok(half));

        for workload in [None, Some(id)] {
            let answer = TupleAnswer { tuple, workload };
            prop_assert_eq!(TupleAnswer::try_from(v1::TupleOwner::from(answer)), Ok(answer));
        }

        let (address, network_namespace, port) = listener;
        let listener = Listener { workload: id, address, network_namespace, port };
        let change = ListenerChange { listener, closed: id % 3 == 0 };
        prop_assert_eq!(ListenerChange::try_from(v1::ListenerState::from(change)), Ok(change));
    }

    #[test]
    fn host_histograms_come_back(buckets in collection::btree_map(0..320_u16, any::<u64>(), 0..9)) {
        let histogram = HostHistogram {
            signal: topology::model::HostSignal::RunqueueLatency,
            buckets: buckets.into_iter().collect(),
        };
        let wire = v1::HostSignal::from(histogram.clone());
        prop_assert_eq!(HostHistogram::try_from(wire), Ok(histogram));
    }
}

#[test]
fn mapped_addresses_are_the_ipv4_ones() {
    let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
    let IpAddr::V6(mapped) = mapped else { panic!("not IPv6") };
    let wire = v1::Address { ip: mapped.octets().to_vec(), scope: None };
    let address = Address::try_from(wire).unwrap();
    assert_eq!(address.ip, "10.0.0.1".parse::<IpAddr>().unwrap());
}

#[test]
fn what_has_no_place_is_refused() {
    let workload = |id, kind, name: &str, labels: usize| {
        WorkloadDefinition::try_from(v1::WorkloadDefinition {
            id,
            kind,
            name: name.to_owned(),
            namespace: String::new(),
            labels: (0..labels).map(|n| (n.to_string(), String::new())).collect(),
        })
    };
    assert!(workload(1, 1, "a", crate::MAX_LABELS).is_ok());
    assert!(workload(0, 1, "a", 0).is_err());
    assert!(workload(crate::MAX_ID, 1, "a", 0).is_err());
    assert!(workload(1, 0, "a", 0).is_err());
    // Of a later version.
    assert_eq!(workload(1, 99, "a", 0).unwrap().workload.kind, WorkloadKind::Process);
    assert!(workload(1, 1, "", 0).is_err());
    assert_eq!(workload(1, 1, "a\nb", 0).unwrap().workload.name, "a\u{fffd}b");
    assert!(workload(1, 1, &"a".repeat(257), 0).is_err());
    assert!(workload(1, 1, "a", crate::MAX_LABELS + 1).is_err());

    let half = |server_port, role| {
        HalfDefinition::try_from(v1::HalfDefinition { server_port, role, ..Default::default() })
    };
    assert!(half(65_535, 1).is_ok());
    assert_eq!(
        half(65_536, 1).unwrap_err().to_string(),
        "server port is 65536, the largest allowed is 65535"
    );
    assert!(half(1, 0).is_err());

    let signal = |buckets: &[u32], counts: &[u64]| {
        let (buckets, counts) = (buckets.to_vec(), counts.to_vec());
        HostHistogram::try_from(v1::HostSignal { kind: 1, buckets, counts })
    };
    assert!(signal(&[1, 2], &[1, 1]).is_ok());
    assert!(signal(&[2, 1], &[1, 1]).is_err());
    assert!(signal(&[1], &[1, 1]).is_err());
    assert!(signal(&[320], &[1]).is_err());

    assert!(losses(HashMap::from([("halves_full".to_owned(), 1)])).is_ok());
    assert!(losses(HashMap::from([("halves full".to_owned(), 1)])).is_err());
}

#[test]
fn a_long_reason_is_cut() {
    let program = v1::Program { name: "p".to_owned(), state: 2, reason: "é\n".repeat(200) };
    let program = topology::model::Program::try_from(program).unwrap();
    assert!(program.reason.starts_with("é é ") && program.reason.len() <= 256);
}
