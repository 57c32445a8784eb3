//! `ls`, `tags`, `du` and `coverage` over many repositories, of a running server and of a stopped storage.

use super::{held, timed};
use crate::measure::{Bench, MIB};
use crate::programs::Settings;
use crate::report::{Figure, Unit, median_time};
use crate::usage::{PeakMemory, private_kib};

const ROUNDS: usize = 3;

pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let (repositories, each) = bench.scale((10_000, 100), (100, 10));
    let folder = bench.folder("look");
    let settings = Settings::new(folder.clone(), "http://127.0.0.1:9", "1h");
    let mut settings = settings.start().await.stop().await;
    held::write(&settings.storage(), repositories, each).await;
    let index = std::fs::metadata(settings.storage().join("index.redb")).expect("the index is there").len();
    let list = folder.join("images");
    let names = (0..repositories).map(|nth| format!("docker.io/{}:1\n", held::repository(nth)));
    std::fs::write(&list, names.collect::<String>()).expect("a mirror's folder is writable");
    let (one, list) = (format!("docker.io/{}", held::repository(repositories / 2)), list.display().to_string());
    let commands: [(&str, Vec<&str>); 4] = [
        ("ls", vec!["--json"]),
        ("tags", vec![&one, "--json"]),
        ("du", vec!["--json"]),
        ("coverage", vec!["--file", &list, "--json"]),
    ];
    let name = format!("{repositories} repositories, {} blobs", repositories * each);
    let mut figures = vec![Figure::new(format!("{name}: index"), index as f64 / MIB as f64, Unit::Mebibytes)];
    for (command, arguments) in &commands {
        // A server of its own for each: what one command leaves in memory is not another's.
        let roadstead = settings.start().await;
        let before = private_kib(roadstead.pid());
        let memory = PeakMemory::watch(roadstead.pid());
        let took =
            (0..ROUNDS).map(|_| timed(roadstead.settings.command(command).args(arguments)).0).collect::<Vec<_>>();
        let peak = memory.end().saturating_sub(before);
        settings = roadstead.stop().await;
        let first = took.first().copied().unwrap_or_default();
        let stopped = timed(settings.command(command).args(arguments)).0;
        figures.push(Figure::milliseconds(format!("{command}: the first time"), first));
        figures.push(Figure::milliseconds(format!("{command}: median of {ROUNDS}"), median_time(took)));
        figures.push(Figure::new(format!("{command}: memory of the server"), peak as f64 / 1024.0, Unit::Mebibytes));
        figures.push(Figure::milliseconds(format!("{command}: of a stopped storage"), stopped));
    }
    std::fs::remove_dir_all(folder).expect("the mirror's folder goes");
    figures
}
