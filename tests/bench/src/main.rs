//! Benchmark on the real cluster: how fast and how truly the status follows, what faults cost, and what the operator
//! asks of the API server and the machine. `make bench` runs it and writes docs/evidence/figures.md.
//!
//! Nothing else should use the cluster and the machine meanwhile. An operator that is installed is measured as it is;
//! otherwise the chart is installed with the image that the cluster has.

mod bad_image;
mod document;
mod faults;
mod figures;
mod node;
mod rest;
mod start;
mod steps;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

use crate::{
    document::Findings,
    figures::{Figures, Key},
    start::Starts,
};
use rig::{Failure, clock, cluster::program, machine};
use rig::{cluster::lab::Lab, cluster::set::Storage};

/// Where the benchmark's sets live.
const NAMESPACE: &str = "redis-operator-bench";

/// Measures the times that docs/evidence/figures.md shows.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs of each figure.
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Runs of the figure about a bad image, each of which takes a minute.
    #[arg(long, default_value_t = 5)]
    bad_image_runs: usize,
    /// How long three sets rest, in seconds.
    #[arg(long, default_value_t = 600)]
    rest: u64,
    /// Redis image that all nodes have; by default the first localhost/redis of theirs.
    #[arg(long)]
    image: Option<String>,
    /// Where the figures are written.
    #[arg(long, default_value = "docs/evidence/figures.md")]
    output: PathBuf,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Started by the benchmark itself, inside a node's network.
    #[command(hide = true)]
    Probe {
        #[command(subcommand)]
        task: node::Task,
    },
}

/// Figures of a set with ephemeral storage, in the order in which a run gives them.
const LIFE: [Key; 9] = [
    Key::ReadyEphemeral,
    Key::CallsEphemeral,
    Key::AstraySeen,
    Key::AstrayMended,
    Key::SilentReplica,
    Key::KillSeen,
    Key::KillWrites,
    Key::KillReady,
    Key::SilentPrimary,
];

/// Figures of a set with volumes.
const WITH_VOLUMES: [Key; 4] = [Key::ReadyVolumes, Key::Unbound, Key::ReadyWithoutStorage, Key::CallsVolumes];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::exit(match &arguments.verb {
        Some(Verb::Probe { task }) => node::run(task),
        None => {
            program::in_lab(NAMESPACE, arguments.image.clone(), async |lab| measure(lab, &arguments).await)
        }
    })
}

async fn measure(lab: &Lab, arguments: &Arguments) -> Result<(), Failure> {
    let mut figures = Figures::default();
    // Now: who works on beside the benchmark may commit.
    let checkout = machine::output("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    let foreign = lab.foreign_sets().await?;
    if foreign > 0 {
        println!("WARNING: {foreign} other sets are in this cluster; figures about rest are not of rest");
    }

    println!("at rest");
    let (sets, rest) = match rest::rest(lab, Duration::from_secs(arguments.rest), &mut figures).await {
        Ok(rested) => rested,
        Err(why) => {
            println!("  FAILED: {why}");
            figures.fail_rest(&rest::KEYS, 1, &why);
            Default::default()
        }
    };

    if let Some(set) = sets.first() {
        for run in 1..=arguments.bad_image_runs {
            println!("{} bad image, run {run} of {}", clock::time_of_day(), arguments.bad_image_runs);
            if let Err(why) = bad_image::bad_image(lab, set, &mut figures).await {
                println!("  FAILED: {why}");
                figures.fail_rest(&[Key::BadImage], run, &why);
            }
        }
    } else {
        figures.fail_rest(&[Key::BadImage], arguments.bad_image_runs, &"there was no set".into());
    }
    drop(sets);
    clear(lab).await;

    let (mut ephemeral, mut volumes) = (Starts::default(), Starts::default());
    for run in 1..=arguments.runs {
        println!("{} ephemeral storage, run {run} of {}", clock::time_of_day(), arguments.runs);
        if let Err(why) = life(lab, run, &mut figures, &mut ephemeral).await {
            println!("  FAILED: {why}");
            figures.fail_rest(&LIFE, run, &why);
            figures.fail_rest(&[Key::SyncSeen], run, &why);
            clear(lab).await;
        }
    }
    for run in 1..=arguments.runs {
        println!("{} with volumes, run {run} of {}", clock::time_of_day(), arguments.runs);
        if let Err(why) = with_volumes(lab, run, &mut figures, &mut volumes).await {
            println!("  FAILED: {why}");
            figures.fail_rest(&WITH_VOLUMES, run, &why);
            figures.fail_rest(&[Key::SyncSeen], arguments.runs + run, &why);
            clear(lab).await;
        }
    }
    figures.add(Key::MemoryAfter, lab.leader().await?.0.memory_kib("VmRSS")?);

    let foreign = foreign.max(lab.foreign_sets().await?);
    let findings = Findings { figures, rest, ephemeral, volumes, foreign };
    let text = document::document(lab, &command(arguments), checkout.trim(), arguments.rest, &findings)?;
    println!("\n{text}");
    std::fs::write(&arguments.output, text)?;
    println!("written to {}", arguments.output.display());
    Ok(())
}

/// A set with ephemeral storage from its creation through every fault to its end.
async fn life(lab: &Lab, run: usize, figures: &mut Figures, starts: &mut Starts) -> Result<(), Failure> {
    let mut set = start::start(lab, &format!("life-{run}"), Storage::Ephemeral, figures, starts).await?;
    faults::wait_for_phase(run).await;
    faults::astray(lab, &set, figures).await?;
    set.stop_probing();
    faults::wait_for_phase(run + 1).await;
    faults::silence(lab, &set, &set.replica()?, Key::SilentReplica, figures).await?;
    faults::wait_for_phase(run + 2).await;
    faults::kill(lab, &set, figures).await?;
    faults::wait_for_phase(run + 3).await;
    faults::silence(lab, &set, &set.primary()?, Key::SilentPrimary, figures).await?;
    set.delete(lab).await
}

/// A set with volumes from its creation to Ready.
async fn with_volumes(
    lab: &Lab,
    run: usize,
    figures: &mut Figures,
    starts: &mut Starts,
) -> Result<(), Failure> {
    start::start(lab, &format!("volumes-{run}"), Storage::Volumes, figures, starts).await?.delete(lab).await
}

/// After a failed run: nothing of it should stay for the next one.
async fn clear(lab: &Lab) {
    if let Err(why) = rig::cluster::set::delete_all(lab).await {
        println!("  cannot remove the failed run's set: {why}");
    }
}

/// The command that makes these figures.
fn command(arguments: &Arguments) -> String {
    let default = Arguments::parse_from(["bench"]);
    let same = (arguments.runs, arguments.bad_image_runs, arguments.rest, &arguments.image)
        == (default.runs, default.bad_image_runs, default.rest, &default.image);
    if same {
        return "make bench".to_owned();
    }
    let image = arguments.image.as_ref().map(|image| format!(" --image {image}")).unwrap_or_default();
    format!(
        "cargo run --package bench -- --runs {} --bad-image-runs {} --rest {}{image}",
        arguments.runs, arguments.bad_image_runs, arguments.rest
    )
}
