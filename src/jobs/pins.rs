//! Adds and removes several pins at once, all or none.

use super::{Refused, RefusedCode};
use crate::cache::retention::Pin;
use crate::index::IndexError;
use crate::mirror::{Mirror, PinError};
use crate::quote::quoted;

/// Patterns in one call.
const MAX_PATTERNS: usize = 1000;

/// The reason why no pin was added or removed.
#[derive(Debug, thiserror::Error)]
pub enum PinRefused {
    #[error("no pattern is given, as in \"docker.io/library/**\"")]
    None,
    #[error("these are too many at once; {MAX_PATTERNS} may come together")]
    TooMany,
    #[error("{pattern}: {err}")]
    Invalid { pattern: String, err: PinError },
    #[error("{0}: there is no such pin")]
    Unknown(String),
    #[error("{0}: it is in `storage.pins` of the configuration, which has to be changed")]
    Configured(String),
    #[error("pins cannot be read or written: {0}")]
    Index(#[from] IndexError),
}

impl From<PinRefused> for Refused {
    fn from(refused: PinRefused) -> Self {
        let code = match refused {
            PinRefused::None | PinRefused::Invalid { .. } => RefusedCode::Invalid,
            PinRefused::TooMany => RefusedCode::TooLarge,
            PinRefused::Unknown(_) => RefusedCode::NotFound,
            PinRefused::Configured(_) => RefusedCode::Conflict,
            PinRefused::Index(_) => RefusedCode::Unavailable,
        };
        Self::new(code, refused)
    }
}

/// All pins, those of the configuration first.
pub async fn list_pins(mirror: &Mirror) -> Result<Vec<Pin>, IndexError> {
    let cache = mirror.cache();
    cache.pins.list(&cache.index).await
}

/// Adds pins durably; existing ones stay. Returns all pins.
pub async fn add_pins(mirror: &Mirror, patterns: &[String]) -> Result<Vec<Pin>, PinRefused> {
    check_count(patterns)?;
    let read = |text: &String| mirror.pin(text).map_err(|err| PinRefused::Invalid { pattern: quoted(text), err });
    let pins = patterns.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut all = list_pins(mirror).await?;
    let cache = mirror.cache();
    cache.pins.add(&cache.index, pins.clone(), cache.context.clock.now()).await?;
    for pattern in pins {
        if !all.iter().any(|known| known.pattern == pattern) {
            all.push(Pin { pattern, configured: false });
        }
    }
    // They are made, even if they cannot be read in this moment.
    Ok(list_pins(mirror).await.unwrap_or(all))
}

/// Removes durably pins that were added by command. Returns all pins.
pub async fn remove_pins(mirror: &Mirror, patterns: &[String]) -> Result<Vec<Pin>, PinRefused> {
    check_count(patterns)?;
    let mut known = list_pins(mirror).await?;
    let mut pins = Vec::new();
    for text in patterns {
        // A pin of a registry that is not configured any more can be removed too.
        let pin = mirror.pin(text).or_else(|_unknown| text.parse());
        let pin = pin.map_err(|_invalid| PinRefused::Unknown(quoted(text)))?;
        match known.iter().find(|known| known.pattern == pin) {
            Some(known) if known.configured => return Err(PinRefused::Configured(quoted(text))),
            Some(_) => pins.push(pin),
            None => return Err(PinRefused::Unknown(quoted(text))),
        }
    }
    let cache = mirror.cache();
    cache.pins.remove(&cache.index, pins.clone(), cache.context.clock.now()).await?;
    known.retain(|known| !pins.contains(&known.pattern));
    Ok(list_pins(mirror).await.unwrap_or(known))
}

const fn check_count(patterns: &[String]) -> Result<(), PinRefused> {
    match patterns.len() {
        0 => Err(PinRefused::None),
        1..=MAX_PATTERNS => Ok(()),
        _ => Err(PinRefused::TooMany),
    }
}
