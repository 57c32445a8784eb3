//! All pages of a long answer.

use std::process::ExitCode;
use std::sync::Arc;

use roadstead::jobs::Refused;
use roadstead::jobs::look::{MAX_LIMIT, PageQuery};
use roadstead::mirror::Mirror;
use serde_json::Value;

use crate::cli::output::{failed, plain};
use crate::cli::reach::{Reach, Request, Site, offline_storage, query};

/// Asks page by page, until nothing is left or `most` rows are there, and puts the rows of all pages into the first.
pub(super) fn all(
    reach: &Reach,
    (path, rows): (&str, &str),
    pairs: &[(&str, String)],
    most: Option<usize>,
    offline: &impl AsyncFn(&Arc<Mirror>, PageQuery) -> Result<Value, Refused>,
) -> Result<Value, ExitCode> {
    let most = most.unwrap_or(usize::MAX);
    match reach.find()? {
        Site::Running(server) => {
            let mut pages = Pages::new(rows, most);
            while let Some(page) = pages.next() {
                let limit = page.limit.map(|limit| ("limit", limit.to_string()));
                let after = page.after.map(|after| ("after", after));
                let path = query(path, pairs.iter().cloned().chain(limit).chain(after));
                pages.add(server.json(Request::get(&path))?);
            }
            Ok(pages.whole)
        }
        Site::Stopped(config) => {
            let done = offline_storage::with_mirror(*config, async |mirror| {
                let mut pages = Pages::new(rows, most);
                while let Some(page) = pages.next() {
                    pages.add(offline(mirror, page).await?);
                }
                Ok::<_, Refused>(pages.whole)
            })?;
            done.map_err(|refused| failed(&refused.to_string()))
        }
    }
}

struct Pages<'a> {
    rows: &'a str,
    most: usize,
    whole: Value,
}

impl<'a> Pages<'a> {
    const fn new(rows: &'a str, most: usize) -> Self {
        Self { rows, most, whole: Value::Null }
    }

    fn count(&self) -> usize {
        self.whole.get(self.rows).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// The next page to ask for; `None` if that is enough.
    fn next(&self) -> Option<PageQuery> {
        let left = self.most.saturating_sub(self.count());
        let after = (!self.whole.is_null()).then(|| plain(&self.whole, "next"));
        let is_last = self.whole.get("next").is_some_and(Value::is_null);
        (left > 0 && !is_last).then(|| PageQuery { after, limit: Some(left.min(MAX_LIMIT)) })
    }

    fn add(&mut self, mut page: Value) {
        if self.whole.is_null() {
            self.whole = page;
            return;
        }
        let more = page.get_mut(self.rows).and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        let next = page.get("next").cloned().unwrap_or_default();
        if let Some(all) = self.whole.get_mut(self.rows).and_then(Value::as_array_mut) {
            all.extend(more);
        }
        if let Some(whole) = self.whole.as_object_mut() {
            whole.insert("next".to_owned(), next);
        }
    }
}
