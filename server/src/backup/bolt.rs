//! The format of etcd's backups: a bbolt file, written once, in order, never changed again.
//!
//! All numbers are little-endian. The file is a sequence of pages of 4096 bytes; what is longer than a page continues
//! in the pages behind it (`overflow` of them). A page begins with 16 bytes:
//! ```text
//! id u64 | flags u16 (1 branch, 2 leaf, 4 meta) | count u16 | overflow u32
//! ```
//! Pages 0 and 1 are the two copies of the meta record:
//! ```text
//! magic u32 | version u32 | page size u32 | flags u32 | root page u64 | sequence u64 | freelist page u64
//! | pages in all u64 | transaction u64 | FNV-1a of these 56 bytes u64
//! ```
//! A freelist page of all ones says that none is stored; here there is no free page either. The rest are the nodes of
//! B+ trees. Behind a node's header stand `count` elements of 16 bytes, behind those their keys and values; `position`
//! counts from the begin of its own element:
//! ```text
//! leaf:   flags u32 (1: the value is a bucket) | position u32 | key bytes u32 | value bytes u32
//! branch: position u32 | key bytes u32 | page u64            (the key is the first one below that page)
//! ```
//! The root tree holds the buckets by name; the value is `root page u64 | sequence u64`, and where the root page is 0
//! the bucket's only leaf follows in the value itself.
//!
//! Keys come in ascending order, so every page is written once and full; what stays in memory is one page for each
//! level of a tree.

pub(crate) mod read;

use std::io::{self, BufWriter, Seek, SeekFrom, Write};

/// A file being written. Buckets and the keys within them must be put in ascending order.
pub(super) struct Writer<W: Write + Seek> {
    pages: Pages<W>,
    root: Tree,
    bucket: Option<(Vec<u8>, Tree)>,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a file; `out` must be empty.
    pub(super) fn new(out: W) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        // Filled in at the end.
        out.write_all(&[0; 2 * PAGE_BYTES])?;
        Ok(Writer {
            pages: Pages { out, next: 2 },
            root: Tree::default(),
            bucket: None,
        })
    }

    /// Begins a bucket.
    pub(super) fn bucket(&mut self, name: &[u8]) -> io::Result<()> {
        self.end_bucket()?;
        self.bucket = Some((name.to_vec(), Tree::default()));
        Ok(())
    }

    /// Puts a record into the bucket begun last.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let (_, tree) = self.bucket.as_mut().expect("a bucket was begun");
        tree.push(&mut self.pages, 0, key, value)
    }

    /// Completes the file. Returns what it was written to, and its length in bytes.
    pub(super) fn finish(mut self) -> io::Result<(W, u64)> {
        self.end_bucket()?;
        let Root::Page(root) = self.root.finish(&mut self.pages, 0)? else {
            unreachable!("a root tree is never inline");
        };
        let count = self.pages.next;
        let mut out = self.pages.out;
        out.seek(SeekFrom::Start(0))?;
        for page in 0..2 {
            out.write_all(&meta_page(page, root, count))?;
        }
        let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((out, count * PAGE_BYTES as u64))
    }

    fn end_bucket(&mut self) -> io::Result<()> {
        let Some((name, tree)) = self.bucket.take() else {
            return Ok(());
        };
        let mut value = Vec::new();
        match tree.finish(&mut self.pages, INLINE_BYTES_MAX)? {
            Root::Page(page) => {
                value.extend_from_slice(&page.to_le_bytes());
                value.extend_from_slice(&0u64.to_le_bytes());
            }
            Root::Inline(leaf) => {
                value.extend_from_slice(&[0; 16]);
                value.extend_from_slice(&leaf);
            }
        }
        self.root.push(&mut self.pages, BUCKET_FLAG, &name, &value)
    }
}

/// Where pages go.
struct Pages<W: Write> {
    out: BufWriter<W>,
    next: u64,
}

