//! The header of a request: whose connection it is on, and what the server shall read, answer and do then.

use super::plan::Ending;

/// Length of the header in bytes.
pub(super) const HEADER: usize = 24;

const MAGIC: [u8; 4] = *b"weft";

/// Bytes of a connection's token.
const TOKEN: usize = 7;

/// Bytes of a length.
const LENGTH: usize = 6;

/// The largest token.
pub(super) const MAX_TOKEN: u64 = (1 << (8 * TOKEN)) - 1;

/// A request as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// What the client calls the connection; no other has it.
    pub(super) token: u64,
    /// Bytes that follow the header, fewer than 2^48.
    pub(super) body: u64,
    /// Bytes to answer with, fewer than 2^48.
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
        let (token, lengths) = bytes[5..].split_at_mut(TOKEN);
        let (body, response) = lengths.split_at_mut(LENGTH);
        for (to, number) in [(token, self.token), (body, self.body), (response, self.response)] {
            let from = size_of::<u64>() - to.len();
            to.copy_from_slice(&number.to_be_bytes()[from..]);
        }
        bytes
    }

    /// The request in a header, or `None` if a stranger sent it.
    pub(super) fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
        let (token, lengths) = bytes[5..].split_at(TOKEN);
        let (body, response) = lengths.split_at(LENGTH);
        let (token, body, response) = (number(token), number(body), number(response));
        let then = match bytes[4] {
            0 => Then::Wait,
            1 => Then::Close,
            2 => Then::Reset,
            _ => return None,
        };
        (bytes[..4] == MAGIC).then_some(Self { token, body, response, then })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requests_survive_the_wire(
            token in 0..=MAX_TOKEN, body in 0..1_u64 << 48, response in 0..1_u64 << 48, then in 0..3
        ) {
            let then = [Then::Wait, Then::Close, Then::Reset][then as usize];
            let request = Request { token, body, response, then };
            prop_assert_eq!(Request::decode(&request.encode()), Some(request));
        }

        #[test]
        fn any_header_is_answered(bytes in any::<[u8; HEADER]>()) {
            let _ = Request::decode(&bytes);
        }
    }
}
