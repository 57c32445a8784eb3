//! What a pull costs, measured on the real program. `benches/README.md` says how to repeat it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures on standard output, progress on standard error"
)]

mod arguments;
mod bare;
mod client;
mod compare;
mod load;
mod measure;
mod programs;
mod pull;
mod report;
mod scale;
mod soak;
mod support;
mod table;
mod task;
#[path = "../trace/mod.rs"]
mod trace;
mod usage;
mod wire;

use std::process::ExitCode;

use arguments::{Arguments, Wanted};
use measure::Bench;
use report::Report;
use task::Task;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Wanted::Run(arguments)) => arguments,
        Ok(Wanted::Text(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    let missing = programs::missing(arguments.tasks.iter().flat_map(|task| task.programs()).copied());
    if !missing.is_empty() {
        eprintln!("these programs are missing: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    // On this thread, because the programs that it starts are killed when their starter's thread ends.
    let report = runtime.block_on(run(&arguments));
    if arguments.quick {
        println!("A quick run: these figures mean nothing.");
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, report.json()).expect("the file for the figures is writable");
    }
    if let Some(file) = &arguments.markdown {
        std::fs::write(file, report.markdown()).expect("the file for the table is writable");
    }
    if report.is_as_promised() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(arguments: &Arguments) -> Report {
    let bench = Bench::new(arguments.quick);
    let mut report = Report::new(arguments.quick);
    for task in &arguments.tasks {
        eprintln!("{}", task.announced());
        let name = task.name();
        let shown = match task {
            Task::Measure(measurement) => report.add(name, measurement.run(&bench).await),
            Task::Compare(work) => report.compare(name, work.run(&bench).await),
            Task::Scale => report.curve(name, Box::pin(scale::measure(&bench)).await),
            Task::Soak => {
                let (figures, over_time) = Box::pin(soak::measure(&bench, &arguments.soak)).await;
                report.add_over_time(over_time);
                report.add(name, figures)
            }
        };
        print!("{shown}");
    }
    print!("{}", report.summary());
    report
}
