//! The steps in force, and which of them a request meets.

use super::matcher::Nth;
use super::plan::Plan;
use super::step::{Step, Uses};
use crate::support::upstream::observe::record::Recorded;

#[derive(Default)]
pub(crate) struct Script {
    steps: Vec<Running>,
    next_id: usize,
}

struct Running {
    id: usize,
    step: Step,
    seen: usize,
    used: usize,
}

impl Running {
    fn left(&self) -> usize {
        match self.step.uses {
            Uses::Exactly(n) | Uses::UpTo(n) => n - self.used,
            Uses::Always => usize::MAX,
        }
    }

    fn is_limited(&self) -> bool {
        self.step.uses != Uses::Always
    }
}

impl Script {
    pub(crate) fn add(&mut self, step: Step) -> usize {
        if let (Nth::Only(_), Uses::Exactly(n)) = (step.matcher.nth, step.uses) {
            assert!(n == 1, "there is one {:?}, it cannot come {n} times", step.matcher);
        }
        self.next_id += 1;
        self.steps.push(Running { id: self.next_id, step, seen: 0, used: 0 });
        self.next_id
    }

    pub(crate) fn revoke(&mut self, id: usize) {
        self.steps.retain(|running| running.id != id);
    }

    pub(crate) fn clear(&mut self) {
        self.steps.clear();
    }

    pub(crate) fn used(&self, id: usize) -> usize {
        self.steps.iter().find(|running| running.id == id).map_or(0, |running| running.used)
    }

    /// All permanent steps that match, and then the oldest limited one that has uses left: two one-shot failures meet
    /// two requests.
    pub(crate) fn plan(&mut self, request: &Recorded) -> Plan {
        let mut plan = Plan::default();
        let mut limited = None;
        for running in &mut self.steps {
            let matcher = &running.step.matcher;
            if !(request.authorized || matcher.unauthorized_too) || !matcher.matches(request) {
                continue;
            }
            running.seen += 1;
            if !matcher.nth.includes(running.seen) || running.left() == 0 {
                continue;
            }
            if !running.is_limited() {
                running.used += 1;
                plan.add(running.step.plan.clone());
            } else if limited.is_none() {
                running.used += 1;
                limited = Some(running.step.plan.clone());
            }
        }
        if let Some(limited) = limited {
            plan.add(limited);
        }
        plan
    }

    /// The steps that were promised requests which never came.
    pub(crate) fn unused(&self) -> Vec<String> {
        self.steps
            .iter()
            .filter(|running| matches!(running.step.uses, Uses::Exactly(_)) && running.left() > 0)
            .map(|running| format!("{:?}: {} of {:?}", running.step.matcher, running.used, running.step.uses))
            .collect()
    }
}
