//! What RocksDB's C interface can do and the safe crate cannot: the full description of live files, column families
//! made of existing files, and compaction outputs that end with their key group.
//!
//! This is the only module of the crate with `unsafe`. Every function owns what it allocates on the other side, and
//! lends nothing beyond its own call.

#![expect(unsafe_code, reason = "calls RocksDB's C interface where the safe crate has no function for it")]

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr;
use std::slice;

use librocksdb_sys as ffi;
use rocksdb::{AsRawPtr, Options};

use super::{Db, GROUP_BYTES, STATE_PREFIX, failed_with};
use crate::snapshot::TableFile;
use crate::{Error, Result};

/// A table file and its name in the directory of its database, such as `000012.sst`.
pub(super) type LocalTable = (String, TableFile);

/// The table files of all states at one moment.
pub(super) fn table_files(db: &Db) -> Result<Vec<LocalTable>> {
    struct Files(*const ffi::rocksdb_livefiles_t);
    impl Drop for Files {
        fn drop(&mut self) {
            // SAFETY: the list came from `rocksdb_livefiles` and is destroyed once.
            unsafe { ffi::rocksdb_livefiles_destroy(self.0) }
        }
    }
    // SAFETY: `db` is open for as long as it is borrowed.
    let files = Files(unsafe { ffi::rocksdb_livefiles(db.as_raw_ptr()) });
    if files.0.is_null() {
        return Err(Error::restart_task("RocksDB does not list its files"));
    }
    // SAFETY: the list is alive until `files` is dropped, and every index is below its count. The strings that it
    // hands out are its own and are copied here.
    unsafe {
        let count = ffi::rocksdb_livefiles_count(files.0);
        (0..count).filter_map(|index| table_file(files.0, index).transpose()).collect()
    }
}

/// Nothing if the file is of no state.
///
/// # Safety
/// `files` is a live list with more than `index` files.
unsafe fn table_file(files: *const ffi::rocksdb_livefiles_t, index: i32) -> Result<Option<LocalTable>> {
    // SAFETY: by this function's contract; keys are as long as RocksDB says.
    unsafe {
        let key = |read: unsafe extern "C" fn(_, _, *mut usize) -> *const c_char| {
            let mut length = 0;
            let start = read(files, index, &raw mut length);
            if start.is_null() { Vec::new() } else { slice::from_raw_parts(start.cast(), length).to_vec() }
        };
        let column_family = text(ffi::rocksdb_livefiles_column_family_name(files, index))?;
        let Some(state) = column_family.strip_prefix(STATE_PREFIX) else { return Ok(None) };
        let name = text(ffi::rocksdb_livefiles_name(files, index))?.trim_start_matches('/').to_owned();
        let level = ffi::rocksdb_livefiles_level(files, index);
        let table = TableFile {
            state: state.to_owned(),
            bytes: ffi::rocksdb_livefiles_size(files, index) as u64,
            level: u8::try_from(level).map_err(|_| Error::bug("a table file on a level below 0"))?,
            keys: (key(ffi::rocksdb_livefiles_smallestkey), key(ffi::rocksdb_livefiles_largestkey)),
            sequence: (
                ffi::rocksdb_livefiles_smallest_seqno(files, index),
                ffi::rocksdb_livefiles_largest_seqno(files, index),
            ),
        };
        Ok(Some((name, table)))
    }
}

/// # Safety
/// `text` is null or a string that ends with a zero byte.
unsafe fn text(text: *const c_char) -> Result<String> {
    if text.is_null() {
        return Err(Error::bug("RocksDB has a file without a name"));
    }
    // SAFETY: by this function's contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(str::to_owned).map_err(|e| Error::bug("a name in RocksDB is not UTF-8").with_source(e))
}