impl<W: Write + Seek> Pages<W> {
    /// Writes a node and as many pages as it takes; returns the first one's id.
    fn write(&mut self, flags: u16, count: usize, body: &[u8]) -> io::Result<u64> {
        let id = self.next;
        let pages = (HEADER_BYTES + body.len()).div_ceil(PAGE_BYTES);
        self.out.write_all(&header(id, flags, count, pages - 1))?;
        self.out.write_all(body)?;
        let padding = pages * PAGE_BYTES - HEADER_BYTES - body.len();
        self.out.write_all(&[0; PAGE_BYTES][..padding])?;
        self.next += pages as u64;
        Ok(id)
    }
}

/// A tree being built: the leaf under construction, and above it one node for each level.
#[derive(Default)]
struct Tree {
    leaf: Leaf,
    levels: Vec<Level>,
}

/// Where a tree begins.
enum Root {
    Page(u64),
    /// The only leaf itself.
    Inline(Vec<u8>),
}

#[derive(Default)]
struct Leaf {
    /// Flags, and bytes of key and value.
    elements: Vec<(u32, usize, usize)>,
    /// Keys and values.
    data: Vec<u8>,
    first_key: Vec<u8>,
    /// To hold every caller to the order.
    last_key: Vec<u8>,
}

/// The node under construction on one level of branches: first keys and pages.
#[derive(Default)]
struct Level {
    children: Vec<(Vec<u8>, u64)>,
    key_bytes: usize,
}

impl Tree {
    fn push<W: Write + Seek>(
        &mut self,
        pages: &mut Pages<W>,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> io::Result<()> {
        let leaf = &mut self.leaf;
        let first = leaf.elements.is_empty() && self.levels.is_empty();
        assert!(first || *leaf.last_key < *key, "keys are put in ascending order");
        let grown = leaf.bytes() + ELEMENT_BYTES + key.len() + value.len();
        if !leaf.elements.is_empty() && grown > PAGE_BYTES {
            self.flush_leaf(pages)?;
        }
        let leaf = &mut self.leaf;
        if leaf.elements.is_empty() {
            leaf.first_key = key.to_vec();
        }
        leaf.elements.push((flags, key.len(), value.len()));
        leaf.data.extend_from_slice(key);
        leaf.data.extend_from_slice(value);
        leaf.last_key.clear();
        leaf.last_key.extend_from_slice(key);
        Ok(())
    }

    fn flush_leaf<W: Write + Seek>(&mut self, pages: &mut Pages<W>) -> io::Result<()> {
        let leaf = &mut self.leaf;
        let id = pages.write(LEAF_FLAG, leaf.elements.len(), &leaf.body())?;
        leaf.elements.clear();
        leaf.data.clear();
        let first_key = std::mem::take(&mut leaf.first_key);
        self.add_child(pages, 0, first_key, id)
    }

    /// Adds a finished node to the level above it. A full node keeps its last two children back, so that each has two
    /// at least, as bbolt's have.
    fn add_child<W: Write + Seek>(
        &mut self,
        pages: &mut Pages<W>,
        level: usize,
        key: Vec<u8>,
        page: u64,
    ) -> io::Result<()> {
        if self.levels.len() == level {
            self.levels.push(Level::default());
        }
        let node = &mut self.levels[level];
        node.key_bytes += key.len();
        node.children.push((key, page));
        if node.bytes() <= PAGE_BYTES || node.children.len() < 4 {
            return Ok(());
        }
        let kept = node.children.split_off(node.children.len() - 2);
        let full = std::mem::replace(node, Level::of(kept));
        self.flush_branch(pages, level, full)
    }

    fn flush_branch<W: Write + Seek>(
        &mut self,
        pages: &mut Pages<W>,
        level: usize,
        mut node: Level,
    ) -> io::Result<()> {
        let id = pages.write(BRANCH_FLAG, node.children.len(), &node.body())?;
        let first_key = std::mem::take(&mut node.children[0].0);
        self.add_child(pages, level + 1, first_key, id)
    }

    /// Writes what is left; a tree that is one leaf of at most `inline_bytes_max` is returned instead.
    fn finish<W: Write + Seek>(mut self, pages: &mut Pages<W>, inline_bytes_max: usize) -> io::Result<Root> {
        if self.levels.is_empty() && self.leaf.bytes() <= inline_bytes_max {
            let leaf = &self.leaf;
            let mut inline = header(0, LEAF_FLAG, leaf.elements.len(), 0).to_vec();
            inline.extend_from_slice(&leaf.body());
            return Ok(Root::Inline(inline));
        }
        if !self.leaf.elements.is_empty() || self.levels.is_empty() {
            self.flush_leaf(pages)?;
        }
        let mut level = 0;
        loop {
            let top = level + 1 == self.levels.len();
            let node = std::mem::take(&mut self.levels[level]);
            match node.children.as_slice() {
                [(_, root)] if top => return Ok(Root::Page(*root)),
                _ => self.flush_branch(pages, level, node)?,
            }
            level += 1;
        }
    }
}

impl Leaf {
    /// Bytes of the node.
    fn bytes(&self) -> usize {
        HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data.len()
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.bytes() - HEADER_BYTES);
        let mut data_at = self.elements.len() * ELEMENT_BYTES;
        for (at, (flags, key_bytes, value_bytes)) in self.elements.iter().enumerate() {
            let position = data_at - at * ELEMENT_BYTES;
            for number in [*flags, u32_of(position), u32_of(*key_bytes), u32_of(*value_bytes)] {
                body.extend_from_slice(&number.to_le_bytes());
            }
            data_at += key_bytes + value_bytes;
        }
        body.extend_from_slice(&self.data);
        body
    }
}

