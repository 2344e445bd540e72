//! What translations make of the ends of halves.

use topology::model::Ends;

use super::{id, port};
use crate::{ConvertError, MAX_ENDS, v1};

/// What the other ends of a half see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Id of the half in this stream.
    pub half: u32,
    /// Their addresses and port, as the node knows them.
    pub ends: Vec<Ends>,
}

impl TryFrom<v1::Translation> for Translation {
    type Error = ConvertError;

    fn try_from(wire: v1::Translation) -> Result<Self, ConvertError> {
        let (field, count, max) = ("ends of a half", wire.ends.len(), MAX_ENDS);
        if count > max {
            return Err(ConvertError::Count { field, count, max });
        }
        let ends = wire.ends.into_iter().map(Ends::try_from).collect::<Result<_, _>>()?;
        Ok(Self { half: id("half id", wire.half)?, ends })
    }
}

impl From<Translation> for v1::Translation {
    fn from(translation: Translation) -> Self {
        let ends = translation.ends.into_iter().map(Into::into).collect();
        Self { half: translation.half, ends }
    }
}

impl TryFrom<v1::Ends> for Ends {
    type Error = ConvertError;

    fn try_from(wire: v1::Ends) -> Result<Self, ConvertError> {
        Ok(Self {
            client: wire.client.ok_or(ConvertError::Missing("client address"))?.try_into()?,
            server: wire.server.ok_or(ConvertError::Missing("server address"))?.try_into()?,
            server_port: port("server port", wire.server_port)?,
        })
    }
}

impl From<Ends> for v1::Ends {
    fn from(ends: Ends) -> Self {
        Self {
            client: Some(ends.client.into()),
            server: Some(ends.server.into()),
            server_port: ends.server_port.into(),
        }
    }
}
