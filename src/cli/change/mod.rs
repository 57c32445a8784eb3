//! Commands that change what is held.

mod alias;
mod block;
mod gc;
mod pin;
mod refresh;
mod remove;

use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::{failed, list, number, plain, print, report, size};

pub(super) use alias::run as alias;
pub(super) use block::{Action as BlockAction, run as block};
pub(super) use gc::{Options as GcOptions, run as gc};
pub(super) use pin::{Action as PinAction, run as pin};
pub(super) use refresh::run as refresh;
pub(super) use remove::{Options as RemoveOptions, run as remove};

/// Items as they come, and whether all went well.
struct Items {
    as_json: bool,
    count: usize,
    failed: usize,
}

impl Items {
    const fn new(as_json: bool) -> Self {
        Self { as_json, count: 0, failed: 0 }
    }

    fn add(&mut self, answer: &Value) {
        self.failed += usize::try_from(number(answer, "failed")).unwrap_or(usize::MAX);
        for item in list(answer, "items") {
            self.count += 1;
            if self.as_json {
                print(&item.to_string());
                continue;
            }
            let problem = item.get("problem").and_then(Value::as_str);
            let line = format!("{}: {} {}", plain(item, "outcome"), plain(item, "item"), size(number(item, "bytes")));
            print(&problem.map_or(line.clone(), |problem| format!("{line}: {problem}")));
        }
    }

    fn end(self) -> Result<(), ExitCode> {
        let Self { as_json, count: items, failed: failures } = self;
        if as_json {
            print(&json!({ "done": true, "items": items, "failed": failures }).to_string());
        } else if items == 0 {
            report("nothing is named by this");
        }
        match failures {
            0 => Ok(()),
            _ if as_json => Err(ExitCode::FAILURE),
            _ => Err(failed(&format!("{failures} of {items} failed"))),
        }
    }
}
