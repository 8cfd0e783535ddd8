//! docs/scenarios.md, written by the run that played them.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    Failure,
    clock::now,
    lab::Lab,
    machine,
    operators::Fate,
    outcome::{Outcome, missed, times},
    scenario::{Kind, Scenario},
};

const METHOD: &str = "\
How it is done, on the cluster of `hack/cluster` (three nodes, control plane and Pods on one machine):

- Each scenario has a set of three Pods of its own. Before it, 2000 keys are written; during it, four clients write unique
  keys without pause (one every 5 ms each) until all is settled again: two find the primary among all members, two go
  through the Service `<name>`; of each one has every write acknowledged by a replica (`WAIT 1`), one takes the OK.
- Then every key is read from every member. *Acknowledged*: `WAIT 1` returned 1 or more. *Other*: answered with OK only.
  *Lost*: the primary does not have it. All members must have the same keys.
- *Wiped*: a server that served, or that is there at the end, with less than half of the keys that a primary had before.
- *Gap*: between two acknowledged writes of the client that finds the primary among the members; in parentheses as the
  client of the Service sees it. Where a set of one Pod is a part of the scenario, between two OKs. *In all*: the sum of the gaps above 0.1 s.
- *Said*: from the disturbance until the status no longer said Ready. *Settled*: until the status says Ready about the
  latest spec, all servers say the same, and both stay so for a second; after a switchover, a rolling update and the
  primary's death also until the primary is at home again (ordinal 0).
- *False Ready*: the longest time for which the status said Ready and the servers, asked every 20 ms, did not.
- Several values: the median, and the largest in parentheses.
";

/// All runs of one scenario under the same conditions.
pub type Table = BTreeMap<(Scenario, Kind, Fate), Vec<Outcome>>;

/// The whole document.
pub fn document(lab: &Lab, command: &str, checkout: &str, table: &Table) -> Result<String, Failure> {
    let mut text = String::from("# Scenarios\n\n");
    let date = now().strftime("%Y-%m-%d");
    writeln!(text, "Written by `{command}` on {date}, checkout {}. Do not edit.\n", checkout.trim())?;
    writeln!(text, "- Machine: {}", machine::description()?)?;
    writeln!(text, "- {}\n", lab.versions)?;
    text.push_str(
        "| scenario | storage | operator | runs | acknowledged lost | others lost | wiped | longest gap (Service) | in all | said | settled | false Ready | |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut failed = String::new();
    for ((scenario, kind, fate), outcomes) in table {
        let sum = |count: fn(&Outcome) -> (usize, usize)| {
            let (lost, all) = outcomes.iter().map(count).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
            format!("{lost} of {all}")
        };
        let all = |pick: fn(&Outcome) -> &[i64]| -> Vec<i64> {
            outcomes.iter().flat_map(|outcome| pick(outcome).iter().copied()).collect()
        };
        let longest = all(|outcome| &outcome.longest.members);
        let wrong: Vec<String> = outcomes
            .iter()
            .flat_map(|outcome| outcome.wrong.iter().cloned())
            .chain(missed(scenario.limits(*kind, *fate), &longest))
            .collect();
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} ({}) | {} | {} | {} | {} | {} |",
            scenario.text(),
            kind.text(),
            fate.text(),
            longest.len().max(outcomes.len()),
            sum(Outcome::acknowledged),
            sum(Outcome::unacknowledged),
            outcomes.iter().map(|outcome| outcome.checked.wiped.len()).sum::<usize>(),
            times(&longest),
            times(&all(|outcome| &outcome.longest.service)),
            times(&all(|outcome| &outcome.total)),
            times(&all(|outcome| &outcome.said)),
            times(&all(|outcome| &outcome.settled)),
            times(&all(|outcome| std::slice::from_ref(&outcome.false_ready))),
            if wrong.is_empty() { "met" } else { "**failed**" },
        )?;
        for why in wrong {
            writeln!(failed, "- {}, {} {}: {why}", scenario.text(), kind.text(), fate.text())?;
        }
    }
    if !failed.is_empty() {
        write!(text, "\nFailed:\n\n{failed}")?;
    }
    write!(text, "\n{METHOD}")?;
    Ok(text)
}
