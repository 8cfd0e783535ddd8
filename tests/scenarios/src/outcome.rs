//! What a scenario showed, and whether that is within its limits.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    inside::{self, Took},
    limits::{Limits, Loss},
    node::{Checked, Span, Written},
    operators::Fate,
    scenario::{Kind, Scenario},
};
use rig::{clock::millis, stats::summary};

/// Gaps that count towards the total are longer than this, in milliseconds.
const PAUSE_MILLIS: i64 = 100;

/// One scenario on one set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What was played.
    pub scenario: Scenario,
    /// On what.
    pub kind: Kind,
    /// What happened to the operator meanwhile.
    pub fate: Fate,
    /// What all keys showed.
    pub checked: Checked,
    /// Longest gaps of each window, by route and kind of success.
    pub longest: Gaps,
    /// Sums of the gaps of each window between writes that were acknowledged through the members.
    pub total: Vec<i64>,
    /// From each disturbance until the status said that something is wrong, where it did.
    pub said: Vec<i64>,
    /// From each disturbance until all was settled again.
    pub settled: Vec<i64>,
    /// The longest time for which the status said Ready and the servers did not.
    pub false_ready: i64,
    /// Until when each server that was cut off took the writes of clients beside it.
    #[serde(default)]
    pub took: Vec<Took>,
    /// What is wrong.
    pub wrong: Vec<String>,
}

/// Longest gaps, one a window, in milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Gaps {
    /// Acknowledged by a replica, through the members.
    pub members: Vec<i64>,
    /// Answered with OK, through the members.
    pub members_ok: Vec<i64>,
    /// Acknowledged by a replica, through the Service; empty where there is none.
    pub service: Vec<i64>,
}

impl Outcome {
    /// Nothing was seen yet.
    pub fn new(scenario: Scenario, kind: Kind, fate: Fate) -> Self {
        Self {
            scenario,
            kind,
            fate,
            checked: Checked::default(),
            longest: Gaps::default(),
            total: Vec::new(),
            said: Vec::new(),
            settled: Vec::new(),
            false_ready: 0,
            took: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// Adds a round.
    pub fn round(&mut self, disturbed: Timestamp, said: Option<i64>, settled: Timestamp) {
        self.said.extend(said);
        self.settled.push(millis(disturbed, settled));
    }

    /// Adds what all keys showed, with the windows in which gaps count.
    pub fn check(&mut self, checked: Checked, windows: &[Span]) {
        let of = |writer: &str| checked.writers.iter().find(|written| written.writer == writer);
        let longest = |writer: &str| {
            let written = of(writer)?;
            let most = |window: &Span| gaps(written, *window).map(Span::millis).max().unwrap_or(0);
            Some(windows.iter().map(most).collect())
        };
        // Nobody acknowledges anything while there is one server.
        let [members, service] = if self.scenario.has_replicas() {
            ["members+wait", "service+wait"]
        } else {
            ["members", "service"]
        };
        self.longest.members = longest(members).unwrap_or_default();
        self.longest.members_ok = longest("members").unwrap_or_default();
        self.longest.service = longest(service).unwrap_or_default();
        let total = |window: &Span| {
            let all = of(members).into_iter().flat_map(|written| gaps(written, *window));
            all.map(Span::millis).filter(|gap| *gap > PAUSE_MILLIS).sum()
        };
        self.total = windows.iter().map(total).collect();
        self.checked = checked;
    }

    /// Writes that a replica acknowledged: how many are lost, of how many.
    pub fn acknowledged(&self) -> (usize, usize) {
        acknowledged(&self.checked.writers)
    }

    /// Writes that were answered with OK and not acknowledged: how many are lost, of how many.
    pub fn unacknowledged(&self) -> (usize, usize) {
        unacknowledged(&self.checked.writers)
    }

    /// What clients beside a server that was cut off wrote, in words; nothing where there were none.
    pub fn inside(&self) -> Option<String> {
        let all = &self.checked.writers;
        let theirs = || all.iter().filter(|written| written.writer.starts_with(inside::NAME));
        theirs().next()?;
        let ((lost, confirmed), (lost_ok, others)) = (acknowledged(theirs()), unacknowledged(theirs()));
        let until = |pick: fn(&Took) -> i64| times(&self.took.iter().map(pick).collect::<Vec<_>>());
        Some(format!(
            "lost {lost} of {confirmed} acknowledged, {lost_ok} of {others} others; OK until {}, acknowledged until {}",
            until(|took| took.ok),
            until(|took| took.acknowledged),
        ))
    }

    /// Looks at everything that must hold.
    pub fn judge(&mut self) {
        let limits = self.limits();
        let (lost, _) = self.acknowledged();
        let base = self.checked.writers.iter().filter(|written| written.writer == "base");
        let lost_base: usize = base.map(|written| written.lost_acknowledged).sum();
        let (lost_ok, _) = self.unacknowledged();
        let is_lost = match limits.loss {
            Loss::Nothing => lost + lost_ok > 0,
            Loss::Unacknowledged => lost > 0,
            Loss::SinceDump => lost_base > 0,
            Loss::Everything => false,
        };
        if is_lost {
            let some = self.checked.examples.join("; ");
            self.wrong.push(format!(
                "LOST {lost} acknowledged writes ({lost_base} of the first), {lost_ok} others: {some}"
            ));
        }
        if limits.loss != Loss::Everything {
            self.wrong.extend(self.checked.wiped.iter().map(|words| format!("WIPED {words}")));
        }
        let keys: Vec<_> = self.checked.members.iter().map(|member| (member.keys, member.missing)).collect();
        if keys.windows(2).any(|pair| matches!(pair, [one, other] if one != other)) {
            self.wrong.push(format!("members have different keys: {:?}", self.checked.members));
        }
        let mut over = |limit: Option<i64>, found: &[i64], what: &str| {
            if let Some(limit) = limit
                && found.iter().any(|found| *found > limit)
            {
                self.wrong.push(format!("{what} {found:?} ms, at most {limit} are allowed"));
            }
        };
        over(limits.false_ready, &[self.false_ready], "the status said Ready while the servers did not, for");
        over(limits.total, &self.total, "gaps in all of");
        over(limits.plain, &self.longest.members_ok, "between two OKs");
        over(limits.service, &self.longest.service, "between two acknowledged writes through the Service");
        let took: Vec<i64> = self.took.iter().flat_map(|took| [took.ok, took.acknowledged]).collect();
        over(
            limits.inside,
            &took,
            "after a cut, the server that was cut off took writes for (OK, acknowledged)",
        );
    }

    /// What must hold.
    pub fn limits(&self) -> Limits {
        self.scenario.limits(self.kind, self.fate)
    }

    /// One line.
    pub fn line(&self) -> String {
        let (lost, acknowledged) = self.acknowledged();
        let (lost_ok, unacknowledged) = self.unacknowledged();
        let mut line = format!(
            "lost {lost} of {acknowledged} acknowledged, {lost_ok} of {unacknowledged} others; {} wiped; longest gap {}",
            self.checked.wiped.len(),
            times(&self.longest.members),
        );
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            " (OK {}, Service {}), in all {}; not Ready said after {}, settled after {}, false Ready {}",
            times(&self.longest.members_ok),
            times(&self.longest.service),
            times(&self.total),
            times(&self.said),
            times(&self.settled),
            times(&[self.false_ready]),
        );
        if let Some(inside) = self.inside() {
            let _ = write!(line, "; inside: {inside}");
        }
        line
    }
}

/// Of the writes that a replica acknowledged: how many are lost, of how many.
fn acknowledged<'a>(writers: impl IntoIterator<Item = &'a Written>) -> (usize, usize) {
    sums(writers, |written| (written.lost_acknowledged, written.acknowledged))
}

