//! Calls that change names: create, link, remove, rename, and directories.

use super::pending::{Slot, Value};
use super::profile::RenameOrder;
use super::state::{State, Ticket};
use super::tree::{FileInode, Ino, Kind, Name, error};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;

impl State {
    /// Sets one name in the live tree and issues its version.
    fn set_name(&mut self, dir: Ino, name: &Name, to: Option<Ino>, event: u64, needs: Vec<u64>) -> u64 {
        if let Some(names) = self.live.dir_mut(dir) {
            match to {
                Some(ino) => names.insert(Name::clone(name), ino),
                None => names.remove(name),
            };
        }
        self.push_meta(event, Slot::Name(dir, Name::clone(name)), Value::Name(to), needs)
    }

    fn named(&self, dir: Ino, name: &Name) -> Option<Ino> {
        self.live.dir(dir)?.get(name).copied()
    }

    /// Finds a file to open, creating it when asked; says whether it was created.
    pub(crate) fn open_file(&mut self, path: &Path, create: bool, new: bool, event: u64) -> io::Result<Ino> {
        let (dir, name) = match self.live.parent(path) {
            Err(e) if e.kind() == ErrorKind::InvalidInput && self.live.lookup(path).is_ok() => {
                return Err(error(ErrorKind::IsADirectory, "cannot open a directory"));
            }
            other => other?,
        };
        match self.named(dir, &name) {
            Some(_) if new => Err(error(ErrorKind::AlreadyExists, "the file exists")),
            Some(ino) if self.live.dir(ino).is_some() => Err(error(ErrorKind::IsADirectory, "cannot open a directory")),
            Some(ino) => Ok(ino),
            None if create || new => {
                let ino = self.new_inode(&Kind::File(FileInode::default()));
                self.set_name(dir, &name, Some(ino), event, Vec::new());
                Ok(ino)
            }
            None => Err(error(ErrorKind::NotFound, "no such file")),
        }
    }

    pub(crate) fn create_dir(&mut self, path: &Path, t: &Ticket) -> io::Result<()> {
        let (dir, name) = self.live.parent(path)?;
        if self.named(dir, &name).is_some() {
            return Err(error(ErrorKind::AlreadyExists, "the name is taken"));
        }
        let ino = self.new_inode(&Kind::Dir(BTreeMap::new()));
        self.set_name(dir, &name, Some(ino), t.event, Vec::new());
        Ok(())
    }

    pub(crate) fn link(&mut self, from: &Path, to: &Path, t: &Ticket) -> io::Result<()> {
        let ino = self.live.lookup(from)?;
        let (dir, name) = self.live.parent(to)?;
        if self.live.dir(ino).is_some() {
            return Err(error(ErrorKind::PermissionDenied, "a directory has one name"));
        }
        if self.named(dir, &name).is_some() {
            return Err(error(ErrorKind::AlreadyExists, "the name is taken"));
        }
        self.set_name(dir, &name, Some(ino), t.event, Vec::new());
        Ok(())
    }

    pub(crate) fn remove_file(&mut self, path: &Path, t: &Ticket) -> io::Result<()> {
        let ino = self.live.lookup(path)?;
        if self.live.dir(ino).is_some() {
            return Err(error(ErrorKind::IsADirectory, "a directory is removed as one"));
        }
        let (dir, name) = self.live.parent(path)?;
        self.may_go(ino)?;
        self.pins.check(ino, 0, u64::MAX, t.event);
        self.set_name(dir, &name, None, t.event, Vec::new());
        Ok(())
    }

    pub(crate) fn remove_dir(&mut self, path: &Path, t: &Ticket) -> io::Result<()> {
        let ino = self.live.lookup(path)?;
        let names = self.live.dir(ino).ok_or_else(|| error(ErrorKind::NotADirectory, "not a directory"))?;
        if !names.is_empty() {
            return Err(error(ErrorKind::DirectoryNotEmpty, "the directory holds names"));
        }
        let (dir, name) = self.live.parent(path)?;
        self.set_name(dir, &name, None, t.event, Vec::new());
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path, t: &Ticket) -> io::Result<()> {
        let ino = self.live.lookup(from)?;
        let (old_dir, old) = self.live.parent(from)?;
        let (new_dir, new) = self.live.parent(to)?;
        let replaced = self.named(new_dir, &new);
        if replaced == Some(ino) {
            return Ok(());
        }
        self.may_replace(ino, replaced, new_dir)?;
        if let Some(target) = replaced {
            self.may_go(target)?;
            self.pins.check(target, 0, u64::MAX, t.event);
        }
        self.move_name((old_dir, &old), (new_dir, &new), ino, replaced.is_some(), t.event);
        Ok(())
    }

    /// Errs when the file is open and such a file has to stay.
    fn may_go(&self, ino: Ino) -> io::Result<()> {
        if self.profile.shares_open || !self.open.contains_key(&ino) {
            return Ok(());
        }
        Err(error(ErrorKind::PermissionDenied, "the file is open"))
    }

    fn may_replace(&self, ino: Ino, replaced: Option<Ino>, new_dir: Ino) -> io::Result<()> {
        let is_dir = self.live.dir(ino).is_some();
        if is_dir && self.holds(ino, new_dir) {
            return Err(error(ErrorKind::InvalidInput, "a directory cannot move into itself"));
        }
        match replaced.map(|r| self.live.dir(r)) {
            Some(Some(_)) if !is_dir => Err(error(ErrorKind::IsADirectory, "a directory has this name")),
            Some(Some(names)) if !names.is_empty() => {
                Err(error(ErrorKind::DirectoryNotEmpty, "the directory holds names"))
            }
            Some(None) if is_dir => Err(error(ErrorKind::NotADirectory, "a file has this name")),
            _ => Ok(()),
        }
    }

    /// True when `inner` is `outer` or lies below it.
    fn holds(&self, outer: Ino, inner: Ino) -> bool {
        outer == inner
            || self.live.dir(outer).into_iter().flat_map(BTreeMap::values).any(|&child| self.holds(child, inner))
    }

    /// Issues the two versions of a rename, coupled as the profile says.
    fn move_name(&mut self, old: (Ino, &Name), new: (Ino, &Name), ino: Ino, replaces: bool, event: u64) {
        let order = match self.profile.rename {
            RenameOrder::Local if old.0 == new.0 => RenameOrder::Atomic,
            RenameOrder::Local => RenameOrder::TargetFirst,
            other => other,
        };
        let mut needs = Vec::new();
        if replaces && self.profile.data_before_rename {
            needs.extend(self.pending.atoms().iter().filter(|a| a.slot.file() == Some(ino)).map(|a| a.id));
        }
        if order == RenameOrder::SourceFirst {
            needs.push(self.set_name(old.0, old.1, None, event, Vec::new()));
            self.set_name(new.0, new.1, Some(ino), event, needs);
            return;
        }
        if replaces && !self.profile.replace_keeps_old {
            self.set_name(new.0, new.1, None, event, Vec::new());
        }
        let target = self.set_name(new.0, new.1, Some(ino), event, needs);
        let ties = if order == RenameOrder::Free { Vec::new() } else { vec![target] };
        let source = self.set_name(old.0, old.1, None, event, ties);
        if order == RenameOrder::Atomic
            && let Some(atom) = self.pending.get_mut(target)
        {
            atom.needs.push(source);
        }
    }
}
