//! Local recovery: the local files of the newest checkpoints, kept for subtasks that start again in the same taskmanager.
//!
//! They are hard links to files that a state backend has, or had: they take room only once it has let go of them. A
//! file is known by its id in the checkpoint store, which is unique for ever, and is believed only if its length and CRC32
//! are still those it was stored with. Whatever is wrong here, the checkpoint store has the file.

use crate::id::CheckpointId;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_state::WorkDirectory;

/// Files are read in pieces of this many bytes.
const READ_AT_ONCE: usize = 256 << 10;

/// The files that one taskmanager keeps. Clones share them; the last one removes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalCopies(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    parent: Option<PathBuf>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// None before there is a file, and where none can be made.
    directory: Option<WorkDirectory>,
    /// The ids of the files by checkpoint.
    checkpoints: BTreeMap<CheckpointId, BTreeSet<Arc<str>>>,
    contents: BTreeMap<Arc<str>, LocalContent>,
}

/// What tells whether a file is whole: its length in bytes and CRC32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalContent {
    pub(crate) length: u64,
    pub(crate) crc32: u32,
}

impl LocalCopies {
    /// Keeps files in a directory below `parent`, or the system's temporary one. One that is made with `default` keeps
    /// none.
    pub(crate) fn below(parent: Option<PathBuf>) -> Self {
        Self(Some(Arc::new(Shared { parent, kept: Mutex::default() })))
    }

    /// Keeps a file that was stored for a checkpoint under this id. One that cannot be kept is downloaded when it is
    /// needed.
    pub(crate) fn keep(&self, checkpoint: CheckpointId, id: &str, from: &Path, content: LocalContent) {
        let Some(shared) = &self.0 else { return };
        let mut kept = shared.kept();
        if kept.directory.is_none() {
            kept.directory = WorkDirectory::create(shared.parent.as_deref(), "local-copies").ok();
        }
        let Some(to) = kept.place(id) else { return };
        if fs::hard_link(from, to).is_ok() {
            let id: Arc<str> = id.into();
            kept.checkpoints.entry(checkpoint).or_default().insert(Arc::clone(&id));
            kept.contents.insert(id, content);
        }
    }

    /// A checkpoint has these files, too, among them some of checkpoints before. Those of checkpoints before `base` are let
    /// go of: no restart goes back behind it.
    pub(crate) fn keep_on<'a>(
        &self,
        checkpoint: CheckpointId,
        base: Option<CheckpointId>,
        ids: impl Iterator<Item = &'a str>,
    ) {
        let Some(shared) = &self.0 else { return };
        let mut kept = shared.kept();
        for id in ids {
            if let Some((id, _)) = kept.contents.get_key_value(id) {
                let id = Arc::clone(id);
                kept.checkpoints.entry(checkpoint).or_default().insert(id);
            }
        }
        let Some(base) = base else { return };
        let newer = kept.checkpoints.split_off(&base);
        let older = std::mem::replace(&mut kept.checkpoints, newer);
        for id in older.into_values().flatten() {
            if !kept.checkpoints.values().any(|ids| ids.contains(&id)) {
                kept.forget(&id);
            }
        }
    }

    /// Puts a file where it is wanted, in place of what is there; `false` if it has to be downloaded.
    pub(crate) fn take(&self, id: &str, to: &Path) -> bool {
        let Some(shared) = &self.0 else { return false };
        let found = {
            let kept = shared.kept();
            kept.place(id).zip(kept.contents.get(id).copied())
        };
        let Some((from, expected)) = found else { return false };
        if content_of(&from).is_ok_and(|found| found == expected) {
            _ = fs::remove_file(to);
            return fs::hard_link(&from, to).is_ok();
        }
        shared.kept().forget(id);
        false
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Where a file lies, if its id can be the name of one.
    fn place(&self, id: &str) -> Option<PathBuf> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_name = id.bytes().all(|byte| is_plain(byte) || byte == b'.') && id.bytes().any(is_plain);
        self.directory.as_ref().filter(|_| is_name).map(|directory| directory.path().join(id))
    }

    fn forget(&mut self, id: &str) {
        self.contents.remove(id);
        if let Some(path) = self.place(id) {
            _ = fs::remove_file(path);
        }
    }
}

