//! Which of the files on the volume Redis is to load.
//!
//! Redis with `appendonly yes` and no append-only files starts empty beside a full dump.rdb, and overwrites that at its
//! next save (experiment E15); with `appendonly no` it passes over append-only files for an older dump.rdb, or none. The
//! first happens when a set is made again over the volumes of one that was configured otherwise; the second then too, and
//! where somebody switched append-only files on by hand: `CONFIG SET appendonly no` leaves them where they are.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use thiserror::Error;

/// `appendonly yes` over an RDB; nothing was started, and nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the volume holds dump.rdb and no append-only files, but spec.config says appendonly yes: Redis would start empty and \
     overwrite it. Delete the RedisReplicaSet (its volumes stay) and apply it again without appendonly"
)]
pub struct OtherKind;

/// What Redis is to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// What the directives say.
    AsConfigured,
    /// The append-only files, although the directives do not say so: nothing on the volume is newer. The operator
    /// switches them off again once the data is loaded.
    AppendOnly,
    /// What the directives say; append-only files that are older stay unread.
    OverOlderAppendOnly,
}

/// The file that Redis loads without `appendonly yes`; the operator leaves `dbfilename` at its default.
pub const DUMP: &str = "dump.rdb";

/// Compares the user's directives with what is on the volume.
///
/// # Errors
/// The directives would have Redis start empty over data.
pub fn check(user_config: &str, data_dir: &Path) -> Result<Load, OtherKind> {
    let dump = written(data_dir.join(DUMP));
    // The file is of Redis 6.2, the directory of 7.0 and later.
    let aof = newest(&data_dir.join("appendonlydir")).max(written(data_dir.join("appendonly.aof")));
    match (appendonly(user_config), dump, aof) {
        (true, Some(_), None) => Err(OtherKind),
        (false, dump, Some(aof)) if dump.is_none_or(|dump| dump <= aof) => Ok(Load::AppendOnly),
        (false, _, Some(_)) => Ok(Load::OverOlderAppendOnly),
        _ => Ok(Load::AsConfigured),
    }
}

fn written(path: PathBuf) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// When a file of a directory was written last; that of the directory itself where it is empty.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(directory).ok()?;
    let files = entries.filter_map(|entry: io::Result<fs::DirEntry>| written(entry.ok()?.path()));
    files.max().or_else(|| written(directory.to_owned()))
}

/// Whether these directives switch append-only files on.
pub fn appendonly(user_config: &str) -> bool {
    let mut words = user_config.lines().map(str::split_whitespace);
    words.any(|mut line| {
        line.next().is_some_and(|name| name.eq_ignore_ascii_case("appendonly"))
            && line.next().is_some_and(|value| value.trim_matches(['"', '\'']).eq_ignore_ascii_case("yes"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, time::Duration};

    #[test]
    fn data_of_the_other_kind_is_refused_or_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let check = |config: &str| check(config, dir.path());
        let (aof, rdb) = ("maxmemory 1gb\nappendonly \"yes\"\n", "appendonly no\n");
        assert_eq!(
            (check(aof), check(rdb)),
            (Ok(Load::AsConfigured), Ok(Load::AsConfigured)),
            "a new volume"
        );
        fs::write(dir.path().join(DUMP), "").unwrap();
        assert_eq!((check(aof), check(rdb)), (Err(OtherKind), Ok(Load::AsConfigured)));
        let files = dir.path().join("appendonlydir");
        fs::create_dir(&files).unwrap();
        let incr = files.join("appendonly.aof.1.incr.aof");
        fs::write(&incr, "").unwrap();
        // Regression: switched on by hand, it stayed on the volume, and no pod started any more.
        let set_time = |path: &Path, seconds| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        set_time(&incr, 200);
        for (dump_written, load) in
            [(100, Load::AppendOnly), (200, Load::AppendOnly), (201, Load::OverOlderAppendOnly)]
        {
            set_time(&dir.path().join(DUMP), dump_written);
            assert_eq!((check(aof), check("")), (Ok(Load::AsConfigured), Ok(load)), "{dump_written}");
        }
        fs::remove_file(dir.path().join(DUMP)).unwrap();
        assert_eq!(check(rdb), Ok(Load::AppendOnly), "a set made anew over the volumes of another kind");
    }
}
