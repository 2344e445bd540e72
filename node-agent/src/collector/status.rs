//! What the node says of itself.

use proto::{MAX_STRING_BYTES, v1};

use crate::{
    addresses::OwnAddress,
    source::{Program, ProgramState},
};

/// Put together from its parts when one of them changed.
#[derive(Debug, Default)]
pub(super) struct Status {
    programs: Vec<v1::Program>,
    losses: Vec<(&'static str, u64)>,
    /// Whether translated addresses can be seen through.
    translations: Option<v1::Program>,
    /// Whether pods are known by their names.
    pods: Option<v1::Program>,
    addresses: Vec<OwnAddress>,
    host_namespace: Option<u64>,
    certificate_expires_unix_s: i64,
    changed: bool,
}

impl Status {
    pub(super) fn new(programs: &[Program]) -> Self {
        Self { programs: programs.iter().map(wire).collect(), changed: true, ..Self::default() }
    }

    pub(super) fn losses(&mut self, losses: Vec<(&'static str, u64)>) {
        self.changed |= self.losses != losses;
        self.losses = losses;
    }

    pub(super) fn addresses(&mut self, addresses: Vec<OwnAddress>, host_namespace: Option<u64>) {
        self.addresses = addresses;
        self.host_namespace = host_namespace;
        self.changed = true;
    }

    pub(super) fn translations(&mut self, program: &Program) {
        let told = Some(wire(program));
        self.changed |= self.translations != told;
        self.translations = told;
    }

    pub(super) fn pods(&mut self, program: &Program) {
        let told = Some(wire(program));
        self.changed |= self.pods != told;
        self.pods = told;
    }

    pub(super) fn certificate_expires(&mut self, unix_s: i64) {
        self.changed |= self.certificate_expires_unix_s != unix_s;
        self.certificate_expires_unix_s = unix_s;
    }

    /// The message, if it is another than the last.
    pub(super) fn take(&mut self) -> Option<v1::NodeStatus> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let losses = self.losses.iter().map(|(cause, total)| ((*cause).to_owned(), *total));
        let addresses = self.addresses.iter().map(own);
        let programs = self.programs.iter().chain(&self.translations).chain(&self.pods);
        Some(v1::NodeStatus {
            programs: programs.cloned().collect(),
            losses: losses.collect(),
            addresses: addresses.collect(),
            certificate_expires_unix_s: self.certificate_expires_unix_s,
            host_network_namespace: self.host_namespace.unwrap_or(0),
        })
    }
}

/// One of the node's addresses as it is told.
pub(crate) fn own((address, cookie): &OwnAddress) -> v1::NodeAddress {
    v1::NodeAddress { address: Some((*address).into()), network_namespace: *cookie }
}

/// A program as it is told.
pub(crate) fn wire(program: &Program) -> v1::Program {
    let state = match program.state {
        ProgramState::Attached => v1::ProgramState::Attached,
        ProgramState::Failed => v1::ProgramState::Failed,
        ProgramState::Off => v1::ProgramState::Off,
    };
    let mut reason = String::new();
    for c in program.reason.chars() {
        if reason.len() + c.len_utf8() > MAX_STRING_BYTES {
            break;
        }
        reason.push(if c.is_control() { ' ' } else { c });
    }
    v1::Program { name: program.name.to_owned(), state: state.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_fit_for_the_wire() {
        let program = Program {
            name: "x",
            state: ProgramState::Failed,
            reason: "é\n".repeat(200),
            lost_without: "",
            essential: false,
        };
        let mut status = Status::new(&[program]);
        let status = status.take().unwrap();
        let reason = &status.programs[0].reason;
        assert!(reason.len() <= MAX_STRING_BYTES && !reason.contains('\n'), "{reason}");
    }

    #[test]
    fn is_told_when_it_changed() {
        let mut status = Status::new(&[]);
        assert!(status.take().is_some());
        status.losses(Vec::new());
        assert!(status.take().is_none());
        status.losses(vec![("hints_full", 1)]);
        assert_eq!(status.take().unwrap().losses["hints_full"], 1);
    }
}
