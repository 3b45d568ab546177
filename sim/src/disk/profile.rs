//! What a file system and a device promise: the switches of the disk.
//!
//! Everything a profile says becomes, in the end, *needs* between versions: a kinder disk is one that lets fewer versions
//! stick alone. `strict` promises nothing that the operating system's manual does not, and is the default.

use super::fault::Report;

/// How the two names that a rename changes are coupled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameOrder {
    /// Both names or neither.
    Atomic,
    /// Atomic within one directory; between two, the new name first.
    Local,
    /// The old name never goes before the new one is there.
    TargetFirst,
    /// The new name never comes before the old one is gone: the file may be in neither place.
    SourceFirst,
    /// No order at all.
    Free,
}

/// What holds between the sectors and the length of an appending write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOrder {
    /// Nothing.
    Free,
    /// Sectors stick in order of their addresses.
    Prefix,
    /// The length sticks only after all the data.
    Safe,
}

/// How changes of names and lengths are ordered among each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaOrder {
    /// Not at all.
    Free,
    /// In one chain, as a journal writes them; a shrink carries the zeros it leaves.
    Chain,
    /// The same, but a call that promises durability moves its own inode alone, past what the chain puts before it.
    Groups,
}

/// What a sync of a file makes durable besides the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncScope {
    /// Nothing: neither its name nor anything else.
    File,
    /// Its names that are not durable yet, and those of the directories that hold them.
    NewName,
    /// The journal up to the newest change of this inode, its names included.
    Journal,
}

/// What a sync of a directory does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirSync {
    /// Makes its names durable.
    Works,
    /// Succeeds and does nothing.
    Ignored,
    /// Fails with `Unsupported`.
    Unsupported,
}

/// What a file holds where its length stuck and its data did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailFill {
    /// Zeros.
    Zeros,
    /// Noise.
    Garbage,
    /// What files held there that are no more: their blocks were given to this one before its data were written. The same
    /// holds for space that was taken without writing to it. Where nothing was freed, zeros.
    Stale,
}

/// What a call that promises durability does to the cache of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Empties it.
    Honest,
    /// In so many of 1000 calls it does nothing and says that it did.
    Lies(u16),
}

/// A kind of disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// For reports.
    pub name: &'static str,
    /// Bytes that stick or are lost together: 512 or 4096.
    pub sector: usize,
    /// Aligned bytes of one write that stick together; a multiple of `sector`, up to 16384.
    pub atomic_unit: usize,
    /// Power-safe overwrite: an interrupted write harms no byte outside its own range, so a sector that it covers only in
    /// part is neither noise elsewhere nor unreadable. Off: the whole sector is at risk.
    pub psow: bool,
    /// Order of names.
    pub rename: RenameOrder,
    /// Off: a name that is replaced may be seen absent in between.
    pub replace_keeps_old: bool,
    /// Off: a file that is open can be neither removed nor replaced.
    pub shares_open: bool,
    /// Order within an append.
    pub append: AppendOrder,
    /// Bytes of an extending write whose length alone stuck.
    pub tail_fill: TailFill,
    /// Order of names and lengths.
    pub meta_order: MetaOrder,
    /// On: lengths of extending writes stay outside the chain of `meta_order`.
    pub delayed_alloc: bool,
    /// A length needs the data of the write that extended it.
    pub data_before_size: bool,
    /// A rename that replaces a file needs data and length of the new one.
    pub data_before_rename: bool,
    /// Data join the chain of `meta_order`.
    pub data_in_order: bool,
    /// `sync_data` makes a shrunken length durable too.
    pub sync_data_shrinks: bool,
    /// Reach of a file sync.
    pub fsync_scope: SyncScope,
    /// Reach of a directory sync.
    pub dir_sync: DirSync,
    /// Whether a successful sync means anything.
    pub flush: Flush,
    /// Who hears of a failed sync. A matter of the mount, not of the preset: set it.
    pub report: Report,
    /// After a failed sync nothing can be changed any more until [`SimDisk::remount`](super::SimDisk::remount).
    pub read_only_after: bool,
}

impl Profile {
    /// The default: each sector, length and name sticks alone; a rename within one directory is atomic.
    #[must_use]
    pub const fn strict() -> Self {
        Self {
            name: "strict",
            sector: 512,
            atomic_unit: 512,
            psow: true,
            rename: RenameOrder::Local,
            replace_keeps_old: true,
            shares_open: true,
            append: AppendOrder::Free,
            tail_fill: TailFill::Zeros,
            meta_order: MetaOrder::Free,
            delayed_alloc: false,
            data_before_size: false,
            data_before_rename: false,
            data_in_order: false,
            sync_data_shrinks: false,
            fsync_scope: SyncScope::File,
            dir_sync: DirSync::Works,
            flush: Flush::Honest,
            report: Report::Each,
            read_only_after: false,
        }
    }