impl Level {
    fn of(children: Vec<(Vec<u8>, u64)>) -> Self {
        let key_bytes = children.iter().map(|(key, _)| key.len()).sum();
        Level { children, key_bytes }
    }

    fn bytes(&self) -> usize {
        HEADER_BYTES + self.children.len() * ELEMENT_BYTES + self.key_bytes
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.bytes() - HEADER_BYTES);
        let mut data_at = self.children.len() * ELEMENT_BYTES;
        for (at, (key, page)) in self.children.iter().enumerate() {
            body.extend_from_slice(&u32_of(data_at - at * ELEMENT_BYTES).to_le_bytes());
            body.extend_from_slice(&u32_of(key.len()).to_le_bytes());
            body.extend_from_slice(&page.to_le_bytes());
            data_at += key.len();
        }
        for (key, _) in &self.children {
            body.extend_from_slice(key);
        }
        body
    }
}

fn header(id: u64, flags: u16, count: usize, overflow: usize) -> [u8; HEADER_BYTES] {
    let count = u16::try_from(count).expect("a page has room for some hundred elements");
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&id.to_le_bytes());
    header[8..10].copy_from_slice(&flags.to_le_bytes());
    header[10..12].copy_from_slice(&count.to_le_bytes());
    header[12..].copy_from_slice(&u32_of(overflow).to_le_bytes());
    header
}

fn meta_page(page: u64, root: u64, pages: u64) -> [u8; PAGE_BYTES] {
    let mut meta = Vec::with_capacity(64);
    for number in [MAGIC, VERSION, u32_of(PAGE_BYTES), 0] {
        meta.extend_from_slice(&number.to_le_bytes());
    }
    // The transaction of a number is noted in the page of that parity; the last one is number 2.
    let transaction = 2 - page;
    for number in [root, 0, NO_FREELIST, pages, transaction] {
        meta.extend_from_slice(&number.to_le_bytes());
    }
    meta.extend_from_slice(&fnv_1a(&meta).to_le_bytes());
    let mut bytes = [0; PAGE_BYTES];
    bytes[..HEADER_BYTES].copy_from_slice(&header(page, META_FLAG, 0, 0));
    bytes[HEADER_BYTES..HEADER_BYTES + meta.len()].copy_from_slice(&meta);
    bytes
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn u32_of(number: usize) -> u32 {
    u32::try_from(number).expect("a record is bounded by the limit on requests, which is far below 4 GiB")
}

const PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
/// A bucket is kept in its parent's leaf up to a quarter of a page, as bbolt does.
const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;
const BRANCH_FLAG: u16 = 1;
const LEAF_FLAG: u16 = 2;
const META_FLAG: u16 = 4;
/// On an element of a leaf.
const BUCKET_FLAG: u32 = 1;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const NO_FREELIST: u64 = u64::MAX;
const BUFFER_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests;
