//! Answers of an engine, and files of runtimes, made of any bytes.

use ::kubernetes::Lines;
use proto::{convert::ContainerName, v1};

use super::{
    Labels, News,
    engine::answers::{Answers, LINE_BYTES},
    files::{read_bundle, read_storage},
    kubernetes::{self, pod::Pod},
};

/// As a stream of events that comes in pieces, and as a list. Whatever is read of them is to the aggregator's liking.
pub(crate) fn engine(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let answers = Answers::new(Labels::new(vec!["*".to_owned()]));
    let mut lines = Vec::new();
    Lines::new(LINE_BYTES).take(bytes, |line| lines.push(line.to_vec()));
    let (mut pieces, mut again) = (Lines::new(LINE_BYTES), Vec::new());
    for piece in bytes.chunks(usize::from(*cut).max(1)) {
        pieces.take(piece, |line| again.push(line.to_vec()));
    }
    assert_eq!(lines, again, "cut into pieces of {cut}");
    for line in lines {
        if let Ok(Some(heard)) = answers.event(&line) {
            match heard.news {
                News::Called(name) | News::Ended(name) => told(name),
                News::Running(_) => {}
            }
        }
    }
    answers.list(bytes).into_iter().flat_map(|(names, _)| names).for_each(told);
}

/// As pods that an API server tells of, in any order of coming, going and being asked for.
pub(crate) fn kubernetes(data: &[u8]) {
    let mut pods = Vec::new();
    ::kubernetes::fuzzing::answers::<Pod>(data, |pod| pods.push(pod));
    kubernetes::fuzzing(pods).into_iter().for_each(|news| match news {
        News::Called(name) | News::Ended(name) => told(name),
        News::Running(names) => names.into_iter().for_each(told),
    });
}

/// As what containerd runs a container by, and as the list of a storage.
pub(crate) fn files(data: &[u8]) {
    let labels = Labels::new(vec!["*".to_owned()]);
    let id = "0123456789abcdef".repeat(4);
    read_bundle(&id, data, &labels).into_iter().for_each(told);
    read_storage(data, &labels, |_| true).into_iter().for_each(told);
}

fn told(name: ContainerName) {
    let wire = v1::ContainerName::from(name.clone());
    assert_eq!(ContainerName::try_from(wire).as_ref(), Ok(&name), "it is another when it arrives");
}