    /// `strict`, but `sync_data` makes a shrunken length durable.
    #[must_use]
    pub const fn linux() -> Self {
        Self { name: "linux", sync_data_shrinks: true, ..Self::strict() }
    }

    /// `strict` with atomic writes of aligned 16 KiB.
    #[must_use]
    pub const fn nvme_16k() -> Self {
        Self { name: "nvme_16k", atomic_unit: 16384, ..Self::strict() }
    }

    /// `strict`, but an interrupted write endangers the whole sector, and one sync in a hundred is a lie: for what must be
    /// *detected*.
    #[must_use]
    pub const fn cheap_ssd() -> Self {
        Self { name: "cheap_ssd", psow: false, tail_fill: TailFill::Garbage, flush: Flush::Lies(10), ..Self::strict() }
    }

    /// Names in any order, even within one rename, and noise where data were lost behind a length that stuck.
    #[must_use]
    pub const fn alice_worst() -> Self {
        Self {
            name: "alice_worst",
            rename: RenameOrder::Free,
            replace_keeps_old: false,
            tail_fill: TailFill::Garbage,
            ..Self::strict()
        }
    }

    /// A journaling file system that orders data before the journal that refers to it.
    #[must_use]
    pub const fn ext4_ordered() -> Self {
        Self {
            name: "ext4_ordered",
            rename: RenameOrder::Atomic,
            meta_order: MetaOrder::Chain,
            delayed_alloc: true,
            data_before_size: true,
            data_before_rename: true,
            sync_data_shrinks: true,
            fsync_scope: SyncScope::Journal,
            ..Self::strict()
        }
    }

    /// The same with data in the journal too: everything sticks in order of issue.
    #[must_use]
    pub const fn ext4_data_journal() -> Self {
        Self {
            name: "ext4_data_journal",
            delayed_alloc: false,
            data_before_rename: false,
            data_in_order: true,
            ..Self::ext4_ordered()
        }
    }

    /// A journaling file system that does not help programs which forget to sync before they rename.
    #[must_use]
    pub const fn xfs() -> Self {
        Self { name: "xfs", data_before_rename: false, ..Self::ext4_ordered() }
    }

    /// A journal of names and lengths alone: a file may have its length before its data, and then shows what was there.
    #[must_use]
    pub const fn ext4_writeback() -> Self {
        Self {
            name: "ext4_writeback",
            data_before_size: false,
            data_before_rename: false,
            tail_fill: TailFill::Stale,
            ..Self::ext4_ordered()
        }
    }

    /// A file system that keeps a log for each sync: what is synced comes with its name, and without what happened before.
    #[must_use]
    pub const fn btrfs() -> Self {
        Self {
            name: "btrfs",
            meta_order: MetaOrder::Groups,
            data_before_rename: false,
            fsync_scope: SyncScope::NewName,
            ..Self::ext4_ordered()
        }
    }

    /// Renames are atomic, and a length comes after its data; that is all. Its device lies to a plain sync, but the contract
    /// knows full ones only. Provisional: not compared with a real one.
    #[must_use]
    pub const fn apfs() -> Self {
        Self { name: "apfs", rename: RenameOrder::Atomic, data_before_size: true, ..Self::strict() }
    }

    /// A journal of names and lengths, and no way to sync a directory. Provisional: not compared with a real one.
    #[must_use]
    pub const fn ntfs() -> Self {
        Self {
            name: "ntfs",
            meta_order: MetaOrder::Chain,
            rename: RenameOrder::TargetFirst,
            dir_sync: DirSync::Ignored,
            shares_open: false,
            ..Self::strict()
        }
    }

    /// All presets, kindest last.
    #[must_use]
    pub fn presets() -> Vec<Self> {
        let harsh = [Self::alice_worst(), Self::cheap_ssd(), Self::strict(), Self::linux(), Self::nvme_16k()];
        let kinder = [Self::ntfs(), Self::apfs(), Self::ext4_writeback(), Self::btrfs(), Self::xfs()];
        harsh.into_iter().chain(kinder).chain([Self::ext4_ordered(), Self::ext4_data_journal()]).collect()
    }

    /// True when whatever such a disk leaves must be survived. On the others it is enough that damage is detected: they
    /// lie, they harm what was not being written, or they give no way to make a name durable.
    #[must_use]
    pub fn is_honest(&self) -> bool {
        self.psow && self.flush == Flush::Honest && self.dir_sync == DirSync::Works
    }

    /// The preset of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::presets().into_iter().find(|p| p.name == name)
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::strict()
    }
}
