//! Clients that are slow, silent or many hold up nobody.

use std::io::{Read, Write};
use std::time::Duration;

use spill_core::{Clock, SystemClock};
use spill_dashboard::Dashboard;

use crate::common::{PATIENCE, builder, connect, get, message, stream};

/// The status of an answer; `None` for a client that is cut off before it has one.
fn status(dashboard: &Dashboard, path: &str) -> Option<u16> {
    let mut stream = connect(dashboard.address());
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", dashboard.address());
    let mut text = String::new();
    stream.write_all(request.as_bytes()).ok()?;
    stream.read_to_string(&mut text).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

/// A half-open client: it began a request and says nothing more.
#[test]
fn a_client_that_says_nothing_is_cut_off_and_others_are_answered() {
    let dashboard = builder().patience(Duration::from_millis(300)).start().unwrap();
    let mut silent: Vec<_> = (0..20).map(|_| connect(dashboard.address())).collect();
    for (n, stream) in silent.iter_mut().enumerate() {
        stream.write_all(if n % 2 == 0 { b"GET / HTTP/1.1\r\nHost: loc" } else { b"" }).unwrap();
    }
    // One that is kept from its request for so long is cut off too, and asks again.
    let clock = SystemClock::new();
    let answered = loop {
        let answered = status(&dashboard, "/api/v1/state");
        if answered.is_some() || clock.now() > PATIENCE {
            break answered;
        }
    };
    assert_eq!(answered, Some(200));
    for mut stream in silent {
        // Closed, perhaps with a word on why.
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn a_page_that_does_not_read_is_cut_off_and_others_are_told_on() {
    let mut many = vec![crate::common::worker("a"); 1];
    many.extend((0..900).map(|n| crate::common::worker(&format!("worker-{n}"))));
    let observe = std::sync::Arc::new(crate::common::Still(many));
    let dashboard = Dashboard::builder(observe)
        .address(([127, 0, 0, 1], 0).into())
        .interval(Duration::from_millis(200))
        .patience(Duration::from_secs(10))
        .start()
        .unwrap();
    let mut deaf = stream(dashboard.address());
    let mut listening = stream(dashboard.address());
    // Each state is of some 500 kB: ten or so fill the deaf one's buffers, and the others take longer than patience.
    for _ in 0..80 {
        message(&mut listening);
    }
    let mut rest = Vec::new();
    let ended = deaf.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    assert!(!rest.is_empty());
    message(&mut listening);
}

#[test]
fn pages_and_connections_are_bounded() {
    let dashboard = builder().start().unwrap();
    let mut pages: Vec<_> = (0..64).map(|_| stream(dashboard.address())).collect();
    pages.iter_mut().for_each(|page| _ = message(page));
    assert_eq!(get(&dashboard, "/api/v1/stream").status, 503);
    assert_eq!(get(&dashboard, "/api/v1/state").status, 200, "there is room beside pages");

    let idle: Vec<_> = (0..64).map(|_| connect(dashboard.address())).collect();
    let mut beyond = connect(dashboard.address());
    let refused = beyond.read(&mut [0; 10]);
    assert!(matches!(refused, Ok(0)) || refused.is_err(), "{refused:?}");
    drop(pages);
    drop(idle);
    // Their places come back as soon as the server has seen them go.
    assert!((0..1000).any(|_| status(&dashboard, "/metrics") == Some(200)));
}

#[test]
fn dropping_the_dashboard_ends_its_connections_and_frees_its_port() {
    // Not one that the system chooses: it may give that to somebody else once it is free.
    let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let dashboard = builder().address(([127, 0, 0, 1], port).into()).start().unwrap();
    let address = dashboard.address();
    let mut page = stream(address);
    message(&mut page);
    drop(dashboard);
    let _ = page.read_to_end(&mut Vec::new()); // it ends
    let again = builder().address(address).start().unwrap();
    assert_eq!(again.address(), address);
    message(&mut stream(address));
}
