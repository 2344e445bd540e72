//! What an agent has sent, in a file: messages with the times at which they were sent.
//!
//! ```text
//! header   8 bytes  "weftrec" and the version of this format, 1
//! frame    8 bytes  nanoseconds since the recording began, little endian
//!          4 bytes  length of the message, little endian
//!          the message, an `AgentMessage`
//! ```
//!
//! A stream begins with its `Hello`. A file that ends within a frame is one whose agent was ended.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use prost::Message;
use thiserror::Error;

use crate::{MAX_MESSAGE_BYTES, v1::AgentMessage};

const HEADER: [u8; 8] = *b"weftrec\x01";

/// A file that is no recording.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It begins with something else, or has another version.
    #[error("this is no recording that can be read here")]
    Header,
    /// A frame has more bytes than any message.
    #[error("a frame of {0} bytes is too long")]
    TooLong(u32),
    /// A frame holds something else.
    #[error("a message cannot be read: {0}")]
    Message(#[from] prost::DecodeError),
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    frame: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(&HEADER)?;
        Ok(Self { to, frame: Vec::new() })
    }

    /// Adds a message that was sent so long after the recording began. The frame is written at
    /// once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, at: Duration, message: &AgentMessage) -> io::Result<()> {
        self.frame.clear();
        let at_ns = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.frame.extend_from_slice(&at_ns.to_le_bytes());
        let bytes = u32::try_from(message.encoded_len()).map_err(io::Error::other)?;
        self.frame.extend_from_slice(&bytes.to_le_bytes());
        message.encode(&mut self.frame).map_err(io::Error::other)?;
        self.to.write_all(&self.frame)
    }
}

/// Reads a recording.
#[derive(Debug)]
pub struct Reader<R>(R);

impl<R: Read> Reader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// When it cannot be read or is no recording.
    pub fn new(mut from: R) -> Result<Self, RecordingError> {
        let mut header = [0; HEADER.len()];
        let read = read_whole(&mut from, &mut header)?;
        if read && header == HEADER { Ok(Self(from)) } else { Err(RecordingError::Header) }
    }

    fn frame(&mut self) -> Result<Option<(Duration, AgentMessage)>, RecordingError> {
        let (mut at_ns, mut bytes) = ([0; 8], [0; 4]);
        if !read_whole(&mut self.0, &mut at_ns)? || !read_whole(&mut self.0, &mut bytes)? {
            return Ok(None);
        }
        let bytes = u32::from_le_bytes(bytes);
        if bytes as usize > MAX_MESSAGE_BYTES {
            return Err(RecordingError::TooLong(bytes));
        }
        let mut message = vec![0; bytes as usize];
        if !read_whole(&mut self.0, &mut message)? {
            return Ok(None);
        }
        let at = Duration::from_nanos(u64::from_le_bytes(at_ns));
        Ok(Some((at, AgentMessage::decode(bytes::Bytes::from(message))?)))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<(Duration, AgentMessage), RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.frame().transpose()
    }
}

/// Fills the buffer; false when the file ends before.
fn read_whole(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Batch, Hello, agent_message::Body};

    fn recording() -> (Vec<(Duration, AgentMessage)>, Vec<u8>) {
        let hello = Body::Hello(Hello { node: "n1".to_owned(), ..Hello::default() });
        let batch = Body::Batch(Batch { seq: 7, ..Batch::default() });
        let messages = [(0, hello), (1_500, batch)]
            .map(|(ms, body)| (Duration::from_millis(ms), AgentMessage { body: Some(body) }));
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes).unwrap();
        for (at, message) in &messages {
            writer.write(*at, message).unwrap();
        }
        (messages.into(), bytes)
    }

    #[test]
    fn what_was_written_is_read() {
        let (messages, bytes) = recording();
        let read: Result<Vec<_>, _> = Reader::new(bytes.as_slice()).unwrap().collect();
        assert_eq!(read.unwrap(), messages);
    }

    #[test]
    fn a_file_that_ends_early_ends_with_its_last_whole_frame() {
        let (messages, bytes) = recording();
        for length in HEADER.len()..bytes.len() {
            let read: Result<Vec<_>, _> = Reader::new(&bytes[..length]).unwrap().collect();
            let read = read.unwrap();
            assert!(read.len() < messages.len() && messages.starts_with(&read));
        }
        assert!(matches!(Reader::new(&bytes[..3]), Err(RecordingError::Header)));
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        assert!(matches!(Reader::new(&b"weftrec\x02"[..]), Err(RecordingError::Header)));
        let mut long = HEADER.to_vec();
        long.extend_from_slice(&[0xff; 12]);
        let first = Reader::new(long.as_slice()).unwrap().next().unwrap();
        assert!(matches!(first, Err(RecordingError::TooLong(u32::MAX))));
        let mut wrong = HEADER.to_vec();
        wrong.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xff]);
        let first = Reader::new(wrong.as_slice()).unwrap().next().unwrap();
        assert!(matches!(first, Err(RecordingError::Message(_))));
    }
}
