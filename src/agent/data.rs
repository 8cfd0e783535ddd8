//! Whether the volume's data is of the kind that this Redis would load.
//!
//! Redis with `appendonly yes` and no append-only files starts empty beside a full dump.rdb, and overwrites that at its
//! next save (experiment E15); with `appendonly no` it passes over append-only files for an older dump.rdb, or none.
//! Both happen when a set is made anew over the volumes of one that was configured otherwise.

use std::path::Path;

use thiserror::Error;

/// The data is of the other kind; nothing was started, and nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OtherKind {
    /// `appendonly yes` over an RDB.
    #[error(
        "the volume holds dump.rdb and no append-only files, but spec.config says appendonly yes: Redis would start \
         empty and overwrite it. Set spec.config.appendonly to \"no\""
    )]
    Rdb,
    /// `appendonly no` over append-only files.
    #[error(
        "the volume holds append-only files, but spec.config does not say appendonly yes: Redis would pass over them. \
         Set spec.config.appendonly to \"yes\""
    )]
    Aof,
}

/// The file that Redis loads without `appendonly yes`; the operator leaves `dbfilename` at its default.
pub const DUMP: &str = "dump.rdb";

/// Compares the user's directives with what is on the volume.
pub fn check(user_config: &str, data_dir: &Path) -> Result<(), OtherKind> {
    let has = |name: &str| data_dir.join(name).exists();
    // The file is of Redis 6.2, the directory of 7.0 and later.
    match (appendonly(user_config), has(DUMP), has("appendonlydir") || has("appendonly.aof")) {
        (true, true, false) => Err(OtherKind::Rdb),
        (false, _, true) => Err(OtherKind::Aof),
        _ => Ok(()),
    }
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
    use std::fs;

    #[test]
    fn data_of_the_other_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (aof, rdb) = ("maxmemory 1gb\nappendonly \"yes\"\n", "appendonly no\n");
        assert_eq!((check(aof, dir.path()), check(rdb, dir.path())), (Ok(()), Ok(())), "a new volume");
        fs::write(dir.path().join(DUMP), "").unwrap();
        assert_eq!((check(aof, dir.path()), check(rdb, dir.path())), (Err(OtherKind::Rdb), Ok(())));
        fs::create_dir(dir.path().join("appendonlydir")).unwrap();
        assert_eq!((check(aof, dir.path()), check("", dir.path())), (Ok(()), Err(OtherKind::Aof)));
    }
}
