//! `overspill dashboard`: a page in the browser over running workers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use overspill::dashboard::{DEFAULT_ADDRESS, Dashboard, LocalWorkers};
use overspill::worker::Observe;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;
use crate::output;

/// Arguments of `overspill dashboard`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen: an address, a port, or both; if the port is taken, the next free one
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value_t = DEFAULT_ADDRESS)]
    address: SocketAddr,

    #[command(flatten)]
    names: Names,

    /// Process numbers of workers [default: all workers that run on this machine]
    #[arg(value_name = "PID")]
    pids: Vec<u32>,
}

/// By which names browsers may call the page.
#[derive(Debug, clap::Args)]
pub(crate) struct Names {
    /// A name of this machine by which browsers may call the dashboard, beside localhost and addresses; may be given
    /// several times
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
}

/// Serves until a signal ends it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let workers = match args.pids.as_slice() {
        [] => LocalWorkers::all()?,
        pids => LocalWorkers::of(pids.to_vec())?,
    };
    let dashboard = start(Arc::new(workers), args.address, &args.names)?;
    output::line(dashboard.url())?;
    signals.forever().next();
    Ok(())
}

/// Starts a dashboard, and says so where others than this machine can see it.
pub(crate) fn start(
    observe: Arc<dyn Observe>,
    address: SocketAddr,
    names: &Names,
) -> Result<Dashboard, Failure> {
    let builder = Dashboard::builder(observe).address(address);
    let dashboard =
        names.allow_host.iter().fold(builder, |builder, name| builder.allow_host(name)).start()?;
    if dashboard.address().port() != address.port() && address.port() != 0 {
        tracing::info!("port {} is taken", address.port());
    }
    if !dashboard.address().ip().is_loopback() {
        tracing::warn!(
            "the dashboard has no password, and whoever reaches {} can read it",
            dashboard.address()
        );
    }
    Ok(dashboard)
}

/// Reads `ADDRESS:PORT`, `ADDRESS` or `PORT`; what is not said is as by default.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an address and port such as 0.0.0.0:8787, an address, or a port";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }
    let ip = text.parse::<IpAddr>().map_err(|_| expected.to_owned())?;
    Ok(SocketAddr::new(ip, DEFAULT_ADDRESS.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_what_is_as_by_default() {
        for (text, expected) in [
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("9000", "127.0.0.1:9000"),
            ("localhost:9000", "127.0.0.1:9000"),
            ("10.0.0.1", "10.0.0.1:8787"),
            ("::1", "[::1]:8787"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected);
        }
        for bad in ["", "a", "70000", "example.org:80"] {
            assert!(address(bad).unwrap_err().contains("expected"), "{bad}");
        }
    }
}
