//! The rows every store is given, and what each must answer afterwards.
//!
//! Problem. A comparison is only fair when every store sees the same bytes in
//! the same order, and only honest when the answers are checked; yet making
//! the bytes must not cost anything the clock can see.
//!
//! Algorithm. Keys are 20 bytes, `key-` and sixteen hexadecimal digits of a
//! scrambled counter: fixed length, a common prefix, no pattern in the rest.
//! They are made once and sorted. A value is a slice of 100 bytes of one pool
//! of random bytes, at a place that follows from (row, version): nothing is
//! computed or copied when it is needed, nothing can be compressed, and any
//! value read back can be checked exactly.
//!
//! [`Model`] remembers the version of each row that a store must hold.

/// Bytes of a key.
pub const KEY_BYTES: usize = 20;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 100;

const POOL_BYTES: usize = 1 << 20;

/// The keys in order, one random order of the rows, and the value pool.
pub struct Data {
    keys: Vec<[u8; KEY_BYTES]>,
    order: Vec<u32>,
    pool: Vec<u8>,
}

impl Data {
    /// Makes `records` rows; the same every time.
    pub fn new(records: usize) -> Data {
        let mut keys: Vec<[u8; KEY_BYTES]> = (0..records as u64).map(key).collect();
        keys.sort_unstable();
        let mut die = fastrand::Rng::with_seed(1);
        let mut order: Vec<u32> = (0..records as u32).collect();
        die.shuffle(&mut order);
        let pool = std::iter::repeat_with(|| die.u8(..)).take(POOL_BYTES + VALUE_BYTES).collect();
        Data { keys, order, pool }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of a row; rows are numbered in key order.
    pub fn key(&self, row: u32) -> &[u8] {
        &self.keys[row as usize]
    }

    /// The value that version `version` of a row has.
    pub fn value(&self, row: u32, version: u8) -> &[u8] {
        let at = scramble(u64::from(row) << 8 | u64::from(version)) as usize % POOL_BYTES;
        &self.pool[at..at + VALUE_BYTES]
    }

    /// All rows in one fixed random order.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Bytes of keys and values of that many rows.
    pub fn bytes(rows: usize) -> u64 {
        (rows * (KEY_BYTES + VALUE_BYTES)) as u64
    }

    /// `count` rows drawn at random, each as likely as any other.
    pub fn uniform(&self, count: usize, seed: u64) -> Vec<u32> {
        let mut die = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| die.u32(0..self.len() as u32)).take(count).collect()
    }

    /// `count` rows drawn from Zipf's law (exponent 0.99); the popular rows
    /// lie scattered over the key space.
    pub fn zipf(&self, count: usize, seed: u64) -> Vec<u32> {
        let mut sum = 0.0;
        let cumulative: Vec<f64> = (1..=self.len())
            .map(|rank| {
                sum += (rank as f64).powf(-0.99);
                sum
            })
            .collect();
        let mut die = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| {
            let point = die.f64() * sum;
            let rank = cumulative.partition_point(|&c| c < point);
            self.order[rank.min(self.len() - 1)]
        })
        .take(count)
        .collect()
    }
}

fn key(counter: u64) -> [u8; KEY_BYTES] {
    let text = format!("key-{:016x}", scramble(counter));
    let mut key = [0; KEY_BYTES];
    key.copy_from_slice(text.as_bytes());
    key
}

/// A bijection of 64-bit numbers without visible pattern (the finisher of
/// SplitMix64), so that counters give distinct, scattered keys.
fn scramble(counter: u64) -> u64 {
    let mut x = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The version of each row that a store must hold; 0 means the row is absent.
#[derive(Clone)]
pub struct Model(Vec<u8>);

impl Model {
    /// No row present.
    pub fn empty(data: &Data) -> Model {
        Model(vec![0; data.len()])
    }

    /// Every row present at version 1.
    pub fn full(data: &Data) -> Model {
        Model(vec![1; data.len()])
    }

    /// Gives the row its next version and returns it; never 0.
    pub fn advance(&mut self, row: u32) -> u8 {
        let version = &mut self.0[row as usize];
        *version = (*version % u8::MAX) + 1;
        *version
    }

    /// Takes the row away.
    pub fn remove(&mut self, row: u32) {
        self.0[row as usize] = 0;
    }

    /// The version of the row.
    pub fn version(&self, row: u32) -> u8 {
        self.0[row as usize]
    }

    /// Rows present.
    pub fn rows(&self) -> usize {
        self.0.iter().filter(|&&version| version != 0).count()
    }

    /// Rows present, in key order.
    pub fn present(&self) -> impl Iterator<Item = u32> + '_ {
        let rows = self.0.iter().enumerate();
        rows.filter(|(_, version)| **version != 0).map(|(row, _)| row as u32)
    }
}
