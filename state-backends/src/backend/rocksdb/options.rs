//! How a database is tuned: for rows that come back after they fell out of the cache of live objects.

use rocksdb::{BlockBasedOptions, DBCompressionType, LogLevel, MergeOperands, Options, SliceTransform};

use super::memory::SharedMemory;
use crate::backend::RocksDbOptions;
use crate::backend::row_prefix::RowPrefix;
use crate::{Error, Result};

/// Bits per key of the bloom filters: about 1 % of the reads of absent keys go to a block.
const BLOOM_BITS: f64 = 10.0;

/// Part of a memtable that is given to a bloom filter: most reads are of keys that are not in it.
const MEMTABLE_BLOOM: f64 = 0.02;

/// One memtable takes writes while the others are being flushed, so that an eviction need not wait for a flush.
const WRITE_BUFFERS: i32 = 3;

/// What has no function of its own: a database that is closed is given up, so nothing has to be saved.
const GIVEN_UP_AT_CLOSE: &str = "avoid_flush_during_shutdown=true";

/// Table files that a database keeps open.
const OPEN_FILES: i32 = 256;

/// Threads that open table files, of which a restore links hundreds at most. With more, each flush starts them anew.
const OPENING_THREADS: i32 = 1;

/// What the list of files is given in advance on the disk. It never gets large: a database lives as long as its subtask.
const MANIFEST_BYTES: usize = 64 << 10;

/// Memtables grow by pieces of this many bytes at most: each state has one, also if it holds little.
const ARENA_BLOCK_BYTES: usize = 256 << 10;

/// Puts what was appended to a row behind its value.
fn append(_: &[u8], value: Option<&[u8]>, appended: &MergeOperands) -> Option<Vec<u8>> {
    let mut whole = value.unwrap_or_default().to_vec();
    appended.iter().for_each(|more| whole.extend_from_slice(more));
    Some(whole)
}

/// Options of a database and of its column families.
pub(super) fn database(
    options: &RocksDbOptions,
    memory: &SharedMemory,
    prefix: Option<&RowPrefix>,
) -> Result<Options> {
    let mut blocks = BlockBasedOptions::default();
    // Of row keys for reading one, and of what the rows of one key begin with for reading a map.
    blocks.set_bloom_filter(BLOOM_BITS, false);
    blocks.set_whole_key_filtering(true);
    blocks.set_block_cache(&memory.cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut database = Options::default()
        .get_options_from_string(GIVEN_UP_AT_CLOSE)
        .map_err(|e| Error::bug("RocksDB refuses an option").with_source(e))?;
    database.create_if_missing(true);
    database.set_block_based_table_factory(&blocks);
    if let Some(prefix) = prefix {
        // A file says what its filter was made with. One made with another function is not asked.
        let name = format!("tidegate.key.{}", prefix.key_type());
        let transform = SliceTransform::create(name.as_str(), prefix.cut, Some(prefix.contains_key));
        database.set_prefix_extractor(transform);
    }
    // With dynamic levels a file could be moved from level 0 to the last one as it is: RocksDB asks the partitioner of a
    // database that was rescaled about moves to every level but the last.
    database.set_level_compaction_dynamic_level_bytes(false);
    database.set_merge_operator_associative("tidegate.append", append);
    database.set_write_buffer_manager(&memory.memtables);
    database.set_write_buffer_size(options.write_buffer_bytes);
    database.set_arena_block_size(ARENA_BLOCK_BYTES.min(options.write_buffer_bytes / 8));
    database.set_max_write_buffer_number(WRITE_BUFFERS);
    database.set_memtable_whole_key_filtering(true);
    database.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM);
    // The default is a codec that this build does not have, which would mean none at all.
    database.set_compression_type(DBCompressionType::Lz4);
    // One thread writes.
    database.set_allow_concurrent_memtable_write(false);
    database.set_max_background_jobs(2);
    database.set_avoid_unnecessary_blocking_io(true);
    database.set_keep_log_file_num(1);
    database.set_max_open_files(OPEN_FILES);
    database.set_max_file_opening_threads(OPENING_THREADS);
    database.set_manifest_preallocation_size(MANIFEST_BYTES);
    database.set_log_level(LogLevel::Warn);
    database.set_stats_dump_period_sec(0);
    Ok(database)
}
