use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use roadstead::app::OfflineMirror;
use roadstead::cache::scrub::Rate;
use roadstead::clock::Clock;
use roadstead::config::Config;
use roadstead::jobs::VerifyJobs;
use serde_json::Value;

/// Time between two reads of the pass's state: at a terminal, and elsewhere.
const AT_TERMINAL: Duration = Duration::from_millis(250);
const ELSEWHERE: Duration = Duration::from_secs(5);
/// Reads at the short interval at first, so that the command ends soon after a short pass.
const FIRST_LOOKS: u32 = 20;

pub(super) fn run(file: Option<&Path>, rate: Option<Rate>, as_json: bool) -> ExitCode {
    let shown = if as_json {
        Shown::Json
    } else if std::io::stderr().is_terminal() {
        Shown::Bar
    } else {
        Shown::Lines
    };
    let ended = super::read(file).and_then(|config| {
        let query = rate.map(|rate| format!("?rate={rate}")).unwrap_or_default();
        let asked = super::ask_api(&config, "POST", &format!("/api/v1/verify{query}"))?;
        super::block_on(async {
            match asked {
                Some(started) => of_server(&config, &started, shown).await,
                None => of_stopped(config, rate, shown).await,
            }
        })
    });
    let job = match ended {
        Ok(job) => job,
        Err(code) => return code,
    };
    if as_json {
        super::print(&job.to_string());
    } else {
        result(&job);
    }
    if is_good(&job) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Json,
    Bar,
    Lines,
}

async fn of_server(config: &Config, started: &Value, shown: Shown) -> Result<Value, ExitCode> {
    let job = started.get("job").cloned().unwrap_or_default();
    let id = super::plain(&job, "id");
    if started.get("started").and_then(Value::as_bool) == Some(false) {
        super::report(&format!("a verify runs already, {id}; this follows it, at its own rate"));
    } else if shown != Shown::Json {
        super::report(&format!("the server runs {id}, and goes on with it if this command is interrupted"));
    }
    follow(job, shown, || {
        let looked = super::ask_api(config, "GET", "/api/v1/verify")?;
        let job = looked.and_then(|mut looked| Some(looked.get_mut("job")?.take()));
        job.filter(|job| super::plain(job, "id") == id).ok_or_else(|| {
            super::report(&format!("roadstead: the server does not run {id} any more: it was stopped"));
            ExitCode::FAILURE
        })
    })
    .await
}

async fn of_stopped(config: Config, rate: Option<Rate>, shown: Shown) -> Result<Value, ExitCode> {
    let configured = config.storage.verify.rate;
    let offline: OfflineMirror = super::offline_storage::still(config).await?;
    let jobs = Arc::new(VerifyJobs::new(offline.mirror().cache(), Clock::default(), configured));
    let look = || Ok(serde_json::to_value(jobs.job()).unwrap_or_default());
    let ended = match jobs.start(rate).await {
        Some(started) => follow(serde_json::to_value(started.job).unwrap_or_default(), shown, look).await,
        None => Err(ExitCode::FAILURE),
    };
    offline.close().await;
    ended
}

/// Shows the progress of the pass until it has ended.
async fn follow(mut job: Value, shown: Shown, look: impl Fn() -> Result<Value, ExitCode>) -> Result<Value, ExitCode> {
    let mut looks = 0;
    while super::plain(&job, "state") == "running" {
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
        super::report("");
    }
    Ok(job)
}

fn progress(job: &Value, shown: Shown) {
    if shown == Shown::Json {
        return super::print(&job.to_string());
    }
    let (bytes, total) = (super::number(job, "bytes"), super::number(job, "bytes_total"));
    let percent = (bytes.saturating_mul(100)).checked_div(total).unwrap_or(100).min(100);
    let (blobs, wrong) = (super::number(job, "blobs"), super::number(job, "wrong"));
    let text = format!("{percent:3} %  {} of {}, {blobs} blobs, {wrong} wrong", size(bytes), size(total));
    if shown == Shown::Lines {
        return super::report(&text);
    }
    let filled = usize::try_from(percent / 5).unwrap_or_default();
    let mut out = std::io::stderr().lock();
    // A failed write to the terminal is ignored.
    let _unseen = write!(out, "\r[{:20}] {text}\u{1b}[K", "#".repeat(filled)).and_then(|()| out.flush());
}

fn result(job: &Value) {
    let report = job.get("report").cloned().unwrap_or_default();
    let (blobs, bytes) = (super::number(&report, "blobs"), super::number(&report, "bytes"));
    super::print(&format!("{blobs} blobs with {} were read again", size(bytes)));
    let wrong = super::list(&report, "wrong");
    let lost = super::list(&report, "lost");
    for digest in wrong {
        let text = digest.as_str().unwrap_or_default();
        let what = if lost.contains(digest) {
            "no upstream that is online has it: bring one back and pull it"
        } else {
            "it is fetched again when it is asked for"
        };
        super::print(&format!("wrong: {text}: {what}"));
    }
    for digest in super::list(&report, "unreadable") {
        let text = digest.as_str().unwrap_or_default();
        super::print(&format!("unreadable: {text}: the disk does not give it"));
    }
    if super::number(&report, "unlisted") > 0 {
        super::print(&format!("{} directories cannot be listed: see the log", super::number(&report, "unlisted")));
    }
    if super::plain(job, "state") != "done" {
        super::print("it was stopped before its end");
    } else if is_good(job) {
        super::print("all is right");
    }
}

fn is_good(job: &Value) -> bool {
    let Some(report) = job.get("report") else { return false };
    let is_empty = |key| super::list(report, key).is_empty();
    super::plain(job, "state") == "done"
        && is_empty("wrong")
        && is_empty("unreadable")
        && super::number(report, "unlisted") == 0
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}
