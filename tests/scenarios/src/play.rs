//! One scenario from the set's creation to its end.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::DeleteParams};

use crate::{
    client::Client,
    evidence,
    operators::{self, Fate, restarts},
    outcome::Outcome,
    scenario::{Kind, Scenario},
    stage::{LIMIT, Stage},
};
use rig::node::Target;
use rig::{
    Failure,
    clock::{now, time_of_day},
    cluster::lab::Lab,
    cluster::set::{Set, delete_all},
};

/// How long the clients write before and after each disturbance; up to a second is added, so that disturbances fall into
/// every part of an interval in which something looks.
const CALM: Duration = Duration::from_secs(1);
/// The operator dies this long after the disturbance at most, in milliseconds.
const FATE_MILLIS: u64 = 3_000;

/// Plays a scenario and judges it; a failure is part of the outcome.
pub async fn play(
    lab: &Lab,
    name: &str,
    scenario: Scenario,
    kind: Kind,
    fate: Fate,
    rounds: usize,
) -> Outcome {
    let mut outcome = Outcome::new(scenario, kind, fate);
    if let Err(why) = on_a_new_set(lab, name, rounds, &mut outcome).await {
        outcome.wrong.push(why.to_string());
    }
    outcome.judge();
    if !outcome.wrong.is_empty() {
        match artifact(lab, &format!("{scenario:?}-{kind:?}-{fate:?}.txt")) {
            Ok(file) => match evidence::collect(lab, name, &file).await {
                Ok(()) => println!("  {} what was there is in {}", time_of_day(), file.display()),
                Err(error) => println!("  cannot write {}: {error}", file.display()),
            },
            Err(error) => println!("  {error}"),
        }
    }
    let cleared = async {
        lab.uncordon().await?;
        delete_all(lab).await?;
        operators::restore(lab).await
    };
    if let Err(why) = cleared.await {
        outcome.wrong.push(format!("afterwards: {why}"));
    }
    outcome
}

async fn on_a_new_set(lab: &Lab, name: &str, rounds: usize, outcome: &mut Outcome) -> Result<(), Failure> {
    let (scenario, kind) = (outcome.scenario, outcome.kind);
    let spec = scenario.spec(kind, &lab.image);
    let mut set = Set::create(lab, name, &spec).await?;
    set.probe(lab)?;
    set.ready(set.applied, 1, LIMIT).await?;
    let history = artifact(lab, &format!("{scenario:?}-{kind:?}-{:?}.history", outcome.fate))?;
    let client = Client::prepare(lab, &set, history).await?;
    let mut stage = Stage::new(lab, set, kind, spec, client);
    stage.settled(None).await?;
    stage.begin_anew();
    stage.client.begin().await?;

    let mut ended = Ok(());
    for round in 0..rounds {
        ended = one_round(&mut stage, round, outcome).await;
        if ended.is_err() {
            break;
        }
        if round + 1 < rounds {
            refresh(&stage, scenario).await?;
        }
    }
    outcome.false_ready = stage.false_ready();
    outcome.took = stage.all_taken();
    // What was lost is of interest after a failure too.
    let checked = async { stage.client.check(targets(&stage).await?).await };
    match checked.await {
        Ok(checked) => outcome.check(checked, &stage.windows()),
        Err(error) if ended.is_ok() => ended = Err(error),
        Err(error) => println!("  {error}"),
    }
    ended
}

async fn one_round(stage: &mut Stage<'_>, round: usize, outcome: &mut Outcome) -> Result<(), Failure> {
    stage.found_by_name().await?;
    tokio::time::sleep(CALM + random_up_to(1_000)?).await;
    stage.begin(round);
    let stage = &*stage;
    let (settled, died) = tokio::join!(
        async {
            // It holds all that any scenario does.
            Box::pin(outcome.scenario.play(stage)).await?;
            let home = outcome.scenario.goes_home().then(|| stage.home());
            stage.settled(home.as_deref()).await
        },
        befall(stage, outcome.fate),
    );
    tokio::time::sleep(CALM).await;
    stage.end();
    died?;
    let settled = settled?;
    let disturbed = stage.disturbed().ok_or("the scenario disturbed nothing")?;
    outcome.round(disturbed, stage.said_after(disturbed, settled), settled);
    Ok(())
}

/// The operator's fate, at a random moment after the disturbance.
async fn befall(stage: &Stage<'_>, fate: Fate) -> Result<(), Failure> {
    if fate == Fate::Left {
        return Ok(());
    }
    let deadline = tokio::time::Instant::now() + LIMIT;
    while stage.disturbed().is_none() {
        if tokio::time::Instant::now() > deadline {
            return Err("the scenario never began, so the operator lives".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let after = random_up_to(FATE_MILLIS)?;
    tokio::time::sleep(after).await;
    println!("  {}, {after:?} after the disturbance", fate.text());
    fate.befall(stage.lab).await
}

fn random_up_to(millis: u64) -> Result<Duration, Failure> {
    let random = getrandom::u32().map_err(|error| format!("no random numbers: {error}"))?;
    Ok(Duration::from_millis(u64::from(random) % millis))
}

/// Gives Pods whose container was restarted a successor, unless the next to be restarted is another: the kubelet restarts a
/// container that ended within the last ten minutes only after 10 s and more.
async fn refresh(stage: &Stage<'_>, scenario: Scenario) -> Result<(), Failure> {
    let (pods, primary) = (stage.pods().await?, stage.set.primary()?);
    let restarted: Vec<&Pod> = pods.iter().filter(|pod| restarts(pod) > 0).collect();
    if scenario.restarts_the_primary_alone() && restarted.iter().all(|pod| pod.name_any() != primary) {
        return Ok(());
    }
    for pod in restarted {
        let since = now();
        stage.lab.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await?;
        stage.replaced(since, &pod.name_any(), &pod.uid().unwrap_or_default()).await?;
        stage.settled(None).await?;
    }
    Ok(())
}

/// All members' Redis.
async fn targets(stage: &Stage<'_>) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    for pod in stage.members()? {
        targets.push(stage.set.target(stage.lab, &pod).await?);
    }
    Ok(targets)
}

/// A file about a run.
pub fn artifact(lab: &Lab, name: &str) -> Result<PathBuf, Failure> {
    let directory = rig::leavings().join(lab.namespace);
    std::fs::create_dir_all(&directory)?;
    Ok(directory.join(name))
}
