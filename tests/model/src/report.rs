//! `docs/evidence/model.md`: what was explored, how much of it there is, and what each rule is needed for.

use std::{
    fmt::Write,
    fs,
    path::Path,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    quorum_regressions, quorum_runs, regressions,
    runs::{self, Explored},
};

const HEAD: &str = "\
# The model, and what it has explored

Written by `cargo run --package model -- report`, which is a part of `make proof`; do not edit it.

`tests/model` explores every order of events within the bounds of a run: the agent's start rule and the operator's `decide` and `elect`, as the
same code that ships, between servers, volumes, pods, a record and two operators that act one step at a time. Observations are taken one member
at a time, and anything may happen between two of them. After each event: no write that `WAIT 1` confirmed is gone or about to be while a copy
survives, nobody with less is promoted, no two processes serve. Wherever the operator rests, faults end, and it must come to serve or to show a
hold. Every run saw all states within its bounds. [protocol](../design/protocol.md) says what lies outside of them.

Seconds are those of the run that wrote this page, two runs at a time. *Long* runs and regressions are a part of `make proof` only.
";

/// Does the jobs on all cores; results in their order.
fn on_all_cores<T: Send>(jobs: &[impl Fn() -> T + Sync]) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((number, job)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|number| Some((number, jobs.get(number)?)))
                {
                    let result = job();
                    done.lock().unwrap().push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Does everything and writes the page; a run that fails ends this as it ends its test.
pub fn write(file: &Path, short: bool) -> ExitCode {
    let mut page = HEAD.to_owned();
    if short {
        page.push_str("\nThe long ones were left out this time.\n");
    }
    let chosen: Vec<_> =
        runs::ALL.iter().chain(quorum_runs::ALL).filter(|run| !(short && run.long)).collect();
    let jobs: Vec<_> = chosen.iter().map(|run| || run.check()).collect();
    page.push_str("\n## As shipped\n\n| run | what for | bounds | states | steps | longest way | ends | s |\n|---|---|---|---|---|---|---|---|\n");
    for (run, Explored { report, ends, took }) in chosen.iter().zip(on_all_cores(&jobs)) {
        let long = if run.long { " (long)" } else { "" };
        writeln!(
            page,
            "| `{}`{long} | {} | {} | {} | {} | {} | {ends} | {:.0} |",
            run.name,
            run.about,
            run.bounds,
            report.states,
            report.steps,
            report.depth,
            took.as_secs_f32()
        )
        .unwrap();
    }
    let chosen: Vec<_> =
        regressions::ALL.iter().chain(quorum_regressions::ALL).filter(|one| !(short && one.long)).collect();
    let jobs: Vec<_> = chosen.iter().map(|regression| || regression.check()).collect();
    page.push_str(
        "\n## Each rule taken out\n\nWithin the bounds the rules as shipped are explored to the end and nothing is found; with the rule taken out, the shortest trace\n\
         to what must not be is found. `cargo run --package model -- explore --without <name>` with the bounds as options prints it.\n\n\
         | without it | what goes wrong | bounds | found | after states | as shipped, all states |\n|---|---|---|---|---|---|\n",
    );
    for (regression, found) in chosen.iter().zip(on_all_cores(&jobs)) {
        let long = if regression.long { " (long)" } else { "" };
        let trace = found.without.trace.as_deref().unwrap_or_default();
        let what = trace.split([' ', '\n']).next().unwrap_or_default();
        writeln!(
            page,
            "| `{}`{long} | {} | {} | {what} | {} | {} |",
            regression.name,
            regression.about,
            regression.bounds,
            found.without.states,
            found.shipped.report.states
        )
        .unwrap();
    }
    match fs::write(file, page) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}
