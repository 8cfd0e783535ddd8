//! Where the demo runs: three kinds of cluster, with the same result.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::files::Files;
use super::steps::Steps;
use super::{Options, Ready, current, kind, own};

/// A kind of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// This program's cluster: three nodes on this machine, without a container engine.
    Own,
    /// kind, with a Docker engine.
    Kind,
    /// The current context of the kubeconfig; no cluster is made.
    Current,
}

impl Place {
    /// What was asked for, as long as no demo is up elsewhere.
    pub fn choose(asked: Option<Self>, known: Option<Self>) -> Result<Self> {
        match (asked, known) {
            (Some(asked), Some(known)) if asked != known => bail!(
                "CLUSTER={} was asked for, but the demo is up on {known}; remove that first: make demo-down",
                asked.word()
            ),
            (Some(place), _) | (None, Some(place)) => Ok(place),
            (None, None) if kind::is_there() => Ok(Self::Kind),
            (None, None) => Ok(Self::Own),
        }
    }

    /// As it is typed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Kind => "kind",
            Self::Current => "current",
        }
    }

    /// Brings up the cluster and the images; the kubeconfig is in its place then.
    pub fn up(
        self,
        files: &Files,
        options: &Options,
        state_dir: Option<&Path>,
        steps: &mut Steps,
    ) -> Result<Ready> {
        match self {
            Self::Own => own::up(files, options, state_dir, steps),
            Self::Kind => kind::up(files, options, steps),
            Self::Current => current::up(files, options, steps),
        }
    }

    /// Removes what the demo made.
    pub fn down(self, files: &Files, steps: &mut Steps) -> Result<()> {
        match self {
            Self::Own => own::down(steps),
            Self::Kind => kind::down(steps),
            Self::Current => current::down(files, steps),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "a three-node cluster of its own, on this machine",
            Self::Kind => "kind, on this machine's Docker engine",
            Self::Current => "the current context of the kubeconfig",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_stays_where_it_is() {
        for place in [Place::Own, Place::Kind, Place::Current] {
            assert_eq!(Place::choose(None, Some(place)).unwrap(), place);
            assert_eq!(Place::choose(Some(place), None).unwrap(), place);
        }
        let error = Place::choose(Some(Place::Current), Some(Place::Own)).unwrap_err().to_string();
        assert!(error.contains("make demo-down"), "{error}");
    }

    #[test]
    fn the_record_is_read_as_it_is_written() {
        for place in Place::value_variants() {
            assert_eq!(Place::from_str(place.word(), false).as_ref(), Ok(place));
        }
    }
}
