//! The operator's binary: parses arguments, starts logging, and hands over. No logic.

use std::process::ExitCode;

use clap::Parser;
use operator_core::crd;
use redis_operator::{
    cli::{Cli, Command},
    error_chain::chain,
    logging,
    run::run,
};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Crd => match crd::yaml() {
            Ok(yaml) => {
                print!("{yaml}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
        Command::Run(settings) => {
            if let Err(error) = logging::init(settings.log_format, &settings.log_filter) {
                return fail(&error);
            }
            if rustls::crypto::ring::default_provider().install_default().is_err() {
                return fail(&std::io::Error::other("a TLS provider was installed before ours"));
            }
            let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return fail(&error),
            };
            match runtime.block_on(run(settings)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            }
        }
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("redis-operator: {}", chain(error));
    ExitCode::FAILURE
}
