//! Long-running components: started detached from the terminal, remembered by process id *and* start time, so
//! that a record never names a stranger that later got the same id.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::command::command;
use crate::layout::{self, Layout};
use crate::topology::Machine;

/// A component and the machine that it runs on.
pub struct Component {
    /// Name of its record and log.
    pub name: String,
    /// Machine whose network it has.
    pub machine: Machine,
    /// Process whose mounts it shares; the host's otherwise.
    pub mounts_of: Option<i32>,
    /// Program and arguments.
    pub argv: Vec<String>,
}

/// Starts the component unless it runs.
pub fn ensure(layout: &Layout, component: &Component, stdin: Option<OwnedFd>) -> Result<()> {
    if running(&component.name)?.is_some() {
        return Ok(());
    }
    let name = &component.name;
    let path = layout.log(name);
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open the log {}", path.display()))?;
    // Not `ip netns exec`: it mounts a fresh /sys, which hides the cgroups from the kubelet.
    let mut argv = vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", component.machine.namespace())];
    argv.extend(component.mounts_of.map(|pid| format!("--mount=/proc/{pid}/ns/mnt")));
    argv.push("--".to_owned());
    argv.extend_from_slice(&component.argv);
    // setsid and nsenter replace themselves, so the child's id stays the component's.
    let child = command("setsid", argv)
        .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(log.try_clone().context("cannot share the log")?)
        .stderr(log)
        .current_dir("/")
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let pid = i32::try_from(child.id()).context("process id out of range")?;
    let started = start_time(pid).with_context(|| format!("{name} ended at once; see {}", path.display()))?;
    layout::make_dir(&layout::root("processes"))?;
    layout::write(&record(name), json!({ "pid": pid, "started": started, "boot": boot_id()? }).to_string())
}

/// The component's process id if it runs.
pub fn running(name: &str) -> Result<Option<i32>> {
    let Ok(text) = fs::read_to_string(record(name)) else { return Ok(None) };
    let Ok(Value::Object(record)) = serde_json::from_str(&text) else { return Ok(None) };
    let Some(pid) = record.get("pid").and_then(Value::as_i64).and_then(|pid| i32::try_from(pid).ok()) else {
        return Ok(None);
    };
    let same = record.get("boot").and_then(Value::as_str) == Some(boot_id()?.as_str())
        && start_time(pid).is_some_and(|started| record.get("started") == Some(&json!(started)));
    Ok(same.then_some(pid))
}

/// An error with the end of its log when the component does not run.
pub fn check(layout: &Layout, name: &str) -> Result<i32> {
    running(name)?.ok_or_else(|| {
        let path = layout.log(name);
        let log = fs::read_to_string(&path).unwrap_or_default();
        let mut tail: Vec<_> = log.lines().rev().take(5).collect();
        tail.reverse();
        anyhow!("{name} does not run; the end of {}:\n{}", path.display(), tail.join("\n"))
    })
}

/// Kills processes that are known to be ours; one that is gone is fine.
pub fn kill(pids: &[i32]) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn record(name: &str) -> PathBuf {
    layout::root("processes").join(format!("{name}.json"))
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?.trim().to_owned())
}

/// Start time of a live process in clock ticks since boot.
fn start_time(pid: i32) -> Option<u64> {
    parse_start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of /proc/PID/stat; none for a zombie. The name in field 2 may hold spaces and brackets.
fn parse_start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 10";

    #[test]
    fn start_time_is_field_22_even_after_an_odd_name() {
        assert_eq!(parse_start_time(STAT), Some(98765));
    }

    #[test]
    fn a_zombie_does_not_run() {
        assert_eq!(parse_start_time(&STAT.replace(" S ", " Z ")), None);
    }

    #[test]
    fn this_process_has_a_start_time() {
        assert!(start_time(i32::try_from(std::process::id()).unwrap()).is_some());
    }
}
