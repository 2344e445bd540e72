//! The header of a request: what the server shall read, answer and do then.

use super::plan::Ending;

/// Length of the header in bytes.
pub(super) const HEADER: usize = 24;

const MAGIC: [u8; 4] = *b"weft";

/// A request as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Bytes that follow the header.
    pub(super) body: u64,
    /// Bytes to answer with.
    pub(super) response: u64,
    /// What to do after the answer.
    pub(super) then: Then,
}

/// What a server does after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Waits for the next request, or for the end.
    Wait,
    /// Closes.
    Close,
    /// Resets.
    Reset,
}

impl Then {
    /// What the server has to do about an ending.
    pub(super) fn of(ending: Ending) -> Self {
        match ending {
            Ending::ServerCloses => Then::Close,
            Ending::ServerResets => Then::Reset,
            Ending::Keep | Ending::ClientCloses | Ending::ClientResets | Ending::ClientLeaves => {
                Then::Wait
            }
        }
    }
}

impl Request {
    pub(super) fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = match self.then {
            Then::Wait => 0,
            Then::Close => 1,
            Then::Reset => 2,
        };
        bytes[8..16].copy_from_slice(&self.body.to_be_bytes());
        bytes[16..].copy_from_slice(&self.response.to_be_bytes());
        bytes
    }

    /// The request in a header, or `None` if a stranger sent it.
    pub(super) fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let number = |at: usize| bytes[at..at + 8].iter().fold(0, |n, b| n << 8 | u64::from(*b));
        let then = match bytes[4] {
            0 => Then::Wait,
            1 => Then::Close,
            2 => Then::Reset,
            _ => return None,
        };
        (bytes[..4] == MAGIC).then(|| Self { body: number(8), response: number(16), then })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requests_survive_the_wire(body in any::<u64>(), response in any::<u64>(), then in 0..3) {
            let then = [Then::Wait, Then::Close, Then::Reset][then as usize];
            let request = Request { body, response, then };
            prop_assert_eq!(Request::decode(&request.encode()), Some(request));
        }

        #[test]
        fn any_header_is_answered(bytes in any::<[u8; HEADER]>()) {
            let _ = Request::decode(&bytes);
        }
    }
}