/// Of the writes that were answered with OK and not acknowledged: how many are lost, of how many.
fn unacknowledged<'a>(writers: impl IntoIterator<Item = &'a Written>) -> (usize, usize) {
    sums(writers, |written| (written.lost_ok, written.ok - written.acknowledged))
}

fn sums<'a>(
    writers: impl IntoIterator<Item = &'a Written>,
    counts: impl Fn(&Written) -> (usize, usize),
) -> (usize, usize) {
    writers.into_iter().map(counts).fold((0, 0), |(lost, all), (one, of)| (lost + one, all + of))
}

/// Gaps that share a moment with a window.
fn gaps(written: &Written, window: Span) -> impl Iterator<Item = Span> {
    written.gaps.iter().copied().filter(move |gap| gap.overlaps(window))
}

/// Milliseconds as seconds: one value as it is, more as median and largest.
pub fn times(values: &[i64]) -> String {
    let seconds = |ms: i64| format!("{}.{:02} s", ms / 1000, ms % 1000 / 10);
    match (values, summary(values)) {
        ([one], _) => seconds(*one),
        (_, Some(all)) if all.count < 20 => format!("{} (most {})", seconds(all.p50), seconds(all.max)),
        (_, Some(all)) => {
            format!("{} (p99 {}, most {})", seconds(all.p50), seconds(all.p99), seconds(all.max))
        }
        (_, None) => "–".to_owned(),
    }
}

/// Limits on percentiles that these longest gaps exceed, in words.
pub fn missed(limits: Limits, longest: &[i64]) -> Option<String> {
    let found = summary(longest)?;
    let over = |limit: Option<i64>, found: i64| limit.filter(|limit| found > *limit);
    if let Some(limit) = over(limits.longest_p50, found.p50) {
        return Some(format!("p50 of the longest gap is {} ms, at most {limit} is allowed", found.p50));
    }
    let limit = over(limits.longest_p99, found.p99)?;
    Some(format!("p99 of the longest gap is {} ms, at most {limit} is allowed", found.p99))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(scenario: Scenario, took: Took) -> Vec<String> {
        let mut outcome = Outcome::new(scenario, Kind::Rdb, Fate::Left);
        outcome.took.push(took);
        outcome.judge();
        outcome.wrong
    }

    #[test]
    fn a_server_that_is_cut_off_and_takes_writes_for_too_long_is_a_failure() {
        let late = Took { ok: 5_001, acknowledged: 100 };
        assert_eq!(judged(Scenario::NodeCut, late).len(), 1);
        assert_eq!(judged(Scenario::NodeCut, Took { ok: 4_000, acknowledged: 100 }), [""; 0]);
        // Without quorum it stays the primary, and takes them all the time.
        assert_eq!(judged(Scenario::NodeCutOfTwo, late), [""; 0]);
    }

    #[test]
    fn what_clients_beside_it_lost_is_told_apart() {
        let mut outcome = Outcome::new(Scenario::NodeCut, Kind::Rdb, Fate::Left);
        assert_eq!(outcome.inside(), None);
        let written =
            |writer: &str| Written { writer: writer.to_owned(), ok: 9, lost_ok: 2, ..Written::default() };
        outcome.checked.writers = vec![written("members"), written("inside-0")];
        outcome.took.push(Took { ok: 3_500, acknowledged: 0 });
        let words = outcome.inside().unwrap_or_default();
        assert!(words.starts_with("lost 0 of 0 acknowledged, 2 of 9 others; OK until 3.50 s"), "{words}");
        assert_eq!(outcome.unacknowledged(), (4, 18));
    }
}
