//! Peers that know the truth: processes that connect, talk and fail as they are told and
//! list every connection with what moved over it.

mod actor;
mod client;
mod ledger;
mod peer;
mod plan;
mod report;
mod ring;
mod server;
mod socket;
mod wire;
mod wired;

pub use self::{
    actor::Actor,
    peer::Peer,
    plan::{Answer, Burst, Command, Dial, Ending, Exchange, Listen, Means, Open},
    report::{Connection, End, Failure, KernelCount, Reason, Report, Side},
    socket::plain,
};
