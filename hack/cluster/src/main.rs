//! A real three-node Kubernetes cluster on one Linux machine, without a container engine. See README.md.

mod cgroups;
mod cli;
mod command;
mod control_plane;
mod demo;
mod down;
mod image;
mod kubeconfig;
mod layout;
mod lock;
mod network;
mod node;
mod node_config;
mod packages;
mod pki;
mod policies;
mod process;
mod relay;
mod status;
mod template;
mod tools;
mod topology;
mod up;
mod wait;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
