//! The counters of a half. All are cumulative and never reset.

/// How many counters a half has.
pub const COUNTERS: usize = 16;

/// A counter of a half: its index in a kernel slot, on the wire and in the graph.
///
/// The order is part of the wire format and of the kernel schema: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Counter {
    /// Connections established and counted from the handshake on.
    Connections = 0,
    /// Connections that were established before the agent saw them.
    Adopted = 1,
    /// Established connections that ended, however they ended. The connections
    /// open now are `Connections + Adopted - Closed`.
    Closed = 2,
    /// Payload bytes the peer acknowledged, SYN and FIN not counted.
    BytesSent = 3,
    /// In-order payload bytes this kernel accepted, read or not, FIN not counted.
    BytesReceived = 4,
    /// Segments sent, retransmissions and pure acknowledgements included.
    SegmentsSent = 5,
    /// Segments received.
    SegmentsReceived = 6,
    /// Segments sent again.
    Retransmits = 7,
    /// Attempts answered by a reset.
    FailedRefused = 8,
    /// Attempts never answered.
    FailedTimeout = 9,
    /// Attempts with no route to the peer, or answered by an ICMP error.
    FailedUnreachable = 10,
    /// Attempts given up by the application.
    FailedAborted = 11,
    /// Attempts that failed on this host: ports exhausted, forbidden, and the like.
    FailedLocal = 12,
    /// Established connections that this side reset.
    ResetSent = 13,
    /// Established connections that the peer reset.
    ResetReceived = 14,
    /// Connections that a time-out of this side ended after they were established.
    TimedOut = 15,
}

impl Counter {
    /// Every counter in the order of its index.
    pub const ALL: [Counter; COUNTERS] = [
        Counter::Connections,
        Counter::Adopted,
        Counter::Closed,
        Counter::BytesSent,
        Counter::BytesReceived,
        Counter::SegmentsSent,
        Counter::SegmentsReceived,
        Counter::Retransmits,
        Counter::FailedRefused,
        Counter::FailedTimeout,
        Counter::FailedUnreachable,
        Counter::FailedAborted,
        Counter::FailedLocal,
        Counter::ResetSent,
        Counter::ResetReceived,
        Counter::TimedOut,
    ];

    /// Index of the counter in every array of [`COUNTERS`] values.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_counter_at_its_index() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(counter.index(), index);
        }
    }
}
