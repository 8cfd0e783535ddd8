//! An image that does not exist, and its revert.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::figures::{Figures, Key};
use rig::{
    Failure,
    clock::{millis, now},
    cluster::lab::Lab,
    cluster::set::Set,
};

/// Until a Pod must be stuck, and until the revert must have mended it.
const LIMIT: Duration = Duration::from_secs(120);
/// How long it stays stuck: long enough for the kubelet to back off.
const STUCK: Duration = Duration::from_secs(15);

/// One bad edit and its revert, on a set that is Ready.
pub async fn bad_image(lab: &Lab, set: &Set, figures: &mut Figures) -> Result<(), Failure> {
    let bad = "localhost/redis:no-such-version";
    let edited = now();
    set.set_image(lab, bad).await?;
    let stuck = |pod: &Pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
        let waiting = containers.iter().find_map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone())?;
        ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"].contains(&waiting.as_str()).then_some(())
    };
    set.pods.log.find(edited, LIMIT, "a Pod cannot get the bad image", stuck).await?;
    tokio::time::sleep(STUCK).await;
    let reverted = now();
    let generation = set.set_image(lab, &lab.image).await?;
    let ready = set.ready(reverted, generation, LIMIT).await?;
    // Ready must not be what it was before the bad Pod was found: all Pods run the good image.
    for ordinal in 0..3 {
        let pod = set.pod(&set.name.pod(ordinal))?;
        let image = pod.spec.and_then(|spec| spec.containers.into_iter().find_map(|c| c.image));
        if image.as_deref() != Some(lab.image.as_str()) {
            return Err(format!("Ready while {} has the image {image:?}", set.name.pod(ordinal)).into());
        }
    }
    figures.add(Key::BadImage, millis(reverted, ready));
    Ok(())
}
