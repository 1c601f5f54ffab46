//! How a database is tuned: for rows that come back after they fell out of the cache of live objects.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, LogLevel, Options};

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

/// Options of a database and of its column families, which share one block cache.
pub(super) fn database(options: &RocksDbOptions) -> Result<Options> {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_bloom_filter(BLOOM_BITS, false);
    blocks.set_block_cache(&Cache::new_lru_cache(options.block_cache_bytes));
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut database = Options::default()
        .get_options_from_string(GIVEN_UP_AT_CLOSE)
        .map_err(|e| Error::bug("RocksDB refuses an option").with_source(e))?;
    database.create_if_missing(true);
    database.set_block_based_table_factory(&blocks);
    database.set_write_buffer_size(options.write_buffer_bytes);
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
    database.set_log_level(LogLevel::Warn);
    database.set_stats_dump_period_sec(0);
    Ok(database)
}