fn content_of(path: &Path) -> io::Result<LocalContent> {
    let mut file = File::open(path)?;
    let (mut crc, mut buffer, mut length) = (crc32fast::Hasher::new(), vec![0; READ_AT_ONCE], 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(LocalContent { length, crc32: crc.finalize() }),
            Ok(read) => {
                crc.update(buffer.get(..read).unwrap_or_default());
                length += read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: CheckpointId = CheckpointId(1);
    const SECOND: CheckpointId = CheckpointId(2);
    const THIRD: CheckpointId = CheckpointId(3);

    struct Place(tempfile::TempDir, LocalCopies);

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let copies = LocalCopies::below(Some(directory.path().join("local")));
            Self(directory, copies)
        }

        /// Keeps a file of one line, which the backend lets go of at once.
        fn keep(&self, checkpoint: CheckpointId, id: &str) {
            let path = self.0.path().join("of the backend");
            fs::write(&path, id).unwrap();
            self.1.keep(checkpoint, id, &path, content_of(&path).unwrap());
            fs::remove_file(path).unwrap();
        }

        fn take(&self, id: &str) -> Option<String> {
            let to = self.0.path().join("wanted");
            fs::write(&to, "half of a download").unwrap();
            self.1.take(id, &to).then(|| fs::read_to_string(to).unwrap())
        }

        fn kept(&self) -> Vec<String> {
            let directories = fs::read_dir(self.0.path().join("local")).into_iter().flatten();
            let files = directories.flat_map(|d| fs::read_dir(d.unwrap().path()).unwrap());
            let mut names: Vec<_> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
            names.retain(|name| name != "owner.lock");
            names.sort();
            names
        }
    }

    #[test]
    fn files_are_kept_while_a_checkpoint_that_may_be_restored_has_them() {
        let place = Place::new();
        place.keep(FIRST, "a");
        place.keep(FIRST, "b");
        place.1.keep_on(FIRST, None, ["a", "b"].into_iter());
        place.keep(SECOND, "c");
        place.1.keep_on(SECOND, Some(FIRST), ["b", "c", "never kept"].into_iter());
        assert_eq!(place.kept(), ["a", "b", "c"], "the base may be gone back to");
        assert_eq!(place.take("a").as_deref(), Some("a"));
        place.keep(THIRD, "d");
        place.1.keep_on(THIRD, Some(SECOND), ["c", "d"].into_iter());
        assert_eq!(place.kept(), ["b", "c", "d"]);
        assert_eq!(place.take("a"), None);
        assert_eq!(place.take("never kept"), None);
        let Place(directory, copies) = place;
        drop(copies);
        assert_eq!(fs::read_dir(directory.path().join("local")).unwrap().count(), 0, "gone with the last");
    }

    #[test]
    fn a_copy_that_has_changed_is_not_believed() {
        let damage: [fn(&Path); 4] = [
            |path| fs::write(path, "x").unwrap(),
            |path| fs::write(path, "").unwrap(),
            |path| fs::write(path, "aa").unwrap(),
            |path| fs::remove_file(path).unwrap(),
        ];
        for damage in damage {
            let place = Place::new();
            place.keep(FIRST, "a");
            let directory = fs::read_dir(place.0.path().join("local")).unwrap().next().unwrap().unwrap();
            damage(&directory.path().join("a"));
            assert_eq!(place.take("a"), None);
            assert_eq!(place.kept(), [""; 0]);
            // And the next one is, under its own name.
            place.keep(SECOND, "b");
            assert_eq!(place.take("b").as_deref(), Some("b"));
        }
    }

    #[test]
    fn nothing_leaves_the_directory_and_what_cannot_be_kept_is_downloaded() {
        let place = Place::new();
        for id in ["../a", "..", "/a", "a/b", ""] {
            place.keep(FIRST, id);
            assert_eq!(place.take(id), None);
        }
        fs::remove_dir_all(place.0.path().join("local")).unwrap();
        place.keep(FIRST, "a");
        assert_eq!(place.take("a"), None);
        LocalCopies::default().keep(FIRST, "a", Path::new("a"), LocalContent { length: 0, crc32: 0 });
        assert!(!LocalCopies::default().take("a", Path::new("b")));
    }
}
