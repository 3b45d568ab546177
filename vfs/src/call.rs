//! The calls of a file system, by name: what a trace records and a fault strikes.

use std::fmt;

/// One kind of call of [`Vfs`](crate::Vfs) or [`File`](crate::File).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// [`Vfs::open`](crate::Vfs::open) of a file that must exist.
    Open,
    /// [`Vfs::open`](crate::Vfs::open) that may create the file.
    Create,
    /// [`File::read_at`](crate::File::read_at).
    Read,
    /// [`File::write_at`](crate::File::write_at).
    Write,
    /// [`File::len`](crate::File::len).
    Len,
    /// [`File::set_len`](crate::File::set_len).
    SetLen,
    /// [`File::allocate`](crate::File::allocate).
    Allocate,
    /// [`File::sync_data`](crate::File::sync_data).
    SyncData,
    /// [`File::sync_all`](crate::File::sync_all).
    SyncAll,
    /// [`Vfs::sync_dir`](crate::Vfs::sync_dir).
    SyncDir,
    /// [`Vfs::remove_file`](crate::Vfs::remove_file).
    RemoveFile,
    /// [`Vfs::rename`](crate::Vfs::rename).
    Rename,
    /// [`Vfs::create_dir`](crate::Vfs::create_dir).
    CreateDir,
    /// [`Vfs::remove_dir`](crate::Vfs::remove_dir).
    RemoveDir,
    /// [`Vfs::read_dir`](crate::Vfs::read_dir).
    ReadDir,
    /// [`Vfs::metadata`](crate::Vfs::metadata).
    Metadata,
    /// [`Vfs::lock`](crate::Vfs::lock).
    Lock,
    /// The end of a lock. It cannot fail.
    Unlock,
}

impl Call {
    /// Every kind of call.
    pub const ALL: [Call; 18] = [
        Call::Open,
        Call::Create,
        Call::Read,
        Call::Write,
        Call::Len,
        Call::SetLen,
        Call::Allocate,
        Call::SyncData,
        Call::SyncAll,
        Call::SyncDir,
        Call::RemoveFile,
        Call::Rename,
        Call::CreateDir,
        Call::RemoveDir,
        Call::ReadDir,
        Call::Metadata,
        Call::Lock,
        Call::Unlock,
    ];

    /// The calls that make something durable.
    pub const SYNCS: [Call; 3] = [Call::SyncData, Call::SyncAll, Call::SyncDir];

    /// The calls that change bytes, lengths or names.
    pub const CHANGES: [Call; 8] = [
        Call::Create,
        Call::Write,
        Call::SetLen,
        Call::Allocate,
        Call::RemoveFile,
        Call::Rename,
        Call::CreateDir,
        Call::RemoveDir,
    ];

    /// The name of the call in a trace.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Call::Open => "open",
            Call::Create => "create",
            Call::Read => "read",
            Call::Write => "write",
            Call::Len => "len",
            Call::SetLen => "set_len",
            Call::Allocate => "allocate",
            Call::SyncData => "sync_data",
            Call::SyncAll => "sync_all",
            Call::SyncDir => "sync_dir",
            Call::RemoveFile => "remove_file",
            Call::Rename => "rename",
            Call::CreateDir => "create_dir",
            Call::RemoveDir => "remove_dir",
            Call::ReadDir => "read_dir",
            Call::Metadata => "metadata",
            Call::Lock => "lock",
            Call::Unlock => "unlock",
        }
    }

    /// True for the calls that make something durable.
    #[must_use]
    pub fn is_sync(self) -> bool {
        Self::SYNCS.contains(&self)
    }

    /// True for the calls that change bytes, lengths or names.
    #[must_use]
    pub fn is_change(self) -> bool {
        Self::CHANGES.contains(&self)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
