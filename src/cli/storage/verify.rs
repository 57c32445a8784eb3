use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use roadstead::cache::scrub::Rate;
use roadstead::clock::Clock;
use roadstead::config::Config;
use roadstead::jobs::VerifyJobs;
use serde_json::Value;

use crate::cli::output::{failed, flag, list, number, plain, print, report, size};
use crate::cli::reach::server::Server;
use crate::cli::reach::{Reach, Request, Site, offline_storage};

/// Time between two reads of the pass's state: at a terminal, and elsewhere.
const AT_TERMINAL: Duration = Duration::from_millis(250);
const ELSEWHERE: Duration = Duration::from_secs(5);
/// Reads at the short interval at first, so that the command ends soon after a short pass.
const FIRST_LOOKS: u32 = 20;

pub(in crate::cli) fn run(reach: &Reach, rate: Option<Rate>, as_json: bool) -> Result<(), ExitCode> {
    let shown = if as_json {
        Shown::Json
    } else if std::io::stderr().is_terminal() {
        Shown::Bar
    } else {
        Shown::Lines
    };
    let query = rate.map(|rate| format!("?rate={rate}")).unwrap_or_default();
    let job = match reach.find()? {
        Site::Running(server) => {
            let started = server.json(Request::post(&format!("/api/v1/verify{query}")))?;
            crate::cli::block_on(follow_server(&server, &started, shown))?
        }
        Site::Stopped(config) => offline(*config, rate, shown)?,
    };
    if as_json {
        print(&job.to_string());
    } else {
        result(&job);
    }
    if is_good(&job) { Ok(()) } else { Err(ExitCode::FAILURE) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Json,
    Bar,
    Lines,
}

async fn follow_server(server: &Server, started: &Value, shown: Shown) -> Result<Value, ExitCode> {
    let job = started.get("job").cloned().unwrap_or_default();
    let id = plain(&job, "id");
    if !flag(started, "started") {
        report(&format!("a verify runs already, {id}; this follows it, at its own rate"));
    } else if shown != Shown::Json {
        report(&format!("the server runs {id}, and goes on with it if this command is interrupted"));
    }
    follow(job, shown, || {
        let mut looked = server.json(Request::get("/api/v1/verify"))?;
        let job = looked.get_mut("job").map(Value::take);
        job.filter(|job| plain(job, "id") == id)
            .ok_or_else(|| failed(&format!("the server does not run {id} any more: it was stopped")))
    })
    .await
}

fn offline(config: Config, rate: Option<Rate>, shown: Shown) -> Result<Value, ExitCode> {
    let configured = config.storage.verify.rate;
    offline_storage::with_mirror(config, async |mirror| {
        let jobs = Arc::new(VerifyJobs::new(mirror.cache(), Clock::default(), configured));
        let look = || Ok(serde_json::to_value(jobs.job()).unwrap_or_default());
        let started = jobs.start(rate).await.ok_or(ExitCode::FAILURE)?;
        follow(serde_json::to_value(started.job).unwrap_or_default(), shown, look).await
    })?
}

/// Shows the progress of a job until it has ended, and returns its last state.
async fn follow(mut job: Value, shown: Shown, look: impl Fn() -> Result<Value, ExitCode>) -> Result<Value, ExitCode> {
    let mut looks = 0;
    while plain(&job, "state") == "running" {
        if shown == Shown::Bar || looks > FIRST_LOOKS {
            progress(&job, shown);
        }
        let pause = if shown == Shown::Bar || looks < FIRST_LOOKS { AT_TERMINAL } else { ELSEWHERE };
        looks += 1;
        tokio::time::sleep(pause).await;
        job = look()?;
    }
    if shown == Shown::Bar {
        progress(&job, shown);
        report("");
    }
    Ok(job)
}

fn progress(job: &Value, shown: Shown) {
    if shown == Shown::Json {
        return print(&job.to_string());
    }
    let (bytes, total) = (number(job, "bytes"), number(job, "bytes_total"));
    let percent = (bytes.saturating_mul(100)).checked_div(total).unwrap_or(100).min(100);
    let (blobs, wrong, missing) = (number(job, "blobs"), number(job, "wrong"), number(job, "missing"));
    let text =
        format!("{percent:3} %  {} of {}, {blobs} blobs, {wrong} wrong, {missing} missing", size(bytes), size(total));
    if shown == Shown::Lines {
        return report(&text);
    }
    let filled = usize::try_from(percent / 5).unwrap_or_default();
    let mut out = std::io::stderr().lock();
    // A failed write to the terminal is ignored.
    let _unseen = write!(out, "\r[{:20}] {text}\u{1b}[K", "#".repeat(filled)).and_then(|()| out.flush());
}

fn result(job: &Value) {
    let report = job.get("report").cloned().unwrap_or_default();
    let (blobs, bytes) = (number(&report, "blobs"), number(&report, "bytes"));
    print(&format!("{blobs} blobs with {} were read again", size(bytes)));
    let lost = list(&report, "lost");
    for found in ["wrong", "missing"] {
        for digest in list(&report, found) {
            let text = digest.as_str().unwrap_or_default();
            let what = if lost.contains(digest) {
                "no upstream that is online has it: bring one back and pull it"
            } else {
                "it is fetched again when it is asked for"
            };
            print(&format!("{found}: {text}: {what}"));
        }
    }
    for digest in list(&report, "unreadable") {
        let text = digest.as_str().unwrap_or_default();
        print(&format!("unreadable: {text}: the disk does not give it"));
    }
    if number(&report, "unlisted") > 0 {
        print(&format!("{} directories cannot be listed: see the log", number(&report, "unlisted")));
    }
    if number(&report, "uncompared") > 0 {
        let count = number(&report, "uncompared");
        print(&format!("the records of {count} directories cannot be read, and were not compared: see the log"));
    }
    if number(&report, "recorded") > 0 {
        print(&format!("{} blobs had no record, and are recorded now", number(&report, "recorded")));
    }
    if plain(job, "state") != "done" {
        print("it was stopped before its end");
    } else if is_good(job) {
        print("all is right");
    }
}

fn is_good(job: &Value) -> bool {
    let Some(report) = job.get("report") else { return false };
    let is_empty = |key| list(report, key).is_empty();
    let is_none = |key| number(report, key) == 0;
    plain(job, "state") == "done"
        && ["wrong", "missing", "unreadable"].into_iter().all(is_empty)
        && ["unlisted", "uncompared"].into_iter().all(is_none)
}
