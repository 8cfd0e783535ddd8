//! docs/evidence/crash-campaign.md, written by the run that it tells of.

use std::{fmt::Write as _, time::Duration};

use jiff::Timestamp;

use crate::{
    Failure,
    campaign::{Kill, Part},
};
use rig::machine;

const METHOD: &str = "\
How it is done:

- The operator as it is shipped runs against a real kube-apiserver (with etcd and the controllers of StatefulSets and of
  garbage collection), and real redis-servers in place of the pods; no kubelet, no containers. Its calls go through
  proxies that count those which change something: to the API server (the Lease excepted), and to each Redis.
- Each workload is played undisturbed first. Then, for each *kill*, it is played again in a namespace of its own; at one
  of the calls, named by what it says and the how-manieth of its kind it is, the operator is killed and started again.
  The moments: *before* the call reaches the server; after its effect and *before the answer*; *after* the answer.
- A client writes every 20 ms meanwhile. *Keys* were acknowledged by a replica (`WAIT 1`); in the end every one of them
  must be on every server, and all servers must have the same.
- *As undisturbed*: every object in the namespace field by field (times, versions and addresses left out, identities by
  what they stand for), the role record, the status of the set, whom each Redis follows with whose history, how often
  each object was created by whomever, and how often the operator deleted one (the API server's audit log).
- *Not made*: the call did not come in three runs. How often the status tells of progress goes by the clock, and a few
  other calls by who is first.
- Time: from the user's first step until all is as undisturbed, and stays so for a second.
";

/// The commit that is tested. Asked for at the beginning: who works on meanwhile may commit.
pub fn checkout() -> String {
    machine::output("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_default().trim().to_owned()
}

/// The whole document.
pub fn document(scope: &str, checkout: &str, parts: &[Part], took: Duration) -> Result<String, Failure> {
    let mut text = String::from("# The operator killed at each of its calls\n\n");
    writeln!(
        text,
        "Written by `make proof` or its test on {}, checkout {}. Do not edit.\n",
        now().strftime("%Y-%m-%d"),
        checkout
    )?;
    writeln!(text, "- {scope}. In all {} kills in {:.0} min", all(parts).count(), took.as_secs_f64() / 60.0)?;
    writeln!(text, "- Machine: {}", machine::description()?)?;
    let redis = machine::output("redis-server", &["--version"])?;
    let redis: Vec<&str> = redis.split_whitespace().take(3).collect();
    writeln!(text, "- {}, {}\n", program("KUBE_APISERVER")?, redis.join(" "))?;
    text.push_str("| workload | calls undisturbed | kills | as undisturbed | not so | not made | keys | undisturbed | with a kill, median (longest) |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for part in parts {
        writeln!(text, "{}", row(part))?;
    }
    let lines = |which: fn(&Kill) -> bool| {
        let lines: Vec<String> = all(parts).filter(|kill| which(kill)).map(Kill::line).collect();
        lines
    };
    for (title, lines) in
        [("Not as undisturbed", lines(|kill| !kill.wrong().is_empty())), ("Not made", lines(Kill::is_missed))]
    {
        if !lines.is_empty() {
            writeln!(text, "\n## {title}\n")?;
        }
        for line in lines {
            writeln!(text, "- {line}")?;
        }
    }
    writeln!(text, "\n{METHOD}")?;
    Ok(text.trim_end().to_owned() + "\n")
}

fn all(parts: &[Part]) -> impl Iterator<Item = &Kill> {
    parts.iter().flat_map(|part| &part.kills)
}

fn row(part: &Part) -> String {
    let mut times: Vec<Duration> = part.ended_well().map(|outcome| outcome.took).collect();
    times.sort();
    let time = |at: usize| times.get(at).map_or(0.0, Duration::as_secs_f64);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {:.1} s | {:.1} s ({:.1} s) |",
        part.workload,
        part.undisturbed.calls.len(),
        part.kills.len(),
        times.len(),
        part.kills.iter().filter(|kill| !kill.wrong().is_empty()).count(),
        part.kills.iter().filter(|kill| kill.is_missed()).count(),
        part.keys(),
        part.undisturbed.took.as_secs_f64(),
        time(times.len() / 2),
        time(times.len().saturating_sub(1)),
    )
}

/// The version of a program whose path is in this variable.
fn program(variable: &str) -> Result<String, Failure> {
    let path = std::env::var(variable)?;
    let name = std::path::Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(format!("{name} {}", machine::output(&path, &["--version"])?.trim()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the date of a document; the operator's code does not read it here"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
