//! The figures: what each is, its bar, its values, and the runs that failed.

use std::{collections::BTreeMap, fmt::Write as _};

use rig::{
    Failure,
    stats::{Summary, summary},
};

/// Every figure, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    ReadyEphemeral,
    ReadyVolumes,
    Unbound,
    ReadyWithoutStorage,
    SyncSeen,
    KillSeen,
    KillWrites,
    KillReady,
    AstraySeen,
    AstrayMended,
    SilentReplica,
    SilentPrimary,
    BadImage,
    CallsEphemeral,
    CallsVolumes,
    RestWrites,
    RestLists,
    MemoryOneSet,
    MemoryThreeSets,
    MemoryAfter,
    Cpu,
}

/// How a value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Milliseconds, shown as seconds.
    Time,
    /// A plain number.
    Count,
    /// KiB, shown as MiB.
    Memory,
    /// Thousandths of a percent of one core.
    Cpu,
}

/// What must not be exceeded; both in the figure's own unit.
#[derive(Clone, Copy, Debug, Default)]
struct Bar {
    p50: Option<i64>,
    p99: Option<i64>,
}

/// Runs of each figure.
#[derive(Debug, Default)]
pub struct Figures {
    values: BTreeMap<Key, Vec<i64>>,
    failures: BTreeMap<Key, Vec<String>>,
    /// Failures of runs after their last value.
    late: Vec<String>,
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::ReadyEphemeral => "apply → verified, ephemeral storage",
            Self::ReadyVolumes => "apply → verified, with volumes",
            Self::Unbound => "– of that, while a volume was being provisioned",
            Self::ReadyWithoutStorage => "– without that",
            Self::SyncSeen => "last replica in sync → status says so",
            Self::KillSeen => "primary's process dies → status says so",
            Self::KillWrites => "primary's process dies: longest gap between acknowledged writes",
            Self::KillReady => "primary's process dies → Ready again",
            Self::AstraySeen => "replica repointed by hand → status says so, or mended",
            Self::AstrayMended => "replica repointed by hand → mended",
            Self::SilentReplica => "replica's Pod black-holed → Unreachable, Ready not True",
            Self::SilentPrimary => "primary's Pod black-holed → Unreachable, Ready not True",
            Self::BadImage => "bad image reverted → Ready, no human",
            Self::CallsEphemeral => "mutating API calls from apply to Ready, ephemeral storage",
            Self::CallsVolumes => "mutating API calls from apply to Ready, with volumes",
            Self::RestWrites => "at rest: API writes besides leases",
            Self::RestLists => "at rest: LISTs",
            Self::MemoryOneSet => "operator's memory, one set at rest",
            Self::MemoryThreeSets => "operator's memory, three sets at rest",
            Self::MemoryAfter => "operator's memory after all runs",
            Self::Cpu => "operator's CPU, three sets at rest (percent of a core)",
        }
    }

    fn unit(self) -> Unit {
        match self {
            Self::CallsEphemeral | Self::CallsVolumes | Self::RestWrites | Self::RestLists => Unit::Count,
            Self::MemoryOneSet | Self::MemoryThreeSets | Self::MemoryAfter => Unit::Memory,
            Self::Cpu => Unit::Cpu,
            _ => Unit::Time,
        }
    }

    fn bar(self) -> Bar {
        let p99 = |most| Bar { p50: None, p99: Some(most) };
        match self {
            Self::ReadyEphemeral | Self::ReadyVolumes => p99(10_000),
            Self::SyncSeen => p99(2_000),
            Self::KillSeen => p99(1_000),
            Self::KillWrites => Bar { p50: Some(2_000), p99: Some(4_000) },
            Self::AstraySeen => p99(6_000),
            Self::SilentReplica | Self::SilentPrimary => p99(15_000),
            Self::BadImage => p99(30_000),
            Self::CallsEphemeral | Self::CallsVolumes => p99(15),
            Self::RestWrites | Self::RestLists => p99(0),
            Self::MemoryOneSet => p99(20 * 1024),
            _ => Bar::default(),
        }
    }
}

impl Bar {
    fn missed(self, summary: Summary) -> bool {
        self.p50.is_some_and(|most| summary.p50 > most) || self.p99.is_some_and(|most| summary.p99 > most)
    }

    fn show(self, unit: Unit) -> String {
        let part = |most: Option<i64>, rank| most.map(|most| format!("≤ {}{rank}", unit.show(most)));
        let ranked = unit == Unit::Time;
        let parts = [part(self.p50, " p50"), part(self.p99, if ranked { " p99" } else { "" })];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Unit {
    fn show(self, value: i64) -> String {
        let sign = if value < 0 { "-" } else { "" };
        let value = value.unsigned_abs();
        match self {
            Self::Time => format!("{sign}{}.{:02} s", value / 1000, value % 1000 / 10),
            Self::Count => format!("{sign}{value}"),
            Self::Memory => format!("{sign}{}.{} MiB", value / 1024, value % 1024 * 10 / 1024),
            Self::Cpu => format!("{sign}{}.{:02} %", value / 1000, value % 1000 / 10),
        }
    }
}

impl Figures {
    /// A value, and a line about it.
    pub fn add(&mut self, key: Key, value: i64) {
        println!("  {}: {}", key.name(), key.unit().show(value));
        self.values.entry(key).or_default().push(value);
    }

    /// Runs of these figures that gave no value, because the run failed before or there.
    pub fn fail_rest(&mut self, keys: &[Key], runs: usize, why: &Failure) {
        let mut told = false;
        for key in keys {
            let done = self.values.get(key).map_or(0, Vec::len);
            let failures = self.failures.entry(*key).or_default();
            while done + failures.len() < runs {
                failures.push(why.to_string());
                told = true;
            }
        }
        if !told {
            self.late.push(why.to_string());
        }
    }

    /// The table, and every failure below it.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| figure | bar | p50 | p99 | min | max | runs | failed | |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        let mut failed = String::new();
        let mut keys: Vec<Key> = self.values.keys().chain(self.failures.keys()).copied().collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let (unit, bar) = (key.unit(), key.bar());
            let failures = self.failures.get(&key).map_or(&[][..], Vec::as_slice);
            let summary = self.values.get(&key).and_then(|values| summary(values));
            let cell = |pick: fn(Summary) -> i64| summary.map_or("–".to_owned(), |s| unit.show(pick(s)));
            let verdict = match summary {
                _ if !failures.is_empty() => "**runs failed**",
                _ if bar.p50.is_none() && bar.p99.is_none() => "",
                Some(summary) if !bar.missed(summary) => "met",
                _ => "**missed**",
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {verdict} |",
                key.name(),
                bar.show(unit),
                cell(|s| s.p50),
                cell(|s| s.p99),
                cell(|s| s.min),
                cell(|s| s.max),
                summary.map_or(0, |s| s.count) + failures.len(),
                failures.len(),
            );
            for why in failures {
                let _ = writeln!(failed, "- {}: {why}", key.name());
            }
        }
        for why in &self.late {
            let _ = writeln!(failed, "- after the last figure of a run: {why}");
        }
        if !failed.is_empty() {
            let _ = write!(text, "\nFailed runs:\n\n{failed}");
        }
        text
    }
}
