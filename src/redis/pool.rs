//! The servers of all sets, each with its held connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use operator_core::names::SetName;

use crate::redis::server::Server;

/// The servers of all sets, by UID of the pod: a namesake that comes later is another one.
#[derive(Debug, Default)]
pub struct Pool {
    sets: Mutex<HashMap<SetName, HashMap<String, Arc<Server>>>>,
}

impl Pool {
    /// The server of a pod.
    pub fn server(&self, set: &SetName, uid: &str) -> Arc<Server> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sets.entry(set.clone()).or_default().entry(uid.to_owned()).or_default())
    }

    /// The server of a pod, if it was ever asked.
    pub fn known(&self, set: &SetName, uid: &str) -> Option<Arc<Server>> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.get(set)?.get(uid).cloned()
    }

    /// Forgets the servers of pods that are gone, and closes their connections.
    pub fn keep(&self, set: &SetName, is_there: impl Fn(&str) -> bool) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(servers) = sets.get_mut(set) {
            servers.retain(|uid, _| is_there(uid));
            if servers.is_empty() {
                sets.remove(set);
            }
        }
    }
}
