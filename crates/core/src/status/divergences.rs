//! `status.divergences`: data that was given up, the last case of each pod.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::status::DivergenceStatus,
    election::divergence::{Divergence, is_published},
};

/// Those of before, and in place of each pod's former one what was found in this reconcile.
pub fn divergences(
    before: &[DivergenceStatus],
    found: &[Divergence],
    now: Timestamp,
) -> Vec<DivergenceStatus> {
    let is_known = |d: &Divergence| before.iter().any(|old| is_published(old, d));
    let news = found.iter().filter(|d| !is_known(d)).map(|d| DivergenceStatus {
        pod: d.pod.clone(),
        run_id: d.run_id.clone(),
        replid: d.replid.clone(),
        bytes: d.bytes,
        epoch: d.epoch,
        time: Time(now),
    });
    let news: Vec<DivergenceStatus> = news.collect();
    let stays = |old: &&DivergenceStatus| news.iter().all(|new| new.pod != old.pod);
    let mut all: Vec<DivergenceStatus> = before.iter().filter(stays).cloned().chain(news.clone()).collect();
    all.sort_by(|a, b| a.pod.cmp(&b.pod));
    all
}
