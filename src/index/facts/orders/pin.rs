//! Pins made by command.

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::index::IndexError;
use crate::index::eviction_order::seconds;
use crate::index::facts::{Each, Fact, Kind};
use crate::index::schema::PINS;
use crate::oci::PinPattern;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutPin {
    pub pin: PinPattern,
    pub at: Timestamp,
}

impl Kind for PutPin {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        to.open_table(PINS)?.insert(self.pin.as_str(), seconds(self.at))?;
        Ok(())
    }

    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        Ok(from.open_table(PINS)?.get(self.pin.as_str())?.is_none())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemovePin {
    pub pin: PinPattern,
}

impl Kind for RemovePin {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        to.open_table(PINS)?.remove(self.pin.as_str())?;
        Ok(())
    }
}

pub(in crate::index::facts) fn all(from: &ReadTransaction, each: Each<'_>) -> Result<(), IndexError> {
    for entry in from.open_table(PINS)?.iter()? {
        let (pin, at) = entry?;
        let Ok(pin) = pin.value().parse() else { continue };
        each(Fact::PutPin(PutPin { pin, at: Timestamp::from_millis(at.value().saturating_mul(1000)) }))?;
    }
    Ok(())
}