/// Makes the column family of a state out of table files that lie in `directory` under the names in the list. The files
/// are moved (by hard link; copied to another file system) and get ascending numbers in the order of the list.
///
/// On one level other than 0 no two files may overlap. The files may come from several databases as long as the keys
/// of these are disjoint: sequence numbers are compared between versions of one key only, and the new database counts
/// on from the highest. The column family is not known to the safe crate until the database is opened again.
pub(super) fn import(
    db: &Db,
    options: &Options,
    state: &str,
    directory: &Path,
    files: &[LocalTable],
) -> Result<()> {
    let name = c_text(&super::family::name(state)?)?;
    let directory =
        c_text(directory.to_str().ok_or_else(|| {
            Error::config("the directory of a database is not UTF-8").at(directory.display())
        })?)?;
    let names = files.iter().map(|(name, _)| c_text(name)).collect::<Result<Vec<_>>>()?;
    let comparator = c"leveldb.BytewiseComparator";
    let mut error: *mut c_char = ptr::null_mut();
    // SAFETY: database, options and all strings outlive the call. Every `livefile` is handed over to the list, the
    // list to the metadata, and the metadata, the import options and the handle are destroyed here.
    unsafe {
        let list = ffi::rocksdb_livefiles_create();
        for ((_, file), file_name) in files.iter().zip(&names) {
            let item = ffi::rocksdb_livefile_create();
            ffi::rocksdb_livefile_set_column_family_name(item, name.as_ptr());
            ffi::rocksdb_livefile_set_name(item, file_name.as_ptr());
            ffi::rocksdb_livefile_set_directory(item, directory.as_ptr());
            ffi::rocksdb_livefile_set_size(item, file.bytes as usize);
            ffi::rocksdb_livefile_set_level(item, file.level.into());
            let (first, last) = &file.keys;
            ffi::rocksdb_livefile_set_smallest_key(item, first.as_ptr().cast(), first.len());
            ffi::rocksdb_livefile_set_largest_key(item, last.as_ptr().cast(), last.len());
            ffi::rocksdb_livefile_set_smallest_seqno(item, file.sequence.0);
            ffi::rocksdb_livefile_set_largest_seqno(item, file.sequence.1);
            ffi::rocksdb_livefiles_add(list, item);
        }
        let metadata = ffi::rocksdb_export_import_files_metadata_create();
        ffi::rocksdb_export_import_files_metadata_set_db_comparator_name(metadata, comparator.as_ptr());
        ffi::rocksdb_export_import_files_metadata_set_files(metadata, list);
        let how = ffi::rocksdb_import_column_family_options_create();
        ffi::rocksdb_import_column_family_options_set_move_files(how, 1);
        let handle = ffi::rocksdb_create_column_family_with_import(
            db.as_raw_ptr(),
            options.as_raw_ptr(),
            name.as_ptr(),
            how,
            metadata,
            &raw mut error,
        );
        ffi::rocksdb_import_column_family_options_destroy(how);
        ffi::rocksdb_export_import_files_metadata_destroy(metadata);
        if !handle.is_null() {
            ffi::rocksdb_column_family_handle_destroy(handle);
        }
        taken(error, "import files into a column family")
    }
}

/// Lets every output of a compaction end where a key group does.
pub(super) fn split_by_key_group(options: &mut Options) {
    // SAFETY: the options are alive; they keep a reference of their own to the factory.
    unsafe {
        let factory = ffi::rocksdb_sst_partitioner_fixed_prefix_factory_create(GROUP_BYTES);
        ffi::rocksdb_options_set_sst_partitioner_factory(options.as_raw_ptr(), factory);
        ffi::rocksdb_sst_partitioner_factory_destroy(factory);
    }
}

fn c_text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|e| Error::config("a name contains a zero byte").with_source(e))
}

/// # Safety
/// `error` is null or an error text of RocksDB's that nobody else frees.
unsafe fn taken(error: *mut c_char, what: &str) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: by this function's contract; it is a string that ends with a zero byte.
    let text = unsafe {
        let text = CStr::from_ptr(error).to_string_lossy().into_owned();
        ffi::rocksdb_free(error.cast());
        text
    };
    Err(failed_with(what, text))
}
