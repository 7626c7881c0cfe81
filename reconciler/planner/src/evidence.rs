//! What reading alone foresees of a plan: how many tasks may run on each host, and which of them nobody can foresee.

use std::collections::BTreeMap;

use chiffon_core::catalogue::{Catalogue, Task};
use chiffon_schemas::{
    ApiVersion, Evidence, EvidenceKind, EvidenceMode, EvidenceSpec, Forecast, Host, HostEvidence, Oid, OpaqueTask, Plan,
};

/// Static evidence of a plan; `oid` is the plan's blob.
pub fn static_evidence(plan: &Plan, oid: &Oid, catalogue: &Catalogue) -> Evidence {
    let mut hosts: BTreeMap<Host, HostEvidence> = BTreeMap::new();
    let mut opaque: Vec<OpaqueTask> = Vec::new();
    for step in &plan.spec.steps {
        let Some(entry) = catalogue.entry(&step.playbook) else { continue };
        for play in &entry.plays {
            // Handlers run only when notified, so they count as neither.
            let counted: Vec<&Task> = play.tasks.iter().filter(|task| task.module != "meta").collect();
            let foreseen = counted.iter().filter(|task| task.opaque.is_none()).count() as u32;
            for host in play.hosts.iter().filter(|host| step.limit.contains(host)) {
                let evidence = hosts.entry(host.clone()).or_insert(HostEvidence { tasks: 0, foreseen: 0 });
                evidence.tasks += counted.len() as u32;
                evidence.foreseen += foreseen;
            }
            if play.hosts.iter().any(|host| step.limit.contains(host)) {
                for task in play.tasks.iter().chain(&play.handlers) {
                    if let Some(why) = &task.opaque {
                        let found = OpaqueTask { task: task.name.clone(), why: why.clone() };
                        if !opaque.contains(&found) {
                            opaque.push(found);
                        }
                    }
                }
            }
        }
    }
    Evidence {
        api_version: ApiVersion::V1,
        kind: EvidenceKind::Evidence,
        spec: EvidenceSpec { plan: oid.clone(), mode: EvidenceMode::Static, hosts, opaque, forecast: None },
    }
}

/// What earlier runs say, from each step's past attempts: milliseconds and success, newest first. `None` where a step
/// never ran, since the whole can't be foretold from a part.
pub fn forecast(steps: &[Vec<(u64, bool)>]) -> Option<Forecast> {
    if steps.is_empty() || steps.iter().any(Vec::is_empty) {
        return None;
    }
    let quantile = |history: &[(u64, bool)], tenths: usize| {
        let mut times: Vec<u64> = history.iter().map(|(millis, _)| *millis).collect();
        times.sort_unstable();
        times[(times.len() * tenths).div_ceil(10).saturating_sub(1).min(times.len() - 1)]
    };
    let total =
        |tenths: usize| steps.iter().map(|history| quantile(history, tenths)).sum::<u64>().div_ceil(1_000) as u32;
    // The plan fails when any step does.
    let succeeds = steps.iter().map(|history| {
        let good = history.iter().filter(|(_, success)| *success).count();
        good as f64 / history.len() as f64
    });
    let failure_rate = 1.0 - succeeds.product::<f64>();
    let runs = steps.iter().map(Vec::len).min().unwrap_or(0) as u32;
    // Two digits: more would pretend to know.
    let failure_rate = (failure_rate * 100.0).round() / 100.0;
    Some(Forecast { secs_p50: total(5), secs_p90: total(9), failure_rate, runs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_adds_the_steps_and_needs_a_history_of_each() {
        assert_eq!(forecast(&[]), None);
        assert_eq!(forecast(&[vec![(1_000, true)], vec![]]), None);
        let found = forecast(&[vec![(10_000, true), (20_000, true), (90_000, false)], vec![(1_500, true)]]).unwrap();
        assert_eq!((found.secs_p50, found.secs_p90, found.runs), (22, 92, 1));
        assert!((found.failure_rate - 0.33).abs() < 1e-9);
    }
}
