//! The command line.

use std::path::PathBuf;

use super::task::Task;

const USAGE: &str = "\
cargo bench --bench pull -- [NAME…] [--quick] [--json FILE] [--markdown FILE] [--minutes N] [--out FILE]

  NAME         measure this only
  --quick      small sizes, to see that it works; the figures mean nothing
  --json FILE  write the figures there too
  --markdown FILE  write the rows of the comparison that have bars there, as a table
  --minutes N  how long `soak` takes; 30 unless told
  --out FILE   where `soak` draws its picture; soak.svg unless told

Names:";

pub(crate) struct Arguments {
    pub(crate) tasks: Vec<Task>,
    pub(crate) quick: bool,
    pub(crate) json: Option<PathBuf>,
    pub(crate) markdown: Option<PathBuf>,
    pub(crate) soak: Soak,
}

pub(crate) struct Soak {
    pub(crate) minutes: u64,
    pub(crate) picture: PathBuf,
}

pub(crate) enum Wanted {
    Run(Arguments),
    Text(String),
}

impl Arguments {
    pub(crate) fn parse(mut given: impl Iterator<Item = String>) -> Result<Wanted, String> {
        let soak = Soak { minutes: 30, picture: "soak.svg".into() };
        let mut arguments = Self { tasks: Vec::new(), quick: false, json: None, markdown: None, soak };
        let mut by_cargo_bench = false;
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--bench" => by_cargo_bench = true,
                "--quick" => arguments.quick = true,
                "--json" => arguments.json = Some(given.next().ok_or("--json needs a file")?.into()),
                "--markdown" => arguments.markdown = Some(given.next().ok_or("--markdown needs a file")?.into()),
                "--out" => arguments.soak.picture = given.next().ok_or("--out needs a file")?.into(),
                "--minutes" => {
                    let minutes = given.next().and_then(|minutes| minutes.parse().ok());
                    arguments.soak.minutes = minutes.ok_or("--minutes needs a whole number")?;
                }
                "--help" => return Ok(Wanted::Text(usage())),
                name => {
                    let named = Task::named(name);
                    if named.is_empty() {
                        return Err(format!("unknown: {name}\n\n{}", usage()));
                    }
                    arguments.tasks.extend(named);
                }
            }
        }
        if !by_cargo_bench {
            // `cargo test --all-targets` starts benches too.
            return Ok(Wanted::Text("nothing is measured here: use `cargo bench --bench pull`".to_owned()));
        }
        if arguments.tasks.is_empty() {
            arguments.tasks = Task::usual();
        }
        Ok(Wanted::Run(arguments))
    }
}

fn usage() -> String {
    format!("{USAGE}{}", Task::list())
}
