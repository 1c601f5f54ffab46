//! How a database is tuned: for rows that come back after they fell out of the cache of live objects.

use rocksdb::{BlockBasedOptions, DBCompressionType, LogLevel, Options};

use super::ext;
use super::memory::SharedMemory;
use crate::backend::RocksDbOptions;
use crate::{Error, Result};

/// Bits per key of the bloom filters: about 1 % of the reads of absent keys go to a block.
const BLOOM_BITS: f64 = 10.0;

/// Part of a memtable that is given to a bloom filter of whole keys: most reads are of keys that are not in it.
const MEMTABLE_BLOOM: f64 = 0.02;

/// One memtable takes writes while the others are being flushed, so that an eviction need not wait for a flush.
const WRITE_BUFFERS: i32 = 3;

/// What has no function of its own: a database that is closed is given up, so nothing has to be saved.
const GIVEN_UP_AT_CLOSE: &str = "avoid_flush_during_shutdown=true";

/// Table files that a database keeps open.
const OPEN_FILES: i32 = 256;

/// Memtables grow by pieces of this many bytes at most: each state has one, also if it holds little.
const ARENA_BLOCK_BYTES: usize = 256 << 10;

/// Options of a database and of its column families.
pub(super) fn database(options: &RocksDbOptions, memory: &SharedMemory) -> Result<Options> {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_bloom_filter(BLOOM_BITS, false);
    blocks.set_block_cache(&memory.cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut database = Options::default()
        .get_options_from_string(GIVEN_UP_AT_CLOSE)
        .map_err(|e| Error::bug("RocksDB refuses an option").with_source(e))?;
    database.create_if_missing(true);
    database.set_block_based_table_factory(&blocks);
    ext::split_by_key_group(&mut database);
    // With dynamic levels a file would be moved from level 0 to the last one as it is, across key groups: RocksDB asks
    // the partitioner about moves to every level but the last.
    database.set_level_compaction_dynamic_level_bytes(false);
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
    // Outputs of compactions end with their key group: there are many.
    database.set_max_open_files(OPEN_FILES);
    database.set_log_level(LogLevel::Warn);
    database.set_stats_dump_period_sec(0);
    Ok(database)
}
