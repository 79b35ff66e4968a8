//! What a fake disk is made of: the two images of every file and folder, and what is pending between them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use super::{Operations, SeededEntropy};

pub(super) struct State {
    pub(super) files: Vec<File>,
    /// Number 0 is the root, which always exists.
    folders: Vec<Folder>,
    pending_names: Vec<NameChange>,
    pub(super) boot: u64,
    pub(super) locks: BTreeMap<usize, u64>,
    pub(super) next_lock: u64,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) operations: Operations,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
    pub(super) fail_sync_at: Option<u64>,
    pub(super) fail_write_at: Option<u64>,
    /// The changes during which the disk is full.
    pub(super) full_during: std::ops::Range<u64>,
    pub(super) entropy: SeededEntropy,
}

/// Whether the process lives on after the change under way.
#[must_use]
pub(super) enum Outcome {
    Lives,
    Dies,
}

impl Outcome {
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Outcome::Lives => Ok(()),
            Outcome::Dies => Err(dead()),
        }
    }
}

impl State {
    pub(super) fn new(entropy: SeededEntropy) -> Self {
        State {
            files: Vec::new(),
            folders: vec![Folder::default()],
            pending_names: Vec::new(),
            boot: 0,
            locks: BTreeMap::new(),
            next_lock: 0,
            capacity_bytes: None,
            operations: Operations::default(),
            crash_at: None,
            crashed: false,
            fail_sync_at: None,
            fail_write_at: None,
            full_during: 0..0,
            entropy,
        }
    }

    pub(super) fn crash(&mut self, entropy: &SeededEntropy) {
        for file in &mut self.files {
            file.settle(entropy);
            file.seen = file.durable.clone();
        }
        let names = std::mem::take(&mut self.pending_names);
        let as_journal = entropy.chance(50);
        let kept = entropy.below(names.len() as u64 + 1);
        for (at, change) in names.iter().enumerate() {
            if if as_journal {
                (at as u64) < kept
            } else {
                entropy.chance(50)
            } {
                change.apply(&mut self.folders, Image::Durable);
            }
        }
        for folder in &mut self.folders {
            folder.seen = folder.durable.clone();
        }
        self.forget_unnamed();
        self.boot += 1;
        self.locks.clear();
        self.crash_at = None;
        self.crashed = false;
        self.fail_sync_at = None;
        self.fail_write_at = None;
        self.full_during = 0..0;
    }

    /// Frees what no name leads to: no process has it open after a crash.
    fn forget_unnamed(&mut self) {
        let mut named = vec![false; self.files.len()];
        for node in self.folders.iter().flat_map(|folder| folder.durable.values()) {
            if let Node::File(id) = node {
                named[*id] = true;
            }
        }
        for (file, _) in self.files.iter_mut().zip(named).filter(|(_, named)| !named) {
            *file = File::default();
        }
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(dead()) } else { Ok(()) }
    }

    /// Whether the disk is full for the next change.
    pub(super) fn is_full(&self) -> bool {
        self.full_during.contains(&(self.operations.changes + 1))
    }

    /// Fails where the disk is full for the next change, which then counts as made.
    pub(super) fn takes_space(&mut self) -> io::Result<()> {
        self.alive()?;
        if self.is_full() {
            self.operations.changes += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    pub(super) fn begin_change(&mut self) -> io::Result<Outcome> {
        self.alive()?;
        self.operations.changes += 1;
        self.crashed = self.crash_at.is_some_and(|at| self.operations.changes >= at);
        Ok(if self.crashed {
            Outcome::Dies
        } else {
            Outcome::Lives
        })
    }

    pub(super) fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        let outcome = self.begin_change()?;
        change.apply(&mut self.folders, Image::Seen);
        self.pending_names.push(change);
        outcome.finish()
    }

    pub(super) fn sync_names(&mut self, folder: usize) {
        let (covered, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending_names)
            .into_iter()
            .partition(|change| change.touches(folder));
        self.pending_names = rest;
        for change in &covered {
            change.apply(&mut self.folders, Image::Durable);
        }
    }

    pub(super) fn new_file(&mut self) -> usize {
        self.files.push(File::default());
        self.files.len() - 1
    }

    pub(super) fn new_folder(&mut self) -> usize {
        self.folders.push(Folder::default());
        self.folders.len() - 1
    }

    pub(super) fn find(&self, path: &Path) -> Option<Node> {
        parts(path)
            .iter()
            .try_fold(Node::Folder(0), |node, part| match node {
                Node::Folder(id) => self.folders[id].seen.get(part).copied(),
                Node::File(_) => None,
            })
    }

    pub(super) fn folder(&self, path: &Path) -> io::Result<usize> {
        match self.find(path) {
            Some(Node::Folder(id)) => Ok(id),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(missing(path)),
        }
    }

    pub(super) fn names(&self, folder: usize) -> impl Iterator<Item = &String> {
        self.folders[folder].seen.keys()
    }

    /// The place a path names: a name in a folder that exists.
    pub(super) fn slot(&self, path: &Path) -> io::Result<Slot> {
        let name = parts(path).pop().ok_or_else(|| missing(path))?;
        Ok(Slot {
            folder: self.folder(path.parent().unwrap_or(Path::new("")))?,
            name,
        })
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let nodes = self.folders.iter().flat_map(|folder| folder.seen.values());
        nodes
            .map(|node| {
                if let Node::File(id) = node {
                    self.files[*id].seen.len() as u64
                } else {
                    0
                }
            })
            .sum()
    }

    /// How many bytes may be written at `offset` of a file: without limit inside it, to the capacity beyond.
    pub(super) fn room(&self, id: usize, offset: u64) -> u64 {
        let Some(capacity) = self.capacity_bytes else {
            return u64::MAX;
        };
        let growth = capacity.saturating_sub(self.used_bytes());
        (self.files[id].seen.len() as u64 + growth).saturating_sub(offset)
    }
}

