//! What the allow-list lets in, and what becomes of it.

use super::*;
use crate::error::ErrorKind;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// An allow-list `list` with the program `good`, `programs` beside it, and an executable `outside`.
struct Fixture {
    directory: TempDir,
    list: AllowList,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["list", "programs", "list/directory"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let list = AllowList::open(&directory.path().join("list")).unwrap();
        let this = Self { directory, list };
        this.program("list/good", b"good", 0o755);
        this.program("outside", b"outside", 0o755);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, name: &str, bytes: &[u8], mode: u32) {
        _ = std::fs::remove_file(self.path(name));
        std::fs::write(self.path(name), bytes).unwrap();
        std::fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn copy(&self, name: &str, wanted: Option<&ProgramHash>) -> Result<ProgramHash> {
        self.list.copy(name, wanted, &self.path("programs"), 7)
    }

    #[track_caller]
    fn refuses(&self, name: &str, why: &str) {
        let e = self.copy(name, None).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(e.to_string().contains(why), "{name:?}: {e}");
        assert_eq!(self.kept(), [] as [String; 0], "{name}");
    }

    fn kept(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("programs")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn only_a_plain_name_of_an_executable_file_of_the_directory_is_let_in() {
    let fixture = Fixture::new();
    let outside = fixture.path("outside");
    for name in ["", ".", "..", "../outside", "directory/../good", "./good", "good/", "a\\b", "a\0b"] {
        fixture.refuses(name, "is no plain name");
    }
    fixture.refuses(outside.to_str().unwrap(), "is no plain name");
    fixture.refuses("other", "is not in the allow-list (it has good)");
    fixture.refuses("directory", "is no regular file");
    fixture.program("list/text", b"text", 0o644);
    fixture.refuses("text", "is not executable");
    symlink("../outside", fixture.path("list/link")).unwrap();
    fixture.refuses("link", "leads out of the allow-list");
    symlink(fixture.directory.path(), fixture.path("list/up")).unwrap();
    fixture.refuses("up", "leads out of the allow-list");
    symlink("nowhere", fixture.path("list/dangling")).unwrap();
    fixture.refuses("dangling", "is not in the allow-list");
    std::fs::create_dir(fixture.path("list/directory/deep")).unwrap();
    fixture.program("list/directory/inner", b"inner", 0o755);
    symlink("directory/inner", fixture.path("list/inner")).unwrap();
    fixture.refuses("inner", "leads out of the allow-list");
    std::os::unix::net::UnixListener::bind(fixture.path("list/socket")).map(drop).unwrap();
    fixture.refuses("socket", "is no regular file");

    symlink("good", fixture.path("list/alias")).unwrap();
    let hash = fixture.copy("alias", None).unwrap();
    assert_eq!(hash, fixture.copy("good", None).unwrap());
    assert!(AllowList::open(&outside).unwrap_err().to_string().contains("is no directory"));
}

#[test]
fn another_hash_than_the_one_asked_for_is_refused_and_leaves_nothing() {
    let fixture = Fixture::new();
    let hash = fixture.copy("good", None).unwrap();
    std::fs::remove_file(fixture.path("programs").join(hash.as_str())).unwrap();
    fixture.program("list/good", b"better", 0o755);
    let e = fixture.copy("good", Some(&hash)).unwrap_err().to_string();
    assert!(e.contains(&format!("and {hash} was asked for")), "{e}");
    assert_eq!(fixture.kept(), [] as [String; 0]);
}

#[test]
fn the_copy_is_what_was_hashed_whatever_becomes_of_the_file() {
    let fixture = Fixture::new();
    let hash = fixture.copy("good", None).unwrap();
    let copy = fixture.path("programs").join(hash.as_str());
    // Written into, not replaced: a link or a copy by reference would change, too.
    std::fs::write(fixture.path("list/good"), b"evil").unwrap();
    assert_eq!(std::fs::read(&copy).unwrap(), b"good");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o500);
    let evil = fixture.copy("good", None).unwrap();
    assert_ne!(evil, hash);
    // A second job on the same bytes takes the place of the copy, even of one that was damaged.
    fixture.program("list/good", b"good", 0o755);
    std::fs::remove_file(&copy).unwrap();
    std::fs::write(&copy, b"damaged").unwrap();
    assert_eq!(fixture.copy("good", Some(&hash)).unwrap(), hash);
    assert_eq!(std::fs::read(&copy).unwrap(), b"good");
    assert_eq!(fixture.kept().len(), 2);
}
