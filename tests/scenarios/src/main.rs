//! Scenarios on the real cluster: restarts, updates, scaling, node work and faults, each with clients that write without
//! pause, and every key read back from every member. `make scenarios` plays each once and writes docs/evidence/scenarios.md.
//!
//! Nothing else should use the cluster and the machine meanwhile, if the times are to mean anything. An operator that is installed is used as it is;
//! otherwise the chart is installed with the image that the cluster has.

mod client;
mod cut;
mod dns_gone;
mod document;
mod evidence;
mod images;
mod inside;
mod limits;
mod node;
mod node_power;
mod operators;
mod outcome;
mod play;
mod plays;
mod scenario;
mod stage;
mod truth;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

use crate::{
    document::Played,
    operators::Fate,
    scenario::{Kind, Scenario},
};
use rig::cluster::lab::Lab;
use rig::{Failure, clock, cluster::program, machine};

/// Plays scenarios and writes docs/evidence/scenarios.md. By default each is played once, with the kinds of storage in turn.
#[derive(Debug, Parser)]
struct Arguments {
    /// Scenarios to play; by default all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Kinds of storage to play each of them with; by default they take turns.
    #[arg(long, value_delimiter = ',')]
    storage: Vec<Kind>,
    /// What happens to the operator in the middle of each.
    #[arg(long, value_delimiter = ',', default_value = "left")]
    operator: Vec<Fate>,
    /// How often each is played, each time on a new set.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// How often each is played on the same set, where it can be played again.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Switchovers on one set, there and back in turn.
    #[arg(long, default_value_t = 2)]
    switchovers: usize,
    /// Redis image that all nodes have; by default the first localhost/redis of theirs.
    #[arg(long)]
    image: Option<String>,
    /// Namespace that is made for the sets and removed with them; plays side by side need one each.
    #[arg(long, default_value = "redis-operator-scenarios")]
    namespace: String,
    /// Where the table is written.
    #[arg(long, default_value = "docs/evidence/scenarios.md")]
    output: PathBuf,
    /// Goes on with the table of earlier runs in place of a new one.
    #[arg(long)]
    more: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Started by the scenarios themselves, inside a node's network.
    #[command(hide = true)]
    Probe {
        #[command(subcommand)]
        task: node::Task,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::exit(match &arguments.verb {
        Some(Verb::Probe { task }) => node::run(task),
        None => {
            // Lives as long as the program.
            let namespace: &'static str = arguments.namespace.clone().leak();
            program::in_lab(namespace, arguments.image.clone(), async |lab| all(lab, &arguments).await)
        }
    })
}

/// Plays everything that was asked for.
async fn all(lab: &Lab, arguments: &Arguments) -> Result<(), Failure> {
    // Now: who works on beside the scenarios may commit.
    let checkout = machine::output("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    let file = play::artifact(lab, "played.json")?;
    let mut played = if arguments.more { Played::read(&file)? } else { Played::default() };
    played.begin(lab, &command(arguments), &checkout);
    cut::remove_left(lab).await?;
    let mut failed = 0;
    let mut number = 0;
    for run in 1..=arguments.runs {
        for (scenario, kind, fate) in selection(arguments) {
            number += 1;
            let rounds = match scenario {
                Scenario::Switchover => arguments.switchovers.div_ceil(2).max(arguments.rounds),
                _ if scenario.repeats() => arguments.rounds,
                _ => 1,
            };
            let label = format!("{} {} {}", name(scenario), kind.text(), fate.text());
            println!("{} {} (run {run} of {})", clock::time_of_day(), label.trim(), arguments.runs);
            let name = format!("s{number}");
            let outcome = play::play(lab, &name, scenario, kind, fate, rounds).await;
            println!("  {}", outcome.line());
            for why in &outcome.wrong {
                println!("  FAILED: {why}");
            }
            failed += usize::from(!outcome.wrong.is_empty());
            played.outcomes.push(outcome);
            // A run that is stopped leaves what it has found.
            played.write(&file)?;
            std::fs::write(&arguments.output, document::document(&played)?)?;
        }
    }
    for why in played.missed() {
        println!("FAILED: {why}");
        failed += 1;
    }
    println!("written to {}", arguments.output.display());
    if failed == 0 { Ok(()) } else { Err(format!("{failed} failed").into()) }
}

/// What is played, in order.
fn selection(arguments: &Arguments) -> Vec<(Scenario, Kind, Fate)> {
    let wanted = |scenario: &Scenario| arguments.only.is_empty() || arguments.only.contains(scenario);
    let scenarios = Scenario::value_variants().iter().copied().filter(wanted);
    let mut selected = Vec::new();
    for (turn, scenario) in scenarios.enumerate() {
        let possible = scenario.kinds();
        let kinds: Vec<Kind> = if arguments.storage.is_empty() {
            possible.get(turn % possible.len()).copied().into_iter().collect()
        } else {
            arguments.storage.iter().copied().filter(|kind| possible.contains(kind)).collect()
        };
        for kind in kinds {
            let fates = arguments.operator.iter().copied().filter(|fate| scenario.suffers(*fate));
            selected.extend(fates.map(|fate| (scenario, kind, fate)));
        }
    }
    selected
}

/// As the command line has it.
fn name(scenario: Scenario) -> String {
    scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The command that makes this table.
fn command(arguments: &Arguments) -> String {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if given.is_empty() && arguments.runs == 1 {
        return "make scenarios".to_owned();
    }
    format!("cargo run --package scenarios -- {}", given.join(" "))
}