#[derive(Default)]
pub(super) struct File {
    pub(super) seen: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pending: Vec<Change>,
}

pub(super) enum Change {
    Write { offset: u64, data: Vec<u8> },
    Len(u64),
}

impl File {
    pub(super) fn apply(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
        }
    }

    /// Decides what of the pending changes reaches the disk.
    pub(super) fn settle(&mut self, entropy: &SeededEntropy) {
        for change in std::mem::take(&mut self.pending) {
            match entropy.below(3) {
                0 => {}
                1 => change.apply(&mut self.durable),
                _ => change.tear(&mut self.durable, entropy),
            }
        }
    }
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Change::Write { offset, data } => put(image, address(*offset), data),
            Change::Len(len) => image.resize(address(*len), 0),
        }
    }

    /// A random subset of the sectors; the file's length may have grown before its data came.
    fn tear(&self, image: &mut Vec<u8>, entropy: &SeededEntropy) {
        let Change::Write { offset, data } = self else {
            return self.apply(image);
        };
        let start = address(*offset);
        let mut at = 0;
        while at < data.len() {
            let end = data.len().min(at + SECTOR_BYTES - (start + at) % SECTOR_BYTES);
            if entropy.chance(50) {
                put(image, start + at, &data[at..end]);
            }
            at = end;
        }
        if entropy.chance(50) && image.len() < start + data.len() {
            image.resize(start + data.len(), 0);
        }
    }
}

/// What stands under a name: a number into [`State`]'s files or folders.
#[derive(Clone, Copy)]
pub(super) enum Node {
    File(usize),
    Folder(usize),
}

#[derive(Default)]
struct Folder {
    seen: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

#[derive(Clone, Copy)]
enum Image {
    Seen,
    Durable,
}

/// A name in a folder.
pub(super) struct Slot {
    folder: usize,
    name: String,
}

pub(super) enum NameChange {
    Link { at: Slot, node: Node },
    Unlink { from: Slot },
    Rename { from: Slot, to: Slot, node: Node },
}

impl NameChange {
    /// Whether a sync of the folder covers the change.
    fn touches(&self, folder: usize) -> bool {
        match self {
            NameChange::Link { at: slot, .. } | NameChange::Unlink { from: slot } => slot.folder == folder,
            NameChange::Rename { from, to, .. } => from.folder == folder || to.folder == folder,
        }
    }

    fn apply(&self, folders: &mut [Folder], image: Image) {
        let mut set = |slot: &Slot, node: Option<Node>| {
            let folder = &mut folders[slot.folder];
            let names = match image {
                Image::Seen => &mut folder.seen,
                Image::Durable => &mut folder.durable,
            };
            match node {
                Some(node) => drop(names.insert(slot.name.clone(), node)),
                None => drop(names.remove(&slot.name)),
            }
        };
        match self {
            NameChange::Link { at, node } => set(at, Some(*node)),
            NameChange::Unlink { from } => set(from, None),
            NameChange::Rename { from, to, node } => {
                set(from, None);
                set(to, Some(*node));
            }
        }
    }
}

fn put(image: &mut Vec<u8>, at: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    if image.len() < at + data.len() {
        image.resize(at + data.len(), 0);
    }
    image[at..at + data.len()].copy_from_slice(data);
}

fn address(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is addressable")
}

fn parts(path: &Path) -> Vec<String> {
    let normal = |part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    };
    path.components().filter_map(normal).collect()
}

pub(super) fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

pub(super) fn dead() -> io::Error {
    io::Error::other("the process died in a planned crash")
}

/// What a disk writes wholly or not at all.
const SECTOR_BYTES: usize = 512;
