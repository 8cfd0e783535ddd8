//! `make demo`: from nothing to a verified `RedisReplicaSet`, with what to try next; and away with it again.
//! Every step may be repeated, so a run that was interrupted, or a second run, goes on where the first one ended.

mod current;
mod files;
mod install;
mod kind;
mod kube;
mod own;
mod place;
mod report;
mod set;
mod steps;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::Args;

use crate::layout::Layout;
use files::Files;
use kube::Kube;
use place::Place;
use steps::Steps;

/// What the command line and the environment ask for.
#[derive(Args)]
pub struct Options {
    /// Remove what the demo made.
    #[arg(long)]
    down: bool,
    /// Where: that of the demo that is up; else kind where Docker and kind are there, and otherwise the cluster of
    /// this program.
    #[arg(long, env = "CLUSTER")]
    cluster: Option<Place>,
    /// Image of the operator, which every node has or can pull; none is built then.
    #[arg(long, env = "OPERATOR_IMAGE")]
    operator_image: Option<String>,
    /// Image of Redis, which every node has or can pull.
    #[arg(long, env = "REDIS_IMAGE")]
    redis_image: Option<String>,
    /// Where `make static` leaves the operator's binaries.
    #[arg(long, required_unless_present = "down")]
    binaries: Option<PathBuf>,
}

/// A cluster that is up and has, or can pull, these images.
struct Ready {
    kube: Kube,
    operator_image: String,
    /// Changes with the content of an image that keeps its name, so that the operator's pods are replaced.
    operator_build: String,
    /// Instead of the sample's.
    redis_image: Option<String>,
    /// Whether the nodes have the image of the lab's workloads.
    lab: bool,
}

/// Brings the demo up, or removes it. `state_dir` is that of this program's cluster, where one was named.
pub fn run(options: &Options, state_dir: Option<&Path>) -> Result<()> {
    let files = Files::here()?;
    let (result, again) = if options.down {
        (down(&files), "make demo-down")
    } else {
        (up(&files, options, state_dir), "make demo")
    };
    result.map_err(|error| match files.place() {
        Ok(None) => error,
        _ => anyhow!(
            "{error:#}\nlog:  {}\nnext: when the cause is gone, `{again}` goes on from here; `make demo-down` removes \
             what is there",
            files.log().display()
        ),
    })
}

fn up(files: &Files, options: &Options, state_dir: Option<&Path>) -> Result<()> {
    let started = Instant::now();
    let place = Place::choose(options.cluster, files.place()?)?;
    println!("demo on {place}; log: {}", files.log().display());
    let mut steps = Steps::new(files.log())?;
    let ready = place.up(files, options, state_dir, &mut steps)?;
    install::operator(&ready, &mut steps)?;
    let set = set::up(&ready, files, &mut steps)?;
    if ready.lab {
        install::lab(&ready, &mut steps)?;
    }
    let client = kube::install_client(files, &ready.kube)?;
    println!("\nThe demo is up after {} s.\n", started.elapsed().as_secs());
    print!("{}", report::set(&ready.kube.get("redisreplicasets")?, &set));
    print!("{}", report::next(files, &client, ready.lab));
    Ok(())
}

fn down(files: &Files) -> Result<()> {
    let Some(place) = files.place()? else {
        println!("no demo was made from here (there is no {})", files.dir().display());
        if let Ok(Some(layout)) = Layout::existing() {
            println!(
                "a cluster of this program exists, with its state in {}; `make down` removes it",
                layout.state().display()
            );
        }
        return Ok(());
    };
    let mut steps = Steps::new(files.log())?;
    place.down(files, &mut steps)?;
    kube::remove_client(files)?;
    files.remove()?;
    println!("the demo is gone");
    Ok(())
}
