//! What is found at which path.

use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;
use spill_dashboard::{DEFAULT_INTERVAL, schema};

use crate::common::{ask, builder, get, message, stream};

#[test]
fn the_state_is_json_that_adds_up() {
    let dashboard = builder().start().unwrap();
    let answer = get(&dashboard, "/api/v1/state");
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains("content-type: application/json"), "{}", answer.headers);
    let state: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&state["version"], &state["limit"]), (&1.into(), &2000.into()));
    assert_eq!(state["total"]["process"], 1200);
    let worker = &state["workers"][1];
    assert_eq!((&worker["name"], &worker["colour"]), (&"<b>\"\n".into(), &"orange".into()));
    assert_eq!((&worker["status"], &worker["levels"]["pause"]), (&"running".into(), &800.into()));
    let memory = &worker["memory"];
    let parts = ["managed", "unmanaged", "unmanaged_recent"].map(|part| memory[part].as_u64().unwrap());
    assert_eq!(parts.iter().sum::<u64>(), memory["process"].as_u64().unwrap());
    assert_eq!(worker["backends"][0]["name"], "storage");
}

/// The file is what users of the API read; `OVERSPILL_WRITE_SCHEMA=1` writes it anew.
#[test]
fn the_published_schema_is_that_of_the_state() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("OVERSPILL_WRITE_SCHEMA").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "OVERSPILL_WRITE_SCHEMA=1 writes it anew");
    let dashboard = builder().start().unwrap();
    let served: Value = serde_json::from_str(&get(&dashboard, "/api/v1/schema").body).unwrap();
    assert_eq!(served, schema());
    // Each field that is served is described, and what is required is there.
    let state: Value = serde_json::from_str(&get(&dashboard, "/api/v1/state").body).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&state), names(&served["properties"]));
    assert_eq!(names(&state["workers"][0]), names(&served["$defs"]["Worker"]["properties"]));
}

#[test]
fn memory_over_time_is_of_all_or_of_one() {
    let dashboard = builder().start().unwrap();
    let sample = |path: &str| -> Value { serde_json::from_str(&get(&dashboard, path).body).unwrap() };
    assert_eq!(sample("/api/v1/history")["samples"][0][1], 600);
    assert_eq!(sample("/api/v1/history?worker=a")["samples"][0][1], 300);
    assert_eq!(get(&dashboard, "/api/v1/history?worker=z").status, 404);
    assert_eq!(get(&dashboard, "/nothing").status, 404);
}

#[test]
fn the_stream_says_the_past_then_each_state() {
    const { assert!(DEFAULT_INTERVAL.as_millis() <= 500, "at least twice a second") };
    let dashboard = builder().start().unwrap();
    let mut stream = stream(dashboard.address());
    let (name, hello) = message(&mut stream);
    assert_eq!((name.as_str(), &hello["log"][0]["kind"]), ("hello", &"spilling".into()));
    assert_eq!(hello["history"]["samples"][0][4], 100);
    let mut times = Vec::new();
    while times.len() < 5 {
        let (name, state) = message(&mut stream);
        assert_eq!(name, "state", "nothing new happened");
        times.push(state["at"].as_f64().unwrap());
    }
    assert!(times.is_sorted_by(|a, b| a <= b) && times[4] > times[0], "{times:?}");
}

#[test]
fn metrics_are_text_with_help_and_type_for_each_family() {
    let dashboard = builder().start().unwrap();
    let answer = get(&dashboard, "/metrics");
    assert!(answer.headers.contains("content-type: text/plain; version=0.0.4"), "{}", answer.headers);
    assert!(answer.body.contains("overspill_worker_process_bytes{worker=\"<b>\\\"\\n\"} 600\n"));
    let families = answer.body.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(families, answer.body.lines().filter(|line| line.starts_with("# HELP")).count());
    assert!(answer.body.contains("overspill_events_total{worker=\"a\",kind=\"spilling\"} 1\n"));
}

#[test]
fn where_a_port_is_taken_the_next_free_one_is_used() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let dashboard = builder().address(address).start().unwrap();
    assert!(dashboard.address().port() > address.port(), "{}", dashboard.address());
    assert_eq!(get(&dashboard, "/api/v1/state").status, 200);
    let error = builder().address(([203, 0, 113, 1], 1).into()).start().unwrap_err();
    assert!(error.to_string().contains("203.0.113.1:1"), "{error}");
}
#[test]
fn the_page_and_what_it_loads_are_served() {
    let dashboard = builder().start().unwrap();
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/icon.svg", "image/svg"),
    ] {
        let answer = get(&dashboard, path);
        assert!(answer.status == 200 && answer.headers.contains(&format!("content-type: {kind}")), "{path}");
        assert!(answer.body.len() > 100, "{path}");
    }
    assert!(ask(&dashboard, "HEAD /", "").body.is_empty());
}
