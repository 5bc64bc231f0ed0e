//! Flags that are settings.

use overspill::worker::config::Sources;

/// Settings from the command line, over those of files and the environment.
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// A setting, such as worker.memory.target=0.5; `overspill config` prints the keys
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
}

impl Set {
    /// Every source of settings.
    pub(crate) fn sources(&self) -> Sources {
        let flag = |sources: Sources, (key, value): &(String, String)| sources.flag(key, value);
        self.set.iter().fold(Sources::of_this_process(), flag)
    }
}

/// Reads `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}
