//! `ls` and `du`: what repositories and registries hold.

use std::process::ExitCode;
use std::sync::Arc;

use roadstead::jobs::look::{PageQuery, Selection, Sort, UsageReports, repositories, used};
use roadstead::mirror::Mirror;
use serde_json::{Value, json};

use super::{ago, pages};
use crate::cli::output::{list, number, plain, print, print_json, size};
use crate::cli::reach::{Reach, Request};
use crate::cli::table::{Align, Table};

pub(in crate::cli) fn ls(
    reach: &Reach,
    glob: Option<&str>,
    sort: &str,
    limit: Option<usize>,
    as_json: bool,
) -> Result<(), ExitCode> {
    let found = ask(reach, glob, sort, limit)?;
    if as_json {
        print_json(&found);
        return Ok(());
    }
    print(&table(&found).text());
    Ok(())
}

pub(in crate::cli) fn du(reach: &Reach, glob: Option<&str>, as_json: bool) -> Result<(), ExitCode> {
    // One report answers both: it is kept as long as it has taken, and longer.
    let mut found = reach.answer(Request::get("/api/v1/usage"), async |mirror| {
        Ok(serde_json::to_value(used(mirror, &UsageReports::default()).await?).unwrap_or_default())
    })?;
    let rows = ask(reach, glob, "size", None)?;
    if let Some(found) = found.as_object_mut() {
        found.insert("repositories".to_owned(), rows.get("repositories").cloned().unwrap_or_else(|| json!([])));
        if glob.is_some() {
            found.remove("authorities");
        }
    }
    if as_json {
        print_json(&found);
        return Ok(());
    }
    let columns = [
        ("", Align::Left),
        ("total", Align::Right),
        ("own", Align::Right),
        ("shared", Align::Right),
        ("last copy", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for row in list(&found, "authorities").iter().chain(list(&found, "repositories")) {
        let (own, shared) = (number(row, "own_bytes"), number(row, "shared_bytes"));
        let name = row.get("repository").or_else(|| row.get("authority")).and_then(Value::as_str).unwrap_or_default();
        let last = number(row, "last_copy_bytes");
        table.add(vec![name.to_owned(), size(own + shared), size(own), size(shared), size(last)]);
    }
    print(&table.text());
    let (stored, unreachable) = (number(&found, "stored_bytes"), number(&found, "unreachable_bytes"));
    print(&format!("stored: {}, of which {} may be read in no repository", size(stored), size(unreachable)));
    Ok(())
}

fn ask(reach: &Reach, glob: Option<&str>, sort: &str, limit: Option<usize>) -> Result<Value, ExitCode> {
    let order: Sort = super::typed(sort)?;
    let mut pairs = vec![("sort", sort.to_owned())];
    pairs.extend(glob.map(|glob| ("glob", glob.to_owned())));
    let reports = UsageReports::default();
    let selection = Selection { glob, contains: None };
    pages::all(
        reach,
        ("/api/v1/repositories", "repositories"),
        &pairs,
        limit,
        &async |mirror: &Arc<Mirror>, page: PageQuery| {
            let found = repositories(mirror, &reports, selection, order, &page).await?;
            Ok(serde_json::to_value(found).unwrap_or_default())
        },
    )
}

fn table(found: &Value) -> Table {
    let columns = [
        ("repository", Align::Left),
        ("tags", Align::Right),
        ("manifests", Align::Right),
        ("own", Align::Right),
        ("shared", Align::Right),
        ("used", Align::Right),
        ("", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for row in list(found, "repositories") {
        let last = number(row, "last_copy_bytes");
        let note = if last > 0 { format!("last copy: {}", size(last)) } else { String::new() };
        table.add(vec![
            plain(row, "repository"),
            plain(row, "tags"),
            plain(row, "manifests"),
            size(number(row, "own_bytes")),
            size(number(row, "shared_bytes")),
            ago(row.get("used")),
            note,
        ]);
    }
    table
}
