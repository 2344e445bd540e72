//! Messages in both directions.

use prost::Message;
use proto::{
    convert::{
        HalfDefinition, Hello, HostHistogram, ListenerChange, TupleAnswer, WorkloadDefinition,
    },
    v1::{self, agent_message, aggregator_message},
};
use topology::model::{Endpoint, NodeAddress, Program, Tuple};

use crate::{Target, link};

/// What they hold is refused, or converted there and back.
pub const TARGET: Target = Target {
    name: "messages",
    about: "Hello, Welcome, questions and everything in a batch, to the domain and back",
    run,
    seeds,
    longest: 2048,
};

fn run(data: &[u8]) {
    let Some((side, bytes)) = data.split_first() else { return };
    if side % 2 == 0 {
        let message = v1::AgentMessage::decode(bytes).ok();
        match message.and_then(|message| message.body) {
            Some(agent_message::Body::Hello(hello)) => back(hello, Hello::try_from),
            Some(agent_message::Body::Batch(batch)) => batch.sections.into_iter().for_each(section),
            None => {}
        }
    } else {
        let message = v1::AggregatorMessage::decode(bytes).ok();
        match message.and_then(|message| message.body) {
            Some(aggregator_message::Body::Resolve(resolve)) => {
                resolve.tuples.into_iter().for_each(|tuple| back(tuple, Tuple::try_from));
            }
            Some(aggregator_message::Body::Split(split)) => {
                split.endpoints.into_iter().for_each(|one| back(one, Endpoint::try_from));
            }
            _ => {}
        }
    }
}

fn section(section: v1::Section) {
    let v1::Section { kind, payload } = section;
    match v1::SectionKind::try_from(kind as i32) {
        Ok(v1::SectionKind::Definitions) => {
            let Ok(wire) = v1::Definitions::decode(payload) else { return };
            wire.workloads.into_iter().for_each(|one| back(one, WorkloadDefinition::try_from));
            wire.halves.into_iter().for_each(|one| back(one, HalfDefinition::try_from));
        }
        Ok(v1::SectionKind::Listeners) => {
            let Ok(wire) = v1::Listeners::decode(payload) else { return };
            wire.listeners.into_iter().for_each(|one| back(one, ListenerChange::try_from));
        }
        Ok(v1::SectionKind::NodeStatus) => {
            let Ok(wire) = v1::NodeStatus::decode(payload) else { return };
            wire.programs.into_iter().for_each(|one| back(one, Program::try_from));
            wire.addresses.into_iter().for_each(|one| back(one, NodeAddress::try_from));
            let _ = proto::convert::losses(wire.losses);
        }
        Ok(v1::SectionKind::HostSignals) => {
            let Ok(wire) = v1::HostSignals::decode(payload) else { return };
            wire.signals.into_iter().for_each(|one| back(one, HostHistogram::try_from));
        }
        Ok(v1::SectionKind::TupleOwners) => {
            let Ok(wire) = v1::TupleOwners::decode(payload) else { return };
            wire.owners.into_iter().for_each(|one| back(one, TupleAnswer::try_from));
        }
        _ => {}
    }
}

/// Converts, and what that gives there and back again.
fn back<W, T, E>(wire: W, convert: impl Fn(W) -> Result<T, E>)
where
    W: From<T>,
    T: Clone + PartialEq + std::fmt::Debug,
    E: std::fmt::Debug,
{
    let Ok(first) = convert(wire) else { return };
    match convert(first.clone().into()) {
        Ok(second) => assert_eq!(first, second, "it is another when it comes back"),
        // What stands for a character that may not be takes more room than it.
        Err(error) => assert!(format!("{first:?}").contains('\u{fffd}'), "{first:?}: {error:?}"),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let hello = v1::Hello {
        protocol_version: proto::PROTOCOL_VERSION,
        node: "n".to_owned(),
        boot_id: vec![1; 16],
        interval_ns: 1_000_000_000,
        ..v1::Hello::default()
    };
    let mut bodies = vec![agent_message::Body::Hello(hello)];
    bodies.extend(link::batches(0).into_iter().map(agent_message::Body::Batch));
    let agents = bodies.into_iter().map(|body| {
        let message = v1::AgentMessage { body: Some(body) };
        [vec![0], message.encode_to_vec()].concat()
    });
    let address = |ip| Some(v1::Address { ip, scope: Some(v1::address::Scope::Network(3)) });
    let tuple = v1::Tuple {
        client: address(vec![10, 0, 0, 1]),
        client_port: 4,
        server: address(vec![0xfd; 16]),
        server_port: 80,
    };
    let welcome = v1::Welcome {
        aggregator_version: "1".to_owned(),
        instance: 1,
        acked_seq: 2,
        ..Default::default()
    };
    let endpoint = v1::Endpoint { address: address(vec![10, 0, 0, 2]), port: 80 };
    let aggregators = [
        aggregator_message::Body::Welcome(welcome),
        aggregator_message::Body::Ack(v1::Ack { seq: 7 }),
        aggregator_message::Body::Resolve(v1::Resolve { tuples: vec![tuple] }),
        aggregator_message::Body::Split(v1::Split { endpoints: vec![endpoint] }),
    ]
    .map(|body| {
        let message = v1::AggregatorMessage { body: Some(body) };
        [vec![1], message.encode_to_vec()].concat()
    });
    agents.chain(aggregators).collect()
}
