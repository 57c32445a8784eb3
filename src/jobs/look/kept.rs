//! Answers that cost something to make, kept for a while for all who ask.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// An answer is made anew when it is so many times older than it took: making takes a twentieth of the time at most.
const KEPT_FOR: u32 = 20;

/// The last answer, which is given until it is too old.
pub struct Kept<T>(Mutex<Option<Answer<T>>>);

struct Answer<T> {
    value: T,
    made: Instant,
    cost: Duration,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Kept<T> {
    /// The last answer, or what `make` gives. One at a time is made, whoever asks.
    pub async fn get<E>(&self, make: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut last = self.0.lock().await;
        if let Some(answer) = last.as_ref().filter(|answer| answer.made.elapsed() < answer.cost * KEPT_FOR) {
            return Ok(answer.value.clone());
        }
        let began = Instant::now();
        let value = make.await?;
        *last = Some(Answer { value: value.clone(), made: Instant::now(), cost: began.elapsed() });
        Ok(value)
    }
}
