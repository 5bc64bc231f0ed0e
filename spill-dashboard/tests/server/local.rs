//! The running workers of this machine.

use std::sync::Arc;

use spill_dashboard::{Dashboard, LocalWorkers};
use spill_worker::{Observe, Settings, Worker};

use crate::common::{message, stream};

/// Waits for a state in which this holds; states come all the time.
fn until(dashboard: &Dashboard, holds: impl Fn(&serde_json::Value) -> bool) {
    let mut stream = stream(dashboard.address());
    loop {
        let (name, state) = message(&mut stream);
        if name == "state" && holds(&state) {
            return;
        }
    }
}

#[test]
fn a_running_worker_is_found_followed_and_seen_to_end() {
    let settings = Settings { name: "found".to_owned(), ..Settings::default() };
    let worker = Worker::builder(settings).start().unwrap();
    let all: Arc<dyn Observe> = Arc::new(LocalWorkers::all().unwrap());
    let these: Arc<dyn Observe> = Arc::new(LocalWorkers::of(vec![std::process::id()]).unwrap());
    let dashboard =
        |observe| Dashboard::builder(observe).address(([127, 0, 0, 1], 0).into()).start().unwrap();
    let (all, these) = (dashboard(all), dashboard(these));
    let is = |status: &'static str| {
        move |state: &serde_json::Value| {
            let workers = state["workers"].as_array().unwrap();
            workers.iter().any(|worker| worker["name"] == "found" && worker["status"] == status)
        }
    };
    until(&all, is("running"));
    until(&these, is("running"));
    let task = worker.gate().enter().unwrap().named("a task");
    until(&these, |state| {
        state["workers"].as_array().unwrap().iter().any(|worker| worker["running"][0]["name"] == "a task")
    });
    drop(task);
    worker.retire();
    until(&all, is("retiring"));
    drop(worker);
    // Others may run all the while, so of all it is this one's memory that goes.
    until(&all, |state| {
        state["workers"].as_array().unwrap().iter().any(|worker| {
            worker["name"] == "found" && worker["status"] == "terminated" && worker["memory"]["process"] == 0
        })
    });
    until(&these, |state| is("terminated")(state) && state["total"]["process"] == 0);
}

#[test]
fn a_process_that_is_no_worker_is_an_error() {
    assert!(LocalWorkers::of(vec![1]).is_err());
}

/// The events of both are shown, however many each has had.
#[test]
fn a_worker_that_takes_the_name_of_one_that_has_gone_goes_on_with_its_events() {
    let settings = || Settings { name: "again".to_owned(), ..Settings::default() };
    let first = Worker::builder(settings()).start().unwrap();
    let these: Arc<dyn Observe> = Arc::new(LocalWorkers::all().unwrap());
    let dashboard = Dashboard::builder(these).address(([127, 0, 0, 1], 0).into()).start().unwrap();
    let mut stream = stream(dashboard.address());
    let mut wait_for = |kind: &str| loop {
        let (_, news) = message(&mut stream);
        let log = news["log"].as_array();
        if log.is_some_and(|log| log.iter().any(|e| e["worker"] == "again" && e["kind"] == kind)) {
            return;
        }
    };
    wait_for("started");
    first.retire();
    wait_for("retiring");
    drop(first);
    let _second = Worker::builder(settings()).start().unwrap();
    wait_for("started");
}
