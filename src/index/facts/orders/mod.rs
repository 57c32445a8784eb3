//! What an operator orders: content that is kept, and content that is given to nobody.

pub(super) mod block;
pub(super) mod pin;
