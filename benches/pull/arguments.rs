//! The command line.

use std::path::PathBuf;

use super::measure::Measurement;

const USAGE: &str = "\
cargo bench --bench pull -- [NAME…] [--quick] [--json FILE]

  NAME         measure this only
  --quick      small sizes, to see that it works; the figures mean nothing
  --json FILE  write the figures there too

Names:";

pub(crate) struct Arguments {
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) quick: bool,
    pub(crate) json: Option<PathBuf>,
}

pub(crate) enum Wanted {
    Run(Arguments),
    Text(String),
}

impl Arguments {
    pub(crate) fn parse(mut given: impl Iterator<Item = String>) -> Result<Wanted, String> {
        let mut arguments = Self { measurements: Vec::new(), quick: false, json: None };
        let mut by_cargo_bench = false;
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--bench" => by_cargo_bench = true,
                "--quick" => arguments.quick = true,
                "--json" => arguments.json = Some(given.next().ok_or("--json needs a file")?.into()),
                "--help" => return Ok(Wanted::Text(usage())),
                name => {
                    let found = Measurement::ALL.iter().find(|measurement| measurement.name() == name);
                    arguments.measurements.push(*found.ok_or_else(|| format!("unknown: {name}\n\n{}", usage()))?);
                }
            }
        }
        if !by_cargo_bench {
            // `cargo test --all-targets` starts benches too.
            return Ok(Wanted::Text("nothing is measured here: use `cargo bench --bench pull`".to_owned()));
        }
        if arguments.measurements.is_empty() {
            arguments.measurements = Measurement::ALL.to_vec();
        }
        Ok(Wanted::Run(arguments))
    }
}

fn usage() -> String {
    let names = Measurement::ALL.iter().map(|known| format!("\n  {:<12} {}", known.name(), known.about()));
    format!("{USAGE}{}", names.collect::<String>())
}
