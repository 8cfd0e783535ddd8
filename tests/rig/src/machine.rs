//! This machine: the processes of the cluster's Pods, and what the figures were measured on.

use std::{fs, path::PathBuf, process::Command};

use crate::Failure;

/// Words and numbers of a process that belongs to a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(i32);

impl Process {
    /// The process named `name` of the Pod with this UID. The UID stands in its cgroup, with either cgroup driver.
    pub fn of_pod(uid: &str, name: &str) -> Result<Self, Failure> {
        let marks = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse().ok()) else { continue };
            // A process may end while it is looked at.
            let Ok(comm) = fs::read_to_string(entry.path().join("comm")) else { continue };
            let Ok(cgroup) = fs::read_to_string(entry.path().join("cgroup")) else { continue };
            if comm.trim() == name && marks.iter().any(|mark| cgroup.contains(mark)) {
                found.push(Self(pid));
            }
        }
        match found.as_slice() {
            [one] => Ok(*one),
            _ => Err(format!("{} processes {name} in the Pod {uid}, expected one", found.len()).into()),
        }
    }

    /// Ends it as a crash does: without a word.
    pub fn kill(self) -> Result<(), Failure> {
        self.signal("KILL")
    }

    /// Sends it a signal by name.
    pub fn signal(self, name: &str) -> Result<(), Failure> {
        let status = Command::new("kill").args(["-s", name, &self.0.to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill -s {name} {}: {status}", self.0).into()) }
    }

    /// Whether it still runs.
    pub fn is_there(self) -> bool {
        fs::exists(format!("/proc/{}", self.0)).unwrap_or(true)
    }

    /// The file system that its container has.
    pub fn root(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.0))
    }

    /// Memory of the process in KiB: a line of /proc/PID/status, such as `VmRSS` (resident) or `VmHWM` (the most ever).
    pub fn memory_kib(self, line: &str) -> Result<i64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        number_after(&status, line).ok_or_else(|| format!("no {line} of process {}", self.0).into())
    }

    /// Working set of its container in KiB, as the kubelet counts it and `kubectl top` shows it: all memory charged to
    /// the cgroup without the file pages that are not in use.
    pub fn working_set_kib(self) -> Result<i64, Failure> {
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", self.0))?;
        let path = |mark: &str| {
            cgroups.lines().find_map(|line| line.split_once(mark)).map(|(_, path)| path.to_owned())
        };
        // Version 1 has a hierarchy for memory, version 2 has one for all.
        let (dir, usage, inactive) = if let Some(path) = path(":memory:") {
            (format!("/sys/fs/cgroup/memory{path}"), "memory.usage_in_bytes", "total_inactive_file")
        } else {
            let path = path("0::").ok_or("a process without a cgroup")?;
            (format!("/sys/fs/cgroup{path}"), "memory.current", "inactive_file")
        };
        let used: i64 = fs::read_to_string(format!("{dir}/{usage}"))?.trim().parse()?;
        let stat = fs::read_to_string(format!("{dir}/memory.stat"))?;
        let idle = stat.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse::<i64>().ok());
        Ok((used - idle.unwrap_or(0)) / 1024)
    }

    /// Size of the program's file in KiB: most of what is resident of a small program.
    pub fn executable_kib(self) -> Result<u64, Failure> {
        Ok(fs::metadata(format!("/proc/{}/exe", self.0))?.len() / 1024)
    }

    /// CPU time used until now, in milliseconds.
    pub fn cpu_millis(self) -> Result<i64, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let hertz: i64 = output("getconf", &["CLK_TCK"])?.trim().parse()?;
        // The second field is the name in parentheses; utime and stime are fields 14 and 15.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let mut ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<i64>);
        let (Some(user), Some(system)) = (ticks.next(), ticks.next()) else {
            return Err(format!("/proc/{}/stat is too short", self.0).into());
        };
        Ok((user? + system?) * 1000 / hertz)
    }
}

/// The machine in one line: CPUs, memory, kernel.
pub fn description() -> Result<String, Failure> {
    let cpus = std::thread::available_parallelism()?;
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, model)| model.trim());
    let memory = number_after(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or(0) / 1024 / 1024;
    Ok(format!("{cpus} CPUs ({model}), {memory} GiB of memory, Linux {}", output("uname", &["-r"])?.trim()))
}

/// What a program printed.
pub fn output(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {}: {}: {}", arguments.join(" "), output.status, words.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The number in a line `name:   number kB`.
fn number_after(text: &str, name: &str) -> Option<i64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}
