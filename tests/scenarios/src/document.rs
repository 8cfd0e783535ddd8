//! docs/evidence/scenarios.md, written by the run that played them.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    operators::Fate,
    outcome::{Outcome, missed, times},
    scenario::{Kind, Scenario},
};
use rig::{Failure, clock::now, cluster::lab::Lab, machine};

const METHOD: &str = "\
How it is done, on the cluster of `hack/cluster` (three nodes, control plane and Pods on one machine):

- Each scenario has a set of its own, of three Pods unless its name says otherwise. Before it, 2000 keys are written, and every Pod's
  address gets older than a DNS answer may be (35 s; `docs/use/drains.md` says what a fault before that means); during it, four clients write unique
  keys without pause (one every 5 ms each) until all is settled again: two find the primary among all members, two go
  through the Service `<name>`; of each one has every write acknowledged by a replica (`WAIT 1`), one takes the OK.
- Then every key is read from every member. *Acknowledged*: `WAIT 1` returned 1 or more. *Other*: answered with OK only.
  *Lost*: the primary does not have it. All members must have the same keys.
- *Wiped*: a server that served, or that is there at the end, with less than half of the keys that a primary had before.
- *Gap*: between two acknowledged writes of the client that finds the primary among the members; in parentheses between two
  OKs, and as the client of the Service sees it. Where a set of one Pod is a part of the scenario, between two OKs. *In all*: the sum of the gaps above 0.1 s.
- *Said*: from the disturbance until the status no longer said Ready. *Settled*: until the status says Ready about the
  latest spec, all servers say the same, and both stay so for a second; after a switchover, a rolling update and a SIGTERM
  also until the primary is at home again (ordinal 0).
- *Cut-off side*: two clients more run on the node of the primary that is cut off and write to its address. *Until*: from the
  cut to the last write that the server took while it was cut off, answered with OK and acknowledged by a replica.
- *False Ready*: the longest time for which the status said Ready and the servers, asked every 20 ms, did not.
- Several values: the median, and the largest in parentheses.
";

/// All runs of one scenario under the same conditions.
type Table<'a> = BTreeMap<(Scenario, Kind, Fate), Vec<&'a Outcome>>;

/// What was played, by which commands: a run may go on with what others have played.
#[derive(Default, Serialize, Deserialize)]
pub struct Played {
    /// Each command, with its date, checkout and versions, in words.
    pub runs: Vec<String>,
    /// Everything that came of it.
    pub outcomes: Vec<Outcome>,
}

impl Played {
    /// What earlier runs have left in a file; nothing where there is none.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        match std::fs::read(file) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves it in that file.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        Ok(std::fs::write(file, serde_json::to_vec(self)?)?)
    }

    /// A run begins.
    pub fn begin(&mut self, lab: &Lab, command: &str, checkout: &str) {
        let date = now().strftime("%Y-%m-%d");
        self.runs.push(format!("`{command}` on {date}, checkout {}: {}", checkout.trim(), lab.versions));
    }

    fn table(&self) -> Table<'_> {
        let mut table = Table::new();
        for outcome in &self.outcomes {
            table.entry((outcome.scenario, outcome.kind, outcome.fate)).or_default().push(outcome);
        }
        table
    }

    /// Limits on percentiles that were exceeded over all runs of a scenario, in words.
    pub fn missed(&self) -> Vec<String> {
        let missed = self.table().into_iter().filter_map(|((scenario, kind, fate), outcomes)| {
            let longest: Vec<i64> = outcomes.iter().flat_map(|o| o.longest.members.iter().copied()).collect();
            let why = missed(scenario.limits(kind, fate), &longest)?;
            Some(format!("{}, {} {}: {why}", scenario.text(), kind.text(), fate.text()))
        });
        missed.collect()
    }
}

/// The whole document.
pub fn document(played: &Played) -> Result<String, Failure> {
    let mut text = String::from("# Scenarios\n\nWritten by the run. Do not edit.\n\n");
    writeln!(text, "- Machine: {}", machine::description()?)?;
    for run in &played.runs {
        writeln!(text, "- {run}")?;
    }
    let table = &played.table();
    text.push('\n');
    text.push_str(
        "| scenario | storage | operator | runs | acknowledged lost | others lost | wiped | longest gap (OK, Service) | in all | said | settled | false Ready | cut-off side | |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut failed = String::new();
    for ((scenario, kind, fate), outcomes) in table {
        let sum = |count: fn(&Outcome) -> (usize, usize)| {
            let (lost, all) =
                outcomes.iter().copied().map(count).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
            format!("{lost} of {all}")
        };
        let all = |pick: fn(&Outcome) -> &[i64]| -> Vec<i64> {
            outcomes.iter().copied().flat_map(|outcome| pick(outcome).iter().copied()).collect()
        };
        let longest = all(|outcome| &outcome.longest.members);
        let wrong: Vec<String> = outcomes
            .iter()
            .flat_map(|outcome| outcome.wrong.iter().cloned())
            .chain(missed(scenario.limits(*kind, *fate), &longest))
            .collect();
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} ({}, {}) | {} | {} | {} | {} | {} | {} |",
            scenario.text(),
            kind.text(),
            fate.text(),
            longest.len().max(outcomes.len()),
            sum(Outcome::acknowledged),
            sum(Outcome::unacknowledged),
            outcomes.iter().map(|outcome| outcome.checked.wiped.len()).sum::<usize>(),
            times(&longest),
            times(&all(|outcome| &outcome.longest.members_ok)),
            times(&all(|outcome| &outcome.longest.service)),
            times(&all(|outcome| &outcome.total)),
            times(&all(|outcome| &outcome.said)),
            times(&all(|outcome| &outcome.settled)),
            times(&all(|outcome| std::slice::from_ref(&outcome.false_ready))),
            inside(outcomes),
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

/// What clients on the cut-off side wrote, run by run.
fn inside(outcomes: &[&Outcome]) -> String {
    let all: Vec<String> = outcomes.iter().filter_map(|outcome| outcome.inside()).collect();
    if all.is_empty() { "–".to_owned() } else { all.join("<br>") }
}
