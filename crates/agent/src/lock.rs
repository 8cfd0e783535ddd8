//! One Redis at a time over a data directory.
//!
//! A pod that was deleted by force leaves its Redis to the kubelet, for its whole grace period. Where a volume can be
//! mounted twice on one node (`ReadWriteOnce`), the pod of the same name that is made at once would start another Redis over
//! the same files: both append to one file, or one loads it in the middle of a write.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
    thread,
    time::Duration,
};

/// A file beside Redis' own; it stays empty.
const NAME: &str = ".redis-operator.lock";

/// Between two tries.
const RETRY: Duration = Duration::from_millis(200);

/// Waits until no other Redis runs over this directory. Redis inherits the returned file, so the lock ends with the last
/// process that has it: Redis, or a child that still saves.
///
/// # Errors
/// The file cannot be opened or locked; some file systems know no locks.
pub fn lock(data_dir: &Path, log: &mut dyn FnMut(&str)) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(data_dir.join(NAME))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        if !told {
            log(&format!(
                "another Redis still runs over {}: its pod was deleted by force, and the kubelet has not ended it yet; \
                 waiting until it has",
                data_dir.display()
            ));
            told = true;
        }
        thread::sleep(RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_second_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path(), &mut |line| panic!("{line}")).unwrap();
        let (says, said) = mpsc::channel();
        let path = dir.path().to_owned();
        let second = thread::spawn(move || {
            let mut log = |line: &str| says.send(line.to_owned()).unwrap();
            lock(&path, &mut log).unwrap();
        });
        assert!(said.recv().unwrap().starts_with("another Redis still runs over "));
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap();
        assert!(said.try_recv().is_err(), "said once");
        assert!(lock(&dir.path().join("missing"), &mut |_| {}).is_err());
    }
}
