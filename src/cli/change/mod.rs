//! Commands that change what is held.

mod alias;
mod block;
mod gc;
mod pin;
mod refresh;
mod remove;

use std::process::ExitCode;
use std::sync::Arc;

use roadstead::jobs::change::LongChange;
use roadstead::jobs::{JobRunner, Refused};
use roadstead::mirror::Mirror;
use serde_json::{Value, json};

use super::carry::follow::{Engine, Shown};
use super::output::{failed, plain};
use super::reach::{Reach, Request, Site, offline_storage};

pub(super) use alias::run as alias;
pub(super) use block::{Action as BlockAction, run as block};
pub(super) use gc::{Options as GcOptions, run as gc};
pub(super) use pin::{Action as PinAction, run as pin};
pub(super) use refresh::run as refresh;
pub(super) use remove::{Options as RemoveOptions, run as remove};

/// Has the running server make these changes, each a job, or makes one here, on the storage of a stopped server, which is
/// opened once. Gives the last job.
fn change(
    reach: &Reach,
    shown: &mut Shown,
    path: &str,
    orders: &[Value],
    here: impl FnOnce(&Arc<Mirror>) -> Result<LongChange, Refused>,
) -> Result<Value, ExitCode> {
    match reach.find()? {
        Site::Running(server) => {
            let mut job = Value::Null;
            for order in orders {
                let started = server.json(Request::post(path).with(order))?;
                let id = started.get("job").map(|job| plain(job, "id")).unwrap_or_default();
                job = super::block_on(shown.follow(&Engine::Server(&server), &id, |_| false))?;
            }
            Ok(job)
        }
        Site::Stopped(config) => offline_storage::with_mirror(*config, async |mirror| {
            let change = here(mirror).map_err(|refused| failed(&refused.to_string()))?;
            let runner = Arc::new(JobRunner::new(mirror));
            let job = runner.change(change).map_err(|err| failed(&err.to_string()))?;
            shown.follow(&Engine::Here(&runner), job.id(), |_| false).await
        })?,
    }
}

/// The result of a job whose items are all.
fn end(shown: Shown, job: &Value) -> Result<(), ExitCode> {
    shown.end(job.get("problem").and_then(Value::as_str), true)
}

/// An order as a job.
fn order(mut members: Value) -> Value {
    if let Some(members) = members.as_object_mut() {
        members.insert("job".to_owned(), json!(true));
    }
    members
}
