//! What to take, and how to ask for it.

use std::path::Path;

use super::measure::Measured;

/// A combination is as good as the fastest when it takes at most this many times its time.
const NEARLY: f64 = 1.1;

/// One combination, the reason for it, and the configuration that gives it.
pub(super) struct Recommendation {
    /// Its place among the results.
    pub(super) place: usize,
    pub(super) reason: String,
    /// Lines of a program.
    pub(super) program: Vec<String>,
    /// Lines of a configuration file of Dask's; none where a setting cannot say it.
    pub(super) settings: Vec<String>,
}

impl Recommendation {
    /// Of those nearly as fast as the fastest, in and out together, the one that takes the least room.
    pub(super) fn of(results: &[Measured], directory: Option<&Path>, store: Option<&str>) -> Option<Self> {
        let fastest = results.iter().min_by(|a, b| a.cost().total_cmp(&b.cost()))?;
        let near = |result: &&Measured| result.cost() <= NEARLY * fastest.cost();
        let (place, best) = results
            .iter()
            .enumerate()
            .filter(|(_, result)| near(result))
            .max_by(|(_, a), (_, b)| a.ratio.total_cmp(&b.ratio).then(b.cost().total_cmp(&a.cost())))?;
        let mut reason = format!(
            "{} with {}: {:.0} MB/s in, {:.0} MB/s out",
            best.backend, best.compression, best.speed_in, best.speed_out
        );
        if best.ratio > 1.005 {
            reason += &format!(", in {:.1} % of the room", 100.0 / best.ratio);
        }
        reason += &if std::ptr::eq(best, fastest) {
            ". Nothing tried was faster".to_owned()
        } else {
            let slower = 100.0 * (best.cost() / fastest.cost() - 1.0);
            format!(
                ". It takes {slower:.0} % more time than the fastest, {} with {}, and less room",
                fastest.backend, fastest.compression
            )
        };
        Some(Recommendation {
            place,
            reason,
            program: program(best, directory, store),
            settings: settings(best, directory),
        })
    }
}

fn program(best: &Measured, directory: Option<&Path>, store: Option<&str>) -> Vec<String> {
    let compression = &best.compression;
    let directory = directory.map_or_else(|| "None".to_owned(), |path| format!("Some(Path::new({path:?}))"));
    match best.backend {
        "segments" if compression == "none" => {
            vec![format!("let map = presets::disk::<u64, Bytes>(target, {directory})?;")]
        }
        "segments" => vec![
            format!("let compression: Compression = {compression:?}.parse()?;"),
            format!("let map = presets::compressed_disk::<u64, Bytes>(target, {directory}, compression)?;"),
        ],
        "files" => vec![
            format!("let compression: Compression = {compression:?}.parse()?;"),
            format!("let files = Files::open(FilesConfig::new(Workspace::open({directory})?))?;"),
            "let slow = Func::new(Raw, Compress::new(compression, files));".to_owned(),
            "let map = BufferBuilder::<u64, Bytes>::new().target(target).over(slow)?;".to_owned(),
        ],
        _ => vec![
            format!("let compression: Compression = {compression:?}.parse()?;"),
            format!("let store = object::Store::open({:?})?;", store.unwrap_or_default()),
            "let objects = object::Objects::blocking(object::ObjectsConfig::new(store))?;".to_owned(),
            "let slow = Func::new(Raw, Compress::new(compression, objects));".to_owned(),
            "let map = BufferBuilder::<u64, Bytes>::new().target(target).over(slow)?;".to_owned(),
        ],
    }
}

/// Workers spill to segment files, so that these settings say all there is to say.
fn settings(best: &Measured, directory: Option<&Path>) -> Vec<String> {
    if best.backend != "segments" {
        return Vec::new();
    }
    let mut lines = Vec::new();
    if let Some(path) = directory {
        lines.push(format!("temporary-directory: {path:?}"));
    }
    let compression = if best.compression == "none" { "false" } else { &best.compression };
    lines.extend([
        "distributed:".to_owned(),
        "  worker:".to_owned(),
        "    memory:".to_owned(),
        format!("      spill-compression: {compression}"),
    ]);
    lines
}
