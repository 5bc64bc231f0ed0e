//! What a nanny has seen of its worker's events and activities, over all connections to it.

use crate::{Activity, Event, WorkerState};

/// How far the worker's lists were seen. Each connection sends them anew; and a program may let go of its worker and
/// start another one, whose lists begin anew too.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pid: u32,
    uptime: f64,
    event: Option<Event>,
    /// Activities with lower numbers.
    activities: u64,
}

impl Seen {
    /// Keeps those events and activities in `state` that were not seen before. Now they are.
    pub(super) fn keep_new(&mut self, state: &mut WorkerState) {
        if !self.is_of(state) {
            *self = Seen::default();
        }
        let next = self.event.as_ref().map_or(0, |event| event.number.saturating_add(1));
        state.events.retain(|event| event.number >= next);
        state.activity.retain(|activity| activity.number >= self.activities);
        (self.pid, self.uptime) = (state.pid, state.uptime);
        if let Some(last) = state.events.last() {
            self.event = Some(last.clone());
        }
        self.activities = state.activity.last().map_or(self.activities, beyond);
    }

    /// Whether a worker of this process was seen last.
    pub(super) fn is_of_process(&self, pid: u32) -> bool {
        self.pid == pid
    }

    /// Whether it is the worker that was seen before: it goes on, and has not had another event in the place of the
    /// last that was seen.
    fn is_of(&self, state: &WorkerState) -> bool {
        let same = |seen: &Event| {
            let there = state.events.iter().find(|event| event.number == seen.number);
            there.is_none_or(|event| event == seen)
        };
        state.pid == self.pid && state.uptime >= self.uptime && self.event.as_ref().is_none_or(same)
    }
}

fn beyond(activity: &Activity) -> u64 {
    activity.number.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActivityKind, EventKind};

    /// A worker that has had events at these times and as many activities.
    fn state(uptime: f64, events: &[f64]) -> WorkerState {
        let event = |(number, at): (u64, &f64)| Event {
            number,
            at: *at,
            kind: EventKind::Spilled,
            text: "values".to_owned(),
        };
        let activity = |number| Activity {
            number,
            kind: ActivityKind::Task,
            lane: 0,
            start: 0.0,
            end: 0.0,
            name: String::new(),
            count: 1,
            bytes: 0,
        };
        WorkerState {
            pid: 7,
            uptime,
            events: (0..).zip(events).map(event).collect(),
            activity: (0..events.len() as u64).map(activity).collect(),
            ..WorkerState::default()
        }
    }

    /// The numbers of what is new in a state.
    fn new(seen: &mut Seen, mut state: WorkerState) -> (Vec<u64>, Vec<u64>) {
        seen.keep_new(&mut state);
        let events = state.events.iter().map(|event| event.number).collect();
        (events, state.activity.iter().map(|activity| activity.number).collect())
    }

    #[test]
    fn what_a_worker_says_again_over_another_connection_is_not_new() {
        let mut seen = Seen::default();
        assert_eq!(new(&mut seen, state(1.0, &[0.5, 0.9])), (vec![0, 1], vec![0, 1]));
        assert_eq!(new(&mut seen, state(1.0, &[0.5, 0.9])), (vec![], vec![]));
        assert_eq!(new(&mut seen, state(40.0, &[0.5, 0.9, 30.0])), (vec![2], vec![2]));
        let mut later = state(90.0, &[0.5, 0.9, 30.0, 50.0, 60.0]);
        later.events.drain(..4);
        later.activity.clear();
        assert_eq!(new(&mut seen, later), (vec![4], vec![]), "the list is bounded");
    }

    #[test]
    fn what_another_worker_says_is_new_in_the_same_process_or_another() {
        let mut seen = Seen::default();
        assert_eq!(new(&mut seen, state(1.0, &[0.5, 0.9])).0, [0, 1]);
        assert_eq!(new(&mut seen, state(0.2, &[0.1])), (vec![0], vec![0]), "which began later");
        assert_eq!(new(&mut seen, state(0.3, &[0.2, 0.25])), (vec![0, 1], vec![0, 1]), "and has run longer");
        assert_eq!(new(&mut seen, WorkerState { pid: 8, ..state(0.3, &[0.2, 0.25]) }).0, [0, 1]);
    }
}
