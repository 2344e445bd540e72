//! What an agent has recorded.

use std::time::Duration;

use proto::{
    recording::{Reader, Writer},
    v1::{AgentMessage, Hello, agent_message::Body},
};

use crate::{Target, link};

/// What is read is written and read the same.
pub const TARGET: Target = Target {
    name: "recording",
    about: "recordings of an agent, as the load tester replays them",
    run,
    seeds: || {
        let hello = Body::Hello(Hello { node: "n".to_owned(), ..Hello::default() });
        let bodies = std::iter::once(hello).chain(link::batches(0).into_iter().map(Body::Batch));
        let messages = (0..).zip(bodies.map(|body| AgentMessage { body: Some(body) }));
        vec![written(messages.map(|(ms, message)| (Duration::from_millis(ms), message)))]
    },
    longest: 4096,
};

fn run(data: &[u8]) {
    let Ok(reader) = Reader::new(data) else { return };
    let read: Vec<_> = reader.map_while(Result::ok).collect();
    let bytes = written(read.iter().cloned());
    let again: Vec<_> = Reader::new(bytes.as_slice()).into_iter().flatten().flatten().collect();
    assert_eq!(read, again, "it is read as something else");
}

fn written(messages: impl Iterator<Item = (Duration, AgentMessage)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = Writer::new(&mut bytes).and_then(|mut writer| {
        messages.into_iter().try_for_each(|(at, message)| writer.write(at, &message))
    });
    assert!(written.is_ok(), "it cannot be written: {written:?}");
    bytes
}
